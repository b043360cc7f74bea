from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import StateFailure
from agent.model.changes import TaskChange
from agent.state import Batch, Store

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096


def same(body: bytes) -> bytes:
    return body


async def filled(path: Path, count: int) -> None:
    store = await Store.open(path)
    batch = Batch()
    for number in range(count):
        batch.put("task", f"t{number}", b"%d" % number + b"x" * 1000)
        batch.enqueue(TaskChange(id=f"c{number}", task_arn="a", status="RUNNING", at=1.0))
    batch.put_meta("instanceArn", "arn:1")
    await store.commit(batch)
    await store.close()


def overwrite(path: Path, offset: int, raw: bytes) -> None:
    with path.open("rb+") as file:
        file.seek(offset)
        file.write(raw)


async def test_every_single_bad_page_costs_little(path: Path) -> None:
    await filled(path, 120)
    whole = path.read_bytes()
    pages = len(whole) // PAGE
    fatal = 0
    for page in range(1, pages):
        for old in path.parent.iterdir():
            old.unlink()
        path.write_bytes(whole)
        overwrite(path, page * PAGE, b"\xa5" * PAGE)
        try:
            store = await Store.open(path)
        except StateFailure as failure:
            assert "nothing of it can be read" in str(failure)  # noqa: PT017 - most pages must not raise
            fatal += 1
            continue
        tasks = await store.load("task", same)
        changes = store.outbox.size
        # A leaf costs its own rows; the root of one tree costs that tree and no other.
        assert len(tasks) + changes >= 100, f"page {page}"
        assert all(body.startswith(key[1:].encode()) for key, body in tasks.items())
        if store.problems:
            assert "was damaged" in store.problems[0]
            kept = [name for name in path.parent.iterdir() if ".damaged-" in name.name]
            assert len(kept) == 1
            assert kept[0].stat().st_mode & 0o777 == 0o600
        batch = Batch()
        batch.put("task", "new", b"1")
        await store.commit(batch)
        await store.close()
        store = await Store.open(path)
        assert store.problems == []
        assert await store.get_meta("instanceArn") in {"arn:1", None}
        await store.close()
    assert fatal == 0


@pytest.mark.parametrize("raw", [b"not a database, but long enough to be one" * 200, b"\0" * 8192])
async def test_a_file_of_which_nothing_can_be_read_is_left_alone(path: Path, raw: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(raw)
    with pytest.raises(StateFailure, match="nothing of it can be read") as failure:
        await Store.open(path)
    assert str(path) in str(failure.value)
    assert path.read_bytes() == raw
    assert [name.name for name in path.parent.iterdir() if "damaged" in name.name] == []


async def test_a_cut_off_file_keeps_its_beginning(path: Path) -> None:
    await filled(path, 120)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    store = await Store.open(path)
    assert "rescued" in store.problems[0]
    assert len(await store.load("task", same)) + store.outbox.size > 30
    await store.close()


async def test_a_damaged_file_of_a_newer_agent_is_refused_untouched(path: Path) -> None:
    await filled(path, 120)
    overwrite(path, 60, (99).to_bytes(4, "big"))  # user_version
    overwrite(path, 10 * PAGE, b"\xa5" * PAGE)
    raw = path.read_bytes()
    with pytest.raises(StateFailure, match="newer agent"):
        await Store.open(path)
    assert path.read_bytes() == raw
    assert [name.name for name in path.parent.iterdir() if "damaged" in name.name] == []
