"""How many more hosts the waiting tasks need, packed into hosts like those that are there. Pure.

Tasks with the same needs are packed together, the largest first, each into the first host with room; a new host is of
the smallest kind that can take the task. A task that no kind of host can take makes no host be added: Amazon ECS
does so, too. While it is not known what a host is like, one is counted.

Source: Amazon ECS developer guide, "managed scaling behavior".
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from agent.controlplane.scheduler import placement
from agent.controlplane.scheduler.host_room import HostRoom

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.controlplane.scheduler.instance import Instance, TaskNeeds
    from agent.controlplane.scheduler.placement import Constraint


class Alike(NamedTuple):
    """Waiting tasks with the same needs."""

    number: int
    needs: TaskNeeds
    constraints: Sequence[Constraint] = ()

    @property
    def is_distinct(self) -> bool:
        """Whether each needs a host without another of its group."""
        return any(one.kind == "distinctInstance" for one in self.constraints)


class Demand(NamedTuple):
    """What waiting tasks need."""

    hosts: int
    unfit: int
    """How many tasks no kind of host can take."""


class _Host:
    """A host that may be added, while tasks are packed into it."""

    def __init__(self, template: Instance) -> None:
        self._room = HostRoom(template, "")
        self._groups: Counter[str] = Counter(template.task_groups)

    def take(self, task: Alike) -> bool:
        """Reserve the room of one task; False if it has none."""
        needs = task.needs
        if not placement.suits(self._room.instance, needs, task.constraints):
            return False
        if task.is_distinct and self._groups[needs.group]:
            return False
        if self._room.shortage(needs):
            return False
        self._room.take(needs)
        self._groups[needs.group] += 1
        return True


def of(waiting: Iterable[Alike], kinds: Sequence[Instance]) -> Demand:
    """Return what waiting tasks need.

    Args:
        waiting: those of one capacity provider in one cluster.
        kinds: what its hosts are like, with the room that they have without tasks; empty if that is not known.
    """
    groups = sorted(waiting, key=lambda one: (-one.needs.memory_mib, -one.needs.cpu_units))
    if not kinds:
        return Demand(min(1, sum(one.number for one in groups)), 0)
    by_size = sorted(kinds, key=lambda one: (one.memory_mib, one.cpu_units, one.arn))
    added: list[_Host] = []
    unfit = 0
    for group in groups:
        left = group.number
        for host in added:
            while left and host.take(group):
                left -= 1
        kind = next((one for one in by_size if left and _Host(one).take(group)), None)
        if kind is None:
            unfit += left
            continue
        while left:
            host = _Host(kind)
            while left and host.take(group):
                left -= 1
            added.append(host)
    return Demand(len(added), unfit)
