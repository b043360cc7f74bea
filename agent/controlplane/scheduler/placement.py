"""Placement: chooses an instance for each copy of a task, by the rules of Amazon ECS.

In this order: instances that are not ACTIVE are ignored; the agent must be connected; the instance
must have the attributes; the constraints (``memberOf``, ``distinctInstance``) must hold; and CPU,
memory, ports and GPUs must be free. Each strategy then keeps the best of the remaining instances and
passes them to the next one; among equal ones, one is chosen at random. Copies are placed one after
another, each seeing what the previous ones use.

Source of the rules: the Amazon ECS developer guide, "Task placement" and "API failure reasons".
``distinctInstance`` and ``spread`` count tasks of the same group that are not being stopped.

Pure: the same arguments (and the same ``rng`` state) give the same result. Cost: one pass over the
instances, and one over those that fit for each copy and strategy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agent.controlplane.scheduler import query
from agent.controlplane.scheduler.host_room import HostRoom
from agent.errors import AgentError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.controlplane.scheduler.instance import Instance, TaskNeeds

MAX_CONSTRAINTS = 10
MAX_STRATEGIES = 5

AGENT = "AGENT"
CAPACITY_PROVIDER = "capacity-provider"
"""Attribute with which an operator says which capacity provider a host is for, and for no other."""
FARGATE = "FARGATE"
FOR_ALL_HOSTS = frozenset({FARGATE, "FARGATE_SPOT"})
"""The capacity providers that hosts without the attribute are for; to all others, a host must say that it belongs."""
ATTRIBUTE = "ATTRIBUTE"
MISSING = "MISSING"
INACTIVE = "INACTIVE"
MEMBER_OF = "MemberOf placement constraint unsatisfied."
DISTINCT_INSTANCE = "DistinctInstance placement constraint unsatisfied."

NO_INSTANCES = "No Container Instances were found in your cluster."


class PlacementError(AgentError):
    """A request for placement is malformed; the text is that of ECS's InvalidParameterException."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition for every chosen instance."""

    kind: Literal["distinctInstance", "memberOf"]
    matcher: query.Matcher | None = None
    """Set for ``memberOf``."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A rule by which one instance is better than another."""

    kind: Literal["random", "spread", "binpack"]
    field: str = ""
    """``cpu`` or ``memory``; or ``instanceId`` or ``attribute:NAME`` for spread."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The instance that was chosen for one copy."""

    instance_arn: str
    gpus: Mapping[str, tuple[str, ...]]
    """Container name to the ids of the GPUs that it gets."""
    provider: str = ""
    """The capacity provider of the copy; empty without one."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an instance cannot take a copy."""

    arn: str
    reason: str
    detail: str = field(default="", compare=False)
    """A sentence for a person if the reason alone does not explain it; may be empty."""


@dataclass(slots=True)
class PlacementOutcome:
    """The result of placing ``count`` copies."""

    placed: list[Placed] = field(default_factory=list)
    refused: list[Rejection] = field(default_factory=list)
    """One per ACTIVE instance, only if not every copy was placed."""


def parse_constraints(items: Iterable[Mapping[str, Any]]) -> list[Constraint]:
    """Parse ``placementConstraints`` of a request or a task definition.

    Raises:
        PlacementError: unknown type, an expression where none is allowed, or too many.
        QueryError: an expression is invalid.
    """
    constraints: list[Constraint] = []
    for item in items:
        kind, expression = item.get("type"), item.get("expression") or ""
        if kind == "distinctInstance":
            if expression:
                raise PlacementError("distinctInstance placement constraint takes no expression.")
            constraints.append(Constraint("distinctInstance"))
        elif kind == "memberOf":
            if not expression:
                raise PlacementError("memberOf placement constraint needs an expression.")
            constraints.append(Constraint("memberOf", query.parse(expression)))
        else:
            raise PlacementError(f"Invalid placement constraint type: {kind}.")
    if len(constraints) > MAX_CONSTRAINTS:
        raise PlacementError(f"At most {MAX_CONSTRAINTS} placement constraints are allowed.")
    return constraints


def parse_strategies(items: Iterable[Mapping[str, Any]]) -> list[Strategy]:
    """Parse ``placementStrategy`` of a request.

    Raises:
        PlacementError: unknown type or field, or too many.
    """
    strategies = [_strategy(item) for item in items]
    if len(strategies) > MAX_STRATEGIES:
        raise PlacementError(f"At most {MAX_STRATEGIES} placement strategies are allowed.")
    return strategies


def _strategy(item: Mapping[str, Any]) -> Strategy:
    kind, wanted = item.get("type"), str(item.get("field") or "")
    if kind == "random":
        if wanted:
            raise PlacementError("random placement strategy takes no field.")
        return Strategy("random")
    if kind == "binpack":
        # ECS ignores case for these two, and for nothing else.
        if wanted.lower() not in {"cpu", "memory"}:
            raise PlacementError("binpack placement strategy field must be cpu or memory.")
        return Strategy("binpack", wanted.lower())
    if kind == "spread":
        if wanted in {"instanceId", "host"}:
            return Strategy("spread", "instanceId")
        if wanted.startswith("attribute:") and len(wanted) > len("attribute:"):
            return Strategy("spread", wanted)
        raise PlacementError(
            "spread placement strategy field must be instanceId, host or attribute:<name>."
        )
    raise PlacementError(f"Invalid placement strategy type: {kind}.")


def place(
    instances: Iterable[Instance],
    needs: TaskNeeds,
    count: int,
    *,
    constraints: Sequence[Constraint] = (),
    strategies: Sequence[Strategy] = (),
    providers: Sequence[str] | None = None,
    rng: random.Random,
) -> PlacementOutcome:
    """Choose an instance for each of ``count`` copies, as far as there is room.

    With ``providers``, which has one of each copy, a copy only goes to a host of its capacity provider; an empty name
    stands for the launch type FARGATE. A copy whose provider has no room does not keep others back, and takes no room
    of theirs.

    Raises:
        PlacementError: no instance is ACTIVE.
    """
    hosts = [HostRoom(instance, needs.group) for instance in instances if instance.active]
    if not hosts:
        raise PlacementError(NO_INSTANCES)
    distinct = any(constraint.kind == "distinctInstance" for constraint in constraints)
    outcome = PlacementOutcome()
    buckets = [_Buckets(strategy, hosts) for strategy in strategies]
    room: list[HostRoom] = []
    for host in hosts:
        reason = _unfit(host.instance, needs, constraints) or _refusal(host, needs, distinct)
        if reason:
            detail = _detail(host.instance, needs, reason)
            outcome.refused.append(Rejection(host.instance.arn, reason, detail))
        else:
            room.append(host)
    for number in range(count):
        provider = "" if providers is None else providers[number]
        fitting = room if providers is None else _of_provider(room, provider)
        if not fitting:
            continue
        host = _best(fitting, buckets, rng)
        outcome.placed.append(Placed(host.instance.arn, host.take(needs), provider))
        for bucket in buckets:
            bucket.took(host)
        reason = _refusal(host, needs, distinct)
        if reason:
            room.remove(host)
            outcome.refused.append(Rejection(host.instance.arn, reason))
    # Those with room left are of another capacity provider.
    outcome.refused += [
        Rejection(host.instance.arn, ATTRIBUTE, _other_provider(host.instance)) for host in room
    ]
    if len(outcome.placed) == count:
        outcome.refused.clear()
    return outcome


def place_on(
    instance: Instance, needs: TaskNeeds, constraints: Sequence[Constraint] = ()
) -> Placed | Rejection:
    """Place one copy on a named instance (StartTask): no strategy, the same checks.

    A DRAINING instance is refused with INACTIVE.
    """
    host = HostRoom(instance, needs.group)
    distinct = any(constraint.kind == "distinctInstance" for constraint in constraints)
    reason = "" if instance.active else INACTIVE
    reason = reason or _unfit(instance, needs, constraints) or _refusal(host, needs, distinct)
    if reason:
        return Rejection(instance.arn, reason, _detail(instance, needs, reason))
    return Placed(instance.arn, host.take(needs))


def suits(instance: Instance, needs: TaskNeeds, constraints: Sequence[Constraint]) -> bool:
    """Return whether a task may be on the instance at all, whatever is free and connected there."""
    return not _missing(instance, needs) and all(
        constraint.matcher(instance) for constraint in constraints if constraint.matcher is not None
    )


def _unfit(instance: Instance, needs: TaskNeeds, constraints: Sequence[Constraint]) -> str:
    """Return a reason that free resources would not fix, or an empty string."""
    if not instance.agent_connected:
        return AGENT
    if _missing(instance, needs):
        return ATTRIBUTE
    for constraint in constraints:
        if constraint.matcher is not None and not constraint.matcher(instance):
            return MEMBER_OF
    return ""


def _missing(instance: Instance, needs: TaskNeeds) -> str:
    """Return the first attribute that is missing or has another value, or an empty string."""
    for name, value in needs.attributes.items():
        has = instance.attributes.get(name)
        if has is None or (value and has != value):
            return f"{name}={value}" if value else name
    return ""


def _detail(instance: Instance, needs: TaskNeeds, reason: str) -> str:
    if reason != ATTRIBUTE:
        return ""
    return f"The container instance lacks the attribute {_missing(instance, needs)}."


def _of_provider(room: Iterable[HostRoom], provider: str) -> list[HostRoom]:
    """Return the hosts that are for a capacity provider alone; if there are none, those that may be for it."""
    if provider and provider not in FOR_ALL_HOSTS:
        return [host for host in room if _provider(host.instance) == provider]
    known = [host for host in room if _provider(host.instance) in ("", provider or FARGATE)]
    return [host for host in known if _provider(host.instance)] or known


def _provider(instance: Instance) -> str:
    """Return the capacity provider that a host is for; empty if it says nothing."""
    return instance.attributes.get(CAPACITY_PROVIDER, "")


def _other_provider(instance: Instance) -> str:
    provider = _provider(instance)
    if not provider:
        return f"The container instance lacks the attribute {CAPACITY_PROVIDER}."
    return f"The container instance is for the capacity provider {provider} alone."


def _refusal(host: HostRoom, needs: TaskNeeds, distinct: bool) -> str:
    if distinct and host.group_tasks:
        return DISTINCT_INSTANCE
    return host.shortage(needs)


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


def _best(room: list[HostRoom], buckets: Sequence[_Buckets], rng: random.Random) -> HostRoom:
    left = room
    for bucket in buckets:
        ranks = [bucket.rank(host) for host in left]
        lowest = min(ranks)
        left = [host for host, rank in zip(left, ranks, strict=True) if rank == lowest]
    return rng.choice(left)
