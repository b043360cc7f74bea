from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.control_endpoint import Endpoint, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """A control endpoint with a cluster ``default``, whose leases last 1.2 s."""
    async with control_endpoint(tmp_path, lease_s=1.2) as running:
        await running.call("CreateCluster")
        yield running
