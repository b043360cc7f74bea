from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store.contract import Store
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens the store under test; a second call, after close, opens the same one again.

    Another store joins the suite with one more param.
    """
    opened: list[Store] = []

    async def open_sqlite() -> Store:
        store = await SqliteStore.open(tmp_path / "control.db")
        opened.append(store)
        return store

    yield {"sqlite": open_sqlite}[request.param]
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
