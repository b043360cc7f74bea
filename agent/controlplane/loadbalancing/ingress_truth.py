"""What an ingress is told of load balancers, listeners, groups and targets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.loadbalancing import balancer_records, forwarding, naming
from agent.controlplane.loadbalancing.balancer_records import ALGORITHM, IDLE_TIMEOUT, TRAFFIC_PORT
from agent.model import ingress as wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.controlplane.loadbalancing.balancer_records import (
        ConditionRecord,
        ListenerRecord,
        LoadBalancerRecord,
        RuleRecord,
        TargetGroupRecord,
        TargetRecord,
    )

_IDLE_S: Final = 60
_IDLE_TCP_S: Final = 350
"""After which a load balancer ends an idle connection: Amazon's defaults."""


def listeners(
    balancers: Mapping[str, LoadBalancerRecord], found: Iterable[ListenerRecord]
) -> tuple[wire.Listener, ...]:
    """Return listeners as an ingress knows them, those of load balancers by their names."""
    return tuple(
        wire.Listener(
            id=each.id,
            port=each.port,
            protocol=each.protocol,
            idle_s=_idle_s(balancers[each.load_balancer]),
            rules=tuple(_rule(rule) for rule in _in_order(each.rules)),
        )
        for each in sorted(found, key=lambda listener: listener.id)
        if each.load_balancer in balancers
    )


def groups(
    found: Iterable[TargetGroupRecord], of: Iterable[ListenerRecord]
) -> tuple[wire.Group, ...]:
    """Return the target groups that listeners name, as an ingress knows them."""
    used = {arn for listener in of for arn in forwarding.groups_of(listener)}
    return tuple(
        _group(each) for each in sorted(found, key=lambda group: group.id) if each.arn in used
    )


def targets(found: Iterable[TargetRecord], now: float) -> tuple[wire.Target, ...]:
    """Return the targets of a group, by name, without those that are gone."""
    left = sorted((each for each in found if not each.is_gone(now)), key=lambda t: (t.id, t.port))
    return tuple(
        wire.Target(
            name=balancer_records.target_name(each.id, each.port),
            address=each.address or each.id,
            port=each.port,
            drains=each.drains_until > 0,
        )
        for each in left
    )


def group_id(arn: str) -> str:
    """Return the id by which an ingress knows a target group."""
    return naming.target_group_id(arn)


def _idle_s(balancer: LoadBalancerRecord) -> int:
    default = _IDLE_S if balancer.kind == balancer_records.APPLICATION else _IDLE_TCP_S
    return int(balancer.attributes.get(IDLE_TIMEOUT, default))


def _in_order(rules: Sequence[RuleRecord]) -> list[RuleRecord]:
    """Return rules in the order in which they are tried, the default rule last."""
    return [*(rule for rule in rules if not rule.is_default), rules[0]]


def _rule(rule: RuleRecord) -> wire.Rule:
    shares = forwarding.groups_of_action(rule.action)
    return wire.Rule(
        conditions=tuple(_condition(each) for each in rule.conditions),
        kind=rule.action.kind,
        shares=tuple(
            wire.Share(group=group_id(each.target_group_arn), weight=each.weight) for each in shares
        ),
        settings=rule.action.settings,
    )


def _condition(condition: ConditionRecord) -> wire.Condition:
    return wire.Condition(
        kind=condition.kind,
        values=tuple(condition.values),
        header=condition.header,
        pairs=tuple((pair.get("Key", ""), pair["Value"]) for pair in condition.pairs),
    )


def _group(group: TargetGroupRecord) -> wire.Group:
    check = group.health_check
    return wire.Group(
        id=group.id,
        protocol=group.protocol,
        least_requests=group.attributes.get(ALGORITHM) == "least_outstanding_requests",
        check=wire.Check(
            protocol=check.protocol,
            port=0 if check.port == TRAFFIC_PORT else int(check.port),
            path=check.path,
            matcher=check.matcher,
            interval_s=check.interval_s,
            timeout_s=check.timeout_s,
            healthy_threshold=check.healthy_threshold,
            unhealthy_threshold=check.unhealthy_threshold,
        ),
    )
