"""Rounds of readings over trees that change between them."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.metrics.cgroup import CgroupReader, CgroupTree
from agent.metrics.collector import Collector
from agent.metrics.gpu import GpuReader, GpuReading
from agent.metrics.host import HostReader
from agent.model.metrics import GpuUse
from tests.unit.metrics.conftest import RUNTIME_ID, target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.metrics.targets import SampleTarget
    from agent.model.metrics import TaskSample
    from tests.unit.metrics.conftest import Trees

WHERE = f"docker/{RUNTIME_ID}"


@pytest.fixture
def collector(trees: Trees) -> Iterator[Collector]:
    trees.v1(WHERE)
    tree = CgroupTree(trees.cgroup, proc=trees.proc)
    made = Collector(tree, HostReader({"data": Path("/")}), proc=trees.proc, max_open_files=100)
    yield made
    made.close()
    assert made.open_files == 0


def only(collector: Collector, *targets: SampleTarget) -> TaskSample:
    (task,) = collector.collect(targets).tasks
    return task


def test_cpu_is_a_rate_from_the_second_round_on(collector: Collector, trees: Trees) -> None:
    first = only(collector, target())
    assert first.containers[0].cpu_percent is None
    assert first.containers[0].memory_bytes == 6000
    trees.v1(WHERE, cpu_ns=10**9 + 10**6)
    second = only(collector, target())
    assert second.containers[0].cpu_percent is not None
    assert second.containers[0].cpu_percent > 0
    third = only(collector, target())
    assert third.containers[0].cpu_percent == 0


def test_counters_that_go_back_give_no_rate(collector: Collector, trees: Trees) -> None:
    trees.process(7, received=1000)
    only(collector, target(network_pid=7))
    trees.v1(WHERE, cpu_ns=5)
    trees.process(7, received=10)
    sample = only(collector, target(network_pid=7))
    assert sample.containers[0].cpu_percent is None
    assert (sample.rx_bytes_per_s, sample.tx_bytes_per_s) == (None, None)
    trees.process(7, received=20)
    sample = only(collector, target(network_pid=7))
    assert sample.rx_bytes_per_s is not None
    assert sample.rx_bytes_per_s > 0


def test_a_restarted_container_starts_a_new_rate(collector: Collector, trees: Trees) -> None:
    only(collector, target(pid=7))
    shutil.rmtree(trees.cgroup / "cpuacct" / WHERE)
    trees.v1(WHERE, cpu_ns=3 * 10**9)
    assert only(collector, target(pid=8)).containers[0].cpu_percent is None


def test_a_container_that_vanishes_is_left_out(collector: Collector, trees: Trees) -> None:
    trees.v1("docker/" + "d" * 64)
    gone = target(runtime_id="d" * 64)
    assert len(only(collector, target(), gone).containers) == 2
    for controller in ("cpu", "cpuacct", "memory", "pids", "blkio"):
        shutil.rmtree(trees.cgroup / controller / "docker" / ("d" * 64))
    collector.close()
    assert [c.runtime_id for c in only(collector, target(), gone).containers] == [RUNTIME_ID]
    never_was = target(runtime_id="e" * 64)
    assert collector.collect([never_was]).tasks == []


def test_network_of_the_task_once_per_namespace(collector: Collector, trees: Trees) -> None:
    trees.v1("docker/" + "d" * 64)
    trees.process(7, received=100)
    trees.process(8, received=100)
    trees.process(9, received=1, namespace="net:[3]")
    side = target(runtime_id="d" * 64, pid=8, network_pid=8)
    sample = only(collector, target(network_pid=7), side)
    assert sample.network is not None
    assert (sample.network.rx_bytes, sample.network.tx_bytes) == (100, 200)
    sample = only(collector, target(network_pid=7), side._replace(pid=9, network_pid=9))
    assert sample.network is not None
    assert sample.network.rx_bytes == 101
    assert sample.rx_bytes_per_s is None, "another set of namespaces is another series"


def test_network_of_each_container_beside_others(collector: Collector, trees: Trees) -> None:
    trees.v1("docker/" + "d" * 64)
    trees.process(7, received=100)
    trees.process(9, received=1, namespace="net:[3]")
    alone = only(collector, target(network_pid=7))
    assert alone.containers[0].network is None, "the task's counters say it all"
    side = target(runtime_id="d" * 64, pid=9, network_pid=9)
    both = only(collector, target(network_pid=7), side).containers
    assert [c.network.rx_bytes for c in both if c.network is not None] == [100, 1]


def test_no_network_of_its_own(collector: Collector, trees: Trees) -> None:
    trees.process(7, namespace="net:[1]", received=5)
    assert only(collector, target(network_pid=7)).network is None, "that is the host's"
    assert only(collector, target(network_pid=0)).network is None
    assert only(collector, target(network_pid=999)).network is None, "gone"


def test_a_reused_pid_is_not_the_tasks_network(collector: Collector, trees: Trees) -> None:
    trees.process(7, received=5)
    assert only(collector, target(network_pid=7)).network is not None
    trees.process(7, namespace="net:[9]", received=10**9)
    assert only(collector, target(network_pid=7)).network is None


def test_what_is_gone_is_forgotten(collector: Collector, trees: Trees) -> None:
    before = collector.open_files
    trees.process(7, received=5)
    only(collector, target(network_pid=7))
    assert collector._open_files == 12
    assert collector.open_files - before >= 13, "and the directory of the process"
    assert collector.collect([]).tasks == []
    assert not collector._containers
    assert not collector._networks
    assert collector._open_files == 0


def test_beyond_the_limit_of_open_files_containers_are_read_all_the_same(trees: Trees) -> None:
    trees.v1(WHERE)
    trees.v1("docker/" + "d" * 64)
    tree = CgroupTree(trees.cgroup, proc=trees.proc)
    host = HostReader({"data": Path("/")})
    collector = Collector(tree, host, proc=trees.proc, max_open_files=1)
    for _ in range(2):
        assert len(only(collector, target(), target(runtime_id="d" * 64)).containers) == 2
        assert collector._open_files == 12
    collector.close()


def test_a_host_without_free_descriptors_counts_nothing_twice(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.v1(WHERE, cpu_ns=10**9)
    tree = CgroupTree(trees.cgroup, proc=trees.proc)
    collector = Collector(tree, HostReader({"data": Path("/")}), proc=trees.proc, max_open_files=0)
    before = only(collector, target()).containers[0]

    def none_left(path: str, *_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", none_left)
        assert collector.collect([target()]).tasks == []
    trees.v1(WHERE, cpu_ns=10**9 + 7)
    after = only(collector, target()).containers[0]
    assert (before.cpu_ns, after.cpu_ns) == (10**9, 10**9 + 7)
    collector.close()


def test_an_idle_container_makes_no_new_objects(collector: Collector, trees: Trees) -> None:
    trees.process(7, received=5)
    for _ in range(2):
        only(collector, target(network_pid=7))
    first, second = (only(collector, target(network_pid=7)) for _ in range(2))
    assert first.containers[0] is second.containers[0]
    assert first.network is second.network
    restarted = only(collector, target(network_pid=7)._replace(restarts=1)).containers[0]
    assert restarted.restarts == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The monotonic time in nanoseconds, which does not pass by itself."""
    now = [10**9]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


def fall_idle(collector: Collector, clock: list[int]) -> TaskSample:
    """Take rounds, a second after each other, until the task is only watched."""
    for _ in range(10):
        clock[0] += 10**9
        sample = only(collector, target())
        if collector._tasks[target().task_arn].watch is not None:
            return sample
    raise AssertionError("it is never idle")


def test_an_idle_task_is_only_watched(
    collector: Collector, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = fall_idle(collector, clock)
    assert sample.containers[0].cpu_percent == 0.0
    with monkeypatch.context() as patched:
        patched.setattr(CgroupReader, "read", pytest.fail)
        assert all(only(collector, target()) is sample for _ in range(3))
    assert not collector.has_newcomers


def test_a_task_that_wakes_has_the_rate_of_its_last_round(
    collector: Collector, trees: Trees, clock: list[int]
) -> None:
    idle = fall_idle(collector, clock)
    for _ in range(5):
        clock[0] += 10**9
        only(collector, target())
    clock[0] += 10**9
    trees.v1(WHERE, cpu_ns=10**9 + 5 * 10**8)
    awake = only(collector, target())
    assert awake.containers[0].cpu_percent == 50.0
    assert awake is not idle
    assert fall_idle(collector, clock).containers[0].cpu_ns == 15 * 10**8


def test_what_others_change_of_an_idle_task_is_seen_at_once(
    collector: Collector, trees: Trees, clock: list[int]
) -> None:
    fall_idle(collector, clock)
    used = trees.cgroup / "memory" / WHERE / "memory.usage_in_bytes"
    used.write_text("9000\n")
    clock[0] += 10**9
    changed = only(collector, target()).containers[0]
    assert (changed.memory_usage_bytes, changed.cpu_percent) == (9000, 0.0)
    moved = trees.cgroup / "blkio" / WHERE / "blkio.throttle.io_service_bytes_recursive"
    moved.write_text("8:0 Read 101\n8:0 Write 700\n")
    assert only(collector, target()).containers[0].io_write_bytes == 700


def test_an_idle_task_is_read_when_its_use_of_gpus_changes(trees: Trees, clock: list[int]) -> None:
    class Gpus(GpuReader):
        told = GpuReading((), {})

        def read(self) -> GpuReading:
            return self.told

    trees.v1(WHERE)
    gpus = Gpus([], proc=trees.proc)
    tree = CgroupTree(trees.cgroup, proc=trees.proc)
    host = HostReader({"data": Path("/")})
    collector = Collector(tree, host, proc=trees.proc, max_open_files=100, gpus=gpus)
    fall_idle(collector, clock)
    used = (GpuUse(uuid="GPU-0", memory_bytes=5),)
    gpus.told = GpuReading((), {RUNTIME_ID: used})
    assert only(collector, target()).containers[0].gpus == used
    gpus.told = GpuReading((), {})
    assert only(collector, target()).containers[0].gpus == ()
    collector.close()


def test_first_samples_are_told(collector: Collector) -> None:
    only(collector, target())
    assert collector.has_newcomers, "it has no rate yet"
    only(collector, target())
    assert not collector.has_newcomers


def test_counters_go_on_after_a_restart(collector: Collector, trees: Trees) -> None:
    trees.process(7, received=100)
    only(collector, target(network_pid=7))
    reader = collector._containers[RUNTIME_ID].reader
    assert reader is not None
    folder = os.open(trees.proc, os.O_RDONLY)
    os.dup2(folder, reader._files[0].fd)  # its group is gone: it cannot be read any more
    os.close(folder)
    assert collector.collect([target()._replace(running=False)]).tasks == []
    trees.v1(WHERE, cpu_ns=10**6)
    trees.process(8, received=1, namespace="net:[3]")
    again = only(collector, target(pid=8, network_pid=8))
    assert again.containers[0].cpu_ns == 10**9 + 10**6
    assert again.containers[0].io_read_bytes == 202
    assert again.containers[0].memory_max_usage_bytes == 12000
    assert again.containers[0].cpu_percent is None
    assert again.network is not None
    assert (again.network.rx_bytes, again.rx_bytes_per_s) == (101, None)
    assert again.links == {"eth0": again.network}


def test_a_task_keeps_what_a_container_that_left_has_moved(
    collector: Collector, trees: Trees
) -> None:
    trees.v1("docker/" + "d" * 64)
    trees.process(7, received=100)
    trees.process(9, received=1, namespace="net:[3]")
    side = target(runtime_id="d" * 64, pid=9, network_pid=9)
    only(collector, target(network_pid=7), side)
    task = only(collector, target(network_pid=7))
    assert task.network is not None
    assert task.network.rx_bytes == 101


def test_the_cost_of_a_round(collector: Collector) -> None:
    collector.collect([target()])
    cost = collector.collect([target()]).cost
    assert cost is not None
    assert cost.rounds == 2
    assert 0 < cost.cpu_s <= cost.cpu_total_s
    assert cost.duration_s > 0
    assert cost.open_files == collector.open_files >= 12


def test_raw_texts(collector: Collector) -> None:
    assert collector.raw_texts(RUNTIME_ID).memory_stat == b""
    collector.collect([target()])
    assert b"total_rss 5000\n" in collector.raw_texts(RUNTIME_ID).memory_stat


def test_memory_is_flat_over_ten_thousand_samples(collector: Collector, trees: Trees) -> None:
    """With figures that change in every round, and containers that come and go."""
    gc.collect()
    tracemalloc.start()
    try:
        sizes = [_after(5000, collector, trees) for _ in range(2)]
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 16 * 1024
    assert len(collector._containers) == 1


def _after(rounds: int, collector: Collector, trees: Trees) -> int:
    """Return the memory in use after some rounds."""
    files = trees.cgroup / "cpuacct" / WHERE / "cpuacct.usage"
    for index in range(rounds):
        files.write_text(f"{index}\n")
        passing = f"{index % 7:064x}"
        targets = [target(network_pid=7), target(runtime_id=passing)._replace(running=False)]
        collector.collect(targets)
    collector.collect([target(network_pid=7)])
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
