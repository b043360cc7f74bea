"""The clean-up as it happens: what is in use stays, a refusal is passed over, and pulls go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import EngineRefused
from agent.images import cleanup
from agent.images import reference as names
from agent.images.cleanup import CleanupSettings, ImageCleanup
from agent.images.disk import DiskUse, EngineDisk, Watermarks
from agent.images.images import Images
from agent.images.locks import ImageLocks
from agent.images.puller import PullLimits
from agent.images.removal_plan import CleanupPolicy
from agent.images.uses import ImageUses
from agent.model.payload import Container
from agent.state import StateStore
from tests.support.memory_engine import Fault, MemoryEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.images.progress import Progress


class Host:
    """An engine whose disk has room for ten images."""

    def __init__(self, store: StateStore, uses: ImageUses, *, marks: Watermarks) -> None:
        self.store = store
        self.uses = uses
        self.engine = MemoryEngine(images=())
        self.locks = ImageLocks()
        self.wanted: list[str] = []
        self.full: float | None = None
        self.told: list[Progress] = []
        self.disk = EngineDisk([Path("/engine")], read=self._read)
        self.cleanup = ImageCleanup(
            self.engine,
            uses=uses,
            locks=self.locks,
            disk=self.disk,
            settings=CleanupSettings(
                policy=CleanupPolicy(minimum_age_s=0.0, most=3),
                watermarks=marks,
                excluded=("ex:1",),
            ),
            wanted=lambda: self.wanted,
            is_ours=lambda row: "ours" in row.labels,
        )

    def _read(self, path: Path) -> DiskUse:
        used = 10.0 * len(self.engine.images) if self.full is None else self.full
        return DiskUse(path=str(path), used_percent=used, free_bytes=0)

    def has(self, *images: str) -> None:
        """Put images there that the agent got, the least recently used first."""
        for at, name in enumerate(images):
            self.engine.images.add(name)
            self.uses.got(f"sha256:{name}", (names.parse(name).identity,), 1000.0 * at)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    store = await StateStore.open(tmp_path / "agent.db")
    yield Host(store, await ImageUses.open(store), marks=Watermarks(high=85, low=70))
    await store.close()


async def test_a_cycle_removes_the_least_recently_used(host: Host) -> None:
    host.has("a:1", "b:1", "c:1", "d:1", "ex:1")
    await host.engine.create_container("other", {"Image": "b:1"})
    host.wanted = ["docker.io/library/c:1"]
    assert await host.cleanup.cycle() == 2
    assert host.engine.images == {"b:1", "c:1", "ex:1"}
    assert set(host.uses.by_id) == {
        "sha256:b:1",
        "sha256:c:1",
        "sha256:ex:1",
        "sha256:a:1",
        "sha256:d:1",
    }
    assert host.uses.by_id["sha256:b:1"].used_at > 1e9, "what a container uses is used now"
    await host.cleanup.cycle()
    assert set(host.uses.by_id) == {"sha256:b:1", "sha256:c:1", "sha256:ex:1"}


async def test_a_refused_image_is_passed_over(host: Host) -> None:
    host.has("a:1", "b:1")
    host.engine.fault("remove image", Fault(EngineRefused("conflict"), container="a:1"))
    assert await host.cleanup.cycle() == 1
    assert host.engine.images == {"a:1"}


async def test_a_disk_above_its_mark_is_cleared_down_to_the_low_one(host: Host) -> None:
    host.has(*(f"{name}:1" for name in "abcdefghi"))
    host.wanted = ["a:1"]
    await host.disk.measure()
    await host.cleanup.before_pull(host.told.append)
    assert sorted(host.engine.images) == ["a:1", "d:1", "e:1", "f:1", "g:1", "h:1", "i:1"]
    assert [progress.line for progress in host.told] == [
        "removing unused images: /engine is 90% full"
    ]
    await host.cleanup.before_pull(host.told.append)
    assert len(host.told) == 1, "there is room now"


async def test_below_the_mark_a_pull_costs_nothing(host: Host) -> None:
    host.has("a:1")
    await host.disk.measure()
    await host.cleanup.before_pull(host.told.append)
    assert host.told == []
    assert host.engine.calls == []


async def test_a_disk_that_others_filled_ends_no_pull(host: Host) -> None:
    host.has("a:1", "b:1")
    host.full = 99.0
    host.wanted = ["b:1"]
    await host.disk.measure()
    async with asyncio.timeout(5):
        await host.cleanup.before_pull(host.told.append)
    assert host.engine.images == {"b:1"}
    assert not await host.cleanup.disk_full(host.told.append)


async def test_an_engine_without_space_is_believed_more_than_the_reading(host: Host) -> None:
    host.has("a:1", "b:1")
    host.full = 10.0
    assert await host.cleanup.disk_full(host.told.append)
    assert host.engine.images == {"b:1"}


async def test_an_engine_that_does_not_answer_ends_no_pull(host: Host) -> None:
    host.has(*(f"{name}:1" for name in "abcdefghi"))
    await host.disk.measure()
    host.engine.hung = True
    await host.cleanup.before_pull(host.told.append)
    assert len(host.engine.images) == 9


async def test_making_room_takes_no_more_than_its_limit(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "ROOM_LIMIT_S", 0.1)
    host.has(*(f"{name}:1" for name in "abcdefghi"))
    await host.disk.measure()
    host.engine.fault("remove image", Fault(delay_s=60.0))
    async with asyncio.timeout(5):
        await host.cleanup.before_pull(host.told.append)


async def test_a_removal_delays_only_pulls_of_its_own_image(host: Host) -> None:
    host.has("a:1")
    host.engine.fault("remove image", Fault(delay_s=0.5, container="a:1"))
    pulling = Images(host.engine, behavior="always", locks=host.locks, uses=host.uses)
    cycle = asyncio.create_task(host.cleanup.cycle())
    while not host.engine.count("remove image"):  # noqa: ASYNC110 - the engine is looked at
        await asyncio.sleep(0.001)
    host.engine.images |= {"b:1", "docker.io/library/b@sha256:b:1", "b@sha256:b:1"}
    async with asyncio.timeout(0.3):
        await pulling.ensure(Container(name="c", image="b:1"))
    waiting = asyncio.create_task(pulling.ensure(Container(name="c", image="a:1")))
    await asyncio.sleep(0.05)
    assert host.engine.count("resolve", "a:1") == 0, "its own image waits for the removal"
    assert await cycle == 1
    host.engine.images |= {"a:1", "a@sha256:a:1"}
    async with asyncio.timeout(5):
        await waiting
    await pulling.close()


async def test_what_is_being_pulled_stays(host: Host) -> None:
    host.has("a:1")
    async with host.locks.getting(names.parse("a:1").identity):
        assert await host.cleanup.cycle() == 0
    assert await host.cleanup.cycle() == 1


async def test_ended_containers_of_others(host: Host) -> None:
    host.engine.images.add("a:1")
    for name, labels in (("old", {}), ("young", {}), ("ours", {"ours": "1"})):
        await host.engine.create_container(name, {"Image": "a:1", "Labels": labels})
    for box in host.engine.boxes.values():
        box.status = "exited"
        box.finished_at = box.created_at - (0 if box.name == "young" else 1e6)
    assert await host.cleanup.remove_containers() == 1
    assert {box.name for box in host.engine.boxes.values()} == {"young", "ours"}


async def test_pulls_take_turns_in_their_order(host: Host) -> None:
    images = Images(host.engine, limits=PullLimits(side_by_side=2), room=host.cleanup)
    names_of = [f"i{number}:1" for number in range(8)]
    for name in names_of:
        host.engine.images.add(f"{name[:-2]}@sha256:{name}")
        host.engine.fault("pull", Fault(delay_s=0.02, container=f"{name[:-2]}@sha256:{name}"))
    told: list[Progress] = []
    async with asyncio.TaskGroup() as group:
        for name in names_of:
            group.create_task(
                images.ensure(Container(name="c", image=name), on_progress=told.append)
            )
    pulled = [label for operation, label in host.engine.calls if operation == "pull"]
    assert pulled == [f"{name[:-2]}@sha256:{name}" for name in names_of]
    waited = [progress.line for progress in told if "waiting for a turn" in progress.line]
    assert len(waited) == 6
    assert waited[0].endswith("2 images are being pulled (ECS_IMAGE_PULL_LIMIT)")
    await images.close()
