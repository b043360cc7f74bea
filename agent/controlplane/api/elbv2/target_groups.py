"""Target groups: create, modify, describe, delete, and their attributes."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.elbv2 import attributes, health_checks, requests
from agent.controlplane.api.elbv2.errors import (
    DuplicateTargetGroupNameException,
    InvalidConfigurationRequestException,
    TargetGroupNotFoundException,
    TooManyTargetGroupsException,
    ValidationError,
)
from agent.controlplane.loadbalancing import named_records, naming, stored
from agent.controlplane.loadbalancing.balancer_records import TargetGroupRecord
from agent.controlplane.security_groups import group_records

if TYPE_CHECKING:
    from agent.controlplane.api.elbv2.attributes import Attributes
    from agent.controlplane.parts import Handlers, Parts

GROUPS_MOST: Final = 3000
"""Amazon's quota."""
_PROTOCOLS: Final = {"HTTP": "HTTP1", "TCP": ""}
"""Those that are served, with the protocol version."""
_IDENTITY: Final = ("protocol", "port", "target_type", "health_check", "tags")


async def create_target_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a target group; the same call again returns the one that it created."""
    wanted = _read(parts, request)
    try:
        made = await stored.create_group(parts.store, wanted, GROUPS_MOST)
    except named_records.TooMany as error:
        raise TooManyTargetGroupsException(str(error)) from None
    if any(getattr(made, field) != getattr(wanted, field) for field in _IDENTITY):
        raise DuplicateTargetGroupNameException(
            f"A target group with the same name '{wanted.name}' exists, but with different settings"
        )
    return await _answer(parts, made)


def _read(parts: Parts, request: dict[str, Any]) -> TargetGroupRecord:
    """Return the record that a request asks for; raises ``ApiError``."""
    name = requests.name(request, "target group")
    target_type = request.get("TargetType") or "instance"
    if target_type not in ("instance", "ip"):
        raise ValidationError(
            f"TargetType '{target_type}' is not supported by this control endpoint; use ip or instance"
        )
    protocol = request.get("Protocol")
    if not protocol or "Port" not in request:
        raise ValidationError("A port and a protocol must be specified")
    if protocol not in _PROTOCOLS:
        raise ValidationError(
            f"Protocol '{protocol}' of target groups is not supported by this control endpoint; use "
            "HTTP or TCP"
        )
    version = request.get("ProtocolVersion") or _PROTOCOLS[protocol]
    if version != _PROTOCOLS[protocol]:
        raise InvalidConfigurationRequestException(
            f"ProtocolVersion '{version}' is not supported by this control endpoint; leave it out"
        )
    vpc = group_records.vpc_id(parts.names)
    if (request.get("VpcId") or vpc) != vpc:
        raise ValidationError(
            f"The VPC ID '{request['VpcId'][:64]}' is not found; the one of this control endpoint is "
            f"{vpc}"
        )
    if (request.get("IpAddressType") or "ipv4") != "ipv4":
        raise ValidationError("IpAddressType must be 'ipv4' on this control endpoint; leave it out")
    requests.refuse(request, {"TargetControlPort": "there is no target optimizer here"})
    group_id = naming.new_id()
    return TargetGroupRecord(
        name=name,
        id=group_id,
        arn=naming.target_group_arn(parts.names, name, group_id),
        protocol=protocol,
        port=requests.port(request["Port"]),
        target_type=target_type,
        health_check=health_checks.read(request, health_checks.DEFAULTS[protocol]),
        tags=requests.tags(request.get("Tags", ())),
    )


async def modify_target_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change the health check of a target group."""

    def changed(old: TargetGroupRecord) -> TargetGroupRecord:
        return replace(old, health_check=health_checks.read(request, old.health_check))

    arn = request["TargetGroupArn"]
    return await _answer(parts, await stored.change_group(parts.store, parts.names, arn, changed))


async def describe_target_groups(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return target groups, by name, in pages; all, or those of a load balancer, or by name or ARN."""
    named = requests.names(request, "TargetGroupArns", parts.names, naming.parse_target_group)
    every = await stored.groups(parts.store, named)
    for member, field in (("TargetGroupArns", "arn"), ("Names", "name")):
        every = requests.chosen(
            request,
            member,
            every,
            attrgetter(field),
            TargetGroupNotFoundException,
            "target groups",
        )
    await parts.services.read()
    balancing = parts.services.balancing
    if of := request.get("LoadBalancerArn"):
        await stored.balancer(parts.store, parts.names, of)
        every = [group for group in every if of in balancing.balancers_of(group.arn)]
    shown, marker = requests.page("DescribeTargetGroups", request, every, attrgetter("name"))
    return {"TargetGroups": [_shown(parts, group) for group in shown], "NextMarker": marker}


async def delete_target_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a target group that neither a listener nor a service uses; one that is gone is ignored."""
    arn = request["TargetGroupArn"]

    async def user_of() -> str:
        await parts.services.read()
        if parts.services.balancing.is_used(arn):
            return "a listener or a rule"
        service = parts.services.balanced_by(arn)
        return service and f"service {service}"

    await stored.delete_group(parts.store, parts.names, arn, user_of)
    return {}


async def describe_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return all attributes of a target group."""
    found = (await stored.group(parts.store, parts.names, request["TargetGroupArn"])).record
    return {"Attributes": attributes.shown(_known(found), found.attributes)}


async def modify_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set attributes of a target group; return all."""

    def changed(old: TargetGroupRecord) -> TargetGroupRecord:
        given = attributes.checked(_known(old), request["Attributes"], old.attributes)
        return replace(old, attributes=given)

    arn = request["TargetGroupArn"]
    new = await stored.change_group(parts.store, parts.names, arn, changed)
    return {"Attributes": attributes.shown(_known(new), new.attributes)}


def _known(group: TargetGroupRecord) -> Attributes:
    return attributes.HTTP_GROUP if group.protocol == "HTTP" else attributes.TCP_GROUP


async def _answer(parts: Parts, group: TargetGroupRecord) -> dict[str, Any]:
    await parts.services.read()
    return {"TargetGroups": [_shown(parts, group)]}


def _shown(parts: Parts, group: TargetGroupRecord) -> dict[str, Any]:
    """Return a target group as it is listed; ``parts.services`` has been read."""
    return {
        "TargetGroupArn": group.arn,
        "TargetGroupName": group.name,
        "Protocol": group.protocol,
        "Port": group.port,
        "VpcId": group_records.vpc_id(parts.names),
        **health_checks.shown(group.health_check),
        "LoadBalancerArns": parts.services.balancing.balancers_of(group.arn),
        "TargetType": group.target_type,
        "ProtocolVersion": _PROTOCOLS[group.protocol] or None,
        "IpAddressType": "ipv4",
    }


HANDLERS: Handlers = {
    "CreateTargetGroup": create_target_group,
    "ModifyTargetGroup": modify_target_group,
    "DescribeTargetGroups": describe_target_groups,
    "DeleteTargetGroup": delete_target_group,
    "DescribeTargetGroupAttributes": describe_attributes,
    "ModifyTargetGroupAttributes": modify_attributes,
}
