"""A server on the loopback, and a host beside the store of the room's own conftest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.acs_host import AcsHost
from tests.support.ws_server import WsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.state import StateStore


@pytest.fixture
async def server() -> AsyncIterator[WsServer]:
    async with WsServer().running() as running:
        yield running


@pytest.fixture
def host(store: StateStore, server: WsServer) -> AcsHost:
    return AcsHost(store, server)
