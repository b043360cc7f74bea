"""The hosts on which the tasks of a cluster are placed, kept so that a placement looks at few of them.

Beside the hosts in their order (``host_index``), a pool knows how many tasks of each group are where. It follows its
hosts one by one; nothing is counted anew.

Pure; for one event loop. Tests: ``tests/unit/controlplane/scheduler/test_pool.py``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from agent.controlplane.scheduler.host_index import HostIndex
from agent.controlplane.scheduler.placement import (
    NO_INSTANCES,
    PlacementError,
    PlacementOutcome,
    bucket_of,
)
from agent.controlplane.scheduler.search import Search

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from agent.controlplane.scheduler.instance import Instance, TaskNeeds
    from agent.controlplane.scheduler.placement import Constraint, Strategy

KeyT = TypeVar("KeyT")


class GroupCounts:
    """How many tasks of one group are on which hosts, tasks that are being stopped aside."""

    def __init__(self) -> None:
        """Begin without tasks."""
        self.hosts: dict[str, int] = {}
        """Tasks by ARN of their host."""
        self.levels: Counter[int] = Counter()
        """Hosts by how many of the tasks they have; those with none are left out."""
        self._by_bucket: dict[str, Counter[str | None]] = {}

    def by_bucket(self, field: str, hosts: Mapping[str, Instance]) -> Counter[str | None]:
        """Return the tasks by the buckets of a ``spread`` strategy; do not change it.

        Args:
            field: that of the strategy.
            hosts: all hosts of the pool, by ARN.
        """
        found = self._by_bucket.get(field)
        if found is None:
            found = self._by_bucket[field] = Counter()
            for arn, count in self.hosts.items():
                found[bucket_of(hosts[arn], field)] += count
        return found

    def count(self, host: Instance, by: int) -> None:
        """Count tasks that came to a host, or left it if ``by`` is negative."""
        before = self.hosts.pop(host.arn, 0)
        if before:
            _add(self.levels, before, -1)
        if before + by:
            self.hosts[host.arn] = before + by
            _add(self.levels, before + by, 1)
        for field, buckets in self._by_bucket.items():
            _add(buckets, bucket_of(host, field), by)


class Pool:
    """The ACTIVE hosts of a cluster, and those that are lent to it if it borrows."""

    def __init__(self) -> None:
        """Begin without hosts."""
        self.hosts: dict[str, Instance] = {}
        """By ARN, connected or not."""
        self.connected = HostIndex()
        """Those whose agent is connected."""
        self._groups: dict[str, GroupCounts] = {}

    def put(self, host: Instance) -> None:
        """Take in a host, or what has changed of it; one that is not active is forgotten."""
        old = self.hosts.get(host.arn)
        if not host.active:
            self.discard(host.arn)
            return
        self.hosts[host.arn] = host
        self._count(old, host)
        if host.agent_connected:
            self.connected.put(host.arn, host.cpu_units, host.memory_mib, host.attributes)
        else:
            self.connected.discard(host.arn)

    def discard(self, arn: str) -> None:
        """Forget a host; an unknown one is ignored."""
        old = self.hosts.pop(arn, None)
        if old is not None:
            self._count(old, None)
            self.connected.discard(arn)

    def group(self, name: str) -> GroupCounts:
        """Return the counts of a group; do not change them."""
        return self._groups.get(name) or GroupCounts()

    def place(
        self,
        needs: TaskNeeds,
        count: int,
        *,
        constraints: Sequence[Constraint] = (),
        strategies: Sequence[Strategy] = (),
        providers: Sequence[str] | None = None,
        rng: random.Random,
    ) -> PlacementOutcome:
        """Choose a host for each of ``count`` copies, as far as there is room; changes nothing.

        With ``providers``, which has one of each copy, a copy only goes to a host of its capacity provider; an empty
        name stands for the launch type FARGATE. A copy whose provider has no room does not keep others back, and takes
        no room of theirs.

        Raises:
            PlacementError: no host is ACTIVE.
        """
        if not self.hosts:
            raise PlacementError(NO_INSTANCES)
        self.connected.trim()
        outcome = PlacementOutcome()
        full: set[str | None] = set()
        with Search(self, needs, constraints, strategies, rng) as search:
            for number in range(count):
                provider = None if providers is None else providers[number]
                if provider in full:
                    continue
                placed = search.next(provider)
                if placed is None:
                    full.add(provider)
                else:
                    outcome.placed.append(placed)
            if len(outcome.placed) < count:
                outcome.refused = search.refused()
        return outcome

    def _count(self, old: Instance | None, new: Instance | None) -> None:
        """Count the tasks of a host as they are now, where they were counted before."""
        before = old.task_groups if old is not None else {}
        after = new.task_groups if new is not None else {}
        if before == after and (old is None or new is None or old.attributes == new.attributes):
            return
        for host, groups, sign in ((old, before, -1), (new, after, 1)):
            for name, count in groups.items():
                if host is not None and count:
                    counts = self._groups.setdefault(name, GroupCounts())
                    counts.count(host, sign * count)
                    if not counts.hosts:
                        del self._groups[name]


def _add(counter: Counter[KeyT], key: KeyT, by: int) -> None:
    """Add to a counter that lacks what is not there."""
    counter[key] += by
    if counter[key] <= 0:
        del counter[key]
