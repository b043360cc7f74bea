"""Counters over restarts, resets and devices that vanish."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.metrics.cgroup_texts import Usage
from agent.metrics.continuity import Continuous


def test_a_new_run_goes_on_where_the_last_one_ended() -> None:
    counters = Continuous()
    first = Usage(cpu_ns=100, io_read_bytes=7, memory_max_usage_bytes=50, pids=3)
    assert counters.of(first, new_run=True) is first
    assert counters.of(first, new_run=False) is first
    again = counters.of(
        Usage(cpu_ns=30, io_read_bytes=9, memory_max_usage_bytes=20, pids=1), new_run=True
    )
    assert again == Usage(cpu_ns=130, io_read_bytes=16, memory_max_usage_bytes=50, pids=1)
    more = Usage(cpu_ns=40, io_read_bytes=9, memory_max_usage_bytes=60)
    assert counters.of(more, new_run=False).cpu_ns == 140
    assert counters.of(more, new_run=False) is counters.of(more, new_run=False)
    assert counters.run == 2


def test_cpu_time_that_decreases_shows_a_new_run() -> None:
    counters = Continuous()
    counters.of(Usage(cpu_ns=100, io_reads=5), new_run=False)
    assert counters.of(Usage(cpu_ns=1, io_reads=6), new_run=False) == Usage(cpu_ns=101, io_reads=11)
    assert counters.run == 2


def test_a_device_that_vanishes_takes_nothing_away() -> None:
    counters = Continuous()
    counters.of(Usage(cpu_ns=1, io_read_bytes=100), new_run=False)
    assert counters.of(Usage(cpu_ns=2, io_read_bytes=70), new_run=False).io_read_bytes == 100
    assert counters.of(Usage(cpu_ns=3, io_read_bytes=80), new_run=False).io_read_bytes == 110
    assert counters.run == 1


def test_what_is_missing_when_a_run_ends_was_counted() -> None:
    counters = Continuous()
    counters.of(Usage(cpu_ns=5, io_reads=100, oom_kills=2), new_run=True)
    gone = counters.of(Usage(cpu_ns=6, oom_kills=2), new_run=False)
    assert gone == Usage(cpu_ns=6, oom_kills=2)
    counters.of(Usage(cpu_ns=7), new_run=False)
    again = counters.of(Usage(cpu_ns=1, io_reads=3, oom_kills=0), new_run=True)
    assert again == Usage(cpu_ns=8, io_reads=103, oom_kills=2)
    after = counters.of(Usage(cpu_ns=1, io_reads=1), new_run=True)
    assert after == Usage(cpu_ns=9, io_reads=104)


def test_what_is_missing_stays_missing() -> None:
    counters = Continuous()
    counters.of(Usage(cpu_ns=5), new_run=True)
    assert counters.of(Usage(cpu_ns=1), new_run=True) == Usage(cpu_ns=6)


readings = st.lists(
    st.tuples(st.booleans(), st.integers(0, 2**64), st.none() | st.integers(0, 2**64)), max_size=12
)


@given(readings)
def test_counters_never_decrease(given_readings: list[tuple[bool, int, int | None]]) -> None:
    counters = Continuous()
    cpu_ns = read = 0
    for new_run, cpu, moved in given_readings:
        told = counters.of(Usage(cpu_ns=cpu, io_read_bytes=moved), new_run=new_run)
        assert told.cpu_ns is not None
        assert told.cpu_ns >= max(cpu_ns, cpu)
        cpu_ns = told.cpu_ns
        assert (told.io_read_bytes is None) == (moved is None)
        if told.io_read_bytes is not None:
            assert told.io_read_bytes >= moved  # type: ignore[operator]
            assert told.io_read_bytes >= read
            read = told.io_read_bytes


@given(st.lists(st.lists(st.integers(0, 2**40), min_size=1, max_size=5).map(sorted), max_size=5))
def test_the_total_is_the_sum_of_all_runs(runs: list[list[int]]) -> None:
    counters = Continuous()
    told = Usage(cpu_ns=0)
    for run in runs:
        for index, cpu_ns in enumerate(run):
            told = counters.of(Usage(cpu_ns=cpu_ns), new_run=index == 0)
    assert told.cpu_ns == sum(run[-1] for run in runs)
