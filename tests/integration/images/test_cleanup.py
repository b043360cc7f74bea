"""Clean-up on a private Docker Engine whose disk is a small memory file system."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from agent.images import Images, Obtained, Progress, PullLimits
from agent.images.cleanup import CleanupSettings, ImageCleanup
from agent.images.disk import EngineDisk, Watermarks
from agent.images.locks import ImageLocks
from agent.images.removal_plan import CleanupPolicy
from agent.images.uses import ImageUses
from agent.model.payload import Container
from agent.runtime.docker import DockerEngine
from agent.state import StateStore
from tests.support.private_engine import PrivateEngine
from tests.support.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("leak_check")]

MIB = 1 << 20
DISK_MIB = 120


@pytest.fixture
def small_engine() -> Iterator[PrivateEngine]:
    """An engine of its own, whose data is on a file system of ``DISK_MIB``."""
    directory = Path(tempfile.mkdtemp(prefix="ecs-"))  # short: the engine makes sockets below it
    data = directory / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(data)]
    subprocess.run(mount, check=True)
    made = PrivateEngine(directory, live_restore=False)
    made.start()
    yield made
    made.end()
    subprocess.run(["umount", "-l", str(data)], check=False, capture_output=True)
    shutil.rmtree(directory)


class Host:
    """What the agent has of images on a host with a small disk."""

    def __init__(
        self,
        engine: DockerEngine,
        registry: Registry,
        store: StateStore,
        uses: ImageUses,
        data: Path,
    ) -> None:
        self.engine = engine
        self.registry = registry
        self._store, self._data = store, data
        self.wanted: list[str] = []
        self.told: list[Progress] = []
        self.disk = EngineDisk([data])
        locks = ImageLocks()
        self.cleanup = ImageCleanup(
            engine,
            uses=uses,
            locks=locks,
            disk=self.disk,
            settings=CleanupSettings(
                policy=CleanupPolicy(minimum_age_s=0.0), watermarks=Watermarks(high=60, low=40)
            ),
            wanted=lambda: self.wanted,
            is_ours=lambda _: False,
        )
        self.images = Images(
            engine, limits=PullLimits(side_by_side=2), uses=uses, locks=locks, room=self.cleanup
        )

    def push(self, repository: str, mib: int) -> str:
        """Offer an image of a size that cannot be compressed; return its name."""
        content = os.urandom(mib * MIB)
        self.registry.push(repository, "v1", content, architecture=self.architecture)
        return f"{self.registry.host}/{repository}:v1"

    @property
    def architecture(self) -> str:
        """Docker's name of it."""
        return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]

    async def pull(self, name: str) -> Obtained:
        """Do what a launch does."""
        got = await self.images.ensure(
            Container(name="c", image=name), on_progress=self.told.append
        )
        await self.disk.measure()
        return got

    async def here(self) -> set[str]:
        """The repositories that the engine has."""
        rows = await self.engine.list_images()
        return {tag.split("/", 1)[1].split(":")[0] for row in rows for tag in row.tags}

    async def used_percent(self) -> float:
        """How full the disk is."""
        use = await self.disk.measure()
        assert use is not None
        return use.used_percent

    async def restarted(self) -> Host:
        """What a new process of the agent has."""
        uses = await ImageUses.open(self._store)
        return Host(self.engine, self.registry, self._store, uses, self._data)

    async def settled(self, *, below: float) -> None:
        """Return once the disk is less full than ``below``: the engine may still remove what it has unpacked."""
        async with asyncio.timeout(60):
            while await self.used_percent() >= below:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)

    @classmethod
    async def open(cls, small: PrivateEngine, registry: Registry, store: StateStore) -> Self:
        """Connect to an engine."""
        engine = DockerEngine(small.host)
        info = await engine.connect()
        assert info.data_root == str(small.directory / "data")
        return cls(engine, registry, store, await ImageUses.open(store), Path(info.data_root))


@pytest.fixture
async def host(small_engine: PrivateEngine, tmp_path: Path) -> AsyncIterator[Host]:
    store = await StateStore.open(tmp_path / "agent.db")
    async with Registry() as registry:
        made = await Host.open(small_engine, registry, store)
        yield made
        await made.images.close()
        await made.engine.close()
    await store.close()


async def test_a_pull_makes_room_first_and_leaves_alone_what_is_in_use(
    host: Host, small_engine: PrivateEngine
) -> None:
    names = {name: host.push(name, 21) for name in ("one", "two", "three")}
    for name in names.values():
        await host.pull(name)
    await host.settled(below=60)
    assert await host.used_percent() > 50
    one = await host.engine.inspect_image(names["one"])
    container = await host.engine.create_container("uses-one", {"Image": names["one"]})
    host.wanted = [names["two"]]
    more = host.push("more", 15)
    await host.pull(more)
    assert await host.used_percent() > 60
    assert await host.here() == {"one", "two", "three", "more"}

    host.told.clear()
    assert (await host.pull(host.push("last", 6))).digest
    assert any("removing unused images" in progress.line for progress in host.told)
    assert await host.here() == {"one", "two", "last"}
    assert (await host.engine.inspect_image(names["one"])).id == one.id

    # Nothing else may go: the disk stays full, and the next pull is tried all the same.
    await host.pull(host.push("tail", 6))
    assert {"one", "two", "tail"} <= await host.here()
    await host.engine.remove_container(container)
    assert small_engine.process is not None
    assert small_engine.process.poll() is None


async def test_a_disk_that_fills_up_during_a_pull_is_cleared_and_the_pull_tried_again(
    host: Host,
) -> None:
    await host.pull(host.push("old", 54))
    await host.settled(below=60)
    assert (await host.pull(host.push("large", 39))).digest
    assert await host.here() == {"large"}
    assert any("disk of the container engine is full" in p.line for p in host.told)


async def test_what_was_got_before_a_restart_goes_with_every_name_and_what_was_loaded_stays(
    host: Host, small_engine: PrivateEngine
) -> None:
    name = host.push("web", 1)
    await host.pull(name)
    old = (await host.engine.inspect_image(name)).id
    host.push("web", 1)
    await host.pull(name)
    new = (await host.engine.inspect_image(name)).id
    assert old != new
    await asyncio.to_thread(small_engine.busybox)

    after = await host.restarted()
    after.wanted = [name]
    assert await after.cleanup.cycle() == 1
    assert {row.id for row in await host.engine.list_images()} > {new}
    assert old not in {row.id for row in await host.engine.list_images()}
    after.wanted = []
    assert await after.cleanup.cycle() == 1
    (left,) = await host.engine.list_images()
    assert left.tags[0].startswith("ecs-host-agent-test/busybox:")
    assert await after.cleanup.cycle() == 0
    await after.images.close()


async def test_launches_and_removals_at_once_leave_every_launch_its_image(host: Host) -> None:
    names = [host.push(f"image{number}", 1) for number in range(6)]

    async def launch(name: str) -> None:
        for _ in range(4):
            host.wanted.append(name)
            await host.images.ensure(Container(name="c", image=name))
            assert (await host.engine.inspect_image(name)).id, "what was just got is wanted"
            host.wanted.remove(name)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(launch(name))
        for _ in range(10):
            await host.cleanup.cycle()
            await asyncio.sleep(0.05)
