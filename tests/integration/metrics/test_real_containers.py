"""Figures of real containers, against what the engine itself says of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.metrics.cgroup import CgroupTree
from agent.metrics.collector import Collector
from agent.metrics.host import HostReader
from agent.metrics.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from agent.model.metrics import ContainerSample, TaskSample
    from tests.integration.metrics.conftest import Running

pytestmark = pytest.mark.integration

MIB = 1024 * 1024


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector(
        CgroupTree(), HostReader({"data": Path("/")}), proc=Path("/proc"), max_open_files=100
    )
    yield made
    made.close()


def task_of(collector: Collector, running: Running) -> TaskSample:
    (task,) = collector.collect([running.target()]).tasks
    return task


def container_of(collector: Collector, running: Running) -> ContainerSample:
    (container,) = task_of(collector, running).containers
    return container


def test_agrees_with_the_engine(
    sdk: docker.APIClient, collector: Collector, start: Callable[..., Running]
) -> None:
    running = start("sh", "-c", "busybox sleep 60 & busybox sleep 60", mem_limit=64 * MIB)
    time.sleep(0.3)
    ours = container_of(collector, running)
    theirs = sdk.stats(running.id, stream=False, one_shot=True)
    assert ours.cpu_ns == pytest.approx(theirs["cpu_stats"]["cpu_usage"]["total_usage"], rel=0.05)
    assert ours.pids == theirs["pids_stats"]["current"] >= 2
    assert ours.memory_limit_bytes == theirs["memory_stats"]["limit"] == 64 * MIB
    memory = theirs["memory_stats"]
    cache = memory["stats"].get("cache", memory["stats"].get("inactive_file", 0))
    assert ours.memory_bytes == pytest.approx(memory["usage"] - cache, abs=MIB)


def test_a_busy_container_shows_its_cpu(
    collector: Collector, start: Callable[..., Running]
) -> None:
    running = start("sh", "-c", "while :; do :; done", cpu_period=100_000, cpu_quota=20_000)
    assert container_of(collector, running).cpu_percent is None
    time.sleep(1.0)
    busy = container_of(collector, running).cpu_percent
    assert busy is not None
    assert 5 < busy < 30, "it may use a fifth of a core"


def test_no_limit_is_zero_and_traffic_counts(
    sdk: docker.APIClient, collector: Collector, start: Callable[..., Running]
) -> None:
    running = start("sleep", "60")
    gateway = sdk.inspect_container(running.id)["NetworkSettings"]["Gateway"]
    first = task_of(collector, running)
    ping = sdk.exec_create(running.id, ["/bin/busybox", "ping", "-c", "3", "-i", "0.1", gateway])
    sdk.exec_start(ping["Id"])
    second = task_of(collector, running)
    assert first.containers[0].memory_limit_bytes is None
    assert first.network is not None
    assert second.network is not None
    assert second.network.tx_packets >= first.network.tx_packets + 3
    assert second.tx_bytes_per_s is not None
    assert second.tx_bytes_per_s > 0


def test_host_mode_has_no_network_of_its_own(
    collector: Collector, start: Callable[..., Running]
) -> None:
    assert task_of(collector, start("sleep", "60", network_mode="host")).network is None


def test_a_cgroup_parent(
    cgroup_parent: str, collector: Collector, start: Callable[..., Running]
) -> None:
    """Where the engine puts a container elsewhere, the kernel says where."""
    running = start("sleep", "60", cgroup_parent=cgroup_parent)
    assert container_of(collector, running).cpu_ns
    with pytest.raises(FileNotFoundError):
        CgroupTree().open(running.id, pid=0)


def test_the_unified_tree(start: Callable[..., Running]) -> None:
    """On a hybrid host it is beside the controllers, and only has the CPU figure."""
    root = Path("/sys/fs/cgroup")
    unified = root if (root / "cgroup.controllers").exists() else root / "unified"
    if not unified.exists():
        pytest.skip("this kernel mounts no unified cgroup hierarchy")
    running = start("sh", "-c", "while :; do :; done", cpu_period=100_000, cpu_quota=20_000)
    tree = CgroupTree(unified)
    assert tree.version == 2
    reader = tree.open(running.id, pid=running.pid)
    first = reader.read().cpu_ns or 0
    time.sleep(0.5)
    assert (reader.read().cpu_ns or 0) > first > 0
    reader.close()


def test_restarts_and_ends_give_no_false_figures(
    sdk: docker.APIClient, collector: Collector, start: Callable[..., Running]
) -> None:
    running = start("sleep", "60")
    container_of(collector, running)
    sdk.restart(running.id, timeout=0)
    pid = sdk.inspect_container(running.id)["State"]["Pid"]
    again = running._replace(pid=pid)
    assert container_of(collector, again).cpu_percent is None
    percent = container_of(collector, again).cpu_percent
    assert percent is not None
    assert percent >= 0
    sdk.kill(running.id)
    sdk.wait(running.id)
    assert collector.collect([again.target()]).tasks == []
    assert collector._open_files == 0


def test_sampling_keeps_no_namespace_alive(
    sdk: docker.APIClient, collector: Collector, start: Callable[..., Running]
) -> None:
    """The leak check of ``start`` sees a veth or namespace that outlives its container."""
    running = start("sleep", "60")
    for _ in range(3):
        assert task_of(collector, running).network is not None
    sdk.kill(running.id)


async def test_the_sampler_sees_a_container_come_and_go(
    sdk: docker.APIClient, start: Callable[..., Running]
) -> None:
    running = await asyncio.to_thread(start, "sleep", "60")
    targets = [running.target()]
    sampler = Sampler(lambda: targets, interval_s=0.1)
    seen = asyncio.Event()
    gone = asyncio.Event()

    def look(batch: object) -> None:
        del batch
        latest = sampler.latest
        assert latest is not None
        (seen if latest.tasks else gone).set()

    sampler.subscribe(look)
    run = asyncio.create_task(sampler.run())
    async with asyncio.timeout(20):
        await seen.wait()
        await asyncio.to_thread(sdk.kill, running.id)
        await gone.wait()
    run.cancel()
    await asyncio.wait({run})
