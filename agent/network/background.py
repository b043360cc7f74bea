"""Work that goes on when its caller is cancelled, and removals in parallel.

Tests: ``tests/unit/network/test_background.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class BackgroundTasks:
    """Background tasks of one object. Belongs to one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task; a failure that nobody awaits is dropped."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    async def finish(self, limit_s: float) -> None:
        """Wait for all tasks; cancel those that take longer than ``limit_s`` seconds."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=limit_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone, and nobody handles the failure


async def uninterrupted(work: Awaitable[T]) -> T:
    """Wait for work that must not be left half done: if cancelled, until it has ended nevertheless."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left to handle it
        raise


async def settle(complaint: str, removals: Iterable[tuple[str, Awaitable[None]]]) -> None:
    """Run removals in parallel; log the agent's own failures, and raise others."""
    removals = list(removals)
    answers = await asyncio.gather(*(removal for _, removal in removals), return_exceptions=True)
    for (what, _), answer in zip(removals, answers, strict=True):
        if isinstance(answer, AgentError):
            _log.warning(complaint, what=what, error=str(answer))
        elif isinstance(answer, BaseException):
            raise answer
