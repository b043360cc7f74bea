"""How the tasks of a service are split over the capacity providers of its strategy. Pure.

The base first, the others in proportion to the weights, for all tasks of a deployment together, however
they came about: what is started fills what is missing, and what is stopped is what is too many.

Source of the rules: the Amazon ECS developer guide, "Amazon ECS capacity providers".
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from agent.controlplane.tasks import capacity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.controlplane.services.observed import SeenTask
    from agent.controlplane.services.record import DeploymentRecord
    from agent.controlplane.tasks.capacity import Capacity


def of_new(
    wanted: Capacity, desired_count: int, good: Iterable[SeenTask], count: int
) -> list[str] | None:
    """Return the capacity provider of each new task; None where any host will do.

    They alternate: one that has no room does not keep the others from their share.

    Args:
        wanted: what the deployment runs on.
        desired_count: of the service.
        good: the tasks that the service has and keeps.
        count: how many are started; not more than are missing.
    """
    shares = wanted.hosts_for(desired_count)
    if shares is None:
        return None
    lacking = Counter(shares) - _of_tasks(good)
    places = [(number / n, name) for name, n in lacking.items() for number in range(n)]
    return [name for _, name in sorted(places)][:count]


def missing(deployment: DeploymentRecord, desired_count: int, good: Iterable[SeenTask]) -> int:
    """Return how many tasks all capacity providers together lack of their shares.

    With a strategy, it is more than the number of tasks lacks where another one has too many; without one, it is 0.
    """
    share = _share(deployment, desired_count)
    return 0 if share is None else (share - _of_tasks(good)).total()


def surplus(
    deployment: DeploymentRecord, desired_count: int, good: Iterable[SeenTask]
) -> Counter[str] | None:
    """Return how many tasks each capacity provider has above its share; None without a strategy."""
    share = _share(deployment, desired_count)
    return None if share is None else _of_tasks(good) - share


def _share(deployment: DeploymentRecord, desired_count: int) -> Counter[str] | None:
    shares = capacity.shares_of(deployment.capacity_provider_strategy)
    return Counter(capacity.spread(shares, desired_count)) if shares else None


def _of_tasks(tasks: Iterable[SeenTask]) -> Counter[str]:
    return Counter(task.capacity_provider for task in tasks)


def held_back(excess: int, free: Sequence[SeenTask], above: Mapping[str, int] | None) -> int:
    """Return how many tasks too many cannot be stopped, because only ``free`` ones may be."""
    if above is None:
        return max(0, excess - len(free))
    of_provider = _of_tasks(free)
    return sum(max(0, number - of_provider[name]) for name, number in above.items())


def within(tasks: Sequence[SeenTask], above: Counter[str] | None, most: int) -> list[SeenTask]:
    """Return the first ``most`` of the tasks, and no more of a capacity provider than it has ``above``."""
    if above is None:
        return list(tasks[:most])
    left = Counter(above)
    chosen: list[SeenTask] = []
    for task in tasks:
        if len(chosen) < most and left[task.capacity_provider] > 0:
            left[task.capacity_provider] -= 1
            chosen.append(task)
    return chosen
