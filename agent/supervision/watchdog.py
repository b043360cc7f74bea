"""Feeds the service manager's watchdog, but only while all essential parts make progress.

::

    event loop      runs the feeder: if it stands still, nothing is sent
    control loop    promises before each wait when it will progress again (``model.liveness``)
    state writer    answers a heartbeat; an error about a full disk is an answer too

Waiting is not hanging: promises are kept even if an engine or a control endpoint is down for hours.
If a part is stuck, the agent logs one error that names it and stops feeding the watchdog. The
service manager then ends the process with SIGABRT (``faulthandler`` writes all stacks) and restarts
it. The watchdog also sends the one-line status, because it runs regularly anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import StateFailure
from agent.model.liveness import Liveness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.supervision.notify import Notifier

LOOK_EVERY_S: Final = 10.0
"""Longest time between two checks; a shorter watchdog limit shortens it."""
FEEDS_PER_LIMIT: Final = 3
"""More than one, so that a late feed does no harm."""
SOON_S: Final = 1.0
WRITER_LIMIT_S: Final = 60.0
"""A disk that takes longer to write one transaction counts as failed."""

_log = structlog.get_logger(__name__)


def overdue(livenesses: Iterable[Liveness], now: float) -> list[Liveness]:
    """Return the broken promises, oldest first. Pure."""
    return sorted((p for p in livenesses if p.due < now), key=lambda p: p.due)


class Watchdog:
    """Monitors the parts of one process. Belongs to one event loop."""

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
        self._promises: list[Liveness] = []
        self._beat: Callable[[], asyncio.Future[None]] | None = None
        self._writer = Liveness("state writer", clock)
        self._answer: asyncio.Future[None] | None = None
        self._describe: Callable[[], str] | None = None
        self._stuck = ""

    @contextlib.contextmanager
    def holding(self, livenesses: Iterable[Liveness]) -> Iterator[None]:
        """Monitor these promises inside the block."""
        held = list(livenesses)
        self._promises.extend(held)
        try:
            yield
        finally:
            self._promises = [p for p in self._promises if p not in held]

    @contextlib.contextmanager
    def beating(self, beat: Callable[[], asyncio.Future[None]]) -> Iterator[None]:
        """Request a heartbeat of the state writer at every check, one at a time."""
        self._beat = beat
        try:
            yield
        finally:
            self._beat = self._answer = None
            self._writer.rest()

    @contextlib.contextmanager
    def describing(self, describe: Callable[[], str]) -> Iterator[None]:
        """Send the text that ``describe`` returns as the status line, whenever it changes."""
        self._describe = describe
        try:
            yield
        finally:
            self._describe = None

    async def run(self) -> None:
        """Check and feed until cancelled."""
        late_s = 0.0
        while True:
            self.look(late_s)
            before = self._clock()
            await asyncio.sleep(self._interval_s)
            late_s = self._clock() - before - self._interval_s

    def report_soon(self) -> None:
        """Send the status line in a moment, when newly started parts know their state."""
        asyncio.get_running_loop().call_later(SOON_S, self.report)

    def report(self) -> None:
        """Send the status line now."""
        if self._describe is None:
            return
        try:
            line = self._describe()
        except Exception as error:  # noqa: BLE001 - no error here may stop the feeding
            line = f"no status: {type(error).__name__}: {error}"
        self._notifier.status(f"stuck: {self._stuck}; {line}" if self._stuck else line)

    def look(self, late_s: float = 0.0) -> None:
        """Check once, and feed the watchdog if all is well.

        Args:
            late_s: how much later than planned this check is. If the whole process stood still (a
                paused machine, SIGSTOP), no part could keep its promise, so all get time until the
                next check.
        """
        if late_s > self._interval_s:
            _log.warning("the agent was suspended", seconds=round(late_s, 1))
            self._notifier.alive()
        else:
            self._judge(overdue([*self._promises, self._writer], self._clock()))
        self._ask_writer()
        self.report()

    def _judge(self, late: list[Liveness]) -> None:
        if not late:
            if self._stuck:
                _log.warning("part of the agent is no longer stuck", part=self._stuck)
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
                consequence="the watchdog ends the agent; tasks keep running"
                if self._notifier.watchdog_s
                else "restart the agent; tasks keep running",
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
        self._writer.liveness(WRITER_LIMIT_S, "writing")
        self._answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[None]) -> None:
        if answer is self._answer:
            self._writer.rest()
