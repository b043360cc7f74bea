"""What Amazon's agent publishes about containers, as usage of tasks. Pure, but for what it remembers.

Sets of one task's containers are added: the sum of means is the mean of sums; the extremes are bounds, as
the containers need not have them at the same moment. Bytes of disks are counters there, and so are counted from one
publication to the next.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/tcs/model``, ``agent/stats``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from agent.model.resources import MIB
from agent.model.statistics import StatisticSet
from agent.model.usage import TaskUsage, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.controlplane.agents.amazon.shapes import (
        ContainerMetrics,
        CountedSet,
        MetricSet,
        PublishMetrics,
        TaskMetrics,
    )

REMEMBERED: Final = 4096
"""Counters of containers; more than one host runs."""


class TcsUsage:
    """Reads the publications of one connection."""

    def __init__(self, cpu_units: int) -> None:
        """Take the CPU units of the host, which are 100 % in its publications."""
        self._units_per_percent = cpu_units / 100
        self._counters: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def of(self, message: PublishMetrics) -> Usage:
        """Return the usage in a publication; empty for an idle host."""
        return Usage(tasks=[self._task(task) for task in message.task_metrics])

    def _task(self, task: TaskMetrics) -> TaskUsage:
        containers = task.container_metrics
        cpu = _added(containers, lambda c: c.cpu_stats_set)
        memory = _added(containers, lambda c: c.memory_stats_set)
        return TaskUsage(
            task_arn=task.task_arn,
            cpu_units=None if cpu is None else cpu.times(self._units_per_percent),
            memory_bytes=None if memory is None else memory.times(MIB),
            rx_bytes_per_s=_rate(containers, lambda c: c.network_stats_set.rx_bytes_per_second),
            tx_bytes_per_s=_rate(containers, lambda c: c.network_stats_set.tx_bytes_per_second),
            read_bytes=self._grown(task, lambda c: c.storage_stats_set.read_size_bytes, "read"),
            written_bytes=self._grown(
                task, lambda c: c.storage_stats_set.write_size_bytes, "written"
            ),
        )

    def _grown(
        self, task: TaskMetrics, counter: Callable[[ContainerMetrics], CountedSet | None], name: str
    ) -> int | None:
        total: int | None = None
        for container in task.container_metrics:
            values = counter(container)
            if values is None:
                continue
            key = (task.task_arn, container.container_name, name)
            before = self._counters.pop(key, values.min)
            self._counters[key] = values.max
            # A counter that went back began anew.
            total = (total or 0) + (values.max - before if values.max >= before else 0)
        while len(self._counters) > REMEMBERED:
            self._counters.popitem(last=False)
        return total


def _added(
    containers: Sequence[ContainerMetrics], figure: Callable[[ContainerMetrics], MetricSet | None]
) -> StatisticSet | None:
    """Return the set of the sums; None unless every container has a set."""
    found = [figure(container) for container in containers]
    sets = [values for values in found if values is not None and values.sample_count > 0]
    if not sets or len(sets) < len(containers):
        return None
    count = max(values.sample_count for values in sets)
    return StatisticSet(
        sum(values.min for values in sets),
        sum(values.max for values in sets),
        sum(values.sum / values.sample_count for values in sets) * count,
        count,
    )


def _rate(
    containers: Sequence[ContainerMetrics], figure: Callable[[ContainerMetrics], MetricSet | None]
) -> StatisticSet | None:
    """Return the sum of the rates of the containers that have one: a pause container has none."""
    return _added([c for c in containers if figure(c) is not None], figure)
