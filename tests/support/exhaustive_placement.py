"""Placement that looks at every host for every copy: what the search in few hosts is compared with.

It was the product's own code until there was an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.scheduler.host_room import HostRoom
from agent.controlplane.scheduler.placement import (
    ATTRIBUTE,
    CAPACITY_PROVIDER,
    FARGATE,
    FOR_ALL_HOSTS,
    NO_INSTANCES,
    Constraint,
    Placed,
    PlacementError,
    PlacementOutcome,
    Rejection,
    Strategy,
    detail,
    other_provider,
    refusal,
    unfit,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.controlplane.scheduler.instance import Instance, TaskNeeds


def place(
    instances: Iterable[Instance],
    needs: TaskNeeds,
    count: int,
    *,
    constraints: Sequence[Constraint] = (),
    strategies: Sequence[Strategy] = (),
    providers: Sequence[str] | None = None,
    choose: Callable[[list[str]], str],
) -> PlacementOutcome:
    """Place as ``Pool.place`` does; ``choose`` takes one of the ARNs of equally good hosts."""
    hosts = [HostRoom(instance, needs.group) for instance in instances if instance.active]
    if not hosts:
        raise PlacementError(NO_INSTANCES)
    distinct = any(constraint.kind == "distinctInstance" for constraint in constraints)
    outcome = PlacementOutcome()
    buckets = [_Buckets(strategy, hosts) for strategy in strategies]
    room: list[HostRoom] = []
    for host in hosts:
        reason = unfit(host.instance, needs, constraints) or refusal(host, needs, distinct=distinct)
        if reason:
            told = detail(host.instance, needs, reason)
            outcome.refused.append(Rejection(host.instance.arn, reason, told))
        else:
            room.append(host)
    for number in range(count):
        provider = "" if providers is None else providers[number]
        fitting = room if providers is None else _of_provider(room, provider)
        if not fitting:
            continue
        host = _best(fitting, buckets, choose)
        outcome.placed.append(Placed(host.instance.arn, host.take(needs), provider))
        for bucket in buckets:
            bucket.took(host)
        reason = refusal(host, needs, distinct=distinct)
        if reason:
            room.remove(host)
            outcome.refused.append(Rejection(host.instance.arn, reason))
    # Those with room left are of another capacity provider.
    outcome.refused += [
        Rejection(host.instance.arn, ATTRIBUTE, other_provider(host.instance)) for host in room
    ]
    if len(outcome.placed) == count:
        outcome.refused.clear()
    return outcome


def _of_provider(room: Iterable[HostRoom], provider: str) -> list[HostRoom]:
    """Return the hosts that are for a capacity provider alone; if there are none, those that may be for it."""
    if provider and provider not in FOR_ALL_HOSTS:
        return [host for host in room if _provider(host.instance) == provider]
    known = [host for host in room if _provider(host.instance) in ("", provider or FARGATE)]
    return [host for host in known if _provider(host.instance)] or known


def _provider(instance: Instance) -> str:
    """Return the capacity provider that a host is for; empty if it says nothing."""
    return instance.attributes.get(CAPACITY_PROVIDER, "")


class _Buckets:
    """Ranks hosts by one strategy: the lowest number is best."""

    def __init__(self, strategy: Strategy, hosts: Sequence[HostRoom]) -> None:
        self._strategy = strategy
        self._counts: dict[str | None, int] = {}
        self.rank: Callable[[HostRoom], int] = _anyone
        if strategy.kind == "binpack":
            self.rank = _free_cpu if strategy.field == "cpu" else _free_memory
        if strategy.kind == "spread":
            self.rank = self._crowd
            for host in hosts:
                bucket = self._bucket(host)
                self._counts[bucket] = self._counts.get(bucket, 0) + host.group_tasks

    def took(self, host: HostRoom) -> None:
        """Count a copy that went to the host."""
        if self._strategy.kind == "spread":
            self._counts[self._bucket(host)] += 1

    def _crowd(self, host: HostRoom) -> int:
        return self._counts[self._bucket(host)]

    def _bucket(self, host: HostRoom) -> str | None:
        if self._strategy.field == "instanceId":
            return host.instance.arn
        return host.instance.attributes.get(self._strategy.field.removeprefix("attribute:"))


def _anyone(_: HostRoom) -> int:
    return 0


def _free_cpu(host: HostRoom) -> int:
    return host.cpu


def _free_memory(host: HostRoom) -> int:
    return host.memory


def _best(
    room: list[HostRoom], buckets: Sequence[_Buckets], choose: Callable[[list[str]], str]
) -> HostRoom:
    left = room
    for bucket in buckets:
        ranks = [bucket.rank(host) for host in left]
        lowest = min(ranks)
        left = [host for host, rank in zip(left, ranks, strict=True) if rank == lowest]
    arn = choose([host.instance.arn for host in left])
    return next(host for host in left if host.instance.arn == arn)
