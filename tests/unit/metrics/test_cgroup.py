"""Where a container's control group is, and what its files mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics.cgroup import CgroupTree, Usage, parse_v1, parse_v2
from tests.unit.metrics.conftest import RUNTIME_ID

if TYPE_CHECKING:
    from tests.unit.metrics.conftest import Trees

V1 = Usage(10**9, 6000, 65536, 3, 101, 20)
V2 = Usage(10**9, 7000, 0, 3, 101, 20)


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


def test_absent_controllers_leave_their_figures_at_zero(trees: Trees) -> None:
    trees.v1(f"docker/{RUNTIME_ID}", controllers="cpuacct")
    assert usage_of(trees) == Usage(10**9, 0, 0, 0, 0, 0)


def test_combined_controller_mounts(trees: Trees) -> None:
    trees.v1(f"docker/{RUNTIME_ID}")
    (trees.cgroup / "cpuacct").rename(trees.cgroup / "cpu,cpuacct")
    assert usage_of(trees) == V1


@pytest.mark.parametrize("keep_open", [True, False])
def test_reads_anew_every_time(trees: Trees, *, keep_open: bool) -> None:
    trees.v1(f"docker/{RUNTIME_ID}")
    tree = CgroupTree(trees.cgroup, proc=trees.proc)
    reader = tree.open(RUNTIME_ID, pid=0, keep_open=keep_open)
    assert reader.open_files == (5 if keep_open else 0)
    assert reader.read().cpu_ns == 10**9
    trees.v1(f"docker/{RUNTIME_ID}", cpu_ns=2 * 10**9)
    assert reader.read().cpu_ns == 2 * 10**9
    reader.close()
    reader.close()
    assert reader.open_files == 0


def test_unlimited_and_larger_caches() -> None:
    stat = b"total_cache 500\nhierarchical_memory_limit 9223372036854771712\n"
    usage = parse_v1(b"1", b"400", stat, b"1", b"")
    assert (usage.memory_bytes, usage.memory_limit_bytes) == (400, 0)
    usage = parse_v2(b"usage_usec 1", b"400", b"inactive_file 500", b"max", b"", b"1048576\n")
    assert (usage.memory_bytes, usage.memory_limit_bytes, usage.pids) == (400, 1 << 20, 0)
    assert usage.cpu_ns == 1000


@pytest.mark.parametrize(
    ("own", "of_task", "limit"),
    [(b"max", b"max", 0), (b"7", b"max", 7), (b"max", b"9", 9), (b"7", b"9", 7), (b"9", b"", 9)],
)
def test_the_smaller_limit_of_container_and_task_counts(
    own: bytes, of_task: bytes, limit: int
) -> None:
    assert parse_v2(b"", b"", b"", b"", b"", own, of_task).memory_limit_bytes == limit


numbers = st.integers(0, 2**63)


@given(cpu=numbers, used=numbers, cache=numbers, pids=numbers, read=numbers, written=numbers)
def test_v1_figures_survive_the_round_trip(
    cpu: int, used: int, cache: int, pids: int, read: int, written: int
) -> None:
    usage = parse_v1(
        b"%d\n" % cpu,
        b"%d\n" % used,
        b"cache 1\nrss 2\ntotal_cache %d\ntotal_rss 2\n" % cache,
        b"%d\n" % pids,
        b"8:0 Read %d\n8:0 Write %d\n8:0 Total 7\n" % (read, written),
    )
    memory = used - cache if cache < used else used
    assert usage == Usage(cpu, memory, 0, pids, read, written)


@given(st.lists(st.binary(max_size=200), min_size=6, max_size=6))
def test_no_file_content_breaks_the_parsers(texts: list[bytes]) -> None:
    for usage in (parse_v1(*texts[:5]), parse_v2(*texts)):
        assert all(figure >= 0 for figure in usage)


def test_the_tree_of_this_host_is_recognised() -> None:
    assert CgroupTree(Path("/sys/fs/cgroup")).version in {1, 2}
