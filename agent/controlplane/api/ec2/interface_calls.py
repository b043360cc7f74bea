"""DescribeNetworkInterfaces: the interfaces of tasks in ``awsvpc`` mode."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.controlplane.api.ec2 import requests
from agent.controlplane.api.ec2.errors import InvalidNetworkInterfaceNotFound
from agent.controlplane.security_groups import group_records, stored
from agent.controlplane.vpc import layout, seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.vpc.seen import Interface


async def describe_network_interfaces(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return interfaces of tasks that have not stopped."""
    requests.refuse_dry_run(request)
    every = await seen.interfaces(parts.store)
    asked = requests.check_named(
        request,
        "NetworkInterfaceIds",
        {one.id for one in every},
        InvalidNetworkInterfaceNotFound,
        "networkInterface ID",
    )
    groups = {group.id: group.name for group in await stored.every(parts.store, parts.names)}
    found = [one for one in every if not asked or one.id in asked]
    found = requests.filtered(request, found, _filters(parts.names, groups), lambda _: {})
    shown, token = requests.page("DescribeNetworkInterfaces", request, found, lambda one: one.id)
    return {
        "NetworkInterfaces": [_shown(one, parts.names, groups) for one in shown],
        "NextToken": token,
    }


def _subnet(one: Interface, names: Names) -> str:
    return one.details.get("subnetId") or layout.subnet_id(names, one.zone)


def _description(one: Interface, names: Names) -> str:
    return names.attachment(one.attachment_id)


def _filters(
    names: Names, groups: Mapping[str, str]
) -> Mapping[str, Callable[[Interface], Sequence[str]]]:
    def of(*values: str) -> list[str]:
        return [value for value in values if value]

    return {
        "addresses.private-ip-address": lambda one: of(one.ipv4),
        "addresses.association.public-ip": lambda one: of(one.public),
        "association.public-ip": lambda one: of(one.public),
        "attachment.instance-owner-id": lambda _: [names.account],
        "attachment.status": lambda _: ["attached"],
        "availability-zone": lambda one: of(one.zone),
        "description": lambda one: [_description(one, names)],
        "group-id": lambda one: one.groups,
        "group-name": lambda one: [groups[group] for group in one.groups if group in groups],
        "interface-type": lambda _: ["interface"],
        "ipv6-addresses.ipv6-address": lambda one: of(one.ipv6),
        "mac-address": lambda one: of(one.details.get("macAddress", "")),
        "network-interface-id": lambda one: [one.id],
        "owner-id": lambda _: [names.account],
        "private-dns-name": lambda one: of(one.details.get("privateDnsName", "")),
        "private-ip-address": lambda one: of(one.ipv4),
        "requester-managed": lambda _: ["true"],
        "status": lambda _: ["in-use"],
        "subnet-id": lambda one: [_subnet(one, names)],
        "vpc-id": lambda _: [group_records.vpc_id(names)],
    }


def _shown(one: Interface, names: Names, groups: Mapping[str, str]) -> dict[str, Any]:
    public = {"PublicIp": one.public, "PublicDnsName": "", "IpOwnerId": names.account}
    association = public if one.public else None
    private_name = one.details.get("privateDnsName") or None
    addresses = [
        {
            "Primary": True,
            "PrivateIpAddress": one.ipv4,
            "PrivateDnsName": private_name,
            **({"Association": association} if association else {}),
        }
    ]
    return {
        "NetworkInterfaceId": one.id,
        "Association": association,
        "Attachment": {
            "AttachmentId": f"eni-attach-{one.id.removeprefix('eni-')}",
            "AttachTime": datetime.fromtimestamp(one.created_at, UTC),
            "DeleteOnTermination": False,
            "DeviceIndex": 1,
            "InstanceOwnerId": names.account,
            "Status": "attached",
        },
        "AvailabilityZone": one.zone or None,
        "Description": _description(one, names),
        "Groups": [{"GroupId": group, "GroupName": groups.get(group, "")} for group in one.groups],
        "InterfaceType": "interface",
        "Ipv6Addresses": [{"Ipv6Address": one.ipv6}] if one.ipv6 else [],
        "MacAddress": one.details.get("macAddress") or None,
        "OwnerId": names.account,
        "PrivateDnsName": private_name,
        "PrivateIpAddress": one.ipv4 or None,
        "PrivateIpAddresses": addresses if one.ipv4 else [],
        "RequesterId": names.account,
        "RequesterManaged": True,
        "SourceDestCheck": True,
        "Status": "in-use",
        "SubnetId": _subnet(one, names),
        "TagSet": [],
        "VpcId": group_records.vpc_id(names),
    }


HANDLERS: Handlers = {"DescribeNetworkInterfaces": describe_network_interfaces}
