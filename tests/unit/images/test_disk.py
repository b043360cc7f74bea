"""Readings of the engine's disk."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from agent.images import disk
from agent.images.disk import DiskUse, EngineDisk, read_use

if TYPE_CHECKING:
    import pytest


def test_reads_a_real_file_system(tmp_path: Path) -> None:
    use = read_use(tmp_path)
    assert use is not None
    assert 0 <= use.used_percent <= 100
    assert use.free_bytes >= 0
    assert read_use(tmp_path / "absent") is None


async def test_the_fullest_counts() -> None:
    full = {"/a": 10.0, "/b": 90.0}

    def read(path: Path) -> DiskUse | None:
        known = full.get(str(path))
        return None if known is None else DiskUse(path=str(path), used_percent=known, free_bytes=1)

    watched = EngineDisk([Path("/a"), Path("/b"), Path("/absent")], read=read)
    measured = await watched.measure()
    assert measured == watched.newest == DiskUse(path="/b", used_percent=90.0, free_bytes=1)
    assert await EngineDisk([], read=read).measure() is None


async def test_a_disk_that_hangs_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "READ_LIMIT_S", 0.05)
    going, reads = threading.Event(), []

    def read(path: Path) -> DiskUse | None:
        reads.append(path)
        going.wait(5)
        return None

    watched = EngineDisk([Path("/a")], read=read)
    first, second = await asyncio.gather(watched.measure(), watched.measure())
    assert first is None
    assert second is None
    assert await watched.measure() is None
    assert len(reads) == 1
    going.set()
