"""Values that are in the state file and in the mirror: either restores the other."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.state import Batch, StateStore
from agent.state.mirror_file import MirrorFile, Values
from agent.state.mirrored_values import newer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = frozenset({"instanceArn", "clientToken"})
PAGE = 4096


async def opened(path: Path) -> StateStore:
    return await StateStore.open(path, kept_twice=KEYS)


async def put(store: StateStore, **values: str) -> None:
    batch = Batch()
    for key, value in values.items():
        batch.put_meta(key, value)
    await store.commit(batch)


async def made(path: Path) -> None:
    store = await opened(path)
    await put(store, clientToken="t", other="o")
    await put(store, instanceArn="arn:1")
    batch = Batch()
    batch.put("task", "a", b"1")
    await store.commit(batch)
    await store.close()


async def kept(path: Path) -> tuple[dict[str, str | None], list[str]]:
    store = await opened(path)
    try:
        values = {key: await store.get_meta(key) for key in sorted(KEYS)}
        return values, store.problems
    finally:
        await store.close()


WHOLE = {"clientToken": "t", "instanceArn": "arn:1"}


def remove_state(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def zero_meta(path: Path) -> None:
    """The root page of ``meta``, and the records whole."""
    with sqlite3.connect(path) as database:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'meta'"
        (root,) = database.execute(query).fetchone()
    with path.open("rb+") as file:
        file.seek((root - 1) * PAGE)
        file.write(bytes(PAGE))


def delete_rows(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM meta")


def change_a_row(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = 'arn:garbled' WHERE key = 'instanceArn'")


def garble_all(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


@pytest.mark.parametrize("lose", [remove_state, zero_meta, delete_rows, change_a_row, garble_all])
async def test_the_second_place_restores_the_state_file(
    path: Path, lose: Callable[[Path], None]
) -> None:
    await made(path)
    lose(path)
    values, problems = await kept(path)
    assert values == WHOLE
    assert "had lost the identity of this host" in problems[-1]
    assert (await kept(path)) == (WHOLE, [])


@pytest.mark.parametrize("how", ["gone", "empty", "garbled", "a bit", "a directory"])
async def test_the_state_file_restores_the_second_place(path: Path, how: str) -> None:
    await made(path)
    second = MirrorFile(path).path
    raw = second.read_bytes()
    second.unlink()
    if how == "empty":
        second.touch()
    elif how == "garbled":
        second.write_bytes(os.urandom(len(raw)))
    elif how == "a bit":
        second.write_bytes(raw.replace(b"arn:1", b"arn:3"))
    elif how == "a directory":
        second.mkdir()
    values, problems = await kept(path)
    assert values == WHOLE
    assert str(second) in problems[0]
    if how != "a directory":
        assert second.read_bytes() == raw
        assert second.stat().st_mode & 0o777 == 0o600
        assert (await kept(path)) == (WHOLE, [])


async def test_an_older_copy_of_either_place_is_not_believed(path: Path) -> None:
    await made(path)
    second = MirrorFile(path).path
    old_state, old_second = path.read_bytes(), second.read_bytes()
    store = await opened(path)
    await put(store, instanceArn="arn:2")
    await store.close()
    newest = {"clientToken": "t", "instanceArn": "arn:2"}
    second.write_bytes(old_second)
    assert (await kept(path))[0] == newest
    remove_state(path)
    path.write_bytes(old_state)
    assert (await kept(path))[0] == newest


async def test_what_was_forgotten_on_purpose_stays_so(path: Path) -> None:
    await made(path)
    store = await opened(path)
    batch = Batch()
    for key in KEYS:
        batch.delete_meta(key)
    await store.commit(batch)
    await store.close()
    assert (await kept(path)) == ({"clientToken": None, "instanceArn": None}, [])
    remove_state(path)
    assert (await kept(path))[0] == {"clientToken": None, "instanceArn": None}


async def test_a_state_file_from_before_the_second_place_gets_one(path: Path) -> None:
    store = await StateStore.open(path)
    await put(store, clientToken="t", instanceArn="arn:1")
    await store.close()
    assert (await kept(path)) == (WHOLE, [])
    remove_state(path)
    assert (await kept(path))[0] == WHOLE


async def test_a_second_place_that_cannot_be_written_is_told_and_written_later(path: Path) -> None:
    store = await opened(path)
    blocker = path.with_name("agent.db.identity.new")
    blocker.mkdir()
    await put(store, clientToken="t")
    await store.beat()
    await store.beat()
    assert "agent.db.identity cannot be written" in store.problems[0]
    blocker.rmdir()
    await put(store, other="o")
    await store.beat()
    await store.beat()
    assert store.problems == []
    await store.close()
    remove_state(path)
    assert (await kept(path))[0]["clientToken"] == "t"


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 400))
def test_whatever_it_holds_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    second = MirrorFile(tmp_path_factory.mktemp("second") / "agent.db")
    values = Values(serial=3, values=WHOLE)
    second.write(values)
    raw = bytearray(second.path.read_bytes())
    raw[at : at + len(data)] = data
    second.path.write_bytes(raw)
    found, trouble = second.read()
    assert (found == values and not trouble) or (found == Values() and trouble)


def test_the_newer_one_counts() -> None:
    old, new = Values(serial=1, values={"a": "1"}), Values(serial=2, values={"a": "2"})
    none = Values()
    assert newer(old, new) == newer(new, old) == new
    assert newer(none, old) == newer(old, none) == old
    assert newer(Values(serial=2, values={}), new) == new
