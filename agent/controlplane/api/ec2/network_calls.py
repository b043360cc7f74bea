"""DescribeVpcs, DescribeVpcAttribute, DescribeSubnets, DescribeAvailabilityZones and DescribeRegions."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.controlplane.api.ec2 import requests
from agent.controlplane.api.ec2.errors import (
    InvalidParameterValue,
    InvalidSubnetNotFound,
    InvalidVpcNotFound,
)
from agent.controlplane.security_groups import group_records
from agent.controlplane.vpc import layout, seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.vpc.layout import Subnet

_SHOWN: Final = 64
_TRUE, _FALSE = ("true",), ("false",)

_ATTRIBUTES: Final = {
    "enableDnsSupport": True,
    "enableDnsHostnames": False,
    "enableNetworkAddressUsageMetrics": False,
}


class _Zone(NamedTuple):
    name: str
    id: str


async def describe_vpcs(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return control's one VPC, which is the default one."""
    requests.refuse_dry_run(request)
    names = parts.names
    vpc = group_records.vpc_id(names)
    blocks = list(dict.fromkeys(str(one.block) for one in await _subnets(parts)))
    requests.check_named(request, "VpcIds", {vpc}, InvalidVpcNotFound, "vpc ID")
    known = {
        "vpc-id": lambda _: [vpc],
        "isDefault": lambda _: _TRUE,
        "is-default": lambda _: _TRUE,
        "state": lambda _: ["available"],
        "owner-id": lambda _: [names.account],
        "cidr": lambda _: blocks[:1],
        "cidr-block-association.cidr-block": lambda _: blocks,
    }
    found = requests.filtered(request, [vpc], known, lambda _: {})
    shown, token = requests.page("DescribeVpcs", request, found, lambda one: one)
    return {"Vpcs": [_vpc(one, names, blocks) for one in shown], "NextToken": token}


async def describe_vpc_attribute(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return one attribute of the VPC: names are resolved in it, and hosts have none of their own."""
    requests.refuse_dry_run(request)
    vpc, asked = group_records.vpc_id(parts.names), request["Attribute"]
    if request["VpcId"] != vpc:
        raise InvalidVpcNotFound(f"The vpc ID '{request['VpcId'][:_SHOWN]}' does not exist")
    return {"VpcId": vpc, f"{asked[:1].upper()}{asked[1:]}": {"Value": _ATTRIBUTES[asked]}}


async def describe_subnets(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the subnets: one for each availability zone."""
    requests.refuse_dry_run(request)
    names = parts.names
    vpc = group_records.vpc_id(names)
    every = await _subnets(parts)
    asked = requests.check_named(
        request, "SubnetIds", {one.id for one in every}, InvalidSubnetNotFound, "subnet ID"
    )
    used = Counter(one.zone for one in await seen.interfaces(parts.store) if one.ipv4)
    known = {
        "subnet-id": lambda one: [one.id],
        "vpc-id": lambda _: [vpc],
        "availability-zone": lambda one: [one.zone],
        "availabilityZone": lambda one: [one.zone],
        "availability-zone-id": lambda one: [_zone(names, one.zone).id],
        "cidr-block": lambda one: [str(one.block)],
        "cidrBlock": lambda one: [str(one.block)],
        "default-for-az": lambda _: _TRUE,
        "defaultForAz": lambda _: _TRUE,
        "map-public-ip-on-launch": lambda _: _TRUE,
        "owner-id": lambda _: [names.account],
        "state": lambda _: ["available"],
        "ipv6-native": lambda _: _FALSE,
    }
    found = [one for one in every if not asked or one.id in asked]
    found = requests.filtered(request, found, known, lambda _: {})
    found.sort(key=lambda one: one.zone)
    shown, token = requests.page("DescribeSubnets", request, found, lambda one: one.zone)
    return {
        "Subnets": [_subnet(one, names, used[one.zone]) for one in shown],
        "NextToken": token,
    }


async def describe_availability_zones(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the zones of hosts and control's own."""
    requests.refuse_dry_run(request)
    names = parts.names
    every = [_zone(names, zone) for zone in layout.zones(await seen.hosts(parts.store), parts.zone)]
    for member, of in (("ZoneNames", "name"), ("ZoneIds", "id")):
        asked = set(request.get(member, ()))
        missing = sorted(asked - {getattr(one, of) for one in every})
        if missing:
            raise InvalidParameterValue(f"Invalid availability zone: [{missing[0][:_SHOWN]}]")
        every = [one for one in every if not asked or getattr(one, of) in asked]
    known = {
        "zone-name": lambda one: [one.name],
        "zone-id": lambda one: [one.id],
        "region-name": lambda _: [names.region],
        "group-name": lambda _: [names.region],
        "state": lambda _: ["available"],
        "zone-type": lambda _: ["availability-zone"],
        "opt-in-status": lambda _: ["opt-in-not-required"],
    }
    found = requests.filtered(request, every, known, lambda _: {})
    return {
        "AvailabilityZones": [
            {
                "ZoneName": one.name,
                "ZoneId": one.id,
                "RegionName": names.region,
                "GroupName": names.region,
                "NetworkBorderGroup": names.region,
                "State": "available",
                "OptInStatus": "opt-in-not-required",
                "ZoneType": "availability-zone",
                "Messages": [],
            }
            for one in found
        ]
    }


async def describe_regions(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return control's one region."""
    requests.refuse_dry_run(request)
    region = parts.names.region
    for name in request.get("RegionNames", ()):
        if name != region:
            raise InvalidParameterValue(f"Invalid region provided : {name[:_SHOWN]}")
    known = {
        "region-name": lambda one: [one],
        "opt-in-status": lambda _: ["opt-in-not-required"],
    }
    found = requests.filtered(request, [region], known, lambda _: {})
    status = "opt-in-not-required"
    return {"Regions": [{"RegionName": one, "OptInStatus": status} for one in found]}


async def _subnets(parts: Parts) -> list[Subnet]:
    return layout.subnets(parts.names, await seen.hosts(parts.store), parts.zone)


def _vpc(vpc: str, names: Names, blocks: list[str]) -> dict[str, Any]:
    return {
        "VpcId": vpc,
        "State": "available",
        "CidrBlock": blocks[0],
        "CidrBlockAssociationSet": [
            {
                "AssociationId": f"vpc-cidr-assoc-{_digits(vpc, block)}",
                "CidrBlock": block,
                "CidrBlockState": {"State": "associated"},
            }
            for block in blocks
        ],
        "IsDefault": True,
        "OwnerId": names.account,
        "DhcpOptionsId": "default",
        "InstanceTenancy": "default",
        "Tags": [],
    }


def _subnet(one: Subnet, names: Names, used: int) -> Mapping[str, Any]:
    return {
        "SubnetId": one.id,
        "SubnetArn": f"arn:{names.partition}:ec2:{names.region}:{names.account}:subnet/{one.id}",
        "VpcId": group_records.vpc_id(names),
        "CidrBlock": str(one.block),
        "AvailabilityZone": one.zone,
        "AvailabilityZoneId": _zone(names, one.zone).id,
        "AvailableIpAddressCount": max(0, one.addresses - used),
        "DefaultForAz": True,
        "MapPublicIpOnLaunch": True,
        "AssignIpv6AddressOnCreation": False,
        "Ipv6CidrBlockAssociationSet": [],
        "Ipv6Native": False,
        "OwnerId": names.account,
        "State": "available",
        "Tags": [],
    }


def _zone(names: Names, name: str) -> _Zone:
    """Return a zone with its id; that of a zone of AWS looks like ``use1-az1``, and is not known here."""
    return _Zone(name, f"az-{_digits(names.account, names.region, name)[:8]}")


def _digits(*texts: str) -> str:
    return hashlib.sha256("/".join(texts).encode()).hexdigest()[:17]


HANDLERS: Handlers = {
    "DescribeAvailabilityZones": describe_availability_zones,
    "DescribeRegions": describe_regions,
    "DescribeSubnets": describe_subnets,
    "DescribeVpcAttribute": describe_vpc_attribute,
    "DescribeVpcs": describe_vpcs,
}
