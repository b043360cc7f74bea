"""Permissions of EC2, Elastic Load Balancing and Cloud Map. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.authorization.actions.rows import (
    Asked,
    Kind,
    Named,
    Resource,
    Resources,
    Row,
    given,
    listed,
    named,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def _groups(asked: Asked) -> list[Resource]:
    by_id = listed(asked.members.get("GroupId"))
    if by_id or not asked.members.get("GroupName"):
        return [asked.arn("ec2", f"security-group/{text}") for text in by_id]
    return [Named(Kind.SECURITY_GROUP, asked.members["GroupName"])]


def _new_group(asked: Asked) -> list[Resource]:
    vpc = asked.members.get("VpcId")
    of_vpc = [asked.arn("ec2", f"vpc/{vpc}")] if vpc else []
    return [asked.arn("ec2", "security-group/*"), *of_vpc]


def _tagged(asked: Asked) -> list[Resource]:
    return [
        asked.arn("ec2", f"security-group{'-rule' if text.startswith('sgr-') else ''}/{text}")
        for text in listed(asked.members.get("Resources"))
    ]


EC2: Final[Mapping[str, Row]] = {
    **{
        name: Row(f"ec2:{name}", _groups)
        for name in (
            "AuthorizeSecurityGroupEgress",
            "AuthorizeSecurityGroupIngress",
            "DeleteSecurityGroup",
            "ModifySecurityGroupRules",
            "RevokeSecurityGroupEgress",
            "RevokeSecurityGroupIngress",
        )
    },
    **{
        name: Row(f"ec2:{name}")
        for name in (
            "DescribeAvailabilityZones",
            "DescribeInstances",
            "DescribeNetworkInterfaces",
            "DescribeRegions",
            "DescribeSecurityGroupRules",
            "DescribeSecurityGroups",
            "DescribeSubnets",
            "DescribeVpcs",
        )
    },
    "CreateSecurityGroup": Row("ec2:CreateSecurityGroup", _new_group),
    "CreateTags": Row("ec2:CreateTags", _tagged),
    "DeleteTags": Row("ec2:DeleteTags", _tagged),
    "DescribeVpcAttribute": Row("ec2:DescribeVpcAttribute", named("ec2", "vpc/", "VpcId")),
}

_BALANCING: Final = "elasticloadbalancing"
_FAMILIES: Final = {"application": "app", "network": "net", "gateway": "gwy"}


def _new_balancer(asked: Asked) -> list[Resource]:
    family = _FAMILIES.get(asked.members.get("Type", "application"), "app")
    return [asked.arn(_BALANCING, f"loadbalancer/{family}/{asked.members['Name']}/*")]


def _rules(asked: Asked) -> list[Resource]:
    return [one["RuleArn"] for one in asked.members.get("RulePriorities", ()) if "RuleArn" in one]


_OF_ARNS: Final[Mapping[str, tuple[str, ...]]] = {
    "AddTags": ("ResourceArns",),
    "CreateListener": ("LoadBalancerArn",),
    "CreateRule": ("ListenerArn",),
    "DeleteListener": ("ListenerArn",),
    "DeleteLoadBalancer": ("LoadBalancerArn",),
    "DeleteRule": ("RuleArn",),
    "DeleteTargetGroup": ("TargetGroupArn",),
    "DeregisterTargets": ("TargetGroupArn",),
    "ModifyListener": ("ListenerArn",),
    "ModifyListenerAttributes": ("ListenerArn",),
    "ModifyLoadBalancerAttributes": ("LoadBalancerArn",),
    "ModifyRule": ("RuleArn",),
    "ModifyTargetGroup": ("TargetGroupArn",),
    "ModifyTargetGroupAttributes": ("TargetGroupArn",),
    "RegisterTargets": ("TargetGroupArn",),
    "RemoveTags": ("ResourceArns",),
}

ELBV2: Final[Mapping[str, Row]] = {
    **{name: Row(f"{_BALANCING}:{name}", given(*of)) for name, of in _OF_ARNS.items()},
    **{
        name: Row(f"{_BALANCING}:{name}")
        for name in (
            "DescribeCapacityReservation",
            "DescribeListenerAttributes",
            "DescribeListeners",
            "DescribeLoadBalancerAttributes",
            "DescribeLoadBalancers",
            "DescribeRules",
            "DescribeTags",
            "DescribeTargetGroupAttributes",
            "DescribeTargetGroups",
            "DescribeTargetHealth",
        )
    },
    "CreateLoadBalancer": Row(f"{_BALANCING}:CreateLoadBalancer", _new_balancer),
    "CreateTargetGroup": Row(
        f"{_BALANCING}:CreateTargetGroup", named(_BALANCING, "targetgroup/", "Name", "/*")
    ),
    "SetRulePriorities": Row(f"{_BALANCING}:SetRulePriorities", _rules),
}

_MAP: Final = "servicediscovery"
_namespace: Final = named(_MAP, "namespace/", "Id")
_registry: Final = named(_MAP, "service/", "Id")
_of_registry: Final = named(_MAP, "service/", "ServiceId")
_OF_MAP: Final[Mapping[str, Resources]] = {
    "CreateHttpNamespace": given(),
    "CreatePrivateDnsNamespace": given(),
    "CreateService": named(_MAP, "namespace/", "NamespaceId"),
    "DeleteNamespace": _namespace,
    "DeleteService": _registry,
    "DeregisterInstance": _of_registry,
    "DiscoverInstances": given(),
    "DiscoverInstancesRevision": given(),
    "GetInstance": _of_registry,
    "GetInstancesHealthStatus": _of_registry,
    "GetNamespace": _namespace,
    "GetOperation": given(),
    "GetService": _registry,
    "ListInstances": _of_registry,
    "ListNamespaces": given(),
    "ListOperations": given(),
    "ListServices": given(),
    "ListTagsForResource": given("ResourceARN"),
    "RegisterInstance": _of_registry,
    "TagResource": given("ResourceARN"),
    "UntagResource": given("ResourceARN"),
    "UpdateHttpNamespace": _namespace,
    "UpdateInstanceCustomHealthStatus": _of_registry,
    "UpdatePrivateDnsNamespace": _namespace,
    "UpdateService": _registry,
}
SERVICEDISCOVERY: Final[Mapping[str, Row]] = {
    name: Row(f"{_MAP}:{name}", resources) for name, resources in _OF_MAP.items()
}
