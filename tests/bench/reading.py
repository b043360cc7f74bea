"""The floor of sampling: a loop that reads the same files and does nothing with them."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from agent.metrics.cgroup import CgroupTree
from tests.bench.floor import RawEngine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IDLE_FILES = frozenset(
    {
        *("cpuacct.usage", "memory.usage_in_bytes", "blkio.throttle.io_service_bytes_recursive"),
        *("cpu.stat", "memory.current", "io.stat"),
    }
)
"""Those that can change while no process of a container runs; both versions of control groups."""
_BYTES = 16384


class ReadFloor(NamedTuple):
    """Share of a core that one round each second takes, in percent."""

    idle: float
    """Of the files in ``IDLE_FILES``."""
    every: float
    """Of every file that a sample is made of."""


def measure(runtime_ids: Iterable[str], rounds: int = 11) -> ReadFloor:
    """Read files of containers that stay open, each second; the median of the rounds. Blocks."""
    tree, engine = CgroupTree(), RawEngine()
    with ExitStack() as closing:
        idle: list[int] = []
        every: list[int] = []
        for runtime_id in runtime_ids:
            pid = engine.call("GET", f"/containers/{runtime_id}/json")["State"]["Pid"]
            reader = tree.open(runtime_id, pid=pid)
            closing.callback(reader.close)
            for file in reader._files:
                if file.fd >= 0 and file.path is not None:
                    every.append(file.fd)
                    if file.path.name in IDLE_FILES and (
                        file.path.name != "cpu.stat" or tree.version == 2
                    ):
                        idle.append(file.fd)
        took = []
        for _ in range(rounds):
            time.sleep(1)
            took.append((_round(idle), _round(every)))
    return ReadFloor(*(100 * statistics.median(times) for times in zip(*took, strict=True)))


def _round(files: Sequence[int]) -> float:
    read, began_s = os.pread, time.thread_time()
    for file in files:
        read(file, _BYTES, 0)
    return time.thread_time() - began_s
