"""The rules of placement on Amazon ECS: which instances may take a copy of a task, and which of them are better.

In this order: instances that are not ACTIVE are ignored; the agent must be connected; the instance
must have the attributes; the constraints (``memberOf``, ``distinctInstance``) must hold; and CPU,
memory, ports and GPUs must be free. Each strategy then keeps the best of the remaining instances and
passes them to the next one; among equal ones, one is chosen at random. Copies are placed one after
another, each seeing what the previous ones use.

Source of the rules: the Amazon ECS developer guide, "Task placement" and "API failure reasons".
``distinctInstance`` and ``spread`` count tasks of the same group that are not being stopped.

The rules for one instance are here; ``pool`` and ``search`` find the best ones. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agent.controlplane.scheduler import query
from agent.controlplane.scheduler.host_room import HostRoom
from agent.controlplane.scheduler.instance import Instance
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.controlplane.scheduler.instance import TaskNeeds

INSTANCE_ID = "instanceId"
"""Field of the strategy that spreads over hosts."""
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
    attribute: str = ""
    """The attribute by whose value alone the matcher decides; empty if there is none."""

    def takes(self, value: str | None) -> bool:
        """Return whether the matcher selects an instance with a value of ``attribute``, or without it."""
        if self.matcher is None:
            return True
        attributes = {} if value is None else {self.attribute: value}
        return self.matcher(Instance(arn="", cpu_units=0, memory_mib=0, attributes=attributes))


@dataclass(frozen=True, slots=True)
class Strategy:
    """A rule by which one instance is better than another."""

    kind: Literal["random", "spread", "binpack"]
    field: str = ""
    """``cpu`` or ``memory``; or ``instanceId`` or ``attribute:NAME`` for spread."""

    @property
    def is_by_attribute(self) -> bool:
        """Whether it spreads over the values of an attribute."""
        return self.kind == "spread" and self.field != INSTANCE_ID


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
            constraints.append(_member_of(expression))
        else:
            raise PlacementError(f"Invalid placement constraint type: {kind}.")
    if len(constraints) > MAX_CONSTRAINTS:
        raise PlacementError(f"At most {MAX_CONSTRAINTS} placement constraints are allowed.")
    return constraints


def _member_of(expression: str) -> Constraint:
    found = query.read(expression)
    kind, _, name = next(iter(found.subjects)).partition(":")
    is_of_attribute = len(found.subjects) == 1 and kind == "attribute"
    return Constraint("memberOf", found.matcher, name if is_of_attribute else "")


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


def place_on(
    instance: Instance, needs: TaskNeeds, constraints: Sequence[Constraint] = ()
) -> Placed | Rejection:
    """Place one copy on a named instance (StartTask): no strategy, the same checks.

    A DRAINING instance is refused with INACTIVE.
    """
    host = HostRoom(instance, needs.group)
    distinct = any(constraint.kind == "distinctInstance" for constraint in constraints)
    reason = "" if instance.active else INACTIVE
    reason = (
        reason or unfit(instance, needs, constraints) or refusal(host, needs, distinct=distinct)
    )
    if reason:
        return Rejection(instance.arn, reason, detail(instance, needs, reason))
    return Placed(instance.arn, host.take(needs))


def suits(instance: Instance, needs: TaskNeeds, constraints: Sequence[Constraint]) -> bool:
    """Return whether a task may be on the instance at all, whatever is free and connected there."""
    return not missing_name(instance, needs) and all(
        constraint.matcher(instance) for constraint in constraints if constraint.matcher is not None
    )


def unfit(instance: Instance, needs: TaskNeeds, constraints: Sequence[Constraint]) -> str:
    """Return a reason that free resources would not fix, or an empty string."""
    if not instance.agent_connected:
        return AGENT
    if missing_name(instance, needs):
        return ATTRIBUTE
    for constraint in constraints:
        if constraint.matcher is not None and not constraint.matcher(instance):
            return MEMBER_OF
    return ""


def missing_name(instance: Instance, needs: TaskNeeds) -> str:
    """Return the name of the first attribute that is missing or has another value, or an empty string."""
    attributes = instance.attributes
    for name, value in needs.attributes.items():
        has = attributes.get(name)
        if has is None or (value and has != value):
            return name
    return ""


def _missing(instance: Instance, needs: TaskNeeds) -> str:
    """Return the same as a person reads it, with the value."""
    name = missing_name(instance, needs)
    value = needs.attributes.get(name)
    return f"{name}={value}" if value else name


def bucket_of(instance: Instance, field: str) -> str | None:
    """Return in which bucket of a ``spread`` strategy by an attribute an instance is; None if it lacks it."""
    return instance.attributes.get(attribute_of(field))


def attribute_of(field: str) -> str:
    """Return the attribute of a ``spread`` strategy."""
    return field.removeprefix("attribute:")


def detail(instance: Instance, needs: TaskNeeds, reason: str) -> str:
    """Return a sentence that explains why an instance is refused; empty if the reason does."""
    if reason != ATTRIBUTE:
        return ""
    return f"The container instance lacks the attribute {_missing(instance, needs)}."


def provider_values(provider: str) -> tuple[str, ...]:
    """Return whose hosts take a copy of a capacity provider, by their attribute; the second only without the first.

    Args:
        provider: that of the copy; empty for the launch type FARGATE.
    """
    if provider and provider not in FOR_ALL_HOSTS:
        return (provider,)
    return (provider or FARGATE, "")


def _provider(instance: Instance) -> str:
    """Return the capacity provider that a host is for; empty if it says nothing."""
    return instance.attributes.get(CAPACITY_PROVIDER, "")


def other_provider(instance: Instance) -> str:
    """Return a sentence that says for which capacity provider an instance is, as it is not for that of a copy."""
    provider = _provider(instance)
    if not provider:
        return f"The container instance lacks the attribute {CAPACITY_PROVIDER}."
    return f"The container instance is for the capacity provider {provider} alone."


def refusal(host: HostRoom, needs: TaskNeeds, *, distinct: bool) -> str:
    """Return why a host has no room for a copy; empty if it has.

    Args:
        host: as it is, with the copies that were chosen before.
        needs: of a copy.
        distinct: whether there must be no other task of its group.
    """
    if distinct and host.group_tasks:
        return DISTINCT_INSTANCE
    return host.shortage(needs)
