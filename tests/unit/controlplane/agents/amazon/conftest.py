from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.control_endpoint import Endpoint, control_endpoint
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """A control endpoint whose leases last 1.2 s."""
    async with control_endpoint(tmp_path, lease_s=1.2) as running:
        await running.call("CreateCluster")
        yield running


@pytest.fixture
async def agent(endpoint: Endpoint) -> RawAgent:
    """An agent that registered."""
    made = RawAgent(endpoint)
    await made.register()
    return made
