"""DescribeInstances: the hosts that are registered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.ec2 import requests
from agent.controlplane.api.ec2.errors import InvalidInstanceNotFound
from agent.controlplane.security_groups import group_records
from agent.controlplane.vpc import layout, seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.vpc.seen import SeenHost

CLUSTER_TAG: Final = "aws:ecs:clusterName"
_RUNNING: Final = {"Code": 16, "Name": "running"}


async def describe_instances(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return hosts, each as a reservation of its own."""
    requests.refuse_dry_run(request)
    names = parts.names
    every = await seen.hosts(parts.store)
    asked = requests.check_named(
        request,
        "InstanceIds",
        {host.instance_id for host in every},
        InvalidInstanceNotFound,
        "instance ID",
    )
    found = [host for host in every if not asked or host.instance_id in asked]
    found = requests.filtered(request, found, _filters(names), _tags)
    found.sort(key=lambda host: host.id)
    shown, token = requests.page("DescribeInstances", request, found, lambda host: host.id)
    return {"Reservations": [_reservation(host, names) for host in shown], "NextToken": token}


def _tags(host: SeenHost) -> dict[str, str]:
    return {CLUSTER_TAG: host.cluster, **host.tags}


def _filters(names: Names) -> Mapping[str, Callable[[SeenHost], Sequence[str]]]:
    def of(*values: str) -> list[str]:
        return [value for value in values if value]

    return {
        "architecture": lambda host: of(host.resources.architecture),
        "availability-zone": lambda host: of(host.zone),
        "instance-id": lambda host: [host.instance_id],
        "instance-state-code": lambda _: [str(_RUNNING["Code"])],
        "instance-state-name": lambda _: [str(_RUNNING["Name"])],
        "instance-type": lambda host: of(host.value("ecs.instance-type")),
        "ip-address": lambda host: of(host.address),
        "owner-id": lambda _: [names.account],
        "private-dns-name": lambda host: of(host.resources.hostname),
        "private-ip-address": lambda host: of(host.address),
        "subnet-id": lambda host: [layout.subnet_id(names, host.zone)],
        "vpc-id": lambda _: [group_records.vpc_id(names)],
    }


def _reservation(host: SeenHost, names: Names) -> dict[str, Any]:
    instance = {
        "InstanceId": host.instance_id,
        "InstanceType": host.value("ecs.instance-type") or None,
        "ImageId": host.value("ecs.ami-id") or None,
        "Architecture": host.resources.architecture or None,
        "LaunchTime": datetime.fromtimestamp(host.registered_at, UTC),
        "Placement": {"AvailabilityZone": host.zone, "Tenancy": "default"},
        "PrivateDnsName": host.resources.hostname or None,
        "PrivateIpAddress": host.address or None,
        "PublicIpAddress": host.address or None,
        "State": _RUNNING,
        "SubnetId": layout.subnet_id(names, host.zone),
        "VpcId": group_records.vpc_id(names),
        "Tags": requests.shown_tags(_tags(host)),
    }
    return {
        "ReservationId": f"r-{host.id[:17]}",
        "OwnerId": names.account,
        "Groups": [],
        "Instances": [instance],
    }


HANDLERS: Handlers = {"DescribeInstances": describe_instances}
