"""A log store to forward from, and a destination that a test tells how to behave."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.log_forward import forwarder as forwarding
from agent.controlplane.log_forward.chunks import Chunk, Refusal, Sent
from agent.controlplane.log_forward.forwarder import Forwarder
from agent.controlplane.log_store.contract import Bounds
from agent.controlplane.log_store.store import LogStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Scripted:
    """Takes what it is sent, but for streams that a test names."""

    name = "scripted"

    def __init__(self) -> None:
        self.got: list[str] = []
        """Messages, in the order they came."""
        self.away: set[str] = set()
        """Streams that are not taken now."""
        self.refused: set[str] = set()
        """Streams that are never taken."""
        self.is_away = False
        self.calls = 0
        self.news = asyncio.Event()

    async def send(self, chunks: list[Chunk]) -> Sent:
        self.calls += 1
        self.news.set()
        if self.is_away:
            return Sent(chunks, "it is away")
        again = [chunk for chunk in chunks if chunk.stream in self.away]
        refused = [chunk for chunk in chunks if chunk.stream in self.refused]
        for chunk in chunks:
            if chunk not in again and chunk not in refused:
                self.got += [event.message for event in chunk.events]
        refusals = [Refusal(chunk, len(chunk.events), "never") for chunk in refused]
        return Sent(again, "some are away" if again else "", refusals)

    async def until(self, count: int) -> None:
        """Return when so many messages have come."""
        async with asyncio.timeout(40):
            while len(self.got) < count:
                self.news.clear()
                await self.news.wait()
                await asyncio.sleep(0)

    async def until_called(self) -> None:
        """Return when it was called once more."""
        calls = self.calls
        async with asyncio.timeout(40):
            while self.calls == calls:
                self.news.clear()
                await self.news.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "GATHER_S", 0.01)
    monkeypatch.setattr(forwarding, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(forwarding, "_LONGEST_WAIT_S", 0.05)


@pytest.fixture
def destination() -> Scripted:
    return Scripted()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    bounds = Bounds(journal_bytes=8 * 1024, block_bytes=1024, keep_free_bytes=0)
    opened = await LogStore.open(tmp_path / "logs", bounds)
    yield opened
    await opened.close()


@contextlib.asynccontextmanager
async def running(store: LogStore, destination: Scripted) -> AsyncIterator[Forwarder]:
    """Forward while the block runs."""
    forwarder = await Forwarder.open(store, destination)
    task = asyncio.create_task(forwarder.run())
    try:
        yield forwarder
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
