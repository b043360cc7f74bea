"""News of a real directory."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from agent.inotify import DirectoryWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def news() -> AsyncIterator[DirectoryWatch]:
    made = DirectoryWatch()
    yield made
    made.close()
    made.close()


async def told(news: DirectoryWatch, *, within_s: float = 5.0) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await news.changed()
    except TimeoutError:
        return False
    return True


async def test_names_that_come_and_go_and_the_directory_itself(
    news: DirectoryWatch, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    place.mkdir()
    news.watch(place)
    for change in (
        (place / "a").touch,
        lambda: (place / "a").rename(place / "b"),
        (place / "b").unlink,
        lambda: shutil.rmtree(place),
    ):
        await asyncio.to_thread(change)
        assert await told(news)
    assert not await told(news, within_s=0.05)

    await asyncio.to_thread(place.mkdir)
    assert not await told(news, within_s=0.05), "another directory of the same name"
    news.watch(place)
    await asyncio.to_thread((place / "a").touch)
    assert await told(news)


async def test_only_the_last_directory_is_watched(news: DirectoryWatch, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        news.watch(tmp_path / name)
        news.watch(tmp_path / name)
    while await told(news, within_s=0.05):
        pass
    (tmp_path / "one/a").touch()
    assert not await told(news, within_s=0.05)
    (tmp_path / "two/a").touch()
    assert await told(news)


async def test_a_directory_that_is_not_there_is_refused(
    news: DirectoryWatch, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        news.watch(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        news.watch(tmp_path / "file")
