"""What the files of a control group mean, on real texts and on any other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics import cgroup_texts
from agent.metrics.cgroup_texts import PRESSURE_FILES, V1_FILES, V2_FILES, Usage, usage_v1, usage_v2
from agent.model.metrics import Pressure, Stall

REAL_V1 = {
    "cpuacct.usage": b"4821337801\n",
    "cpuacct.stat": b"user 341\nsystem 141\n",
    "cpu.stat": (
        b"nr_periods 312\nnr_throttled 208\nthrottled_time 16601853042\nnr_bursts 0\nburst_time 0\n"
    ),
    "memory.usage_in_bytes": b"268435456\n",
    "memory.stat": (
        b"cache 10731520\nrss 13074432\nrss_huge 0\nshmem 0\nmapped_file 0\ndirty 0\nwriteback 0\n"
        b"swap 0\npgpgin 138725\npgpgout 132913\npgfault 325035\npgmajfault 0\ninactive_anon 0\n"
        b"active_anon 1531904\ninactive_file 24576\nactive_file 1568768\nunevictable 0\n"
        b"hierarchical_memory_limit 268435456\nhierarchical_memsw_limit 9223372036854771712\n"
        b"total_cache 10731520\ntotal_rss 13074432\ntotal_swap 4096\ntotal_inactive_file 24576\n"
        b"total_active_file 1568768\n"
    ),
    "memory.max_usage_in_bytes": b"268435456\n",
    "memory.failcnt": b"77\n",
    "memory.oom_control": b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "pids.current": b"4\n",
    "pids.max": b"max\n",
    "blkio.throttle.io_service_bytes_recursive": (
        b"254:0 Read 1048576\n254:0 Write 4194304\n254:0 Sync 5242880\n254:0 Async 0\n"
        b"254:0 Discard 0\n254:0 Total 5242880\nTotal 5242880\n"
    ),
    "blkio.throttle.io_serviced_recursive": (
        b"254:0 Read 16\n254:0 Write 64\n254:0 Sync 80\n254:0 Async 0\n254:0 Discard 0\n"
        b"254:0 Total 80\nTotal 80\n"
    ),
}
REAL_V2 = {
    "cpu.stat": (
        b"usage_usec 4821337\nuser_usec 3410000\nsystem_usec 1411337\nnice_usec 0\n"
        b"core_sched.force_idle_usec 0\nnr_periods 312\nnr_throttled 208\n"
        b"throttled_usec 16601853\nnr_bursts 0\nburst_usec 0\n"
    ),
    "memory.current": b"268435456\n",
    "memory.stat": (
        b"anon 13074432\nfile 10731520\nkernel 1048576\nkernel_stack 65536\npagetables 196608\n"
        b"sock 0\nshmem 0\nfile_mapped 0\nfile_dirty 0\ninactive_anon 0\nactive_anon 13074432\n"
        b"inactive_file 24576\nactive_file 1568768\nunevictable 0\nworkingset_refault_file 1\n"
    ),
    "memory.peak": b"268435456\n",
    "memory.events": b"low 0\nhigh 0\nmax 77\noom 3\noom_kill 3\noom_group_kill 0\n",
    "memory.max": b"268435456\n",
    "../memory.max": b"max\n",
    "memory.swap.current": b"4096\n",
    "pids.current": b"4\n",
    "pids.max": b"max\n",
    "io.stat": (
        b"7:0 \n254:0 rbytes=1048576 wbytes=4194304 rios=16 wios=64 dbytes=0 dios=0\n"
        b"253:1 rbytes=0 wbytes=0 rios=0 wios=0 dbytes=4096 dios=1\n"
    ),
}
REAL_PRESSURE = (
    b"some avg10=9.10 avg60=7.96 avg300=12.50 total=19609810974\n"
    b"full avg10=0.00 avg60=0.20 avg300=0.00 total=31\n"
)
STALLED = Pressure(
    some=Stall(avg10_percent=9.1, avg60_percent=7.96, avg300_percent=12.5, total_us=19609810974),
    full=Stall(avg10_percent=0.0, avg60_percent=0.2, avg300_percent=0.0, total_us=31),
)
EXPECTED = Usage(
    cpu_ns=4821337801,
    cpu_user_ns=3410 * 10**6,
    cpu_system_ns=1410 * 10**6,
    cpu_periods=312,
    cpu_throttled_periods=208,
    cpu_throttled_ns=16601853042,
    memory_limit_hits=77,
    oom_kills=3,
    io_read_bytes=1048576,
    io_write_bytes=4194304,
    io_reads=16,
    io_writes=64,
    memory_max_usage_bytes=268435456,
    memory_bytes=268435456 - 10731520,
    memory_usage_bytes=268435456,
    memory_working_set_bytes=268435456 - 24576,
    memory_cache_bytes=10731520,
    memory_inactive_file_bytes=24576,
    memory_rss_bytes=13074432,
    memory_swap_bytes=4096,
    memory_limit_bytes=268435456,
    pids=4,
    pids_limit=None,
    cpu_pressure=STALLED,
    memory_pressure=STALLED,
    io_pressure=None,
)


def v1(texts: dict[str, bytes], *pressures: bytes) -> Usage:
    said = [parse(texts[name]) if name in texts else None for _, name, parse in V1_FILES]
    return usage_v1(said, _pressures(pressures))


def v2(texts: dict[str, bytes], *pressures: bytes) -> Usage:
    said = [parse(texts[name]) if name in texts else None for name, parse in V2_FILES]
    return usage_v2(said, _pressures(pressures))


def _pressures(texts: tuple[bytes, ...]) -> list[Pressure | None]:
    given = [cgroup_texts.pressure(text) for text in texts]
    return [*given, *[None] * (len(PRESSURE_FILES) - len(given))]


def test_real_texts_of_version_1() -> None:
    assert v1(REAL_V1, REAL_PRESSURE, REAL_PRESSURE) == EXPECTED


def test_real_texts_of_version_2() -> None:
    assert v2(REAL_V2, REAL_PRESSURE, REAL_PRESSURE) == EXPECTED._replace(
        cpu_ns=4821337000,
        cpu_system_ns=1411337000,
        cpu_throttled_ns=16601853000,
        memory_bytes=268435456 - 24576,
    )


def test_what_is_missing_is_missing_and_not_zero() -> None:
    assert v1({}) == v2({}) == Usage()
    empty = v2({"io.stat": b"", "memory.events": b"", "cpu.stat": b"usage_usec 0\n"})
    assert empty == Usage(cpu_ns=0, io_read_bytes=0, io_write_bytes=0, io_reads=0, io_writes=0)


def test_unlimited_and_larger_caches() -> None:
    stat = b"total_cache 500\nhierarchical_memory_limit 9223372036854771712\n"
    usage = v1({"memory.usage_in_bytes": b"400", "memory.stat": stat})
    assert (usage.memory_bytes, usage.memory_limit_bytes) == (400, None)
    usage = v2({"memory.current": b"400", "memory.stat": b"inactive_file 500"})
    assert (usage.memory_bytes, usage.memory_limit_bytes) == (400, None)


@pytest.mark.parametrize(
    ("own", "of_task", "limit"),
    [(b"max", b"max", None), (b"7", b"max", 7), (b"max", b"9", 9), (b"7", b"9", 7), (b"9", b"", 9)],
)
def test_the_smaller_limit_of_container_and_task_counts(
    own: bytes, of_task: bytes, limit: int | None
) -> None:
    assert v2({"memory.max": own, "../memory.max": of_task}).memory_limit_bytes == limit


def test_pressure_of_a_kernel_without_the_line_full() -> None:
    (some, _full) = REAL_PRESSURE.splitlines(keepends=True)
    assert cgroup_texts.pressure(some) == Pressure(some=STALLED.some)
    assert cgroup_texts.pressure(b"") is None


numbers = st.integers(0, 2**64)


@given(values=st.lists(numbers, min_size=6, max_size=6))
def test_numbers_survive(values: list[int]) -> None:
    cpu, used, pids, read, written, ops = values
    usage = v1(
        {
            "cpuacct.usage": b"%d\n" % cpu,
            "memory.usage_in_bytes": b"%d\n" % used,
            "pids.current": b"%d\n" % pids,
            "blkio.throttle.io_service_bytes_recursive": b"8:0 Read %d\n8:0 Write %d\n8:0 Total 7\n"
            % (read, written),
            "blkio.throttle.io_serviced_recursive": b"8:0 Read %d\n8:16 Read 1\n" % ops,
        }
    )
    assert (usage.cpu_ns, usage.memory_usage_bytes, usage.pids) == (cpu, used, pids)
    assert (usage.io_read_bytes, usage.io_write_bytes, usage.io_reads) == (read, written, ops + 1)
    unified = v2({"io.stat": b"8:0 rbytes=%d wbytes=%d rios=%d wios=0\n" % (read, written, ops)})
    assert unified.io_read_bytes == read
    assert (unified.io_write_bytes, unified.io_reads, unified.io_writes) == (written, ops, 0)


@given(st.lists(st.binary(max_size=200), min_size=16, max_size=16))
def test_no_text_breaks_the_parsers(texts: list[bytes]) -> None:
    pressures = texts[:3]
    for usage in (
        v1(dict(zip(REAL_V1, texts[3:], strict=False)), *pressures),
        v2(dict(zip(REAL_V2, texts[3:], strict=False)), *pressures),
    ):
        assert all(_is_sound(figure) for figure in usage)


@given(st.data())
def test_no_damage_to_a_real_text_breaks_the_parsers(data: st.DataObject) -> None:
    for read, real in ((v1, REAL_V1), (v2, REAL_V2)):
        name = data.draw(st.sampled_from(sorted(real)))
        cut = data.draw(st.integers(0, len(real[name])))
        usage = read(real | {name: real[name][:cut] + data.draw(st.binary(max_size=8))})
        assert all(_is_sound(figure) for figure in usage)


def _is_sound(figure: object) -> bool:
    return (
        figure is None or isinstance(figure, Pressure) or (isinstance(figure, int) and figure >= 0)
    )
