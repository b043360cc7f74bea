"""Decides when to check the host's part of task networks, and what to report about it.

::

    event ──► suspicion ──(gather)──► check ──► nothing wrong
    clock ─────────────────────────────┘  └─► repaired: logged, kept ──► pause, longer if repeated
                                          └─► failed: tried again, later each time

The regular check is a second safety: the kernel reports what it looks at. So what costs more the more tasks
there are, the links of all of them, is checked by the clock only each ``WHOLE_EVERY``-th time. What others can
change without a message of the kernel (rules of ``iptables-legacy``, peers of WireGuard) is checked each time.

Events that arrive together (a bridge and all its ports) cause one check and one log line. Checks
that find nothing are cheap and do not count; our own changes, which the kernel also reports, end
there. If somebody breaks the same thing repeatedly, repairs become slower, down to the regular
check, so that two programs in conflict do not use up the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent.errors import AgentError
from agent.model.views import RepairView
from agent.network.host.kernel_messages import EVERYTHING, FOR_EACH_TASK, NOTHING, Part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GATHER_S: Final = 0.02
"""Delay between the first event and the check, because related events arrive together."""
CALM_S: Final = 0.1
"""Minimum time between two checks caused by events."""
_PATIENCE: Final = 20
"""Repairs per minute that are made at once; further ones wait longer and longer."""
_WITHIN_S: Final = 60.0
_RETRY_FIRST_S: Final = 0.25
WHOLE_EVERY: Final = 4
"""Of so many regular checks, one is of everything."""
_REMEMBERED: Final = 20
_LOG_AGAIN_S: Final = 60.0

_log = structlog.get_logger(__name__)


class RepairResult(NamedTuple):
    """The result of a check."""

    found: list[str]
    """What was wrong and was repaired, in words."""
    failing: str = ""
    """What is wrong and could not be repaired; empty if nothing is."""


def pause_s(repairs_of_late: int, longest_s: float) -> float:
    """Return the wait after a repair, by the number of repairs in the last minute. Pure."""
    excess = repairs_of_late - _PATIENCE
    return CALM_S if excess <= 0 else min(longest_s, CALM_S * float(2 ** min(excess, 20)))


class Suspicions:
    """Parts of the host's network that may be damaged, until they are checked."""

    def __init__(self) -> None:
        self._parts = NOTHING
        self._added = asyncio.Event()

    def add(self, parts: Part) -> None:
        """Request a check of these parts soon; may be called any number of times."""
        self._parts |= parts
        self._added.set()

    async def wait(self) -> None:
        """Return when there is a suspicion."""
        await self._added.wait()

    def take(self) -> Part:
        """Return all suspected parts, and forget them."""
        parts, self._parts = self._parts, NOTHING
        self._added.clear()
        return parts


class RepairLoop:
    """Checks after every suspicion of damage, and regularly. Belongs to one event loop."""

    def __init__(
        self,
        look: Callable[[Part], Awaitable[RepairResult]],
        suspicions: Suspicions,
        *,
        interval_s: float,
    ) -> None:
        """Take the parts; nothing happens before ``run``.

        Args:
            look: checks these parts and repairs what is wrong; an ``AgentError`` means that it
                could not.
            suspicions: what to check soon.
            interval_s: interval of regular checks.
        """
        self.problem = ""
        """What is wrong with the host's part now; empty if nothing is."""
        self.repairs: deque[RepairView] = deque(maxlen=_REMEMBERED)
        """The newest repairs, oldest first."""
        self._look = look
        self._interval_s = interval_s
        self._suspicions = suspicions
        self._checks = 0
        """By the clock, since the last one of everything."""
        self._recent: deque[float] = deque()
        self._told: dict[tuple[str, ...], float] = {}
        self._untold = 0

    async def run(self) -> None:
        """Check and repair until cancelled."""
        retry_s = _RETRY_FIRST_S
        while True:
            parts, noticed = await self._next()
            began = time.monotonic()
            try:
                found, failing = await self._look(parts)
            except AgentError as error:
                found, failing = [], str(error)
            if found:
                self.tell(found, took_s=time.monotonic() - began, noticed=noticed)
            if failing:
                self._failed(failing)
                self._suspicions.add(parts)
                await asyncio.sleep(retry_s)
                retry_s = min(self._interval_s, retry_s * 2)
                continue
            self.problem, retry_s = "", _RETRY_FIRST_S
            await asyncio.sleep(self._pause_s(repaired=bool(found)))

    def _failed(self, error: str) -> None:
        problem = f"the host's part of task networks is broken: {error}"
        if problem != self.problem:
            _log.warning("task networks not repaired", error=error)
        self.problem = problem

    async def _next(self) -> tuple[Part, str]:
        """Return what to check next, and the reason."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval_s):
                await self._suspicions.wait()
            await asyncio.sleep(GATHER_S)
        parts = self._suspicions.take()
        return (parts, "at once") if parts else (self._due(), "by the regular check")

    def _due(self) -> Part:
        self._checks = (self._checks + 1) % WHOLE_EVERY
        return EVERYTHING & ~FOR_EACH_TASK if self._checks else EVERYTHING

    def tell(self, found: list[str], *, took_s: float, noticed: str) -> None:
        """Remember and log a repair; the same one again within a minute is only counted."""
        now = time.monotonic()
        self.repairs.append(RepairView(at=time.time(), found="; ".join(found)))
        self._recent.append(now)
        self._told = {what: at for what, at in self._told.items() if now - at < _LOG_AGAIN_S}
        if tuple(found) in self._told:
            self._untold += 1
            return
        self._told[tuple(found)] = now
        _log.warning(
            "task networks were changed by others; repaired", found="; ".join(found),
            noticed=noticed, took_ms=round(took_s * 1000, 1),
            **({"repeated_before": self._untold} if self._untold else {}),
        )  # fmt: skip
        self._untold = 0

    def _pause_s(self, *, repaired: bool) -> float:
        if not repaired:
            return CALM_S
        now = time.monotonic()
        while self._recent and now - self._recent[0] > _WITHIN_S:
            self._recent.popleft()
        return pause_s(len(self._recent), self._interval_s)
