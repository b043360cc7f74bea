"""Five busy containers, measured by us and by the engine over the same window: within 5 %."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from agent.metrics.cgroup import CgroupTree
from agent.metrics.collector import Collector
from agent.metrics.docker_stats import stats_of
from agent.metrics.host import HostReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from tests.integration.metrics.conftest import Running

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
WINDOW_S = 3.0
SPIN = ("sh", "-c", "while :; do :; done")
HUNGRY = (
    "sh",
    "-c",
    (
        "x=aaaaaaaaaa; i=0; while [ $i -lt 21 ]; do x=$x$x; i=$((i+1)); done;"
        " echo ${#x}; busybox sleep 1000; true"
    ),
)
WRITE = (
    "sh",
    "-c",
    (
        "while :; do busybox dd if=/dev/zero of=/data/f bs=64k count=64 oflag=direct;"
        " busybox dd if=/data/f of=/dev/null bs=64k iflag=direct; done"
    ),
)

Figures = dict[str, float]


class Reading(NamedTuple):
    """The engine's figures between two readings of ours."""

    before: Figures
    theirs: Figures
    after: Figures


def test_ours_and_the_engines_agree(
    sdk: docker.APIClient, start: Callable[..., Running], tmp_path: Path
) -> None:
    gateway = sdk.inspect_network("bridge")["IPAM"]["Config"][0].get("Gateway", "172.17.0.1")
    disk = _disk_of(tmp_path)
    scene = {
        "cpu": start(*SPIN),
        "memory": start(*HUNGRY, mem_limit=128 * MIB),
        "throttled": start(*SPIN, cpu_period=100_000, cpu_quota=20_000, pids_limit=50),
        "network": start("ping", "-q", "-s", "60000", "-i", "0.01", gateway),
        "io": start(*WRITE, binds=[f"{tmp_path}:/data"], **_counted(disk)),
    }
    collector = Collector(
        CgroupTree(), HostReader({"data": Path("/")}), proc=Path("/proc"), max_open_files=1000
    )
    try:
        _until_fed(sdk, scene["memory"])
        _read(sdk, collector, scene)  # the first reading opens files
        first = _read(sdk, collector, scene)
        time.sleep(WINDOW_S)
        second = _read(sdk, collector, scene)
        theirs = sdk.stats(scene["io"].id, stream=False, one_shot=True)
        missing = set(_members(theirs)) - set(_members(_stats(collector, scene["io"])))
    finally:
        collector.close()
    assert missing <= {"cpu_stats.cpu_usage.percpu_usage", "precpu_stats.cpu_usage.percpu_usage"}
    busy = {name: _compare(name, first[name], second[name]) for name in scene}
    assert busy["cpu"]["cpu"] > 0.1 * WINDOW_S * 1e9
    assert busy["throttled"]["throttled ns"] > 0
    assert busy["throttled"]["throttled periods"] > 0
    assert busy["network"]["tx bytes"] > MIB
    assert second["memory"].theirs["memory"] > 20_000_000
    assert second["memory"].theirs["memory limit"] == 128 * MIB
    if disk is not None:
        assert busy["io"]["written bytes"] > MIB


def _until_fed(sdk: docker.APIClient, hungry: Running) -> None:
    deadline_s = time.monotonic() + 60
    while not sdk.logs(hungry.id):
        assert time.monotonic() < deadline_s, "it has not allocated its memory"
        time.sleep(0.1)


def _read(
    sdk: docker.APIClient, collector: Collector, scene: dict[str, Running]
) -> dict[str, Reading]:
    return {
        name: Reading(
            _ours(collector, running),
            _figures(sdk.stats(running.id, stream=False, one_shot=True)),
            _ours(collector, running),
        )
        for name, running in scene.items()
    }


def _members(stats: dict[str, Any], where: str = "") -> Iterator[str]:
    """Yield the path of every member of an object."""
    for name, value in stats.items():
        yield f"{where}{name}"
        if isinstance(value, dict):
            yield from _members(value, f"{where}{name}.")


def _ours(collector: Collector, running: Running) -> Figures:
    return _figures(_stats(collector, running))


def _stats(collector: Collector, running: Running) -> dict[str, Any]:
    batch = collector.collect([running.target()])
    stats = stats_of(
        running.id, latest=batch, before=None, raw=collector.raw_texts(running.id), name="x"
    )
    assert stats is not None
    return stats


def _figures(stats: dict[str, Any]) -> Figures:
    """Return what both tell, from one shape: that of the engine."""
    cpu, memory = stats["cpu_stats"], stats["memory_stats"]
    links = stats.get("networks", {}).values()
    blkio = stats["blkio_stats"]
    cache = memory["stats"].get("cache", memory["stats"].get("inactive_file"))
    return {
        "cpu": cpu["cpu_usage"]["total_usage"],
        "system": cpu["system_cpu_usage"],
        "throttled ns": cpu["throttling_data"]["throttled_time"],
        "throttled periods": cpu["throttling_data"]["throttled_periods"],
        "memory": memory["usage"],
        "memory without cache": memory["usage"] - cache,
        "memory limit": memory["limit"],
        "pids": stats["pids_stats"]["current"],
        "pids limit": stats["pids_stats"].get("limit", 0),
        "cores": cpu["online_cpus"],
        "rx bytes": sum(link["rx_bytes"] for link in links),
        "tx bytes": sum(link["tx_bytes"] for link in links),
        "tx packets": sum(link["tx_packets"] for link in links),
        "read bytes": _sum(blkio["io_service_bytes_recursive"], "read"),
        "written bytes": _sum(blkio["io_service_bytes_recursive"], "write"),
        "writes": _sum(blkio["io_serviced_recursive"], "write"),
    }


def _sum(rows: list[dict[str, Any]] | None, operation: str) -> int:
    return sum(row["value"] for row in rows or () if row["op"].lower() == operation)


LEVELS = ("memory", "memory without cache", "memory limit")
EXACT = ("pids limit", "cores")
COUNTERS = (
    *("cpu", "system", "throttled ns", "throttled periods"),
    *("rx bytes", "tx bytes", "tx packets", "read bytes", "written bytes", "writes"),
)


def _compare(name: str, first: Reading, second: Reading) -> Figures:
    """Return the engine's growth of each counter, after holding ours to it.

    The engine reads a moment after us, and we read once more after it: what a counter grew in
    between is not an error of either. Processes that come and go use less than a MiB.
    """
    for reading in (first, second):
        for level in LEVELS:
            slack = abs(reading.after[level] - reading.before[level])
            ours, theirs = reading.after[level], reading.theirs[level]
            assert abs(ours - theirs) <= max(0.05 * theirs, MIB) + slack, f"{level} of {name}"
        for figure in EXACT:
            assert reading.before[figure] == reading.theirs[figure], f"{figure} of {name}"
    grown: Figures = {}
    for counter in COUNTERS:
        middle = [(r.before[counter] + r.after[counter]) / 2 for r in (first, second)]
        slack = sum((r.after[counter] - r.before[counter]) / 2 for r in (first, second))
        theirs = second.theirs[counter] - first.theirs[counter]
        assert abs(middle[1] - middle[0] - theirs) <= 0.05 * theirs + slack, f"{counter} of {name}"
        grown[counter] = theirs
    return grown


def _disk_of(path: Path) -> Path | None:
    """Return the disk that holds a path; None if no disk does."""
    device = path.stat().st_dev
    found = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not found.exists():
        return None
    whole = found.resolve().parent if (found / "partition").exists() else found.resolve()
    disk = Path("/dev", whole.name)
    return disk if disk.is_block_device() else None


def _counted(disk: Path | None) -> dict[str, Any]:
    """Return a limit that is never reached: since Linux 6.9, cgroup v1 counts only limited disks."""
    if disk is None:
        return {}
    limit = [{"Path": str(disk), "Rate": 10**12}]
    return {"device_read_bps": limit, "device_write_bps": limit}
