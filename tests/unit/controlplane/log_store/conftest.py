"""A log store in a directory of the test's own, small enough that a few events make a segment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.log_store.changes import Batch
from agent.controlplane.log_store.contract import BEFORE_ALL, BEHIND_ALL, Bounds
from agent.controlplane.log_store.paging import Ask
from agent.controlplane.log_store.store import LogStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW_MS = 1_700_000_000_000
SMALL = Bounds(journal_bytes=8 * 1024, block_bytes=1024, keep_free_bytes=0)


class Clock:
    """Unix seconds that a test sets."""

    def __init__(self) -> None:
        self.now = NOW_MS / 1000

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[LogStore]:
    opened = await LogStore.open(tmp_path / "logs", SMALL, clock=clock)
    yield opened
    await opened.close()


def batch(
    *messages: str, at: int = NOW_MS, group: str = "g", stream: str = "s", **more: Any
) -> Batch:
    """A batch of messages a millisecond apart."""
    values: dict[str, Any] = {
        "group": group,
        "stream": stream,
        "times": [at + place for place in range(len(messages))],
        "messages": messages,
        "make_group": True,
        "make_stream": True,
    }
    return Batch(**(values | more))


async def messages(store: LogStore, group: str = "g", **more: Any) -> list[str]:
    """Every message of a group, or of some streams, the oldest first."""
    found: list[str] = []
    ask = Ask(BEFORE_ALL)
    while True:
        page = (await store.page(group, ask, **more)).page
        found += [event.message for event in page.events]
        if page.is_last:
            return found
        ask = ask._replace(at=page.at)


async def newest(store: LogStore, count: int, stream: str = "s", group: str = "g") -> list[str]:
    """The last messages of a stream."""
    ask = Ask(BEHIND_ALL, forward=False, most_events=count)
    found = await store.page(group, ask, streams=[stream])
    return [event.message for event in found.page.events]


async def sealed(store: LogStore) -> None:
    """Return when nothing is being made a segment."""
    began = time.monotonic()
    recent = store._opened.recent
    while recent.frozen is not None or store._writer._is_full(1):
        assert time.monotonic() - began < 40, "no segment was made"
        await store.set_cursor("waiting", 0)
