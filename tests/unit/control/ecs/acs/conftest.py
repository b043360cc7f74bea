"""A server on the loopback, a host, and a real store between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.state import Store
from tests.support.acs_host import AcsHost
from tests.support.ws_server import WsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "agent.db")
    yield opened
    await opened.close()


@pytest.fixture
async def server() -> AsyncIterator[WsServer]:
    async with WsServer().running() as running:
        yield running


@pytest.fixture
def host(store: Store, server: WsServer) -> AcsHost:
    return AcsHost(store, server)
