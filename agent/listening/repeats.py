"""A request that its sender repeats, byte for byte: it may wait without being read anew.

A long poll without news is sent again as it was. While it waits, there need be neither a parsed request nor a task for
it: whoever answered the first one says what the next ones wait with (``repeat``). One that is over without news is
answered as it is; any other is then read and handled as if it had just come, and its handler is told for how long it
has waited (``waited_s``).

Only a whole request without a body in one piece counts, on HTTP/1.1, from a proven sender, after the answer before it.

Tests: ``tests/unit/listening/test_repeats.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_END = b"\r\n\r\n"


class Waiting(Protocol):
    """What a repeated request waits with."""

    def wait(self, repeated: Repeated) -> bool:
        """Begin to wait; later, call ``answer`` or ``resume`` once. False to have the request handled now."""

    def drop(self) -> None:
        """Stop waiting without an answer: the connection is gone, or sends something else."""


class Repeated:
    """A request of one connection, and what it waits with when it comes again; for one event loop."""

    __slots__ = ("_is_gone", "_raw", "_read", "_waiting", "_write", "is_waiting", "since")

    def __init__(
        self,
        raw: bytes,
        waiting: Waiting,
        *,
        write: Callable[[bytes], None],
        read: Callable[[bytes], None],
        is_gone: Callable[[], bool],
    ) -> None:
        """Take what is needed.

        Args:
            raw: the whole request.
            waiting: what it waits with.
            write: sends an answer.
            read: has a request handled.
            is_gone: returns whether the connection is being closed.
        """
        self._raw = raw
        self._waiting = waiting
        self._write = write
        self._read = read
        self._is_gone = is_gone
        self.is_waiting = False
        self.since = 0.0
        """When it came that waits; seconds of the event loop's clock."""

    def begin(self, data: bytes, now: float) -> bool:
        """Have it wait if it has come again, at ``now``; return whether it does."""
        if data != self._raw or self._is_gone():
            return False
        self.since = now
        self.is_waiting = self._waiting.wait(self)
        return self.is_waiting

    def is_gone(self) -> bool:
        """Return whether the sender has closed the connection, or is about to be cut off."""
        return self._is_gone()

    def answer(self, answer: bytes) -> None:
        """Send the whole answer."""
        if self.is_waiting:
            self.is_waiting = False
            if not self._is_gone():
                self._write(answer)

    def resume(self) -> None:
        """Have it read and handled now."""
        if self.is_waiting:
            self.is_waiting = False
            if not self._is_gone():
                self._read(self._raw)

    def interrupt(self) -> None:
        """Have it read and handled now, because the sender sends more."""
        if self.is_waiting:
            self._waiting.drop()
            self.resume()

    def drop(self) -> None:
        """Forget it: the connection is gone."""
        if self.is_waiting:
            self.is_waiting = False
            self._waiting.drop()
