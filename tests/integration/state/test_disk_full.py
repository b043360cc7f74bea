"""A full disk fails commits, loses nothing that was promised, and heals by itself."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.errors import StateFailure
from agent.model.changes import TaskChange
from agent.state import Batch, StateStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def put(store: StateStore, number: int) -> None:
    batch = Batch()
    batch.put("task", f"t{number}", b"x" * 2000)
    batch.enqueue(TaskChange(id=f"c{number}", task_arn="a", status="RUNNING", at=1.0))
    await store.commit(batch)


async def put_until_it_fails(store: StateStore) -> list[int]:
    for number in range(1000):
        try:
            await put(store, number)
        except StateFailure as failure:
            assert "free space on that disk" in str(failure)  # noqa: PT017 - which put fails is not known
            assert failure.retryable  # noqa: PT017 - as above
            return list(range(number))
    raise AssertionError("the disk never got full")


async def test_full_disk(small_disk: Path) -> None:
    path = small_disk / "agent.db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"b" * 300_000)
    store = await StateStore.open(path)
    done = await put_until_it_fails(store)
    assert store.healthy is False
    assert len(done) > 20
    assert store.outbox.size == len(done)
    with pytest.raises(StateFailure):
        await put(store, 2000)
    # Reading goes on, and so does settling, which needs to be remembered only.
    assert len(await store.load("task", len)) == len(done)
    first = await store.outbox.peek(1)
    assert first[0][1].id == "c0"
    store.outbox.settle([first[0][0]])
    assert store.outbox.size == len(done) - 1

    ballast.unlink()
    await put(store, 3000)
    assert store.problems == []
    await store.close()

    store = await StateStore.open(path)
    assert set(await store.load("task", len)) == {f"t{number}" for number in [*done, 3000]}
    changes = [change.id for _, change in await store.outbox.peek(1000)]
    assert [change for change in changes if change != "c0"] == [
        f"c{number}" for number in [*done[1:], 3000]
    ]
    await store.close()


async def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb") as file:
        file.write(b"b" * 2_000_000)
    with pytest.raises(StateFailure, match=r"agent\.db"):
        await StateStore.open(small_disk / "agent.db")
    ballast.unlink()
    await (await StateStore.open(small_disk / "agent.db")).close()
