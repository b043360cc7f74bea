"""Makes sandboxes ahead of demand, and gives up those that are too many.

Tests: ``tests/unit/network/container_sandboxes/test_sandboxes.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import AgentError, PayloadError
from agent.network.background import BackgroundTasks
from agent.network.container_sandboxes.demands import Demands

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from agent.network.container_sandboxes.kinds import Kind

STARVED_S: Final = 10.0
"""After this long with launches all the time, they are made nevertheless."""
LOOK_S: Final = 60.0
"""How often it is decided again how many to keep, while some are."""
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 60.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stock:
    """The ready sandboxes, as ``Refill`` works with them."""

    counts: Callable[[], Mapping[Kind, int]]
    """Returns how many are ready."""
    make: Callable[[Kind], Coroutine[None, None, None]]
    """Makes one; raises ``PayloadError`` if no host ports are left, or ``RuntimeFailure``."""
    drop: Callable[[Kind], object]
    """Gives one up."""
    available_bytes: Callable[[], int]
    """Returns the host's available memory; blocks."""


class Refill:
    """Follows the demand. Belongs to one event loop."""

    def __init__(
        self, stock: Stock, *, least: int, clock: Callable[[], float], quiet_s: float
    ) -> None:
        """Nothing is made before ``run``.

        Args:
            stock: what there is.
            least: kept ready for a kind in use; 0 to make none at all.
            clock: monotonic time in seconds.
            quiet_s: time without launches before sandboxes are made.
        """
        self.problem = ""
        """Why none can be made now; empty if they can."""
        self._stock = stock
        self._least = least
        self._clock = clock
        self._quiet_s = quiet_s
        self._demands = Demands()
        self._creations = BackgroundTasks()
        self._changed = asyncio.Event()

    def launched(self, kind: Kind) -> None:
        """Count a launch that could use a sandbox."""
        self._demands.launched(kind, self._clock())
        self._changed.set()

    def found(self, kind: Kind, count: int) -> None:
        """Take what an earlier process kept ready for the demand that it knew of."""
        self._demands.found(kind, self._clock(), count)
        self._changed.set()

    def wake(self) -> None:
        """Have it decided again soon: fewer are ready than before."""
        self._changed.set()

    async def run(self) -> None:
        """Make and give up sandboxes until cancelled."""
        retry_s = RETRY_FIRST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if any(self._stock.counts().values()) else None):
                    await self._changed.wait()
            self._changed.clear()
            while (kind := await self._kind_to_fill()) is not None:
                await self._quiet()
                try:
                    # It goes on if this is cancelled: the engine would make the container anyway.
                    await asyncio.shield(self._creations.spawn(self._stock.make(kind)))
                except PayloadError as error:  # no host ports are left
                    self._demands.cap(kind, self._stock.counts().get(kind, 0))
                    _log.info("no more sandboxes for published ports", reason=str(error))
                except AgentError as error:
                    self.problem = f"no sandbox of a container can be made: {error}"
                    _log.warning(
                        "sandbox of a container not made", mode=kind.mode, error=str(error)
                    )
                    await asyncio.sleep(retry_s)
                    retry_s = min(retry_s * 2, RETRY_LAST_S)
                else:
                    self.problem, retry_s = "", RETRY_FIRST_S
            await self._drop_excess()

    async def finish(self, limit_s: float) -> None:
        """Wait for the sandbox that is being made, which ``run`` leaves behind when it is cancelled.

        Args:
            limit_s: seconds after which the creation is given up.
        """
        await self._creations.finish(limit_s)

    async def _kind_to_fill(self) -> Kind | None:
        """Return the kind that lacks most; None if there are enough."""
        wanted, counts = await self._wanted(), self._stock.counts()
        missing = {kind: n - counts.get(kind, 0) for kind, n in wanted.items()}
        kind = max(missing, key=lambda each: missing[each], default=None)
        return kind if kind is not None and missing[kind] > 0 else None

    async def _drop_excess(self) -> None:
        wanted = await self._wanted()
        for kind, count in self._stock.counts().items():
            for _ in range(count - wanted.get(kind, 0)):
                self._stock.drop(kind)

    async def _wanted(self) -> dict[Kind, int]:
        # What is ready already is no longer available, so it counts as if it were.
        free = await asyncio.to_thread(self._stock.available_bytes)
        free += sum(kind.bytes * count for kind, count in self._stock.counts().items())
        return self._demands.wanted(self._clock(), least=self._least, free_bytes=free)

    async def _quiet(self) -> None:
        """Return when nothing was launched for a while, or launches have not stopped for long."""
        began = self._clock()
        while True:
            now = self._clock()
            left_s = min(self._demands.last + self._quiet_s - now, began + STARVED_S - now)
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)
