"""A state file for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.state import StateStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "agent.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[StateStore]:
    opened = await StateStore.open(path)
    yield opened
    await opened.close()
