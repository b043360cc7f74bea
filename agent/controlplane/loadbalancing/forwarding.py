"""The rules of listeners, and the target groups that they forward to. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.loadbalancing import naming
from agent.controlplane.loadbalancing.balancer_records import FORWARD

if TYPE_CHECKING:
    from agent.controlplane.loadbalancing.balancer_records import (
        ActionRecord,
        ListenerRecord,
        RuleRecord,
        WeightedGroup,
    )


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


def with_rule(listener: ListenerRecord, rule: RuleRecord) -> ListenerRecord:
    """Return a listener with a rule instead of the one that has its id, or besides the others."""
    others = [each for each in listener.rules if each.id != rule.id]
    return with_rules(listener, [*others, rule])


def with_rules(listener: ListenerRecord, rules: list[RuleRecord]) -> ListenerRecord:
    """Return a listener with exactly these rules, in the order of their priorities."""
    ordered = sorted(rules, key=lambda rule: rule.priority)
    return listener if ordered == listener.rules else replace(listener, rules=ordered)
