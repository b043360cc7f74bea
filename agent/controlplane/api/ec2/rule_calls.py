"""AuthorizeSecurityGroup..., RevokeSecurityGroup..., ModifySecurityGroupRules, DescribeSecurityGroupRules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane.api.ec2 import requests, rule_shapes
from agent.controlplane.api.ec2.errors import (
    InvalidPermissionDuplicate,
    InvalidPermissionNotFound,
    InvalidRuleIdNotFound,
    MissingParameter,
)
from agent.controlplane.security_groups import group_records, rules, stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.security_groups.group_records import RuleRecord, SecurityGroupRecord

_FLAT = ("IpProtocol", "FromPort", "ToPort", "CidrIp", "SourceSecurityGroupName")
_SHOWN = 64


async def authorize_ingress(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add ingress rules to a group."""
    return await _authorize(parts, request, is_egress=False)


async def authorize_egress(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add egress rules to a group."""
    return await _authorize(parts, request, is_egress=True)


async def revoke_ingress(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove ingress rules of a group."""
    return await _revoke(parts, request, is_egress=False)


async def revoke_egress(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove egress rules of a group."""
    return await _revoke(parts, request, is_egress=True)


async def modify_security_group_rules(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Replace rules of a group, which keep their ids."""
    requests.refuse_dry_run(request)
    asked = {
        each["SecurityGroupRuleId"]: each.get("SecurityGroupRule") or {}
        for each in request["SecurityGroupRules"]
    }

    def decide(old: SecurityGroupRecord) -> SecurityGroupRecord:
        _check_known(asked, old.rules)
        new = [
            rule_shapes.read_rule(asked[each.rule.id], each) if each.rule.id in asked else each
            for each in old.rules
        ]
        for index, each in enumerate(new):
            _check_new(each, new[:index])
        return replace(old, rules=new)

    peers = {each.get("ReferencedGroupId", "") for each in asked.values()} - {""}
    await stored.change(parts.store, parts.names, request["GroupId"], decide, named=peers)
    return {"Return": True}


async def describe_security_group_rules(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return rules of all groups."""
    requests.refuse_dry_run(request)
    found = [
        (each, group)
        for group in await stored.every(parts.store, parts.names)
        for each in group.rules
    ]
    named = set(request.get("SecurityGroupRuleIds", ()))
    if named:
        _check_known(named, [each for each, _ in found])
        found = [(each, group) for each, group in found if each.rule.id in named]
    found = requests.filtered(
        request,
        found,
        {
            "group-id": lambda pair: [pair[1].id],
            "security-group-rule-id": lambda pair: [pair[0].rule.id],
        },
        lambda pair: pair[0].tags,
    )
    found.sort(key=lambda pair: pair[0].rule.id)
    shown, token = requests.page(
        "DescribeSecurityGroupRules", request, found, lambda pair: pair[0].rule.id
    )
    return {
        "SecurityGroupRules": [
            rule_shapes.shown_rule(each, group, parts.names) for each, group in shown
        ],
        "NextToken": token,
    }


async def _authorize(parts: Parts, request: dict[str, Any], *, is_egress: bool) -> dict[str, Any]:
    requests.refuse_dry_run(request)
    group_id = await requests.group_id(parts, request)
    tags = requests.tags(request, "security-group-rule")
    added = [
        replace(each, rule=replace(each.rule, id=group_records.new_rule_id()))
        for each in await _asked(parts, request, is_egress=is_egress, tags=tags)
    ]
    if not added:
        raise MissingParameter("The request must contain the parameter ipPermissions")

    def decide(old: SecurityGroupRecord) -> SecurityGroupRecord:
        for index, each in enumerate(added):
            _check_new(each, [*old.rules, *added[:index]])
        return replace(old, rules=[*old.rules, *added])

    peers = {each.rule.group for each in added if each.rule.group}
    group = await stored.change(parts.store, parts.names, group_id, decide, named=peers)
    return {
        "Return": True,
        "SecurityGroupRules": [rule_shapes.shown_rule(each, group, parts.names) for each in added],
    }


async def _revoke(parts: Parts, request: dict[str, Any], *, is_egress: bool) -> dict[str, Any]:
    requests.refuse_dry_run(request)
    group_id = await requests.group_id(parts, request)
    ids = set(request.get("SecurityGroupRuleIds", ()))
    asked = await _asked(parts, request, is_egress=is_egress)
    requests.refuse_combination(ids, asked)
    if not ids and not asked:
        raise MissingParameter("The request must contain the parameter ipPermissions")
    revoked: list[RuleRecord] = []

    def decide(old: SecurityGroupRecord) -> SecurityGroupRecord:
        revoked[:] = _to_revoke(old, ids, asked, is_egress=is_egress)
        return replace(old, rules=[each for each in old.rules if each not in revoked])

    await stored.change(parts.store, parts.names, group_id, decide)
    return {
        "Return": True,
        "RevokedSecurityGroupRules": [
            rule_shapes.shown_revoked(each, group_id) for each in revoked
        ],
    }


def _to_revoke(
    old: SecurityGroupRecord, ids: set[str], asked: list[RuleRecord], *, is_egress: bool
) -> list[RuleRecord]:
    """Return the rules of a group that are meant; raises ``ApiError`` if one does not exist."""
    own = [each for each in old.rules if each.rule.is_egress is is_egress]
    if ids:
        _check_known(ids, own)
        return [each for each in own if each.rule.id in ids]
    found = []
    for wanted in asked:
        same = [each for each in own if rules.same(each.rule, wanted.rule)]
        if not same:
            raise InvalidPermissionNotFound(
                "The specified rule does not exist in this security group."
            )
        found += same
    return found


async def _asked(
    parts: Parts,
    request: Mapping[str, Any],
    *,
    is_egress: bool,
    tags: Mapping[str, str] | None = None,
) -> list[RuleRecord]:
    """Return the rules of a request, in either of the forms that EC2 takes."""
    permissions = list(request.get("IpPermissions", ()))
    flat = {name: request[name] for name in _FLAT if name in request}
    requests.refuse_combination(permissions, flat)
    if flat:
        permission = {name: flat[name] for name in _FLAT[:3] if name in flat}
        if "SourceSecurityGroupName" in flat:
            permission.setdefault("IpProtocol", "-1")
            pairs = [{"GroupName": flat["SourceSecurityGroupName"]}]
            permission["UserIdGroupPairs"] = pairs
        if "CidrIp" in flat:
            permission["IpRanges"] = [{"CidrIp": flat["CidrIp"]}]
        permissions = [permission]
    named = {
        pair["GroupName"]
        for permission in permissions
        for pair in permission.get("UserIdGroupPairs", ())
        if pair.get("GroupName") and not pair.get("GroupId")
    }
    ids = {name: await stored.id_of_name(parts.store, parts.names, name) for name in named}
    return rule_shapes.read_permissions(
        permissions, is_egress=is_egress, ids_by_name=ids, tags=tags
    )


def _check_new(new: RuleRecord, others: Iterable[RuleRecord]) -> None:
    if any(rules.same(new.rule, each.rule) for each in others):
        raise InvalidPermissionDuplicate(
            f'the specified rule "{rules.shown(new.rule)}" already exists'
        )


def _check_known(ids: Iterable[str], known: Iterable[RuleRecord]) -> None:
    missing = sorted(set(ids) - {each.rule.id for each in known})
    if missing:
        raise InvalidRuleIdNotFound(
            f"The security group rule ID '{missing[0][:_SHOWN]}' does not exist"
        )


HANDLERS: Handlers = {
    "AuthorizeSecurityGroupIngress": authorize_ingress,
    "AuthorizeSecurityGroupEgress": authorize_egress,
    "RevokeSecurityGroupIngress": revoke_ingress,
    "RevokeSecurityGroupEgress": revoke_egress,
    "ModifySecurityGroupRules": modify_security_group_rules,
    "DescribeSecurityGroupRules": describe_security_group_rules,
}
