"""Load balancers: create, describe, delete, and their attributes."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.elbv2 import attributes, requests
from agent.controlplane.api.elbv2.errors import (
    DuplicateLoadBalancerNameException,
    LoadBalancerNotFoundException,
    TooManyLoadBalancersException,
    ValidationError,
)
from agent.controlplane.loadbalancing import named_records, naming, stored
from agent.controlplane.loadbalancing.balancer_records import (
    APPLICATION,
    NETWORK,
    LoadBalancerRecord,
)
from agent.controlplane.security_groups import group_records

if TYPE_CHECKING:
    from agent.controlplane.api.elbv2.attributes import Attributes
    from agent.controlplane.parts import Handlers, Parts

BALANCERS_MOST: Final = 50
"""Amazon's quota."""
_NO_ADDRESSES: Final = "a load balancer has no addresses of its own here"
_NOT_SERVED: Final = {
    "SecurityGroups": "a load balancer has no network interface here that they could protect",
    "CustomerOwnedIpv4Pool": "there are no Outposts here",
    "IpamPools": _NO_ADDRESSES,
}
_IDENTITY: Final = ("kind", "scheme", "subnets", "tags")


async def create_load_balancer(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a load balancer; the same call again returns the one that it created."""
    wanted = _read(parts, request)
    try:
        made = await stored.create_balancer(parts.store, wanted, BALANCERS_MOST)
    except named_records.TooMany as error:
        raise TooManyLoadBalancersException(str(error)) from None
    if any(getattr(made, field) != getattr(wanted, field) for field in _IDENTITY):
        raise DuplicateLoadBalancerNameException(
            "A load balancer with the same name exists, but with different settings"
        )
    return {"LoadBalancers": [_shown(parts, made)]}


def _read(parts: Parts, request: dict[str, Any]) -> LoadBalancerRecord:
    """Return the record that a request asks for; raises ``ApiError``."""
    name = requests.name(request, "load balancer")
    requests.refuse(request, _NOT_SERVED)
    kind = request.get("Type") or APPLICATION
    if kind not in (APPLICATION, NETWORK):
        raise ValidationError(
            f"Type '{kind}' is not supported by this control endpoint; use application or network"
        )
    if (request.get("IpAddressType") or "ipv4") != "ipv4":
        raise ValidationError("IpAddressType must be 'ipv4' on this control endpoint; leave it out")
    if request.get("EnablePrefixForIpv6SourceNat") == "on":
        raise ValidationError("EnablePrefixForIpv6SourceNat must be 'off' on this control endpoint")
    mappings = request.get("SubnetMappings", ())
    for mapping in mappings:
        requests.refuse(
            {key: value for key, value in mapping.items() if key != "SubnetId"},
            dict.fromkeys(mapping, _NO_ADDRESSES),
        )
    subnets = [*request.get("Subnets", ()), *(each.get("SubnetId", "") for each in mappings)]
    if not subnets or not all(subnets):
        raise ValidationError("At least one subnet must be specified")
    if request.get("Subnets") and mappings:
        raise ValidationError("Exactly one of Subnets and SubnetMappings must be specified")
    balancer_id = naming.new_id()
    return LoadBalancerRecord(
        name=name,
        id=balancer_id,
        arn=naming.load_balancer_arn(parts.names, kind, name, balancer_id),
        kind=kind,
        scheme=request.get("Scheme") or "internet-facing",
        subnets=subnets,
        created_at=parts.clock(),
        tags=requests.tags(request.get("Tags", ())),
    )


async def describe_load_balancers(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return load balancers, by name, in pages."""
    named = requests.names(request, "LoadBalancerArns", parts.names, naming.parse_load_balancer)
    every = await stored.balancers(parts.store, named)
    for member, field in (("LoadBalancerArns", "arn"), ("Names", "name")):
        every = requests.chosen(
            request,
            member,
            every,
            attrgetter(field),
            LoadBalancerNotFoundException,
            "load balancers",
        )
    shown, marker = requests.page("DescribeLoadBalancers", request, every, attrgetter("name"))
    return {"LoadBalancers": [_shown(parts, each) for each in shown], "NextMarker": marker}


async def delete_load_balancer(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a load balancer with its listeners; one that does not exist is ignored."""
    await stored.delete_balancer(parts.store, parts.names, request["LoadBalancerArn"])
    return {}


async def describe_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return all attributes of a load balancer."""
    found = await stored.balancer(parts.store, parts.names, request["LoadBalancerArn"])
    return {"Attributes": attributes.shown(_known(found.record), found.record.attributes)}


async def modify_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set attributes of a load balancer; return all."""

    def changed(old: LoadBalancerRecord) -> LoadBalancerRecord:
        given = attributes.checked(_known(old), request["Attributes"], old.attributes)
        return replace(old, attributes=given)

    arn = request["LoadBalancerArn"]
    new = await stored.change_balancer(parts.store, parts.names, arn, changed)
    return {"Attributes": attributes.shown(_known(new), new.attributes)}


async def describe_capacity_reservation(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return that a load balancer has no capacity reserved: Terraform asks for each that it reads."""
    await stored.balancer(parts.store, parts.names, request["LoadBalancerArn"])
    return {"CapacityReservationState": []}


def _known(balancer: LoadBalancerRecord) -> Attributes:
    if balancer.kind == NETWORK:
        return attributes.NETWORK_BALANCER
    return attributes.APPLICATION_BALANCER


def _shown(parts: Parts, balancer: LoadBalancerRecord) -> dict[str, Any]:
    prefix = "internal-" if balancer.scheme == "internal" else ""
    return {
        "LoadBalancerArn": balancer.arn,
        "DNSName": f"{prefix}{balancer.name}-{balancer.id}.elb.internal",
        "CanonicalHostedZoneId": "Z00000000000000000000",
        "CreatedTime": balancer.created_at,
        "LoadBalancerName": balancer.name,
        "Scheme": balancer.scheme,
        "VpcId": group_records.vpc_id(parts.names),
        "State": {"Code": "active"},
        "Type": balancer.kind,
        "AvailabilityZones": [
            {"ZoneName": parts.zone, "SubnetId": subnet, "LoadBalancerAddresses": []}
            for subnet in balancer.subnets
        ],
        "SecurityGroups": [],
        "IpAddressType": "ipv4",
    }


HANDLERS: Handlers = {
    "CreateLoadBalancer": create_load_balancer,
    "DescribeLoadBalancers": describe_load_balancers,
    "DeleteLoadBalancer": delete_load_balancer,
    "DescribeLoadBalancerAttributes": describe_attributes,
    "ModifyLoadBalancerAttributes": modify_attributes,
    "DescribeCapacityReservation": describe_capacity_reservation,
}
