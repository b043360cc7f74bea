"""Where a task may run: launch type, capacity provider, platform version. Pure.

FARGATE means here what it means to those who write task definitions: a task of a fixed size, with an
address of its own and its limits enforced. It runs on hosts that offer this (``ATTRIBUTE``). Operators say
which hosts are for which capacity provider by an attribute (``placement.CAPACITY_PROVIDER``): those of an Auto
Scaling group (``providers``) have only the hosts that name them.

Source of the rules and texts: the Amazon ECS API reference (RunTask, CreateCluster) and developer guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.controlplane.front.errors import InvalidParameterException, PlatformUnknownException
from agent.controlplane.scheduler.placement import FOR_ALL_HOSTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

EC2 = "EC2"
FARGATE = "FARGATE"
FARGATE_SPOT = "FARGATE_SPOT"
FARGATE_PROVIDERS = FOR_ALL_HOSTS

ATTRIBUTE = "ecs-host-agent.fargate"
"""Ours: what hosts have that offer FARGATE."""
TASK_LIMITS = "ecs.capability.task-cpu-mem-limit"

PLATFORM_VERSION = "1.4.0"
"""The one that LATEST means."""
STRATEGY_LIMIT = 20
_WEIGHT_LIMIT = 1000
_BASE_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Share:
    """One item of a capacity provider strategy."""

    provider: str
    weight: int = 0
    base: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a RunTask call asks to run on."""

    launch_type: str = EC2
    strategy: tuple[Share, ...] = ()
    """Empty when a launch type was asked for."""
    platform_version: str = ""
    platform_family: str = ""

    @property
    def is_fargate(self) -> bool:
        """Whether tasks are sized and isolated as on Fargate."""
        return self.launch_type == FARGATE

    def providers(self, count: int) -> list[str]:
        """Return the capacity provider of each of ``count`` copies; empty names without a strategy."""
        return spread(self.strategy, count) if self.strategy else [""] * count

    def hosts_for(self, count: int) -> list[str] | None:
        """Return the same where hosts are chosen by it; None where any host will do."""
        return self.providers(count) if self.is_fargate or self.strategy else None


def of_request(
    request: Mapping[str, Any],
    body: Mapping[str, Any],
    *,
    known: Collection[str],
    default: Sequence[Mapping[str, Any]],
) -> Capacity:
    """Return what a RunTask request asks to run on.

    Args:
        request: checked against the service model.
        body: the task definition with the overrides applied.
        known: the capacity providers of the cluster.
        default: the cluster's default strategy, for a request that says nothing.

    Raises:
        InvalidParameterException: what is asked for does not go together.
        PlatformUnknownException: there is no such platform version.
    """
    given = request.get("capacityProviderStrategy") or []
    launch_type = request.get("launchType") or ""
    if given and launch_type:
        raise InvalidParameterException(
            "Specifying both a launch type and capacity provider strategy is not supported. "
            "Remove one and try again."
        )
    strategy = read_strategy(given or ([] if launch_type else default), known=known)
    if strategy:
        launch_type = FARGATE if is_of_fargate(strategy) else EC2
    launch_type = launch_type or EC2
    version = request.get("platformVersion") or ""
    if launch_type != FARGATE:
        if version:
            raise InvalidParameterException(
                "The platform version must be null when specifying an EC2 launch type."
            )
        return Capacity(launch_type, strategy)
    if version not in ("", "LATEST", PLATFORM_VERSION):
        raise PlatformUnknownException
    family = str((body.get("runtimePlatform") or {}).get("operatingSystemFamily") or "Linux")
    return Capacity(FARGATE, strategy, PLATFORM_VERSION, family.capitalize())


def read_strategy(
    items: Sequence[Mapping[str, Any]], *, known: Collection[str]
) -> tuple[Share, ...]:
    """Read a capacity provider strategy; an empty one counts as not given.

    Args:
        items: as in the request.
        known: the capacity providers of the cluster.

    Raises:
        InvalidParameterException: a rule is broken.
    """
    if len(items) > STRATEGY_LIMIT:
        raise InvalidParameterException(
            f"A capacity provider strategy can contain at most {STRATEGY_LIMIT} capacity providers."
        )
    shares = tuple(_share(item) for item in items)
    names = [share.provider for share in shares]
    for name in names:
        if name not in known:
            raise InvalidParameterException(
                "The specified capacity provider strategy cannot contain a capacity provider that "
                "is not associated with the cluster. Associate the capacity provider with the "
                "cluster and try again."
            )
        if names.count(name) > 1:
            raise InvalidParameterException(
                f"The capacity provider strategy has {name} more than once."
            )
    if 0 < sum(name in FARGATE_PROVIDERS for name in names) < len(names):
        raise InvalidParameterException(
            "A capacity provider strategy cannot contain a mix of capacity providers using Auto "
            "Scaling groups and Fargate providers. Specify one or the other and try again."
        )
    if sum(share.base > 0 for share in shares) > 1:
        raise InvalidParameterException(
            "The capacity provider strategy can have only one capacity provider with a base."
        )
    if len(shares) > 1 and not any(share.weight for share in shares):
        raise InvalidParameterException(
            "The capacity provider strategy needs a capacity provider with a weight above 0."
        )
    return shares


def is_of_fargate(strategy: Sequence[Share]) -> bool:
    """Return whether the capacity providers of a strategy are those of Fargate; they are never mixed."""
    return any(share.provider in FARGATE_PROVIDERS for share in strategy)


def shares_of(items: Sequence[Mapping[str, Any]]) -> tuple[Share, ...]:
    """Return a strategy that was checked before."""
    return tuple(_share(item) for item in items)


def with_defaults(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a strategy as Amazon ECS shows it: each item with its weight and its base."""
    return [
        {
            "capacityProvider": item["capacityProvider"],
            "weight": item.get("weight") or 0,
            "base": item.get("base") or 0,
        }
        for item in items
    ]


def spread(strategy: Sequence[Share], count: int) -> list[str]:
    """Return the provider of each copy: the base first, the others in proportion to the weights."""
    based = next((share for share in strategy if share.base), None)
    chosen = [based.provider] * min(based.base, count) if based is not None else []
    weighted = [share for share in strategy if share.weight] or list(strategy[:1])
    given = dict.fromkeys((share.provider for share in weighted), 0)
    while len(chosen) < count:
        share = min(weighted, key=lambda s: (given[s.provider] + 1) / max(s.weight, 1))
        given[share.provider] += 1
        chosen.append(share.provider)
    return chosen


def _share(item: Mapping[str, Any]) -> Share:
    weight, base = item.get("weight") or 0, item.get("base") or 0
    if not 0 <= weight <= _WEIGHT_LIMIT:
        raise InvalidParameterException(f"weight must be between 0 and {_WEIGHT_LIMIT}.")
    if not 0 <= base <= _BASE_LIMIT:
        raise InvalidParameterException(f"base must be between 0 and {_BASE_LIMIT}.")
    return Share(item["capacityProvider"], weight, base)
