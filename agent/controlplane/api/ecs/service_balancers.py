"""``loadBalancers`` of CreateService and UpdateService: the checks. Reads the store, writes nothing.

Error texts are those of Amazon ECS where they are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.definition import payload
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.loadbalancing import forwarding, stored
from agent.controlplane.services.record import CANARY, LINEAR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.loadbalancing.balancer_records import TargetGroupRecord
    from agent.controlplane.parts import Parts

GROUPS_MOST: Final = 5
"""Of one service; Amazon's quota."""


async def check(
    parts: Parts,
    balancers: Sequence[Mapping[str, Any]],
    definition: Mapping[str, Any],
    strategy: str,
) -> None:
    """Check that the tasks of a definition can be targets of load balancers, with a deployment strategy.

    Raises:
        InvalidParameterException: as Amazon ECS would.
    """
    if len(balancers) > GROUPS_MOST:
        raise InvalidParameterException(
            f"loadBalancers can have at most {GROUPS_MOST} target groups."
        )
    arns = _distinct(balancers)
    for each in balancers:
        _check_port(each, definition)
    await parts.services.read()
    for arn in arns:
        try:
            group = (await stored.group(parts.store, parts.names, arn)).record
        except stored.GroupMissing:
            raise InvalidParameterException(
                f"The target group with targetGroupArn {arn} does not exist."
            ) from None
        if not parts.services.balancing.is_used(arn):
            raise InvalidParameterException(
                f"The target group with targetGroupArn {arn} does not have an associated load balancer."
            )
        _check_type(group, payload.network_mode(definition))
    for each in balancers:
        if each.get("advancedConfiguration"):
            await _check_rules(parts, each, strategy)


def _distinct(balancers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the ARNs of all target groups; raises ``InvalidParameterException`` if one is missing or there twice."""
    for each in balancers:
        _check_advanced(each.get("advancedConfiguration") or {})
    arns = groups(balancers)
    for arn in arns:
        if not arn:
            raise InvalidParameterException("targetGroupArn can not be blank.")
        if arns.count(arn) > 1:
            raise InvalidParameterException(f"Duplicate targetGroupArn found: {arn}")
    return arns


def groups(balancers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the ARNs of the target groups of load balancers, the alternate ones too. Pure."""
    named = [each.get("targetGroupArn") or "" for each in balancers]
    advanced = (each.get("advancedConfiguration") or {} for each in balancers)
    return [*named, *(each["alternateTargetGroupArn"] for each in advanced if each)]


def _check_advanced(advanced: Mapping[str, Any]) -> None:
    if not advanced:
        return
    for name in ("alternateTargetGroupArn", "productionListenerRule"):
        if not advanced.get(name):
            raise InvalidParameterException(f"{name} of advancedConfiguration can not be blank.")
    if advanced.get("testListenerRule") == advanced["productionListenerRule"]:
        raise InvalidParameterException(
            "testListenerRule and productionListenerRule of advancedConfiguration must be different."
        )


async def _check_rules(parts: Parts, balancer: Mapping[str, Any], strategy: str) -> None:
    """Check that the rules of a load balancer forward to nothing but its two target groups."""
    advanced = balancer["advancedConfiguration"]
    for name in ("productionListenerRule", "testListenerRule"):
        arn = advanced.get(name)
        if not arn:
            continue
        try:
            listener = (await stored.listener(parts.store, parts.names, arn)).record
        except (stored.ListenerMissing, stored.RuleMissing):
            raise InvalidParameterException(f"The {name} {arn} does not exist.") from None
        if strategy in (LINEAR, CANARY) and listener.protocol != "HTTP":
            raise InvalidParameterException(
                f"The deployment strategy {strategy} is not supported with Network Load Balancers."
            )
        rule = forwarding.find_rule(listener, arn)
        known = forwarding.groups_of_action(rule.action) if rule is not None else []
        serving = {each.target_group_arn for each in known if each.weight}
        if name == "productionListenerRule" and len(serving) != 1:
            raise InvalidParameterException(
                f"The {name} {arn} should have exactly one target group serving traffic but found "
                f"{len(serving)}."
            )
        others = {each.target_group_arn for each in known} - set(groups([balancer]))
        if others or not known:
            raise InvalidParameterException(
                f"The {name} {arn} must forward to targetGroupArn and alternateTargetGroupArn only."
            )


def _check_port(balancer: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
    name, port = balancer.get("containerName") or "", balancer.get("containerPort")
    if not name or port is None:
        raise InvalidParameterException("containerName and containerPort can not be blank.")
    containers = {each["name"]: each for each in definition["containerDefinitions"]}
    if name not in containers:
        raise InvalidParameterException(
            f"The container {name} does not exist in the task definition."
        )
    for mapping in containers[name].get("portMappings", ()):
        first, _, last = (mapping.get("containerPortRange") or "").partition("-")
        is_in_range = bool(last) and int(first) <= port <= int(last)
        if mapping.get("protocol", "tcp") == "tcp" and (
            mapping.get("containerPort") == port or is_in_range
        ):
            return
    raise InvalidParameterException(
        f"The container {name} did not have a container port {port} defined."
    )


def _check_type(group: TargetGroupRecord, mode: str) -> None:
    if mode == "none":
        raise InvalidParameterException(
            "Load balancers are not supported with the network mode 'none'."
        )
    if mode == "awsvpc" and group.target_type != "ip":
        raise InvalidParameterException(
            f"The provided target group {group.arn} has target type {group.target_type}, which is "
            "incompatible with the awsvpc network mode specified in the task definition."
        )
