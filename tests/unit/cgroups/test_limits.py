"""How much a task may use, in the words of the kernel and of systemd."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.cgroups import limits
from agent.cgroups.limits import TaskLimits, limits_of
from tests.support.tasks import container, payload

MIB = 1024 * 1024
PERIODS = st.integers(8_000, 100_000)
"""What ECS_CGROUP_CPU_PERIOD takes."""


def test_a_task_with_cpu_gets_a_quota_and_no_shares() -> None:
    task = payload(container("a", cpu=10), container("b"), cpu=0.125, memory=128)
    assert limits_of(task) == TaskLimits(12_500, 100_000, 0, 128 * MIB)
    assert limits_of(task, period_us=50_000, pids=7) == TaskLimits(6_250, 50_000, 0, 128 * MIB, 7)


@pytest.mark.parametrize(
    ("units", "shares"), [((0,), 2), ((0, 1), 4), ((10, 512), 522), ((262_144, 5), 262_144)]
)
def test_a_task_without_cpu_gets_the_shares_of_its_containers(
    units: tuple[int, ...], shares: int
) -> None:
    task = payload(*(container(f"c{at}", cpu=cpu) for at, cpu in enumerate(units)))
    assert limits_of(task) == TaskLimits(0, 100_000, shares)


@given(st.floats(1e-6, 192), PERIODS)
@example(0.125, 8_000)
@example(0.01, 8_000)
def test_the_kernel_takes_every_quota_and_it_is_what_was_asked_for(
    vcpus: float, period_us: int
) -> None:
    quota_us, used_us = limits.quota(vcpus, period_us)
    assert quota_us >= limits.MIN_QUOTA_US
    assert period_us <= used_us <= limits.MAX_PERIOD_US
    if vcpus >= 0.001:  # less than a quota in the longest period cannot be given
        assert abs(Fraction(quota_us, used_us) / Fraction(vcpus) - 1) < Fraction(1, 100)


@given(st.integers(2, 262_144), st.integers(2, 262_144))
def test_weights_are_those_of_the_kernel_and_keep_the_order(one: int, other: int) -> None:
    assert 1 <= limits.weight(one) <= 10_000
    assert (limits.weight(one) <= limits.weight(other)) or one > other


def test_files_of_version_1() -> None:
    assert limits.v1_files(TaskLimits(12_500, 100_000, 0, 5 * MIB, 9)) == [
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "12500"),
        ("memory", "memory.limit_in_bytes", "5242880"),
        ("pids", "pids.max", "9"),
    ]
    assert limits.v1_files(TaskLimits(shares=20)) == [
        ("cpu", "cpu.shares", "20"),
        ("cpu", "cpu.cfs_quota_us", "-1"),
        ("memory", "memory.limit_in_bytes", "-1"),
        ("pids", "pids.max", "max"),
    ]


def test_files_of_version_2() -> None:
    assert limits.v2_files(TaskLimits(12_500, 100_000, 0, 5 * MIB, 9)) == [
        ("cpu", "cpu.weight", "100"),
        ("cpu", "cpu.max", "12500 100000"),
        ("memory", "memory.max", "5242880"),
        ("pids", "pids.max", "9"),
    ]
    assert limits.v2_files(TaskLimits(shares=1024)) == [
        ("cpu", "cpu.weight", "39"),
        ("cpu", "cpu.max", "max 100000"),
        ("memory", "memory.max", "max"),
        ("pids", "pids.max", "max"),
    ]


def test_properties_of_a_slice() -> None:
    told = dict(limits.slice_properties(TaskLimits(12_500, 100_000, 0, 5 * MIB, 9)))
    assert told["CPUQuotaPerSecUSec"] == ("t", 125_000)
    assert told["CPUQuotaPeriodUSec"] == ("t", 100_000)
    assert told["MemoryMax"] == ("t", 5 * MIB)
    assert told["TasksMax"] == ("t", 9)
    assert told["CPUWeight"] == ("t", limits.UNLIMITED)
    free = dict(limits.slice_properties(TaskLimits(shares=1024)))
    assert free["CPUWeight"] == ("t", 39)
    unlimited = {"CPUQuotaPerSecUSec", "MemoryMax", "TasksMax"}
    assert {name for name, value in free.items() if value[1] == limits.UNLIMITED} == unlimited
    old = dict(limits.slice_properties(TaskLimits(shares=1024), version=1))
    assert old["CPUShares"] == ("t", 1024)
