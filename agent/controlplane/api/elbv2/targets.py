"""Targets of target groups: register, deregister, and their health.

A service registers its tasks by itself (``services.balancing``); these calls are for everything else.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access, host_ports, records
from agent.controlplane.api.elbv2 import requests
from agent.controlplane.api.elbv2.errors import (
    InvalidTargetException,
    TooManyTargetsException,
    ValidationError,
)
from agent.controlplane.loadbalancing import balancer_records, stored
from agent.controlplane.loadbalancing.balancer_records import (
    TRAFFIC_PORT,
    TargetGroupRecord,
    TargetRecord,
)
from agent.controlplane.records import InstanceRecord
from agent.controlplane.store.contract import Put, as_read, present

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts

TARGETS_MOST: Final = 1000
"""Of one target group; Amazon's quota."""
_CALL_MOST: Final = 100
_SHOWN: Final = 64
_NOT_SERVED: Final = {"QuicServerId": "there is no QUIC here"}


async def register_targets(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Register targets; those that are registered already stay."""
    group = await stored.group(parts.store, parts.names, request["TargetGroupArn"])
    wanted = await _targets(parts, group.record, _given(request))
    tries = access.ConflictRetries(group.kv.key)
    while True:
        await parts.services.read()
        known = parts.services.balancing.targets(group.record.arn)
        registered = {_name(each) for each in known if each.drains_until == 0}
        new = [each for name, each in wanted.items() if name not in registered]
        if len(registered) + len(new) > TARGETS_MOST:
            raise TooManyTargetsException(
                f"The maximum number of targets of a target group, {TARGETS_MOST}, has been reached"
            )
        prefix = balancer_records.targets_prefix(group.record.id)
        puts = [Put(f"{prefix}{_name(each)}", records.encode(each)) for each in new]
        seen = await parts.store.get_many([put.key for put in puts])
        compares = [as_read(put.key, seen.get(put.key)) for put in puts]
        if (await parts.store.txn([present(group.kv.key), *compares], puts)).succeeded:
            return {}
        await stored.group(parts.store, parts.names, group.record.arn)
        await tries.again()


async def deregister_targets(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Take targets out of use; they finish their requests until the delay of their group is over."""
    group = (await stored.group(parts.store, parts.names, request["TargetGroupArn"])).record
    for given in _given(request):
        name, port = given["Id"], given.get("Port")
        found = await _registered_as(parts, group, name, port)
        if port is not None and not found:
            raise InvalidTargetException(
                f"The target '{name[:_SHOWN]}:{port}' is not registered with the target group"
            )
        for each in found:
            until = parts.clock() + group.deregistration_delay_s
            await access.change(
                parts.store,
                TargetRecord,
                each.kv.key,
                lambda old, until=until: old.draining(until),  # type: ignore[misc]
                urgent=True,
            )
    return {}


async def describe_target_health(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the targets of a group with their health; all, or those that are named."""
    group = (await stored.group(parts.store, parts.names, request["TargetGroupArn"])).record
    requests.refuse(request, {"Include": "there is neither anomaly detection nor an override"})
    await parts.services.read()
    balancing, now = parts.services.balancing, parts.clock()
    known = [each for each in balancing.targets(group.arn) if not each.is_gone(now)]
    places = [(each.id, each.port, each.zone) for each in known]
    if request.get("Targets"):
        zones = {(each.id, each.port): each.zone for each in known}
        named = [(each["Id"], each.get("Port", group.port)) for each in request["Targets"]]
        places = [(*place, zones.get(place, "")) for place in named]
    shown = []
    for target_id, port, zone in places:
        name = balancer_records.target_name(target_id, port)
        health = balancing.health(group.arn, name, now)
        check = group.health_check.port
        shown.append(
            {
                "Target": {"Id": target_id, "Port": port, "AvailabilityZone": zone or None},
                "HealthCheckPort": str(port) if check == TRAFFIC_PORT else check,
                "TargetHealth": {
                    "State": health.state,
                    "Reason": health.reason or None,
                    "Description": health.description or None,
                },
            }
        )
    return {"TargetHealthDescriptions": shown}


def _given(request: dict[str, Any]) -> list[dict[str, Any]]:
    given: list[dict[str, Any]] = request["Targets"]
    if not 1 <= len(given) <= _CALL_MOST:
        raise ValidationError(f"A call can name 1 to {_CALL_MOST} targets")
    for each in given:
        requests.refuse(each, _NOT_SERVED)
    return given


async def _targets(
    parts: Parts, group: TargetGroupRecord, given: list[dict[str, Any]]
) -> dict[str, TargetRecord]:
    """Return the targets that a request names, by their names in the group; raises ``ApiError``."""
    if group.target_type == "ip":
        addresses = {each["Id"]: _ip_address(each["Id"]) for each in given}
    else:
        addresses = await _host_addresses(parts, {each["Id"] for each in given})
    found = {}
    for each in given:
        address = addresses[each["Id"]]
        target = TargetRecord(
            group_arn=group.arn,
            id=address if group.target_type == "ip" else each["Id"],
            port=requests.port(each.get("Port", group.port)),
            address=address,
            zone=each.get("AvailabilityZone") or "",
        )
        found[_name(target)] = target
    return found


def _ip_address(given: str) -> str:
    try:
        return str(ipaddress.IPv4Address(given))
    except ValueError:
        raise ValidationError(
            f"The IP address '{given[:_SHOWN]}' is not a valid IPv4 address"
        ) from None


async def _host_addresses(parts: Parts, wanted: set[str]) -> dict[str, str]:
    """Return the addresses of container instances by their ids, or their EC2 instance ids.

    Raises:
        InvalidTargetException: one does not exist, or has reported no address.
    """
    found: dict[str, str] = {}
    async for _, instance in access.scan(parts.store, InstanceRecord, records.INSTANCES):
        if instance.status != "INACTIVE":
            names = wanted & {instance.id, instance.shown_ec2_id}
            found |= dict.fromkeys(names, host_ports.host_address(instance))
    for name in sorted(wanted):
        if name not in found:
            raise InvalidTargetException(f"Instance ID '{name[:_SHOWN]}' is not valid")
        if not found[name]:
            raise InvalidTargetException(
                f"The instance '{name[:_SHOWN]}' has reported no address of its own; set "
                "ECS_HOST_ADDRESS on it"
            )
    return found


async def _registered_as(
    parts: Parts, group: TargetGroupRecord, target_id: str, port: int | None
) -> list[Found[TargetRecord]]:
    """Return the registered targets of an id, and of a port if one is given."""
    prefix = f"{balancer_records.targets_prefix(group.id)}{target_id}/"
    return [
        found
        async for found in access.scan(parts.store, TargetRecord, prefix)
        if found.record.drains_until == 0 and port in (None, found.record.port)
    ]


def _name(target: TargetRecord) -> str:
    return balancer_records.target_name(target.id, target.port)


HANDLERS: Handlers = {
    "RegisterTargets": register_targets,
    "DeregisterTargets": deregister_targets,
    "DescribeTargetHealth": describe_target_health,
}
