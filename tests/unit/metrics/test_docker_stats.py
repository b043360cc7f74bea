"""Samples in the engine's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics.cgroup import RawTexts
from agent.metrics.docker_stats import stats_of
from agent.model.metrics import (
    ContainerSample,
    CpuTimes,
    HostSample,
    LinkCounters,
    MetricsBatch,
    TaskSample,
)

ID = "c" * 64
RAW_V1 = RawTexts(
    memory_stat=b"cache 100\nrss 200\ntotal_inactive_file 5\n",
    io_bytes=b"8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\nTotal 30\n",
    io_operations=b"8:0 Read 1\n8:0 Write 2\nTotal 3\n",
)
RAW_V2 = RawTexts(
    memory_stat=b"anon 200\nfile 100\ninactive_file 5\n",
    io_bytes=b"8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
)


def batch(at: float, *, cpu_ns: int = 50, idle_s: float = 4.0, **fields: Any) -> MetricsBatch:
    given_fields = {
        "cpu_user_ns": 30,
        "cpu_system_ns": 20,
        "cpu_periods": 9,
        "cpu_throttled_periods": 8,
        "cpu_throttled_ns": 7,
        "memory_usage_bytes": 1000,
        "memory_max_usage_bytes": 1500,
        "memory_limit_hits": 3,
        "memory_limit_bytes": 4096,
        "pids": 2,
        "pids_limit": 77,
        "io_read_bytes": 10,
        "io_write_bytes": 20,
        "io_reads": 1,
        "io_writes": 2,
    }
    sample = ContainerSample(name="app", runtime_id=ID, cpu_ns=cpu_ns, **(given_fields | fields))
    counters = LinkCounters(rx_bytes=1, rx_packets=2, tx_bytes=3, tx_dropped=4)
    task = TaskSample(
        task_arn="t",
        containers=[sample],
        network=counters,
        links={"eth0": counters},
        rx_bytes_per_s=1.5,
        tx_bytes_per_s=2.5,
    )
    times = CpuTimes(
        user_s=1.0,
        nice_s=0.0,
        system_s=2.0,
        idle_s=idle_s,
        iowait_s=0.0,
        irq_s=0.0,
        softirq_s=0.5,
        steal_s=100.0,
    )
    host = HostSample(at=at, cpus=2, cpu_times=times, memory_total_bytes=10**6)
    return MetricsBatch(host=host, tasks=[task])


def stats(raw: RawTexts = RAW_V1, **fields: Any) -> dict[str, Any]:
    found = stats_of(
        ID, latest=batch(86400.25, **fields), before=batch(86399.0), raw=raw, name="ecs-app"
    )
    assert found is not None
    decoded: dict[str, Any] = json.loads(json.dumps(found))
    return decoded


def test_the_engines_shape() -> None:
    found = stats(cpu_ns=90)
    assert found["read"] == "1970-01-02T00:00:00.250000000Z"
    assert found["preread"] == "1970-01-01T23:59:59.000000000Z"
    assert (found["name"], found["id"]) == ("/ecs-app", ID)
    assert found["pids_stats"] == {"current": 2, "limit": 77}
    assert found["cpu_stats"] == {
        "cpu_usage": {"total_usage": 90, "usage_in_kernelmode": 20, "usage_in_usermode": 30},
        "system_cpu_usage": 7_500_000_000,
        "online_cpus": 2,
        "throttling_data": {"periods": 9, "throttled_periods": 8, "throttled_time": 7},
    }
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == 50
    assert found["memory_stats"] == {
        "usage": 1000,
        "max_usage": 1500,
        "failcnt": 3,
        "stats": {"cache": 100, "rss": 200, "total_inactive_file": 5},
        "limit": 4096,
    }
    assert found["networks"]["eth0"] == {
        **dict.fromkeys(("rx_errors", "rx_dropped", "tx_packets", "tx_errors"), 0),
        "rx_bytes": 1,
        "rx_packets": 2,
        "tx_bytes": 3,
        "tx_dropped": 4,
    }
    assert "network_rate_stats" not in found


def test_the_first_sample_has_none_before() -> None:
    found = stats_of(ID, latest=batch(1.0), before=None, raw=RAW_V1, name="n")
    assert found is not None
    assert found["preread"] == "0001-01-01T00:00:00Z"
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert "system_cpu_usage" not in found["precpu_stats"]


def test_rates_of_version_4() -> None:
    found = stats_of(ID, latest=batch(1.0), before=None, raw=RAW_V1, name="n", with_rates=True)
    assert found is not None
    assert found["network_rate_stats"] == {"rx_bytes_per_sec": 1.5, "tx_bytes_per_sec": 2.5}


def test_nothing_is_told_of_what_is_not_sampled() -> None:
    assert stats_of("d" * 64, latest=batch(1.0), before=None, raw=RAW_V1, name="n") is None
    assert stats_of(ID, latest=None, before=None, raw=RAW_V1, name="n") is None


def test_without_a_limit_it_is_the_hosts_memory_as_with_the_engine() -> None:
    assert stats(memory_limit_bytes=None)["memory_stats"]["limit"] == 10**6
    assert stats(memory_usage_bytes=None)["memory_stats"] == {}


def sums(found: dict[str, Any], kind: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in found["blkio_stats"][kind] or ():
        sums[row["op"].lower()] = sums.get(row["op"].lower(), 0) + row["value"]
    return sums


@pytest.mark.parametrize("raw", [RAW_V1, RAW_V2])
def test_block_io_by_device(raw: RawTexts) -> None:
    found = stats(raw)
    assert found["blkio_stats"]["io_service_bytes_recursive"][0]["major"] == 8
    moved = sums(found, "io_service_bytes_recursive")
    assert (moved["read"], moved["write"]) == (10, 20)
    assert sums(found, "io_serviced_recursive") == {"read": 1, "write": 2}
    assert found["blkio_stats"]["io_merged_recursive"] is None


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.sampled_from([RAW_V1, RAW_V2, RawTexts()]))
def test_block_io_goes_on_after_a_restart(read: int, written: int, raw: RawTexts) -> None:
    least = 30 if raw.io_bytes else 0
    found = sums(
        stats(raw, io_read_bytes=read + least, io_write_bytes=written + least),
        "io_service_bytes_recursive",
    )
    assert found.get("read", 0) == read + least
    assert found.get("write", 0) == written + least


@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=100))
def test_no_text_breaks_it(memory: bytes, moved: bytes, done: bytes) -> None:
    stats(RawTexts(memory, moved, done))
    stats(RawTexts(memory, b"8:0 " + moved))
