"""A control endpoint on the loopback, a host, and a real store between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.state import StateStore
from tests.support.control_host import Host
from tests.support.fake_control import FakeControl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    opened = await StateStore.open(tmp_path / "agent.db")
    yield opened
    await opened.close()


@pytest.fixture
async def control() -> AsyncIterator[FakeControl]:
    async with FakeControl().running() as server:
        yield server


@pytest.fixture
async def host(store: StateStore, control: FakeControl) -> AsyncIterator[Host]:
    made = Host(store, control)
    yield made
    await made.close()
