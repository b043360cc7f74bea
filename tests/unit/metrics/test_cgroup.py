"""Where a container's control group is, and what its files mean."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from agent.metrics import cgroup
from agent.metrics.cgroup import CgroupTree, RawTexts
from agent.metrics.cgroup_texts import Usage
from agent.model.metrics import Pressure, Stall
from tests.unit.metrics.conftest import RUNTIME_ID

if TYPE_CHECKING:
    from tests.unit.metrics.conftest import Trees

V1 = Usage(
    cpu_ns=10**9,
    cpu_user_ns=600 * 10**6,
    cpu_system_ns=400 * 10**6,
    cpu_periods=10,
    cpu_throttled_periods=4,
    cpu_throttled_ns=5000,
    memory_limit_hits=6,
    oom_kills=1,
    io_read_bytes=101,
    io_write_bytes=20,
    io_reads=6,
    io_writes=2,
    memory_max_usage_bytes=12000,
    memory_bytes=6000,
    memory_usage_bytes=10000,
    memory_working_set_bytes=7000,
    memory_cache_bytes=4000,
    memory_inactive_file_bytes=3000,
    memory_rss_bytes=5000,
    memory_swap_bytes=7,
    memory_limit_bytes=65536,
    pids=3,
    pids_limit=100,
)
V2 = V1._replace(
    memory_bytes=7000,
    memory_limit_bytes=None,
    memory_pressure=Pressure(
        some=Stall(avg10_percent=1.5, avg60_percent=0.5, avg300_percent=0.1, total_us=123),
        full=Stall(avg10_percent=0.0, avg60_percent=0.0, avg300_percent=0.0, total_us=5),
    ),
)


def usage_of(trees: Trees, *, pid: int = 0, driver: str = "") -> Usage:
    tree = CgroupTree(trees.cgroup, proc=trees.proc, driver=driver)
    reader = tree.open(RUNTIME_ID, pid=pid)
    try:
        return reader.read()
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("driver", "relative"),
    [
        ("cgroupfs", f"docker/{RUNTIME_ID}"),
        ("", f"docker/{RUNTIME_ID}"),
        ("systemd", f"system.slice/docker-{RUNTIME_ID}.scope"),
        ("", f"system.slice/docker-{RUNTIME_ID}.scope"),
    ],
)
def test_finds_a_container_by_convention(trees: Trees, driver: str, relative: str) -> None:
    trees.v1(relative)
    assert usage_of(trees, driver=driver) == V1
    trees.v2(relative)
    assert usage_of(trees, driver=driver) == V2


@pytest.mark.parametrize(
    ("driver", "parent", "own"),
    [
        ("cgroupfs", "ecs/owner/task", RUNTIME_ID),
        ("systemd", "a.slice/a-b.slice", f"docker-{RUNTIME_ID}.scope"),
    ],
)
def test_finds_a_container_in_the_group_of_its_task(
    trees: Trees, driver: str, parent: str, own: str
) -> None:
    for make, expected in ((trees.v1, V1), (trees.v2, V2._replace(memory_limit_bytes=1 << 20))):
        make(f"{parent}/{own}")
        if make == trees.v2:
            (trees.cgroup / parent / "memory.max").write_text("1048576\n")
        tree = CgroupTree(trees.cgroup, proc=trees.proc, driver=driver)
        reader = tree.open(RUNTIME_ID, pid=0, parent=parent)
        assert reader.read() == expected
        reader.close()


def test_believes_the_kernel_before_convention(trees: Trees) -> None:
    trees.v2(f"machine/strange/libpod-{RUNTIME_ID}.scope")
    trees.process(7, cgroup=f"0::/machine/strange/libpod-{RUNTIME_ID}.scope/init.scope\n")
    assert usage_of(trees, pid=7) == V2


def test_a_pid_that_is_somebody_elses_by_now_is_not_believed(trees: Trees) -> None:
    trees.v1(f"docker/{RUNTIME_ID}")
    trees.v1("docker/other", cpu_ns=5)
    trees.process(7, cgroup="4:cpuacct:/docker/other\n")
    assert usage_of(trees, pid=7) == V1


def test_a_path_outside_our_own_cgroup_namespace_is_not_believed(trees: Trees) -> None:
    trees.v1(f"docker/{RUNTIME_ID}")
    trees.process(7, cgroup=f"4:cpuacct:/../../docker/{RUNTIME_ID}\n")
    assert usage_of(trees, pid=7) == V1


def test_an_absent_container_is_an_os_error(trees: Trees) -> None:
    trees.v1("docker/other")
    with pytest.raises(FileNotFoundError, match=f"no control group of container {'c' * 12}"):
        usage_of(trees)


def test_figures_of_absent_controllers_are_missing(trees: Trees) -> None:
    trees.v1(f"docker/{RUNTIME_ID}", controllers="cpuacct")
    assert usage_of(trees) == Usage(
        cpu_ns=10**9, cpu_user_ns=600 * 10**6, cpu_system_ns=400 * 10**6
    )


def test_pressure_beside_the_controllers_of_version_1(trees: Trees) -> None:
    trees.v1(f"docker/{RUNTIME_ID}")
    folder = trees.cgroup / "unified/docker" / RUNTIME_ID
    folder.mkdir(parents=True)
    (trees.cgroup / "unified/cgroup.controllers").write_text("\n")
    (folder / "io.pressure").write_text("some avg10=0.00 avg60=0.00 avg300=2.50 total=9\n")
    stall = Stall(avg10_percent=0.0, avg60_percent=0.0, avg300_percent=2.5, total_us=9)
    assert usage_of(trees) == V1._replace(io_pressure=Pressure(some=stall))


def test_combined_controller_mounts(trees: Trees) -> None:
    trees.v1(f"docker/{RUNTIME_ID}")
    (trees.cgroup / "cpuacct").rename(trees.cgroup / "cpu,cpuacct")
    assert usage_of(trees) == V1
    (trees.cgroup / "cpu/docker" / RUNTIME_ID / "cpu.stat").rename(
        trees.cgroup / "cpu,cpuacct/docker" / RUNTIME_ID / "cpu.stat"
    )
    shutil.rmtree(trees.cgroup / "cpu")
    assert usage_of(trees) == V1


@pytest.mark.parametrize("keep_open", [True, False])
def test_reads_anew_every_time(trees: Trees, *, keep_open: bool) -> None:
    trees.v1(f"docker/{RUNTIME_ID}")
    tree = CgroupTree(trees.cgroup, proc=trees.proc)
    reader = tree.open(RUNTIME_ID, pid=0, keep_open=keep_open)
    assert reader.open_files == (12 if keep_open else 0)
    assert reader.read().cpu_ns == 10**9
    assert not keep_open or reader.read() is reader.read()
    assert reader.raw.io_operations.startswith(b"8:0 Read 5\n")
    trees.v1(f"docker/{RUNTIME_ID}", cpu_ns=2 * 10**9)
    assert reader.read().cpu_ns == 2 * 10**9
    reader.close()
    reader.close()
    assert reader.open_files == 0


def test_raw_texts_of_version_2(trees: Trees) -> None:
    trees.v2(f"docker/{RUNTIME_ID}")
    reader = CgroupTree(trees.cgroup, proc=trees.proc).open(RUNTIME_ID, pid=0)
    assert reader.raw == RawTexts()
    reader.read()
    assert reader.raw.memory_stat.startswith(b"anon 5000\n")
    assert reader.raw.io_bytes.startswith(b"8:0 rbytes=100 ")
    assert reader.raw.io_operations == b""
    reader.close()


def test_a_container_that_did_not_run_is_only_read_where_others_change_it(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"docker/{RUNTIME_ID}"
    trees.v1(where)
    reader = CgroupTree(trees.cgroup, proc=trees.proc).open(RUNTIME_ID, pid=0)
    for _ in range(2):
        assert reader.read() == V1
    (trees.cgroup / "pids" / where / "pids.current").write_text("9\n")
    (trees.cgroup / "memory" / where / "memory.usage_in_bytes").write_text("9000\n")
    assert reader.read() == V1._replace(
        memory_usage_bytes=9000, memory_bytes=5000, memory_working_set_bytes=6000
    )
    trees.v1(where, cpu_ns=2 * 10**9)
    (trees.cgroup / "pids" / where / "pids.current").write_text("8\n")
    assert reader.read().pids == 8, "it ran"
    reader.read()
    (trees.cgroup / "pids" / where / "pids.max").write_text("50\n")
    assert reader.read().pids_limit == 100
    monkeypatch.setattr(cgroup, "ALL_S", 0.0)
    reader.due_s = 0.0
    assert reader.read().pids_limit == 50, "an operator changed it"
    reader.close()


@pytest.mark.parametrize("version", [1, 2])
def test_memory_that_the_kernel_takes_back_changes_all_figures_of_memory(
    trees: Trees, version: int
) -> None:
    where = f"docker/{RUNTIME_ID}"
    trees.v1(where) if version == 1 else trees.v2(where)
    reader = CgroupTree(trees.cgroup, proc=trees.proc).open(RUNTIME_ID, pid=0)
    before = [reader.read() for _ in range(2)][-1]
    group = trees.cgroup / ("memory" if version == 1 else "") / where
    (group / ("memory.usage_in_bytes" if version == 1 else "memory.current")).write_text("7000\n")
    (group / "memory.stat").write_text(
        "hierarchical_memory_limit 65536\ntotal_cache 1000\ntotal_rss 5000\ntotal_swap 7\n"
        "total_inactive_file 500\n"
        if version == 1
        else "anon 5000\nfile 1000\ninactive_file 500\n"
    )
    assert reader.read() == before._replace(
        memory_usage_bytes=7000,
        memory_bytes=6000 if version == 1 else 6500,
        memory_working_set_bytes=6500,
        memory_cache_bytes=1000,
        memory_inactive_file_bytes=500,
    )
    reader.close()


def test_the_kernels_late_writes_count_their_operations_too(trees: Trees) -> None:
    where = f"docker/{RUNTIME_ID}"
    trees.v1(where)
    reader = CgroupTree(trees.cgroup, proc=trees.proc).open(RUNTIME_ID, pid=0)
    for _ in range(2):
        reader.read()
    group = trees.cgroup / "blkio" / where
    (group / "blkio.throttle.io_service_bytes_recursive").write_text("8:0 Write 4116\n")
    (group / "blkio.throttle.io_serviced_recursive").write_text("8:0 Write 3\n")
    told = reader.read()
    assert (told.io_write_bytes, told.io_writes) == (4116, 3)
    reader.close()


def test_pressure_is_read_until_it_has_faded(trees: Trees) -> None:
    trees.v2(f"docker/{RUNTIME_ID}")
    pressure = trees.cgroup / "docker" / RUNTIME_ID / "memory.pressure"
    reader = CgroupTree(trees.cgroup, proc=trees.proc).open(RUNTIME_ID, pid=0)
    seen = []
    for share in (5.0, 4.0, 3.0, 3.0):
        pressure.write_text(f"some avg10={share:.2f} avg60=0.00 avg300=0.00 total=9\n")
        told = reader.read().memory_pressure
        assert told is not None
        seen.append(told.some.avg10_percent)
    assert seen == [5.0, 4.0, 3.0, 3.0]
    reader.close()
