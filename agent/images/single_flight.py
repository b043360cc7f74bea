"""Single flight: all callers that want the same result share one piece of work.

The work runs in its own task, so that a cancelled caller does not affect the others. When the last
caller leaves, the work is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from agent.errors import EngineUnavailable
from agent.images.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

Report = Callable[[Progress], None]


class _SharedWork(Generic[T]):
    """One piece of work and its waiting callers."""

    def __init__(self, key: str, work: Callable[[Report], Awaitable[T]]) -> None:
        async def run() -> T:
            return await work(self.report)

        self.task = asyncio.create_task(run(), name=f"image {key}")
        self.waiters = 0
        self.listeners: list[Report] = []
        self.newest: Progress | None = None

    def report(self, progress: Progress) -> None:
        """Notify all listeners."""
        self.newest = progress
        for listener in self.listeners:
            listener(progress)


class SingleFlight(Generic[T]):
    """Running pieces of work by key. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._running: dict[str, _SharedWork[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()
        self._closed = False

    async def join(
        self,
        key: str,
        work: Callable[[Report], Awaitable[T]],
        listener: Report | None = None,
    ) -> T:
        """Wait for the work of this key; start it if it is not running.

        Args:
            key: identifies the work.
            work: gets a function that reports progress to all callers.
            listener: called with the progress; at once with the newest, if the work is running.

        Raises:
            EngineUnavailable: ``close`` was called before the work was done.
        """
        if self._is_closed():
            raise EngineUnavailable("the agent is closing", operation="pulled")
        shared = self._running.get(key) or self._start(key, work)
        task = shared.task
        if listener is not None:
            shared.listeners.append(listener)
            if shared.newest is not None:
                listener(shared.newest)
        shared.waiters += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._is_closed() and task.done():
                text = "the agent closed during the pull"
                raise EngineUnavailable(text, operation="pulled") from None
            raise
        finally:
            shared.waiters -= 1
            if listener is not None:
                shared.listeners.remove(listener)
            if not shared.waiters and not task.done():
                # A new caller must not join work that is being cancelled.
                self._forget(key, shared)
                task.cancel()

    def launch(self, key: str, work: Callable[[Report], Awaitable[T]]) -> None:
        """Start work without a waiting caller, unless work for this key is running."""
        if key not in self._running and not self._is_closed():
            self._start(key, work)

    async def close(self) -> None:
        """Cancel all work and wait for its end."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_closed(self) -> bool:
        return self._closed

    def _start(self, key: str, work: Callable[[Report], Awaitable[T]]) -> _SharedWork[T]:
        shared = _SharedWork(key, work)

        def ended(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            self._forget(key, shared)
            if not task.cancelled():
                task.exception()  # waiting callers get it; without callers, nobody needs it

        self._running[key] = shared
        self._tasks.add(shared.task)
        shared.task.add_done_callback(ended)
        return shared

    def _forget(self, key: str, shared: _SharedWork[T]) -> None:
        if self._running.get(key) is shared:
            del self._running[key]
