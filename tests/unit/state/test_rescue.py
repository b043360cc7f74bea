from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import StateFailure
from agent.model.changes import TaskChange
from agent.state import Batch, StateStore

PAGE = 4096


def same(body: bytes) -> bytes:
    return body


async def filled(path: Path, count: int) -> None:
    store = await StateStore.open(path)
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


@pytest.mark.parametrize("filler", [b"\xa5", b"\0"], ids=["garbled", "zeroed"])
async def test_every_single_bad_page_costs_little(path: Path, filler: bytes) -> None:
    await filled(path, 120)
    whole = path.read_bytes()
    for page in range(len(whole) // PAGE):
        for old in path.parent.iterdir():
            old.unlink()
        path.write_bytes(whole)
        overwrite(path, page * PAGE, filler * PAGE)
        store = await StateStore.open(path)
        tasks = await store.load("task", same)
        # A leaf costs its own rows; the root of one tree costs that tree and no other; the page that
        # says what tables there are costs nothing.
        assert len(tasks) + store.outbox.size >= (240 if page == 0 else 100), f"page {page}"
        assert all(body.startswith(key[1:].encode()) for key, body in tasks.items())
        if store.problems:
            assert "was damaged" in store.problems[0]
            (kept,) = [name for name in path.parent.iterdir() if ".damaged-" in name.name]
            assert kept.stat().st_mode & 0o777 == 0o600
            assert kept.read_bytes()[page * PAGE : (page + 1) * PAGE] == filler * PAGE
        batch = Batch()
        batch.put("task", "new", b"1")
        await store.commit(batch)
        await store.close()
        store = await StateStore.open(path)
        assert store.problems == []
        assert await store.get_meta("instanceArn") in {"arn:1", None}
        await store.close()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_garbled_the_agent_starts(
    tmp_path_factory: pytest.TempPathFactory, original: dict[str, bytes], data: st.DataObject
) -> None:
    """Bytes of file and log are overwritten anywhere, also in the first page: each copy starts."""
    path = tmp_path_factory.mktemp("garbled") / "agent.db"
    for name, raw in original.items():
        torn = bytearray(raw)
        for _ in range(data.draw(st.integers(0, 4), label=f"holes in {name}")):
            at = data.draw(st.integers(0, len(raw) - 1) | st.integers(0, 120), label="at")
            torn[at : at + 64] = data.draw(st.binary(min_size=1, max_size=64), label="with")
        path.with_name(name).write_bytes(torn)
    asyncio.run(starts(path))


async def starts(path: Path) -> None:
    store = await StateStore.open(path)
    for kind in ("task", "sandbox"):
        await store.load(kind, msgspec.json.decode)
    while rows := await store.outbox.peek(1000):
        store.outbox.settle([seq for seq, _ in rows])
    await store.get_meta("instanceArn")
    batch = Batch()
    batch.put("task", "new", b"1")
    batch.put_meta("instanceArn", "arn:2")
    await store.commit(batch)
    await store.close()
    store = await StateStore.open(path)
    assert await store.get_meta("instanceArn") == "arn:2"
    assert (await store.load("task", msgspec.json.decode))["new"] == 1
    await store.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A file and its log, as ``kill -9`` leaves them."""
    path = tmp_path_factory.mktemp("original") / "agent.db"

    async def make() -> dict[str, bytes]:
        store = await StateStore.open(path)
        for number in range(12):
            batch = Batch()
            batch.put("task" if number % 3 else "sandbox", f"t{number}", b'"%s"' % (b"x" * 900))
            batch.enqueue(TaskChange(id=f"c{number}", task_arn="a", status="RUNNING", at=1.0))
            batch.put_meta("instanceArn", "arn:1")
            await store.commit(batch)
            if number == 6:
                await store._writer.call(store._writer.database.make_room, "fold")
        found = {name: path.with_name(name).read_bytes() for name in ("agent.db", "agent.db-wal")}
        await store.close()
        return found

    return asyncio.run(make())


@pytest.mark.parametrize("raw", [b"not a database, but long enough to be one" * 200, b"\0" * 8192])
async def test_a_file_of_which_nothing_can_be_read_is_set_aside(path: Path, raw: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(raw)
    store = await StateStore.open(path)
    (problem,) = store.problems
    assert "nothing in it could be read" in problem
    (kept,) = [name for name in path.parent.iterdir() if ".damaged-" in name.name]
    assert str(kept) in problem
    assert kept.read_bytes() == raw
    batch = Batch()
    batch.put("task", "a", b"1")
    await store.commit(batch)
    await store.close()
    store = await StateStore.open(path)
    assert store.problems == []
    assert await store.load("task", same) == {"a": b"1"}
    await store.close()


async def killed(path: Path, target: Path, count: int) -> None:
    """Leave a file and its log at ``target``, as ``kill -9`` would."""
    store = await StateStore.open(path)
    for number in range(count):
        batch = Batch()
        batch.put("task", f"t{number}", b"%d" % number)
        await store.commit(batch)
    target.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{target}{suffix}")
    await store.close()


@pytest.mark.parametrize("how", ["missing", "empty"])
async def test_a_file_that_is_gone_comes_back_from_its_log(
    path: Path, tmp_path: Path, how: str
) -> None:
    """SQLite would throw the log away."""
    copy = tmp_path / "copy" / "agent.db"
    await killed(path, copy, 5)
    copy.unlink()
    if how == "empty":
        copy.touch()
    store = await StateStore.open(copy)
    assert list(await store.load("task", same)) == [f"t{n}" for n in range(5)]
    assert "but its log is not" in store.problems[0]
    await store.close()


@pytest.mark.parametrize("at", [0, 32 + 100, 32 + 4120 * 3 + 5, 32 + 4120 * 4 + 1000])
async def test_a_bad_page_of_the_log_takes_back_nothing_that_came_after(
    path: Path, tmp_path: Path, at: int
) -> None:
    copy = tmp_path / "copy" / "agent.db"
    await killed(path, copy, 40)
    wal = copy.with_name("agent.db-wal")
    overwrite(wal, at, b"\xa5" * 24)
    store = await StateStore.open(copy)
    found = await store.load("task", same)
    assert len(found) >= 38
    assert found["t39"] == b"39"
    assert "of its log is damaged" in store.problems[0]
    await store.close()


async def test_what_no_commit_follows_is_no_damage(path: Path, tmp_path: Path) -> None:
    """The power went while a transaction was written, which nobody was told of."""
    copy = tmp_path / "copy" / "agent.db"
    await killed(path, copy, 5)
    wal = copy.with_name("agent.db-wal")
    overwrite(wal, wal.stat().st_size - 100, b"\xa5" * 100)
    store = await StateStore.open(copy)
    assert store.problems == []
    assert list(await store.load("task", same)) == [f"t{n}" for n in range(4)]
    await store.close()


@pytest.mark.parametrize(
    ("offset", "raw", "word"),
    [
        (60, b"\x7f\0\0\0", "impossible schema version"),
        (60, b"\0\0\0\0", "in its schema is wrong"),
        (68, b"\0\0\0\0", "its header lacks the agent"),
    ],
)
async def test_a_header_that_names_another_file_is_damage(
    path: Path, offset: int, raw: bytes, word: str
) -> None:
    await filled(path, 5)
    overwrite(path, offset, raw)
    store = await StateStore.open(path)
    assert word in store.problems[0]
    assert len(await store.load("task", same)) == 5
    assert await store.get_meta("instanceArn") == "arn:1"
    await store.close()


@pytest.mark.parametrize("table", ["meta", "records", "outbox", "set_aside"])
async def test_a_table_that_is_not_there_any_more_is_damage(path: Path, table: str) -> None:
    """``no such table`` and ``invalid start byte`` ended every start."""
    await filled(path, 5)
    raw = path.read_bytes()
    at = raw.index(f"CREATE TABLE {table}".encode()) - len(table) - 1
    overwrite(path, at, b"\xff\xfe" * (len(table) // 2))
    store = await StateStore.open(path)
    assert "was damaged" in store.problems[0]
    assert len(await store.load("task", same)) == 5
    assert store.outbox.size == 5
    assert await store.get_meta("instanceArn") == "arn:1"
    await store.close()


async def test_a_disk_that_does_not_give_a_page_back_costs_that_page(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path, 120)
    read_bytes, pread = Path.read_bytes, os.pread

    def failing_read(file: Path) -> bytes:
        if file == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_bytes(file)

    def failing_pread(handle: int, size: int, at: int) -> bytes:
        if at == 20 * PAGE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(handle, size, at)

    monkeypatch.setattr(Path, "read_bytes", failing_read)
    monkeypatch.setattr(os, "pread", failing_pread)
    store = await StateStore.open(path)
    assert "Input/output error" in store.problems[0]
    assert len(await store.load("task", same)) + store.outbox.size >= 230
    await store.close()


async def test_a_cut_off_file_keeps_its_beginning(path: Path) -> None:
    await filled(path, 120)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    store = await StateStore.open(path)
    assert "rescued" in store.problems[0]
    assert len(await store.load("task", same)) + store.outbox.size > 30
    await store.close()


async def test_a_damaged_file_of_a_newer_agent_is_refused_untouched(path: Path) -> None:
    await filled(path, 120)
    overwrite(path, 60, (99).to_bytes(4, "big"))  # user_version
    overwrite(path, 10 * PAGE, b"\xa5" * PAGE)
    raw = path.read_bytes()
    with pytest.raises(StateFailure, match="newer agent"):
        await StateStore.open(path)
    assert path.read_bytes() == raw
    assert [name.name for name in path.parent.iterdir() if "damaged" in name.name] == []
