"""What the kernel tells of a directory, and what of it counts."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from agent.state import watch
from agent.state.watch import DirectoryWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

NAMES = frozenset({"agent.db", "agent.db.identity"})


class Told:
    def __init__(self, directory: Path) -> None:
        self.times = 0
        self.watch = DirectoryWatch(directory, NAMES, self._tell)

    def _tell(self) -> None:
        self.times += 1

    async def after(self, work: Callable[[], object]) -> int:
        """How often it was told of a piece of work."""
        before = self.times
        await asyncio.to_thread(work)
        await asyncio.sleep(0.05)
        return self.times - before


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    directory = tmp_path / "data"
    directory.mkdir()
    for name in (*NAMES, "other"):
        (directory / name).touch()
    made = Told(directory)
    made.watch.begin()
    yield made
    made.watch.close()
    made.watch.close()


async def test_of_removals_and_replacements(told: Told, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert await told.after((data / "agent.db.identity").unlink)
    assert await told.after(lambda: (data / "agent.db").rename(data / "elsewhere"))
    assert await told.after(lambda: (data / "elsewhere").rename(data / "agent.db"))


async def test_not_of_what_the_agent_does_itself(told: Told, tmp_path: Path) -> None:
    data = tmp_path / "data"

    def write() -> None:
        (data / "agent.db").write_bytes(b"1")
        (data / "agent.db.identity.new").write_bytes(b"1")
        (data / "agent.db.identity.new").rename(data / "agent.db.identity")
        (data / "other").unlink()

    assert await told.after(write) == 0


async def test_of_the_end_of_the_directory_and_of_the_next_one(told: Told, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert await told.after(lambda: shutil.rmtree(data))
    for _ in range(3):

        def make() -> None:
            data.mkdir()
            (data / "agent.db").touch()

        await asyncio.to_thread(make)
        told.watch.begin()
        assert await told.after(lambda: data.rename(tmp_path / f"old-{os.urandom(4).hex()}"))


async def test_a_kernel_without_watches_left_is_told_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Libc:
        @staticmethod
        def inotify_init1(_flags: int) -> int:
            return -1

    monkeypatch.setattr(watch, "_libc", Libc)
    told = Told(tmp_path)
    told.watch.begin()
    told.watch.close()
    assert "the state directory is not watched" in capsys.readouterr().out


@pytest.mark.parametrize("raw", [b"", b"x" * 7, b"\0" * 16, b"\xff" * 100])
def test_events_of_any_bytes_are_read(raw: bytes) -> None:
    assert len(list(watch._events(raw))) <= 6
