"""The file that tells local tools where control is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.controlplane.front import address
from agent.controlplane.front.address import Address

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HERE = Address(url="http://127.0.0.1:6820", region="us-east-1")


async def written(directory: Path) -> Address | None:
    return await asyncio.to_thread(address.read, directory)


async def test_what_cannot_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control starts without it: a full disk must not keep tasks from being stopped."""
    monkeypatch.setattr(address, "AGAIN_AFTER_S", 0.01)
    in_the_way = tmp_path / f".{address.FILE}.new"
    in_the_way.mkdir()
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        tries: list[asyncio.Task[None]] = []
        await address.keep(tmp_path, HERE, lambda work: tries.append(group.create_task(work)))
        (trying,) = tries
        await asyncio.sleep(0.05)
        assert await written(tmp_path) is None
        assert not trying.done()
        in_the_way.rmdir()
        await trying
        assert await written(tmp_path) == HERE


async def test_what_can_be_written_needs_no_second_try(tmp_path: Path) -> None:
    tries: list[object] = []
    await address.keep(tmp_path, HERE, tries.append)
    assert await written(tmp_path) == HERE
    assert tries == []
