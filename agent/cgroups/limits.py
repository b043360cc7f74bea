"""How much a task may use, and how the kernel and systemd are told. Pure.

Source of the rules: Amazon ECS agent 1.105.1, ``taskresource/cgroup`` and ``api/task``: a task with
``cpu`` gets a quota, one without gets shares in proportion to its containers. One rule differs: the
kernel takes no quota below a millisecond, so that a small task gets a longer period instead.

Tests: ``tests/unit/cgroups/test_limits.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.model.resources import MIB

if TYPE_CHECKING:
    from agent.model.payload import TaskPayload

DEFAULT_PERIOD_US = 100_000
MIN_QUOTA_US = 1_000
"""The kernel's least quota, and its least period."""
MAX_PERIOD_US = 1_000_000
MIN_SHARES = 2
MAX_SHARES = 262_144
DEFAULT_SHARES = 1024
DEFAULT_WEIGHT = 100

UNLIMITED = 2**64 - 1
"""What systemd takes for "no limit"."""
LARGEST = 1 << 60
"""The files of version 1 write "no limit" as a number that is larger than this one."""


class TaskLimits(NamedTuple):
    """The limits of one task as a whole."""

    quota_us: int = 0
    """CPU time in each period; 0 for no limit."""
    period_us: int = DEFAULT_PERIOD_US
    shares: int = 0
    """CPU time in proportion to that of other groups, where there is not enough; 0 for the default."""
    memory_bytes: int = 0
    """0 for no limit."""
    pids: int = 0
    """Most processes and threads; 0 for no limit."""


def limits_of(
    payload: TaskPayload, *, period_us: int = DEFAULT_PERIOD_US, pids: int = 0
) -> TaskLimits:
    """Return the limits of a task.

    Args:
        payload: the task; ``cpu`` in vCPUs, ``memory`` in MiB.
        period_us: ``ECS_CGROUP_CPU_PERIOD``.
        pids: ``ECS_TASK_PIDS_LIMIT``; 0 for none.
    """
    memory_bytes = max(payload.memory, 0) * MIB
    if payload.cpu > 0:
        quota_us, period_us = quota(payload.cpu, period_us)
        return TaskLimits(quota_us, period_us, 0, memory_bytes, pids)
    shares = sum(max(MIN_SHARES, container.cpu) for container in payload.containers)
    shares = min(max(shares, MIN_SHARES), MAX_SHARES)
    return TaskLimits(0, period_us, shares, memory_bytes, pids)


def quota(vcpus: float, period_us: int) -> tuple[int, int]:
    """Return quota and period in microseconds that give a task this many CPUs.

    The period is longer than asked for where the quota would be less than the kernel takes.
    """
    quota_us = int(vcpus * period_us)
    if quota_us >= MIN_QUOTA_US:
        return quota_us, period_us
    return MIN_QUOTA_US, min(max(round(MIN_QUOTA_US / vcpus), period_us), MAX_PERIOD_US)


def weight(shares: int) -> int:
    """Return the weight of cgroup version 2, 1 to 10000, for shares of version 1."""
    return 1 + (shares - MIN_SHARES) * 9999 // (MAX_SHARES - MIN_SHARES)


def v1_files(limits: TaskLimits) -> list[tuple[str, str, str]]:
    """Return controller, file and value of each limit, in the order in which they are written.

    All of them, so that a group that exists has these limits afterwards and no others.
    """
    period = [("cpu", "cpu.cfs_period_us", str(limits.period_us))] if limits.quota_us else []
    return [
        ("cpu", "cpu.shares", str(limits.shares or DEFAULT_SHARES)),
        *period,
        ("cpu", "cpu.cfs_quota_us", str(limits.quota_us or -1)),
        ("memory", "memory.limit_in_bytes", str(limits.memory_bytes or -1)),
        ("pids", "pids.max", str(limits.pids or "max")),
    ]


def v2_files(limits: TaskLimits) -> list[tuple[str, str, str]]:
    """Return controller, file and value of each limit of the unified hierarchy."""
    share = weight(limits.shares) if limits.shares else DEFAULT_WEIGHT
    return [
        ("cpu", "cpu.weight", str(share)),
        ("cpu", "cpu.max", f"{limits.quota_us or 'max'} {limits.period_us}"),
        ("memory", "memory.max", str(limits.memory_bytes or "max")),
        ("pids", "pids.max", str(limits.pids or "max")),
    ]


def slice_properties(
    limits: TaskLimits, *, version: int = 2
) -> list[tuple[str, tuple[str, int | bool | str]]]:
    """Return each limit as a property of a unit of systemd: name, type in D-Bus, value."""
    per_second = UNLIMITED
    if limits.quota_us:
        per_second = round(limits.quota_us * 1_000_000 / limits.period_us)
    share = weight(limits.shares) if version == 2 and limits.shares else limits.shares
    return [
        ("CPUAccounting", ("b", True)),
        ("MemoryAccounting", ("b", True)),
        ("IOAccounting", ("b", True)),
        ("TasksAccounting", ("b", True)),
        ("CPUWeight" if version == 2 else "CPUShares", ("t", share or UNLIMITED)),
        ("CPUQuotaPeriodUSec", ("t", limits.period_us)),
        ("CPUQuotaPerSecUSec", ("t", per_second)),
        ("MemoryMax", ("t", limits.memory_bytes or UNLIMITED)),
        ("TasksMax", ("t", limits.pids or UNLIMITED)),
    ]
