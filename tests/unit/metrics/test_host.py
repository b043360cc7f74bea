"""Figures of the host: real texts, any text, this machine beside psutil."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics import host_texts
from agent.metrics.host import HostReader
from agent.model.metrics import CpuTimes, LinkCounters

REAL_STAT = b"cpu  100 20 300 4000 50 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\nintr 1 2 3\n"
REAL_MEMINFO = (
    b"MemTotal:       24676388 kB\nMemFree:        19163240 kB\nMemAvailable:   23000000 kB\n"
    b"Buffers:          100000 kB\nCached:          2000000 kB\nSwapCached:            0 kB\n"
    b"SwapTotal:       1048576 kB\nSwapFree:        1000000 kB\nHugePages_Total:       0\n"
)
TIMES = CpuTimes(
    user_s=1.0,
    nice_s=0.2,
    system_s=3.0,
    idle_s=40.0,
    iowait_s=0.5,
    irq_s=0.06,
    softirq_s=0.07,
    steal_s=0.08,
)


def test_real_texts() -> None:
    assert host_texts.cpu_times(REAL_STAT) == TIMES
    memory = host_texts.memory(REAL_MEMINFO)
    assert memory.total == 24676388 * 1024
    assert memory.cached == 2100000 * 1024
    assert (memory.swap_total, memory.swap_free) == (1048576 * 1024, 1000000 * 1024)
    assert host_texts.loads(b"1.15 0.96 0.54 3/1024 12345\n") == (1.15, 0.96, 0.54)
    assert host_texts.online_cpus(b"0-3,8,10-11\n") == 7


def test_what_is_missing_is_missing() -> None:
    assert host_texts.cpu_times(b"") is None
    assert host_texts.memory(b"MemTotal: 1 kB\n") == host_texts.Memory(total=1024)
    assert host_texts.loads(b"") == (None, None, None)
    assert host_texts.online_cpus(b"") is None


@given(st.binary(max_size=300))
def test_no_text_breaks_the_parsers(text: bytes) -> None:
    host_texts.cpu_times(text)
    host_texts.cpu_times(b"cpu " + text)
    host_texts.memory(text)
    host_texts.loads(text)
    host_texts.online_cpus(text)


def later(**more: float) -> CpuTimes:
    fields = {name: getattr(TIMES, name) for name in CpuTimes.__struct_fields__}
    return CpuTimes(**{name: value + more.get(name, 0) for name, value in fields.items()})


def test_shares_between_two_readings() -> None:
    now = later(user_s=1.0, nice_s=0.5, system_s=0.2, softirq_s=0.3, iowait_s=0.4, steal_s=0.1)
    shares = host_texts.cpu_shares(TIMES, now, 2.0)
    assert shares is not None
    assert shares == pytest.approx((100.0, 75.0, 25.0, 20.0, 5.0))


def test_counters_that_decrease_give_no_share() -> None:
    assert host_texts.cpu_shares(TIMES, later(user_s=-1), 1.0) is None
    assert host_texts.cpu_shares(TIMES, TIMES, 0.0) is None
    assert host_texts.cpu_shares(TIMES, TIMES, -1.0) is None
    shares = host_texts.cpu_shares(TIMES, later(iowait_s=-0.1, user_s=1), 1.0)
    assert shares is not None
    assert shares.iowait == 0


def test_this_machine_beside_psutil() -> None:
    reader = HostReader({"data": Path("/"), "root": Path("/"), "gone": Path("/nowhere")})
    try:
        first = reader.read(time.time(), 100.0)
        host = reader.read(time.time(), 101.0)
    finally:
        reader.close()
    assert first.cpu_percent is None
    assert host.cpu_percent is not None
    assert host.cpu_percent >= 0
    assert host.cpus == psutil.cpu_count()
    memory = psutil.virtual_memory()
    assert host.memory_total_bytes == memory.total
    assert host.memory_available_bytes == pytest.approx(memory.available, rel=0.05)
    assert host.cpu_times is not None
    assert host.cpu_times.user_s == pytest.approx(psutil.cpu_times().user, rel=0.01)
    assert host.cpu_times.idle_s == pytest.approx(psutil.cpu_times().idle, rel=0.01)
    assert host.swap_total_bytes == psutil.swap_memory().total
    assert [disk.name for disk in host.filesystems] == ["data", "root"]
    disk = psutil.disk_usage("/")
    assert host.disk_total_bytes == disk.total
    assert host.disk_used_bytes == pytest.approx(disk.used, rel=0.05)
    assert host.load_15m is not None
    assert (host.io_pressure is not None) == Path("/proc/pressure/io").exists()
    assert reader.open_files == 0


def test_physical_links_only(tmp_path: Path) -> None:
    for name, device in (("eth0", True), ("docker0", False)):
        statistics = tmp_path / "class/net" / name / "statistics"
        statistics.mkdir(parents=True)
        for field in LinkCounters.__struct_fields__:
            (statistics / field).write_text("7\n")
        if device:
            (statistics.parent / "device").mkdir()
    reader = HostReader({}, sys=tmp_path)
    assert reader.read(0.0, 0.0).links == {"eth0": LinkCounters(*[7] * 8)}
    (tmp_path / "class/net/eth0/statistics/rx_bytes").write_text("gone\n")
    assert reader.read(0.0, 1.0).links == {}
    reader.close()
    assert reader.open_files == 0


def test_a_host_without_any_of_the_files(tmp_path: Path) -> None:
    reader = HostReader({}, proc=tmp_path, sys=tmp_path)
    host = reader.read(1.0, 2.0)
    reader.close()
    shown = {name: getattr(host, name) for name in host.__struct_fields__}
    assert {name for name, value in shown.items() if value not in (None, (), {})} == {"at"}
