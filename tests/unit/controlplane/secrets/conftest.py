from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.controlplane.secrets.keeper import SecretKeeper
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "control.db")
    yield opened
    await opened.close()


@pytest.fixture
async def keeper(store: SqliteStore, tmp_path: Path) -> SecretKeeper:
    return await SecretKeeper.open(store, tmp_path / "secrets.keys")
