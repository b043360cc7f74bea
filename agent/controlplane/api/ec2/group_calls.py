"""CreateSecurityGroup, DeleteSecurityGroup and DescribeSecurityGroups."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.ec2 import requests, rule_shapes
from agent.controlplane.api.ec2.errors import (
    InvalidGroupDuplicate,
    InvalidGroupNotFound,
    InvalidParameterValue,
    InvalidVpcNotFound,
    MissingParameter,
)
from agent.controlplane.security_groups import group_records, stored, users
from agent.controlplane.security_groups.stored import GroupExists

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.security_groups.group_records import SecurityGroupRecord

_NAME: Final = re.compile(r"[A-Za-z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}")
_SHOWN: Final = 64


async def create_security_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a group, which allows everything out and nothing in."""
    requests.refuse_dry_run(request)
    name, description = request["GroupName"], request["Description"]
    _check_name(name, description)
    vpc = group_records.vpc_id(parts.names)
    given = request.get("VpcId") or vpc
    if given != vpc:
        raise InvalidVpcNotFound(
            f"The vpc ID '{given[:_SHOWN]}' does not exist; the one of this control endpoint is {vpc}"
        )
    tags = requests.tags(request, "security-group")
    try:
        made = await stored.create(parts.store, name, description, tags)
    except GroupExists:
        raise InvalidGroupDuplicate(
            f"The security group '{name}' already exists for VPC '{vpc}'"
        ) from None
    return {
        "GroupId": made.id,
        "Tags": requests.shown_tags(made.tags),
        "SecurityGroupArn": rule_shapes.group_arn(parts.names, made.id),
    }


async def delete_security_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a group that nobody uses."""
    requests.refuse_dry_run(request)
    group_id = await requests.group_id(parts, request)
    await stored.delete(
        parts.store,
        parts.names,
        group_id,
        lambda: users.is_used(parts.store, parts.names, group_id),
    )
    return {"Return": True, "GroupId": group_id}


async def describe_security_groups(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return groups with their rules."""
    requests.refuse_dry_run(request)
    found = await stored.every(parts.store, parts.names)
    for member, of in _NAMED.items():
        named = set(request.get(member, ()))
        if named:
            missing = sorted(named - {of(group) for group in found})
            if missing:
                raise InvalidGroupNotFound(
                    f"The security group '{missing[0][:_SHOWN]}' does not exist"
                )
            found = [group for group in found if of(group) in named]
    found = requests.filtered(request, found, _filters(parts.names), lambda group: group.tags)
    shown, token = requests.page("DescribeSecurityGroups", request, found, lambda group: group.id)
    return {
        "SecurityGroups": [_shown(group, parts.names) for group in shown],
        "NextToken": token,
    }


def _check_name(name: str, description: str) -> None:
    if not name or not description:
        missing = "GroupDescription" if name else "GroupName"
        raise MissingParameter(f"The request must contain the parameter {missing}")
    if name == group_records.DEFAULT_NAME:
        raise InvalidParameterValue("Cannot use reserved security group name: default")
    if name.startswith("sg-"):
        raise InvalidParameterValue(
            "Invalid value for parameter groupName: group names may not be in the format sg-*."
        )
    for what, text in (("GroupName", name), ("GroupDescription", description)):
        if not _NAME.fullmatch(text):
            raise InvalidParameterValue(
                f"Value ({text[:_SHOWN]}) for parameter {what} is invalid. Character sets beyond ASCII "
                "are not supported, and there may be at most 255 characters."
            )


def _filters(
    names: Names,
) -> Mapping[str, Callable[[SecurityGroupRecord], Sequence[str]]]:
    return {
        "group-id": lambda group: [group.id],
        "group-name": lambda group: [group.name],
        "description": lambda group: [group.description],
        "owner-id": lambda _: [names.account],
        "vpc-id": lambda _: [group_records.vpc_id(names)],
    }


def _shown(group: SecurityGroupRecord, names: Names) -> dict[str, Any]:
    ingress = [each for each in group.rules if not each.rule.is_egress]
    egress = [each for each in group.rules if each.rule.is_egress]
    return {
        "GroupId": group.id,
        "GroupName": group.name,
        "Description": group.description,
        "OwnerId": names.account,
        "VpcId": group_records.vpc_id(names),
        "SecurityGroupArn": rule_shapes.group_arn(names, group.id),
        "IpPermissions": rule_shapes.permissions(ingress, names),
        "IpPermissionsEgress": rule_shapes.permissions(egress, names),
        "Tags": requests.shown_tags(group.tags),
    }


_NAMED: Final[Mapping[str, Callable[[SecurityGroupRecord], str]]] = {
    "GroupIds": lambda group: group.id,
    "GroupNames": lambda group: group.name,
}

HANDLERS: Handlers = {
    "CreateSecurityGroup": create_security_group,
    "DeleteSecurityGroup": delete_security_group,
    "DescribeSecurityGroups": describe_security_groups,
}
