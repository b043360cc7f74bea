"""How soon hosts are back after control was away: a real control process, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
from typing import TYPE_CHECKING

import aiohttp
import pytest

from agent.model.resources import HostResources
from agent.resources.role_credentials import RoleCredentials
from agent.state import StateStore
from agent.upstream.longpoll.client import LongPollClient, LongPollSettings
from agent.upstream.protocol import RegisterInfo
from tests.support.control_endpoint import Endpoint, definition
from tests.support.control_host import NothingHeld, until
from tests.support.fleet import Control, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agent.model.wire import Assignments

pytestmark = pytest.mark.integration

SOON_S = 3.0
HOSTS = 12


class Member:
    """A host as control sees it, with the patience that agents have by default."""

    def __init__(self, store: StateStore) -> None:
        self.store = store
        self.client: LongPollClient
        self.taken: set[str] = set()

    @classmethod
    async def open(cls, store: StateStore, url: str) -> Member:
        made = cls(store)
        settings = LongPollSettings(endpoint=url, cluster="default")
        made.client = await LongPollClient.open(
            settings, store, made._describe, made._take, NothingHeld(), RoleCredentials()
        )
        return made

    def _describe(self) -> RegisterInfo:
        resources = HostResources(cpu_units=2048, memory_mib=1024)
        return RegisterInfo(resources=resources, agent_version="1.2.3")

    async def _take(self, assignments: Assignments, control_id: str, instance: str = "") -> None:
        self.taken |= {task.task_arn for task in assignments.tasks}

    @property
    def connected(self) -> bool:
        return self.client.status.connected


@contextlib.asynccontextmanager
async def members(directory: Path, url: str, count: int) -> AsyncIterator[list[Member]]:
    """Run so many hosts of one control for the time of a test."""
    made = [
        await Member.open(await StateStore.open(directory / f"host{n}.db"), url)
        for n in range(count)
    ]
    running = [asyncio.create_task(member.client.run()) for member in made]
    try:
        yield made
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for member in made:
            await member.client.close()
            await member.store.close()


def control_at(directory: Path, host: str, port: int) -> Control:
    return Control(
        name="control",
        arguments=[
            "control",
            "--open",
            "--listen",
            f"{host}:{port}",
            "--data-dir",
            str(directory / "c"),
        ],
        directory=directory,
        port=port,
    )


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    made = control_at(tmp_path, "127.0.0.1", free_port())
    made.start()
    made.ready()
    yield made
    made.kill()


@pytest.mark.parametrize("away_s", [1.0, 8.0, 25.0])
async def test_hosts_are_back_soon_after_a_short_outage(
    tmp_path: Path, control: Control, away_s: float
) -> None:
    loop = asyncio.get_running_loop()
    async with members(tmp_path, control.url, HOSTS) as hosts:
        await until(lambda: all(host.connected for host in hosts), limit_s=20)
        await asyncio.to_thread(control.kill)
        await until(lambda: not any(host.connected for host in hosts))
        await asyncio.sleep(away_s)
        await asyncio.to_thread(control.start)
        await asyncio.to_thread(control.ready)
        ready = loop.time()
        late: dict[int, float] = {}

        def all_back() -> bool:
            for number, host in enumerate(hosts):
                if host.connected:
                    late.setdefault(number, loop.time() - ready)
            return len(late) == HOSTS

        await until(all_back, limit_s=60)
        told = f"median {statistics.median(late.values()):.2f} s, last {max(late.values()):.2f} s"
        assert max(late.values()) <= SOON_S, told
        assert {host.client.status.generation for host in hosts} == {1}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def far_control(leak_check: None, tmp_path: Path) -> Iterator[Control]:
    """A control on a host of its own, whose cable can be pulled: a network namespace and a pair."""
    del leak_check
    ip("netns", "add", "ecst-far")
    try:
        ip("link", "add", "ecst-far0", "type", "veth", "peer", "name", "eth0", "netns", "ecst-far")
        ip("addr", "add", "10.221.7.1/30", "dev", "ecst-far0")
        ip("link", "set", "ecst-far0", "up")
        for words in ("addr add 10.221.7.2/30 dev eth0", "link set eth0 up", "link set lo up"):
            ip("-n", "ecst-far", *words.split())
        made = control_at(tmp_path, "10.221.7.2", 6820)
        made.wrapper = ["ip", "netns", "exec", "ecst-far"]
        made.start()
        yield made
        made.kill()
    finally:
        ip("netns", "del", "ecst-far")
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", "ecst-far0")


async def test_a_control_that_lost_its_power_is_found_as_soon_as_it_is_back(
    tmp_path: Path, far_control: Control
) -> None:
    """Nobody says goodbye: the host holds a connection that the other end knows nothing of."""
    url = f"http://10.221.7.2:{far_control.port}"
    loop = asyncio.get_running_loop()
    async with (
        members(tmp_path, url, 1) as (host,),
        aiohttp.ClientSession() as session,
    ):
        await until(lambda: host.connected, limit_s=30)
        await asyncio.to_thread(ip, "link", "set", "ecst-far0", "down")
        await asyncio.to_thread(far_control.kill)
        await asyncio.sleep(13.0)
        await asyncio.to_thread(far_control.start)
        await asyncio.to_thread(ip, "link", "set", "ecst-far0", "up")
        endpoint = Endpoint(url, session)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await endpoint.call("RegisterTaskDefinition", **definition())
                    break
                await asyncio.sleep(0.05)
        ready = loop.time()
        answer = await endpoint.call("RunTask", taskDefinition="web")
        (task,) = answer["tasks"]
        await until(lambda: task["taskArn"] in host.taken, limit_s=40)
        took_s = loop.time() - ready
        assert took_s <= SOON_S
