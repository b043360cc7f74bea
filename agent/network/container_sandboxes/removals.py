"""Removes sandboxes until it works.

Tests: ``tests/unit/network/container_sandboxes/test_sandboxes.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from agent.network.background import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.runtime.protocol import ContainerEngine

RETRY_FIRST_S, RETRY_LAST_S = 1.0, 60.0
_PARALLEL: Final = 8


class Removals:
    """The sandboxes that are to be removed. Belongs to one event loop."""

    def __init__(self, runtime: ContainerEngine, on_removed: Callable[[str], None]) -> None:
        """Remove nothing before ``run``; ``on_removed`` is told what is gone, as it was added."""
        self._runtime = runtime
        self._on_removed = on_removed
        self._doomed: set[str] = set()
        self._added = asyncio.Event()

    def add(self, sandbox_id: str) -> None:
        """Have a sandbox removed soon, by its engine id, or by its name where that is not known."""
        self._doomed.add(sandbox_id)
        self._added.set()

    async def run(self) -> None:
        """Remove until cancelled; what fails is tried again, later each time."""
        retry_s = RETRY_FIRST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(retry_s if self._doomed else None):
                    await self._added.wait()
            self._added.clear()
            await self.empty()
            retry_s = min(retry_s * 2, RETRY_LAST_S) if self._doomed else RETRY_FIRST_S

    async def empty(self, those: Iterable[str] | None = None) -> None:
        """Try to remove all of them once, or only those; failures are logged."""
        slots = asyncio.Semaphore(_PARALLEL)
        doomed = list(self._doomed if those is None else those)
        await settle(
            "sandbox of a container not removed",
            [(each[:12], self._remove(each, slots)) for each in doomed],
        )

    async def _remove(self, sandbox_id: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            await self._runtime.remove_container(sandbox_id, force=True)
        self._doomed.discard(sandbox_id)
        self._on_removed(sandbox_id)
