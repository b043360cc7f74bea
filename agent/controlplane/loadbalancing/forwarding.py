"""Which target groups listeners and rules forward to, and with which weights. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.loadbalancing import naming
from agent.controlplane.loadbalancing.balancer_records import FORWARD, ActionRecord, WeightedGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.loadbalancing.balancer_records import ListenerRecord, RuleRecord


def groups_of(listener: ListenerRecord) -> set[str]:
    """Return the ARNs of the target groups that a listener's rules name, also with weight 0."""
    return {
        group.target_group_arn for rule in listener.rules for group in groups_of_action(rule.action)
    }


def groups_of_action(action: ActionRecord) -> list[WeightedGroup]:
    """Return the groups that an action forwards to."""
    return action.groups if action.kind == FORWARD else []


def find_rule(listener: ListenerRecord, arn: str) -> RuleRecord | None:
    """Return the rule that an ARN names: a rule's, or the listener's for its default rule."""
    if arn == listener.arn:
        return listener.default_rule
    return next(
        (rule for rule in listener.rules if naming.rule_arn(listener.arn, rule.id) == arn), None
    )


def weights(rule: RuleRecord) -> dict[str, int]:
    """Return the weight of each target group of a rule by its ARN; empty if it does not forward."""
    return {group.target_group_arn: group.weight for group in groups_of_action(rule.action)}


def with_weights(
    listener: ListenerRecord, arn: str, wanted: Mapping[str, int]
) -> ListenerRecord | None:
    """Return a listener one of whose rules forwards to groups with these weights.

    Args:
        listener: the listener.
        arn: of one of its rules, or its own for the default rule.
        wanted: the weight (0 to 999) of each target group by its ARN; others are not forwarded to.

    Returns:
        The same listener if nothing changes, None if it has no such rule.
    """
    rule = find_rule(listener, arn)
    if rule is None:
        return None
    groups = [WeightedGroup(target_group_arn=group, weight=n) for group, n in wanted.items()]
    return with_rule(listener, replace(rule, action=ActionRecord(kind=FORWARD, groups=groups)))


def with_rule(listener: ListenerRecord, rule: RuleRecord) -> ListenerRecord:
    """Return a listener with a rule instead of the one that has its id, or besides the others."""
    others = [each for each in listener.rules if each.id != rule.id]
    return with_rules(listener, [*others, rule])


def with_rules(listener: ListenerRecord, rules: list[RuleRecord]) -> ListenerRecord:
    """Return a listener with exactly these rules, in the order of their priorities."""
    ordered = sorted(rules, key=lambda rule: rule.priority)
    return listener if ordered == listener.rules else replace(listener, rules=ordered)
