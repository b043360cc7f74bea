"""A host with the real task engine on a container engine in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.engine import failures, record_cleanup, record_saver
from tests.support.task_host import TaskHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries come after milliseconds; how they grow is tested with the failures."""
    monkeypatch.setattr(failures, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(failures, "LONGEST_RETRY_S", 0.05)
    monkeypatch.setattr(record_cleanup, "FORGET_RETRY_S", 0.05)
    monkeypatch.setattr(record_saver, "SAVE_RETRY_S", 0.05)


@pytest.fixture
async def host(tmp_path: Path, quick: None) -> AsyncIterator[TaskHost]:
    made = TaskHost(tmp_path / "agent.db")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def hasty_host(tmp_path: Path, quick: None) -> AsyncIterator[TaskHost]:
    """Like ``host``, but tasks are cleaned up as soon as they have stopped."""
    made = TaskHost(tmp_path / "agent.db", cleanup_wait_s=0.0)
    await made.start()
    yield made
    await made.close()
