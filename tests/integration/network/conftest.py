"""Task networks of a test's own: pool, bridge, table and label that nobody else uses."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.network.pool import TaskNetworks
from agent.network.settings import NetworkSettings
from agent.runtime.pause.pause import ensure_pause_image
from agent.state import StateStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from agent.network.sandboxes.recovery import Holder
    from agent.runtime.docker import DockerEngine

SETTINGS = NetworkSettings(
    owner="test-network",
    pool_cidr="10.218.77.0/26",
    bridge="ecst-net0",
    table="ecs_test_network",
    warm_sandboxes=0,
    burst_sandboxes=0,
    quiet_s=0.05,
    check_interval_s=60.0,
    dns_servers=("192.0.2.53",),
    introspection_port=51678,
    blocked_addresses=("169.254.169.254/32", "fd00:ec2::254/128"),
    closed_ports=(6820,),
)


class Host:
    """One agent's network on this host, which can be left and taken over like by a new process."""

    def __init__(self, engine: DockerEngine, image: str, path: Path) -> None:
        self.engine = engine
        self.image = image
        self.loads = 0
        """How often the pause image had to be loaded again."""
        self._path = path
        self._open: list[tuple[TaskNetworks, StateStore]] = []

    async def networks(
        self, holders: Mapping[str, Holder] | None = None, **changes: object
    ) -> TaskNetworks:
        """Return started networks; the ones before are closed, as at the end of a process."""
        await self.leave()
        store = await StateStore.open(self._path)
        settings = msgspec.structs.replace(SETTINGS, **changes)
        try:
            made = await TaskNetworks.open(
                settings,
                store=store,
                engine=self.engine,
                image=self.image,
                load_image=self._load_image,
                holders=holders,
            )
        except BaseException:
            await store.close()
            raise
        self._open.append((made, store))
        return made

    async def _load_image(self) -> str:
        self.loads += 1
        return await ensure_pause_image(self.engine, platform.machine())

    @property
    def store(self) -> StateStore:
        """The store of the networks in use."""
        return self._open[-1][1]

    async def leave(self) -> None:
        """Close everything and leave the host's objects in place."""
        while self._open:
            networks, store = self._open.pop()
            await networks.close()
            await store.close()

    async def lose_state(self) -> None:
        """Leave, and lose every row."""
        await self.leave()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    async def clean(self) -> None:
        """Remove every object of ours from the host."""
        networks = await self.networks()
        await networks.reconcile(())
        await networks.remove_host_objects()
        await self.leave()


@pytest.fixture
async def pause_image(engine: DockerEngine) -> str:
    """The image that the agent itself uses."""
    return await ensure_pause_image(engine, platform.machine())


@pytest.fixture
async def host(
    leak_check: None, engine: DockerEngine, pause_image: str, tmp_path: Path
) -> AsyncIterator[Host]:
    """A host without any object of ours, before and after."""
    made = Host(engine, pause_image, tmp_path / "agent.db")
    yield made
    await made.clean()
