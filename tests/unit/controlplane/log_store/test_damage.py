"""Damage of the log store costs what is damaged, and is told; everything else is read on."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from agent.controlplane.log_store import disk, journal
from agent.controlplane.log_store.changes import retained
from agent.controlplane.log_store.contract import Bounds
from agent.controlplane.log_store.sealing import Sealer
from agent.controlplane.log_store.store import LogStore
from tests.unit.controlplane.log_store.conftest import SMALL, batch, messages, sealed

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [f"{number:05d}".ljust(100) for number in range(400)]


async def made(directory: Path, bounds: Bounds = SMALL) -> None:
    """A closed store with some segments, and the rest in a journal."""
    store = await LogStore.open(directory, bounds)
    for start in range(0, len(TEXTS), 10):
        await store.append(batch(*TEXTS[start : start + 10], at=1000 + start, id=f"i/{start}"))
    await store.change_group("g", retained(3653))
    await sealed(store)
    assert (await store.usage()).segments > 2
    await store.close()


def damage(path: Path, places: list[int]) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 0xFF
    path.write_bytes(data)


async def files(directory: Path) -> list[str]:
    return list(await asyncio.to_thread(disk.segment_files, directory))


def old_clock() -> float:
    return 2.0


async def opened(directory: Path) -> LogStore:
    return await LogStore.open(directory, SMALL, clock=old_clock)


async def test_a_damaged_block_is_left_out_and_told_once(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    await made(directory)
    first = (await files(directory))[0]
    damage(directory / first, [100])
    store = await opened(directory)
    with capture_logs() as told:
        left = await messages(store)
        assert await messages(store) == left
    assert [line["event"] for line in told] == [
        "log segment is damaged; what is damaged is left out"
    ]
    assert 0 < len(TEXTS) - len(left) < 80
    assert set(left) < set(TEXTS)
    assert left == sorted(left)
    assert (await store.usage()).damaged_segments == 1
    await store.append(batch("goes on", at=9_000))
    assert (await messages(store))[-1] == "goes on"
    await store.close()


async def test_a_segment_that_is_gone_costs_itself(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    await made(directory)
    (directory / (await files(directory))[1]).unlink()
    store = await opened(directory)
    left = await messages(store)
    assert 200 < len(left) < len(TEXTS)
    await store.close()


@pytest.mark.parametrize("how", ["garbled", "gone", "empty", "older"])
async def test_a_catalogue_that_is_lost_is_made_anew(tmp_path: Path, how: str) -> None:
    directory = tmp_path / "logs"
    path = directory / disk.CATALOGUE
    young = await LogStore.open(directory, SMALL)
    await young.create_group("before")
    await young.close()
    shutil.copy(path, tmp_path / "older")
    await made(directory)
    match how:
        case "garbled":
            damage(path, list(range(0, path.stat().st_size, 500)))
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case _:
            shutil.copy(tmp_path / "older", path)
    with capture_logs() as told:
        store = await opened(directory)
    assert "log catalogue made anew from the segments" in [line["event"] for line in told]
    assert await messages(store) == TEXTS
    assert (await store.group("g")).retention_days in (3653, None)
    await store.append(batch("goes on", at=9_000))
    assert (await messages(store, streams=["s"]))[-1] == "goes on"
    await store.close()
    again = await opened(directory)
    assert await messages(again) == [*TEXTS, "goes on"]
    await again.close()


async def test_a_damaged_footer_matters_only_when_the_catalogue_is_lost(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    await made(directory)
    first = (await files(directory))[0]
    damage(directory / first, [(directory / first).stat().st_size - 30])
    store = await opened(directory)
    assert await messages(store) == TEXTS
    await store.close()
    (directory / disk.CATALOGUE).unlink()
    store = await opened(directory)
    left = await messages(store)
    assert left == TEXTS[-len(left) :]
    assert len(left) > 200
    assert (directory / f"{first}.damaged").exists()
    await store.close()


async def test_a_torn_journal_is_cut_at_every_length(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    store = await LogStore.open(directory, Bounds(keep_free_bytes=0), clock=old_clock)
    for text in ("first", "second", "third"):
        await store.append(batch(text))
    await store.close()
    path = journal.path_of(directory, 1)
    whole = path.read_bytes()
    third = whole.rindex(b"\xf7LF1")
    for length in range(third, len(whole), 3):
        path.write_bytes(whole[:length])
        again = await opened(directory)
        assert await messages(again) == ["first", "second"]
        await again.close()
        assert path.stat().st_size == third


async def test_damage_within_the_journal_costs_its_commit(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    store = await LogStore.open(directory, Bounds(keep_free_bytes=0), clock=old_clock)
    for text in ("first", "second", "third"):
        await store.append(batch(text))
    await store.close()
    path = journal.path_of(directory, 1)
    damage(path, [path.read_bytes().index(b"\xf7LF1", 1) + 20])
    with capture_logs() as told:
        again = await opened(directory)
    assert "log journal is damaged; the events there are lost" in [line["event"] for line in told]
    assert await messages(again) == ["first", "third"]
    await again.close()


@pytest.mark.parametrize("crash", ["before the catalogue", "before the journal is gone"])
async def test_a_crash_while_a_segment_is_made(tmp_path: Path, crash: str) -> None:
    """The journal and the segment of one number are both there, known to the catalogue or not."""
    directory = tmp_path / "logs"
    huge = replace(SMALL, journal_bytes=10**6)
    store = await LogStore.open(directory, huge, clock=old_clock)
    for start in range(0, 100, 10):
        await store.append(batch(*TEXTS[start : start + 10], at=1000 + start))
    await store.close()
    before = tmp_path / "before"
    shutil.copytree(directory, before)
    store = await LogStore.open(directory, SMALL, clock=old_clock)
    await sealed(store)
    async with asyncio.timeout(40):
        while not (await store.usage()).segments:  # noqa: ASYNC110 - its thread tells nobody
            await asyncio.sleep(0.01)
    await store.close()
    if crash == "before the catalogue":
        for name in await files(directory):
            shutil.copy(directory / name, before / name)
        directory = before
    else:
        shutil.copy(journal.path_of(before, 1), journal.path_of(directory, 1))
    store = await opened(directory)
    assert await messages(store) == TEXTS[:100]
    await store.close()


async def test_a_crash_while_a_segment_is_made_and_more_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two journals are there: the frozen one, and that of the events which came after."""
    directory = tmp_path / "logs"
    with monkeypatch.context() as patched:
        patched.setattr(Sealer, "seal", lambda _: None)
        store = await LogStore.open(directory, SMALL, clock=old_clock)
        for start in range(0, 100, 10):
            await store.append(batch(*TEXTS[start : start + 10], at=1000 + start, id=f"i/{start}"))
        await store.close()
    assert await asyncio.to_thread(disk.journal_numbers, directory) == [1, 2]
    store = await opened(directory)
    assert await messages(store) == TEXTS[:100]
    assert (await store.append(batch("again", id="i/0"))).is_again
    await store.append(batch("goes on", at=9_000))
    await sealed(store)
    await store.close()
    store = await opened(directory)
    assert await messages(store) == [*TEXTS[:100], "goes on"]
    await store.close()
