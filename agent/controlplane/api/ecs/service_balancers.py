"""``loadBalancers`` of CreateService and UpdateService: the checks. Reads the store, writes nothing.

Error texts are those of Amazon ECS where they are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.definition import payload
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.loadbalancing import stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.loadbalancing.balancer_records import TargetGroupRecord
    from agent.controlplane.parts import Parts

GROUPS_MOST: Final = 5
"""Of one service; Amazon's quota."""


async def check(
    parts: Parts, balancers: Sequence[Mapping[str, Any]], definition: Mapping[str, Any]
) -> None:
    """Check that the tasks of a definition can be targets of load balancers.

    Raises:
        InvalidParameterException: as Amazon ECS would.
    """
    if len(balancers) > GROUPS_MOST:
        raise InvalidParameterException(
            f"loadBalancers can have at most {GROUPS_MOST} target groups."
        )
    arns = [each.get("targetGroupArn") or "" for each in balancers]
    for arn in arns:
        if not arn:
            raise InvalidParameterException("targetGroupArn can not be blank.")
        if arns.count(arn) > 1:
            raise InvalidParameterException(f"Duplicate targetGroupArn found: {arn}")
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


def groups(balancers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the ARNs of the target groups of checked load balancers. Pure."""
    return [each["targetGroupArn"] for each in balancers]


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
