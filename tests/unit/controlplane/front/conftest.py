"""A real control endpoint that requires keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.keyed_control import KeyedControl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[KeyedControl]:
    async with KeyedControl.running(tmp_path, socket=tmp_path / "control.sock") as running:
        yield running
