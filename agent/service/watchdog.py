"""Feeds the service manager's watchdog, and only while everything that must move does.

::

    event loop      runs the feeder: where it stands still, nothing is sent
    control loop    promises before each wait when it will move again (``model.promise``)
    state writer    answers a beat; an answer about a full disk is an answer

Waiting is not hanging: an engine or a control endpoint that is away for hours keeps no promise from
being kept. When a part is stuck, one error line names it, the watchdog is left hungry, and the
service manager ends the process with SIGABRT (``faulthandler`` writes all stacks then) and starts it
anew. Also carries the one-line status, since it looks regularly anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import StateFailure
from agent.model.promise import Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.service.notify import Notifier

LOOK_EVERY_S: Final = 10.0
"""Longest time between two looks; a shorter watchdog shortens it."""
FEEDS_PER_LIMIT: Final = 3
"""So that one late feed does no harm."""
SOON_S: Final = 1.0
WRITER_LIMIT_S: Final = 60.0
"""A disk that takes longer to write one transaction is as good as gone."""

_log = structlog.get_logger(__name__)


def overdue(promises: Iterable[Promise], now: float) -> list[Promise]:
    """Return the promises that were not kept, the oldest first. Pure."""
    return sorted((p for p in promises if p.due < now), key=lambda p: p.due)


class Watchdog:
    """Looks after the parts of one process. Belongs to one event loop."""

    def __init__(
        self,
        notifier: Notifier,
        *,
        clock: Callable[[], float] = time.monotonic,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._notifier = notifier
        self._clock = clock
        feed_every_s = notifier.watchdog_s / FEEDS_PER_LIMIT or look_every_s
        self._interval_s = min(look_every_s, feed_every_s)
        self._promises: list[Promise] = []
        self._beat: Callable[[], asyncio.Future[None]] | None = None
        self._writer = Promise("state writer", clock)
        self._answer: asyncio.Future[None] | None = None
        self._describe: Callable[[], str] | None = None
        self._stuck = ""

    @contextlib.contextmanager
    def holding(self, promises: Iterable[Promise]) -> Iterator[None]:
        """Hold these to what they promise."""
        held = list(promises)
        self._promises.extend(held)
        try:
            yield
        finally:
            self._promises = [p for p in self._promises if p not in held]

    @contextlib.contextmanager
    def beating(self, beat: Callable[[], asyncio.Future[None]]) -> Iterator[None]:
        """Ask the state writer for a sign of life at every look; one question at a time."""
        self._beat = beat
        try:
            yield
        finally:
            self._beat = self._answer = None
            self._writer.rest()

    @contextlib.contextmanager
    def describing(self, describe: Callable[[], str]) -> Iterator[None]:
        """Pass on what this returns as the status line, whenever it changes."""
        self._describe = describe
        try:
            yield
        finally:
            self._describe = None

    async def run(self) -> None:
        """Look and feed until cancelled."""
        late_s = 0.0
        while True:
            self.look(late_s)
            before = self._clock()
            await asyncio.sleep(self._interval_s)
            late_s = self._clock() - before - self._interval_s

    def report_soon(self) -> None:
        """Pass on the status line in a moment, when what has just begun knows how it stands."""
        asyncio.get_running_loop().call_later(SOON_S, self.report)

    def report(self) -> None:
        """Pass on the status line now."""
        if self._describe is None:
            return
        try:
            line = self._describe()
        except Exception as error:  # noqa: BLE001 - whatever it trips over, it must not end the feeding
            line = f"no status: {type(error).__name__}: {error}"
        self._notifier.status(f"stuck: {self._stuck}; {line}" if self._stuck else line)

    def look(self, late_s: float = 0.0) -> None:
        """Look once, and feed the watchdog if all is well.

        Args:
            late_s: how much later than planned this look is. After the process stood still as a
                whole (a paused machine, SIGSTOP), nobody could keep a promise: all get until the
                next look.
        """
        if late_s > self._interval_s:
            _log.warning("the agent stood still", seconds=round(late_s, 1))
            self._notifier.alive()
        else:
            self._judge(overdue([*self._promises, self._writer], self._clock()))
        self._ask_writer()
        self.report()

    def _judge(self, late: list[Promise]) -> None:
        if not late:
            if self._stuck:
                _log.warning("the agent moves again", part=self._stuck)
            self._stuck = ""
            self._notifier.alive()
            return
        worst = late[0]
        if worst.part != self._stuck:
            now = self._clock()
            _log.error(
                "part of the agent is stuck",
                part=worst.part,
                doing=worst.doing,
                stuck_s=round(now - worst.since, 1),
                late_s=round(now - worst.due, 1),
                others=", ".join(p.part for p in late[1:]),
                consequence="the watchdog ends the agent; tasks run on"
                if self._notifier.watchdog_s
                else "restart the agent; tasks run on",
            )
            self._stuck = worst.part

    def _ask_writer(self) -> None:
        if self._beat is None or (self._answer is not None and not self._answer.done()):
            return
        try:
            self._answer = self._beat()
        except StateFailure:  # closed: the agent is ending
            self._writer.rest()
            return
        self._writer.promise(WRITER_LIMIT_S, "writing")
        self._answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[None]) -> None:
        if answer is self._answer:
            self._writer.rest()
