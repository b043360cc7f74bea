"""Lets those who work at one moment write only when each of them has read what it writes from."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from agent.controlplane.store.contract import Put

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from agent.controlplane.store.contract import Compare, Op, Store, TxnResult


class Meeting:
    """Where all wait with their next write until every other one has one too, or nothing left to do.

    So each decides from what it read before any of them wrote. Who is first is drawn, again each time.
    """

    def __init__(self) -> None:
        self.draw = random.Random(0)
        self._present = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def hold(self, *work: Coroutine[Any, Any, None]) -> None:
        """Let all of these work at the same moment; returns when all have ended.

        One that is cancelled from within has ended. If one fails, the others are cancelled, and an
        ``ExceptionGroup`` is raised.
        """
        self._present += len(work)
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(self._attend(one))

    async def _attend(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._present -= 1
            self._go_on()

    async def wait(self) -> None:
        """Return when all have something to write, or at once if nobody else is there."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._go_on()
        try:
            await turn
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _go_on(self) -> None:
        if len(self._waiting) < self._present:
            return
        turns, self._waiting = self._waiting, []
        self.draw.shuffle(turns)
        for turn in turns:
            if not turn.done():
                turn.set_result(None)


class Seat:
    """A store as one of them has it; everything but its writes is the store's own."""

    def __init__(
        self, store: Store, meeting: Meeting, key: str = "", puts: set[int] | None = None
    ) -> None:
        """``puts`` gets the revisions in which a write of this one puts the ``key``."""
        self._store = store
        self._meeting = meeting
        self._key = key
        self._puts = puts if puts is not None else set()
        self._dies_at = 0
        self._writes_last = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def die_at(self, write: int, *, writes_last: bool) -> None:
        """Cancel the task that makes the ``write``-th write from now on, before it or right after it."""
        self._dies_at, self._writes_last = write, writes_last

    async def txn(
        self, compares: Sequence[Compare], then: Sequence[Op], *args: Any, **kwargs: Any
    ) -> TxnResult:
        await self._meeting.wait()
        self._dies_at -= 1
        if self._dies_at == 0 and not self._writes_last:
            await _end()
        result = await self._store.txn(compares, then, *args, **kwargs)
        if result.succeeded and any(isinstance(op, Put) and op.key == self._key for op in then):
            self._puts.add(result.revision)
        if self._dies_at == 0 and self._writes_last:
            await _end()
        return result


async def _end() -> None:
    """End the task that runs this."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
