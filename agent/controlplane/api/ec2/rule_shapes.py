"""Rules in requests and responses of EC2: ``IpPermission`` and ``SecurityGroupRule``. Pure.

A permission has several peers for the same protocol and ports; a rule has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.ec2 import requests
from agent.controlplane.api.ec2.errors import (
    InvalidParameterValue,
    MissingParameter,
    UnsupportedOperation,
)
from agent.controlplane.security_groups import group_records, rules
from agent.controlplane.security_groups.group_records import RuleRecord
from agent.model.security_groups import ICMP_PROTOCOLS, PORT_PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.names import Names
    from agent.controlplane.security_groups.group_records import SecurityGroupRecord
    from agent.model.security_groups import GroupRule

_PREFIX_LISTS: Final = "prefix lists are not supported by this control endpoint; name the ranges"
_DESCRIPTION_MOST: Final = 255


def group_arn(names: Names, group_id: str) -> str:
    """Return the ARN of a group."""
    return _arn(names, f"security-group/{group_id}")


def read_permissions(
    permissions: Iterable[Mapping[str, Any]],
    *,
    is_egress: bool,
    ids_by_name: Mapping[str, str],
    tags: Mapping[str, str] | None = None,
) -> list[RuleRecord]:
    """Return the rules of permissions, without ids.

    Args:
        permissions: as requests have them.
        is_egress: their direction.
        ids_by_name: of the groups that they name by a name.
        tags: of each of the rules.

    Raises:
        ApiError: one is not valid, or names something that is not served.
        RuleInvalid: likewise.
    """
    found = []
    for permission in permissions:
        if permission.get("PrefixListIds"):
            raise UnsupportedOperation(f"PrefixListIds: {_PREFIX_LISTS}.")
        peers = [
            *(
                {"cidr_ipv4": p.get("CidrIp", ""), **_about(p)}
                for p in permission.get("IpRanges", ())
            ),
            *(
                {"cidr_ipv6": p.get("CidrIpv6", ""), **_about(p)}
                for p in permission.get("Ipv6Ranges", ())
            ),
            *(
                {"group": _peer(p, ids_by_name), **_about(p)}
                for p in permission.get("UserIdGroupPairs", ())
            ),
        ]
        if not peers:
            raise MissingParameter(
                "A permission must have at least one of IpRanges, Ipv6Ranges and UserIdGroupPairs"
            )
        for peer in peers:
            description = peer.pop("description")
            made = rules.rule(
                is_egress=is_egress,
                protocol=permission.get("IpProtocol") or _no_protocol(),
                from_port=permission.get("FromPort"),
                to_port=permission.get("ToPort"),
                **peer,
            )
            found.append(RuleRecord(rule=made, description=description, tags=dict(tags or {})))
    return found


def read_rule(asked: Mapping[str, Any], old: RuleRecord) -> RuleRecord:
    """Return a rule after ModifySecurityGroupRules; raises as ``read_permissions``."""
    if asked.get("PrefixListId"):
        raise UnsupportedOperation(f"PrefixListId: {_PREFIX_LISTS}.")
    made = rules.rule(
        is_egress=old.rule.is_egress,
        protocol=asked.get("IpProtocol") or old.rule.protocol,
        from_port=asked.get("FromPort", old.rule.from_port),
        to_port=asked.get("ToPort", old.rule.to_port),
        cidr_ipv4=asked.get("CidrIpv4", ""),
        cidr_ipv6=asked.get("CidrIpv6", ""),
        group=asked.get("ReferencedGroupId", ""),
        rule_id=old.rule.id,
    )
    return RuleRecord(rule=made, tags=old.tags, **_about(asked))


def permissions(given: Iterable[RuleRecord], names: Names) -> list[dict[str, Any]]:
    """Return rules as DescribeSecurityGroups shows them, those of equal ports together."""
    shown: dict[tuple[str, int, int], dict[str, Any]] = {}
    for each in given:
        rule = each.rule
        permission = shown.setdefault(
            (rule.protocol, rule.from_port, rule.to_port),
            {
                "IpProtocol": rule.protocol,
                **_ports(rule),
                "UserIdGroupPairs": [],
                "IpRanges": [],
                "Ipv6Ranges": [],
                "PrefixListIds": [],
            },
        )
        about = {"Description": each.description or None}
        if rule.group:
            pair = {"GroupId": rule.group, "UserId": names.account, **about}
            permission["UserIdGroupPairs"].append(pair)
        elif rule.cidr_ipv4:
            permission["IpRanges"].append({"CidrIp": rule.cidr_ipv4, **about})
        else:
            permission["Ipv6Ranges"].append({"CidrIpv6": rule.cidr_ipv6, **about})
    return list(shown.values())


def shown_rule(each: RuleRecord, group: SecurityGroupRecord, names: Names) -> dict[str, Any]:
    """Return a ``SecurityGroupRule``."""
    rule = each.rule
    vpc = group_records.vpc_id(names)
    referenced = {"GroupId": rule.group, "UserId": names.account, "VpcId": vpc}
    return {
        "SecurityGroupRuleId": rule.id,
        "GroupId": group.id,
        "GroupOwnerId": names.account,
        "IsEgress": rule.is_egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.from_port,
        "ToPort": rule.to_port,
        "CidrIpv4": rule.cidr_ipv4 or None,
        "CidrIpv6": rule.cidr_ipv6 or None,
        "ReferencedGroupInfo": referenced if rule.group else None,
        "Description": each.description or None,
        "Tags": requests.shown_tags(each.tags),
        "SecurityGroupRuleArn": _arn(names, f"security-group-rule/{rule.id}"),
    }


def shown_revoked(each: RuleRecord, group_id: str) -> dict[str, Any]:
    """Return a ``RevokedSecurityGroupRule``."""
    rule = each.rule
    return {
        "SecurityGroupRuleId": rule.id,
        "GroupId": group_id,
        "IsEgress": rule.is_egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.from_port,
        "ToPort": rule.to_port,
        "CidrIpv4": rule.cidr_ipv4 or None,
        "CidrIpv6": rule.cidr_ipv6 or None,
        "ReferencedGroupId": rule.group or None,
        "Description": each.description or None,
    }


def _ports(rule: GroupRule) -> dict[str, int]:
    if rule.protocol in (*PORT_PROTOCOLS, *ICMP_PROTOCOLS):
        return {"FromPort": rule.from_port, "ToPort": rule.to_port}
    return {}


def _about(peer: Mapping[str, Any]) -> dict[str, str]:
    description = peer.get("Description") or ""
    if len(description) > _DESCRIPTION_MOST:
        raise InvalidParameterValue(
            f"The description of a rule can have at most {_DESCRIPTION_MOST} characters."
        )
    return {"description": description}


def _peer(pair: Mapping[str, Any], ids_by_name: Mapping[str, str]) -> str:
    if pair.get("GroupId"):
        return str(pair["GroupId"])
    if not pair.get("GroupName"):
        raise MissingParameter("A pair of user and group must have GroupId or GroupName")
    return ids_by_name[pair["GroupName"]]


def _no_protocol() -> str:
    raise MissingParameter("The request must contain the parameter ipProtocol")


def _arn(names: Names, resource: str) -> str:
    return f"arn:{names.partition}:ec2:{names.region}:{names.account}:{resource}"
