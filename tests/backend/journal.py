"""What the back end saw, in order and with times; tests wait for entries and read them.

The back end writes from its own thread, tests read from theirs: everything here is safe for that.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


@dataclass
class Call:
    """One request to the API."""

    operation: str
    request: dict[str, Any]
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    """When the answer was ready, or the client gone; None while it waits."""
    status: int = 0
    """The HTTP status of the answer; 0 when none was given."""
    code: str = ""
    """The error code of the answer."""

    @property
    def accepted(self) -> bool:
        """Whether the back end did what was asked."""
        return self.status == 200 and not self.code


@dataclass
class Frame:
    """One websocket message of the agent."""

    channel: str
    """``acs`` or ``tcs``."""
    connection: int
    """Which connection of the channel, from 1."""
    type: str
    message: dict[str, Any]
    at: float = field(default_factory=time.monotonic)


@dataclass
class Connection:
    """One websocket connection, or a try that was refused."""

    channel: str
    number: int
    """From 1; 0 for a refused one."""
    query: dict[str, str]
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    close_code: int | None = None
    """The code with which the agent closed, if it did."""
    status: int = 101


@dataclass
class Problem:
    """One thing the agent should not have done."""

    where: str
    what: str


class Journal:
    """Everything seen, oldest first."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._entries: list[Call | Frame | Connection | Problem] = []

    def add(self, entry: Call | Frame | Connection | Problem) -> None:
        """Write an entry down."""
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def touch(self) -> None:
        """Say that an entry has changed."""
        with self._changed:
            self._changed.notify_all()

    def complain(self, where: str, what: str) -> None:
        """Write down that the agent broke a rule."""
        self.add(Problem(where, what))

    def calls(self, *operations: str) -> list[Call]:
        """Return the calls of these operations, of all when none is named."""
        return [
            e
            for e in self._snapshot()
            if isinstance(e, Call) and (not operations or e.operation in operations)
        ]

    def frames(self, channel: str, *types: str) -> list[Frame]:
        """Return the agent's messages on a channel, of these types."""
        return [
            e
            for e in self._snapshot()
            if isinstance(e, Frame) and e.channel == channel and (not types or e.type in types)
        ]

    def connections(self, channel: str, *, refused: bool = False) -> list[Connection]:
        """Return the connections of a channel, or the tries that were refused."""
        return [
            e
            for e in self._snapshot()
            if isinstance(e, Connection) and e.channel == channel and (e.number == 0) == refused
        ]

    def problems(self) -> list[str]:
        """Return what the agent did wrong."""
        return [f"{e.where}: {e.what}" for e in self._snapshot() if isinstance(e, Problem)]

    def forgive(self, text: str) -> None:
        """Take out the problems that contain a text: the test wanted them."""
        with self._changed:
            self._entries = [
                e for e in self._entries if not (isinstance(e, Problem) and text in e.what)
            ]

    def wait(self, look: Callable[[], T], *, within_s: float = 40.0, what: str = "") -> T:
        """Return the first truthy answer of ``look``, asked again after every entry.

        Raises:
            AssertionError: there was none in time; names ``what`` and the problems seen.
        """
        deadline = time.monotonic() + within_s
        with self._changed:
            while not (answer := look()):
                left = deadline - time.monotonic()
                if left <= 0:
                    problems = [e for e in self._entries if isinstance(e, Problem)]
                    recent = "\n  ".join(str(e)[:400] for e in self._entries[-8:])
                    raise AssertionError(
                        f"not within {within_s} s: {what or look}; problems {problems}; "
                        f"last entries:\n  {recent}"
                    )
                # What is looked at may also change by itself, such as a process.
                self._changed.wait(min(left, 0.25))
        return answer

    def _snapshot(self) -> Iterator[Call | Frame | Connection | Problem]:
        with self._changed:
            return iter(list(self._entries))
