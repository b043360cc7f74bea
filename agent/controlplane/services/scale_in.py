"""Which tasks are stopped first when a service is scaled in, by the order of Amazon ECS. Pure.

Without strategies: the zone with the most tasks of the service first, in it the host with the most. With
``spread``, the value with the most tasks; with ``binpack``, the host with the most left. Among equal
ones, the newest task is stopped. With a capacity provider strategy, the tasks that are left follow it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from agent.controlplane.services.observed import SeenHost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.controlplane.services.observed import SeenTask

    Bucket = Callable[[SeenTask], Any]

_ZONE = "attribute:ecs.availability-zone"
_DEFAULT = ({"type": "spread", "field": _ZONE}, {"type": "spread", "field": "instanceId"})
_NO_HOST = SeenHost("")


def choose(
    tasks: Sequence[SeenTask],
    count: int,
    *,
    strategies: Sequence[Mapping[str, Any]],
    hosts: Mapping[str, SeenHost],
    surplus: Mapping[str, int] | None = None,
) -> list[SeenTask]:
    """Return ``count`` of the tasks, in the order in which they are to be stopped.

    Args:
        tasks: those that may be stopped; all of them count as the service's tasks.
        count: how many to choose at most.
        strategies: ``placementStrategy`` of the service.
        hosts: by id.
        surplus: how many tasks each capacity provider has above its share (``split``); no others
            are chosen. None without a capacity provider strategy.
    """
    left = list(tasks)
    above = None if surplus is None else Counter(surplus)
    chosen: list[SeenTask] = []
    while left and len(chosen) < count:
        candidates = left
        if above is not None:
            candidates = [task for task in left if above[task.capacity_provider] > 0]
        if not candidates:
            break
        for strategy in strategies or _DEFAULT:
            candidates = _most(candidates, left, strategy, hosts)
        victim = max(candidates, key=lambda task: (task.created_at, task.id))
        left = [task for task in left if task.id != victim.id]
        if above is not None:
            above[victim.capacity_provider] -= 1
        chosen.append(victim)
    return chosen


def _most(
    candidates: list[SeenTask],
    all_left: list[SeenTask],
    strategy: Mapping[str, Any],
    hosts: Mapping[str, SeenHost],
) -> list[SeenTask]:
    kind, field = strategy.get("type"), str(strategy.get("field") or "")
    if kind == "spread":
        bucket = _bucket(field, hosts)
        sizes = Counter(bucket(task) for task in all_left)
        most = max(sizes[bucket(task)] for task in candidates)
        return [task for task in candidates if sizes[bucket(task)] == most]
    if kind == "binpack":
        free = [_free(field, hosts.get(task.instance_id, _NO_HOST)) for task in candidates]
        top = max(free)
        return [task for task, room in zip(candidates, free, strict=True) if room == top]
    return candidates


def _bucket(field: str, hosts: Mapping[str, SeenHost]) -> Bucket:
    if field in ("instanceId", "host"):
        return lambda task: task.instance_id
    if field == _ZONE:
        return lambda task: task.availability_zone
    name = field.removeprefix("attribute:")
    return lambda task: hosts.get(task.instance_id, _NO_HOST).attributes.get(name)


def _free(field: str, host: SeenHost) -> int:
    return host.free_cpu_units if field.lower() == "cpu" else host.free_memory_mib
