from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store import etcd_settings
from agent.controlplane.store.contract import Store
from agent.controlplane.store.etcd import EtcdStore
from agent.controlplane.store.sqlite import SqliteStore
from tests.support import etcd_nodes

if TYPE_CHECKING:
    from pathlib import Path

OpenStore = Callable[[], Awaitable[Store]]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def etcd() -> Iterator[etcd_nodes.Etcd]:
    """One real etcd for all tests of a process; each test has a prefix of its own."""
    with etcd_nodes.running() as found:
        yield found


@pytest.fixture(params=["sqlite", "etcd"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens the store under test; a second call, after close, opens the same one again.

    Another store joins the suite with one more param.
    """
    opened: list[Store] = []

    async def open_sqlite() -> Store:
        store = await SqliteStore.open(tmp_path / "control.db")
        opened.append(store)
        return store

    if request.param == "etcd":
        cluster = request.getfixturevalue("etcd")
        settings = etcd_settings.parse(cluster.address(f"/test/{next(_numbers)}"), {})

    async def open_etcd() -> Store:
        store = await EtcdStore.open(settings, data_dir=tmp_path)
        opened.append(store)
        return store

    yield {"sqlite": open_sqlite, "etcd": open_etcd}[request.param]
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
