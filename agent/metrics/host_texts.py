"""What files of ``/proc`` say about the whole host: texts in, figures out. Pure.

Any text is accepted: what is missing or is not a number is None.

Tests: ``tests/unit/metrics/test_host.py``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from agent.model.metrics import CpuTimes

_TICKS_PER_S: Final = 100
"""In which the kernel tells times, whatever its own clock does."""
_MEMORY: Final = re.compile(
    rb"^(MemTotal|MemFree|MemAvailable|Buffers|Cached|SwapTotal|SwapFree): +(\d+) kB$", re.MULTILINE
)


class Memory(NamedTuple):
    """Main memory and swap, in bytes."""

    total: int | None = None
    available: int | None = None
    free: int | None = None
    cached: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None


class CpuShares(NamedTuple):
    """What the cores did between two readings; 100 is one whole core."""

    busy: float
    user: float
    system: float
    iowait: float
    steal: float


def cpu_times(text: bytes) -> CpuTimes | None:
    """Return the first line of ``/proc/stat``, which is about all cores together."""
    words = text.partition(b"\n")[0].split()
    if len(words) < 9 or words[0] != b"cpu" or not all(word.isdigit() for word in words[1:9]):
        return None
    return CpuTimes(*(int(word) / _TICKS_PER_S for word in words[1:9]))


def cpu_shares(before: CpuTimes, now: CpuTimes, elapsed_s: float) -> CpuShares | None:
    """Return what the cores did in between; None if a counter decreased or no time has passed.

    Waiting for disks decreases now and then on a healthy kernel: then it was 0.
    """
    if elapsed_s <= 0:
        return None
    user = now.user_s + now.nice_s - before.user_s - before.nice_s
    system = (
        (now.system_s + now.irq_s + now.softirq_s)
        - (before.system_s + before.irq_s)
        - before.softirq_s
    )
    user, system = round(user, 2), round(system, 2)  # ticks, without the noise of binary fractions
    if user < 0 or system < 0:
        return None
    iowait = max(0.0, now.iowait_s - before.iowait_s)
    steal = max(0.0, now.steal_s - before.steal_s)
    return CpuShares(
        *(
            round(100 * spent_s / elapsed_s, 2)
            for spent_s in (user + system, user, system, iowait, steal)
        )
    )


def memory(text: bytes) -> Memory:
    """Return what ``/proc/meminfo`` says.

    A kernel without ``MemAvailable`` (before 3.14) has no figure of what is available.
    """
    lines = {name: int(kib) * 1024 for name, kib in _MEMORY.findall(text)}
    caches = [lines[name] for name in (b"Cached", b"Buffers") if name in lines]
    return Memory(
        total=lines.get(b"MemTotal"),
        available=lines.get(b"MemAvailable"),
        free=lines.get(b"MemFree"),
        cached=sum(caches) if caches else None,
        swap_total=lines.get(b"SwapTotal"),
        swap_free=lines.get(b"SwapFree"),
    )


def loads(text: bytes) -> tuple[float | None, float | None, float | None]:
    """Return the load averages of ``/proc/loadavg``."""
    words = text.split()[:3]
    try:
        one, five, fifteen = (float(word) for word in words)
    except ValueError:
        return None, None, None
    return one, five, fifteen


def online_cpus(text: bytes) -> int | None:
    """Return how many cores a list such as ``0-3,8`` has (``/sys/devices/system/cpu/online``)."""
    count = 0
    for part in text.strip().split(b","):
        first, _, last = part.partition(b"-")
        if not first.isdigit() or (last and not last.isdigit()):
            return None
        count += int(last or first) - int(first) + 1
    return count if count > 0 else None
