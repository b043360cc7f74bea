"""The queue between creating sandboxes and giving them to tasks.

Launches have priority: a waiting launch gets the next finished sandbox, whatever it was created
for, and the pool is refilled only while there is no launch. After a burst of launches, the pool is
filled with as many sandboxes as the burst needed, and shrinks again with time (``network.demand``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

import structlog

from agent.errors import AgentError
from agent.network.demand import Demand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from agent.network.sandbox_record import SandboxRecord

_RETRY_FIRST_S, _RETRY_LAST_S = 1.0, 60.0
_LOOK_S = 60.0
"""How often it is decided again how many to keep, while there are more than always."""
_log = structlog.get_logger(__name__)


class WarmPool:
    """Sandboxes that no task holds. Belongs to one event loop; safe for its concurrent tasks.

    Args:
        make: creates one sandbox.
        keep: called with a sandbox before it enters the pool; may save it.
        watch: called with a sandbox as soon as it can be used.
        target: number of sandboxes to keep ready in any case; 0 to keep none.
        most: returns the number up to which a burst may raise that.
        drop: called with a sandbox that is no longer needed, after it has left the pool.
        quiet_s: time without launches before the pool is filled.
    """

    def __init__(
        self,
        *,
        make: Callable[[], Awaitable[SandboxRecord]],
        keep: Callable[[SandboxRecord], Awaitable[None]],
        watch: Callable[[SandboxRecord], None],
        target: int,
        most: Callable[[], Awaitable[int]],
        drop: Callable[[SandboxRecord], None],
        quiet_s: float,
    ) -> None:
        self.problem = ""
        """Why the pool cannot be filled now; empty if it can."""
        self.hits = 0
        """Launches that found a sandbox ready."""
        self.misses = 0
        """Launches that had to wait for one to be made."""
        self._make = make
        self._keep = keep
        self._watch = watch
        self._least = target
        self._most = most
        self._limit = target
        """What ``most`` last returned."""
        self._drop = drop
        self._demand = Demand()
        self._quiet_s = quiet_s
        self._ready: deque[SandboxRecord] = deque()
        self._waiters: deque[asyncio.Future[SandboxRecord]] = deque()
        self._makers: set[asyncio.Task[Any]] = set()
        """Creations that will give a sandbox to somebody."""
        self._launches = 0
        self._last_launch = float("-inf")
        self._changed = asyncio.Event()
        self._changed.set()

    def __len__(self) -> int:
        return len(self._ready)

    @contextlib.contextmanager
    def launch(self) -> Iterator[None]:
        """Mark a launch: during it, and shortly after, the pool is not filled."""
        self._launches += 1
        self._demand = self._demand.launched(asyncio.get_running_loop().time())
        try:
            yield
        finally:
            self._launches -= 1
            self._last_launch = asyncio.get_running_loop().time()
            self._changed.set()

    async def obtain(self) -> SandboxRecord:
        """Return a ready sandbox, or the next finished one; first come, first served.

        Raises:
            AgentError: the error of ``make``.
        """
        if self._ready:
            self.hits += 1
            return self._ready.popleft()
        self.misses += 1
        waiter: asyncio.Future[SandboxRecord] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if len(self._makers) < len(self._waiters):
            self._begin()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.offer(waiter.result())
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def offer(self, record: SandboxRecord) -> None:
        """Add a sandbox: give it to the first waiting launch, or keep it ready."""
        waiter = self._next_waiter()
        if waiter is None:
            self._ready.append(record)
        else:
            waiter.set_result(record)
        self._watch(record)

    def take_over(self, records: Sequence[SandboxRecord]) -> None:
        """Add what an earlier process kept ready, which tells of the demand that it saw."""
        for record in records:
            self.offer(record)
        if records:
            now = asyncio.get_running_loop().time()
            self._demand = Demand(1, now, float(len(records)))

    def take_out(self, ipv4: str) -> SandboxRecord | None:
        """Remove a ready sandbox; None if it is not there (any more)."""
        for record in self._ready:
            if record.ipv4 == ipv4:
                self._ready.remove(record)
                self._changed.set()
                return record
        return None

    async def refill(self) -> None:
        """Keep the pool at its size until cancelled; failures are logged and retried later."""
        retry_s = _RETRY_FIRST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S if len(self._ready) > self._least else None):
                    await self._changed.wait()
            self._changed.clear()
            self._limit = await self._most()
            while len(self._ready) < self._target():
                await self._quiet()
                self._limit = await self._most()
                if len(self._ready) >= self._target():
                    break
                # The creation continues if this is cancelled: half a sandbox is useless.
                await asyncio.wait([self._begin()])
                if not self.problem:
                    retry_s = _RETRY_FIRST_S
                    continue
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _RETRY_LAST_S)
            self._shrink()

    def _target(self) -> int:
        """Return how many sandboxes to keep ready now."""
        now = asyncio.get_running_loop().time()
        wanted = self._demand.wanted(now, least=self._least, most=self._limit)
        return max(self._least, wanted)

    def _shrink(self) -> None:
        """Drop what is not needed any more, the newest first."""
        while self._least and len(self._ready) > self._target():
            self._drop(self._ready.pop())

    async def finish(self, limit_s: float) -> None:
        """Wait for the sandboxes being created; those that take longer are abandoned."""
        makers = set(self._makers)
        if not makers:
            return
        _, late = await asyncio.wait(makers, timeout=limit_s)
        for maker in late:
            maker.cancel()
        if late:
            await asyncio.wait(late)

    async def _quiet(self) -> None:
        """Return when there was no launch for a while."""
        loop = asyncio.get_running_loop()
        while True:
            left_s = self._last_launch + self._quiet_s - loop.time()
            if self._launches:
                await self._changed.wait()
                self._changed.clear()
            elif left_s > 0:
                await asyncio.sleep(left_s)
            else:
                return

    def _begin(self) -> asyncio.Task[None]:
        maker = asyncio.create_task(self._make_one(), name="make-sandbox")
        self._makers.add(maker)
        maker.add_done_callback(self._makers.discard)
        return maker

    async def _make_one(self) -> None:
        try:
            record = await self._make()
            if not self._waiters:
                await self._keep(record)
        except BaseException as error:
            self._no_longer_making()
            self._fail(error)
            if not isinstance(error, AgentError):
                raise
        else:
            self._no_longer_making()
            self.problem = ""
            self.offer(record)

    def _no_longer_making(self) -> None:
        """Leave the makers at once: a launch in this turn of the event loop must not count on this one."""
        maker = asyncio.current_task()
        if maker is not None:
            self._makers.discard(maker)

    def _fail(self, error: BaseException) -> None:
        """Pass the error to the first waiting launch, or log it; each has its own creation."""
        waiter = self._next_waiter()
        if isinstance(error, asyncio.CancelledError):
            if waiter is not None:
                waiter.cancel()
            return
        self.problem = f"no network sandbox can be created: {error}"
        if waiter is None:
            _log.warning("sandbox for the pool not created", error=str(error))
        else:
            waiter.set_exception(error)

    def _next_waiter(self) -> asyncio.Future[SandboxRecord] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None
