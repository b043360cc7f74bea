"""Rules of listeners: create, modify, describe, delete, and their priorities."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.elbv2 import actions, conditions, listeners, requests
from agent.controlplane.api.elbv2.errors import (
    OperationNotPermittedException,
    PriorityInUseException,
    RuleNotFoundException,
    TooManyRulesException,
    UnsupportedProtocolException,
    ValidationError,
)
from agent.controlplane.loadbalancing import forwarding, naming, stored
from agent.controlplane.loadbalancing.balancer_records import ListenerRecord, RuleRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts

RULES_MOST: Final = 100
"""Of one listener, without its default rule; Amazon's quota."""
PRIORITY_MOST: Final = 50_000
_NOT_SERVED: Final = {
    "Transforms": "rules have only conditions and actions here",
    "ResetTransforms": "rules have only conditions and actions here",
}


async def create_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a rule of a listener."""
    requests.refuse(request, _NOT_SERVED)
    arn = request["ListenerArn"]
    listener = (await _http_listener(parts, arn)).record
    rule = RuleRecord(
        id=naming.new_id(),
        priority=_priority(request["Priority"]),
        conditions=conditions.read(request["Conditions"]),
        action=actions.read(request["Actions"], is_http=True),
        tags=requests.tags(request.get("Tags", ())),
    )
    await listeners.check_groups(parts, rule.action, listener.protocol)

    def added(old: ListenerRecord) -> ListenerRecord:
        if any(each.priority == rule.priority for each in old.rules):
            raise PriorityInUseException(f"Priority '{rule.priority}' is currently in use")
        if len(old.rules) > RULES_MOST:
            raise TooManyRulesException(
                f"The maximum number of rules of a listener, {RULES_MOST}, has been reached"
            )
        return forwarding.with_rule(old, rule)

    new = await stored.change_listener(parts.store, parts.names, arn, added)
    return {"Rules": [_shown(new, rule)]}


async def modify_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change the conditions or the action of a rule."""
    requests.refuse(request, _NOT_SERVED)
    arn = request["RuleArn"]
    listener = (await _rule_listener(parts, arn)).record
    rule = _rule(listener, arn)
    if rule.is_default:
        raise OperationNotPermittedException(f"Default rule '{arn}' cannot be modified")
    if "Conditions" in request:
        rule = replace(rule, conditions=conditions.read(request["Conditions"]))
    if "Actions" in request:
        rule = replace(rule, action=actions.read(request["Actions"], is_http=True))
        await listeners.check_groups(parts, rule.action, listener.protocol)

    def changed(old: ListenerRecord) -> ListenerRecord:
        now = _rule(old, arn)
        return forwarding.with_rule(
            old, replace(now, conditions=rule.conditions, action=rule.action)
        )

    new = await stored.change_listener(parts.store, parts.names, arn, changed)
    return {"Rules": [_shown(new, _rule(new, arn))]}


async def describe_rules(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the rules of a listener by priority, the default rule last; or those that are named."""
    of, named = request.get("ListenerArn"), request.get("RuleArns")
    if bool(of) == bool(named):
        raise ValidationError("You must specify either listener rule ARNs or a listener ARN")
    if of:
        of_them = [(await listeners.by_arn(parts, of)).record]
    else:
        of_them = await stored.listeners_named(parts.store, parts.names, named or ())
    every = [(listener, rule) for listener in of_them for rule in listener.rules]
    found = requests.chosen(
        request,
        "RuleArns",
        every,
        lambda each: naming.rule_arn(each[0].arn, each[1].id),
        RuleNotFoundException,
        "rules",
    )
    shown, marker = requests.page(
        "DescribeRules",
        request,
        found,
        lambda each: f"{each[0].arn}/{each[1].priority or PRIORITY_MOST + 1:06d}",
    )
    return {"Rules": [_shown(*each) for each in shown], "NextMarker": marker}


async def delete_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a rule."""
    arn = request["RuleArn"]
    await _rule_listener(parts, arn)

    def without(old: ListenerRecord) -> ListenerRecord:
        rule = _rule(old, arn)
        if rule.is_default:
            raise OperationNotPermittedException(f"Default rule '{arn}' cannot be deleted")
        return forwarding.with_rules(old, [each for each in old.rules if each.id != rule.id])

    await stored.change_listener(parts.store, parts.names, arn, without)
    return {}


async def set_rule_priorities(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Give rules of one listener other priorities, all at once."""
    wanted = _wanted_priorities(request)
    first = next(iter(wanted))
    listener = (await _rule_listener(parts, first)).record
    for arn in wanted:
        if arn == listener.arn or forwarding.find_rule(listener, arn) is None:
            await _rule_listener(parts, arn)
            raise ValidationError("All rules must be of the same listener")
    new = await stored.change_listener(
        parts.store, parts.names, first, lambda old: _with_priorities(old, wanted)
    )
    return {"Rules": [_shown(new, _rule(new, arn)) for arn in wanted]}


def _wanted_priorities(request: dict[str, Any]) -> dict[str, int]:
    """Return the wanted priorities by the ARNs of rules; raises ``ValidationError``."""
    wanted: dict[str, int] = {}
    for pair in request["RulePriorities"]:
        arn = pair.get("RuleArn") or ""
        if arn in wanted:
            raise ValidationError(f"Rule '{arn[:128]}' is specified more than once")
        wanted[arn] = _priority(pair.get("Priority", 0))
    if not wanted:
        raise ValidationError("At least one rule priority must be specified")
    return wanted


def _with_priorities(listener: ListenerRecord, wanted: Mapping[str, int]) -> ListenerRecord:
    """Return a listener whose rules have other priorities. Pure.

    Raises:
        RuleMissing: it has no such rule.
        ApiError: a rule cannot have its priority.
    """
    for arn in wanted:
        _rule(listener, arn)
    rules = []
    for rule in listener.rules:
        arn = naming.rule_arn(listener.arn, rule.id)
        if arn in wanted and rule.is_default:
            raise OperationNotPermittedException(
                f"The priority of default rule '{arn}' cannot be changed"
            )
        rules.append(replace(rule, priority=wanted.get(arn, rule.priority)))
    for priority, count in Counter(rule.priority for rule in rules).items():
        if count > 1:
            raise PriorityInUseException(f"Priority '{priority}' is currently in use")
    return forwarding.with_rules(listener, rules)


async def _http_listener(parts: Parts, arn: str) -> Found[ListenerRecord]:
    found = await listeners.by_arn(parts, arn)
    if found.record.protocol != "HTTP":
        raise UnsupportedProtocolException(
            "Listeners of network load balancers have no rules besides the default rule"
        )
    return found


async def _rule_listener(parts: Parts, arn: str) -> Found[ListenerRecord]:
    """Return the listener of a rule; raises ``RuleMissing``."""
    named = naming.parse_listener(parts.names, arn)
    if named is None or not named.rule_id:
        raise stored.RuleMissing(arn)
    return await stored.listener(parts.store, parts.names, arn)


def _rule(listener: ListenerRecord, arn: str) -> RuleRecord:
    rule = forwarding.find_rule(listener, arn)
    if rule is None:
        raise stored.RuleMissing(arn)
    return rule


def _priority(given: int) -> int:
    if not 1 <= given <= PRIORITY_MOST:
        raise ValidationError(f"Priority must be between 1 and {PRIORITY_MOST}, not {given}")
    return given


def _shown(listener: ListenerRecord, rule: RuleRecord) -> dict[str, Any]:
    return {
        "RuleArn": naming.rule_arn(listener.arn, rule.id),
        "Priority": "default" if rule.is_default else str(rule.priority),
        "Conditions": [conditions.shown(each) for each in rule.conditions],
        "Actions": actions.shown(rule.action, order=True),
        "IsDefault": rule.is_default,
    }


HANDLERS: Handlers = {
    "CreateRule": create_rule,
    "ModifyRule": modify_rule,
    "DescribeRules": describe_rules,
    "DeleteRule": delete_rule,
    "SetRulePriorities": set_rule_priorities,
}
