"""Rules for what agents tell of the usage of tasks, for both protocols. Pure."""

from __future__ import annotations

from typing import Final

from agent.controlplane import bounds
from agent.controlplane.bounds import Items, Number, Part, Table, Text
from agent.model.statistics import StatisticSet
from agent.model.usage import HostUsage, TaskUsage, Usage

TASKS_MOST: Final = 2000
"""In one message; an agent runs far fewer."""
_VALUES_MOST: Final = 250_000
_NUMBER: Final = Number(0, 2**63 - 1)
_SAMPLES: Final = Number(1, 1_000_000)

USAGE: Final = Table(
    {
        Usage: {"host": Part(), "tasks": Items(TASKS_MOST, Part())},
        HostUsage: {
            "cpu_units": Part(),
            "memory_used_bytes": Part(),
            "memory_total_bytes": _NUMBER,
            "disk_used_bytes": Part(),
            "disk_total_bytes": _NUMBER,
        },
        TaskUsage: {
            "task_arn": Text(512),
            "cpu_units": Part(),
            "memory_bytes": Part(),
            "rx_bytes_per_s": Part(),
            "tx_bytes_per_s": Part(),
            "read_bytes": _NUMBER,
            "written_bytes": _NUMBER,
        },
        StatisticSet: {"min": _NUMBER, "max": _NUMBER, "sum": _NUMBER, "count": _SAMPLES},
    }
)


def check(usage: Usage) -> None:
    """Raise ``OutOfBounds`` for usage that no correct agent tells; names what is wrong."""
    USAGE.check(usage)


def look(body: bytes) -> None:
    """Raise ``OutOfBounds`` for a message with too many items to be decoded."""
    bounds.look(body, most_items=TASKS_MOST, most_values=_VALUES_MOST)
