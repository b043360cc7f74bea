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
from agent.controlplane.store.contract import Compare, Put, as_read, present

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
    wanted = [await _target(parts, group.record, given) for given in _given(request)]
    tries = access.ConflictRetries(group.kv.key)
    while True:
        await parts.services.read()
        known = parts.services.balancing.targets(group.record.arn)
        registered = {_name(each) for each in known if each.drains_until == 0}
        new = [each for each in wanted if _name(each) not in registered]
        if len(registered) + len(new) > TARGETS_MOST:
            raise TooManyTargetsException(
                f"The maximum number of targets of a target group, {TARGETS_MOST}, has been reached"
            )
        compares: list[Compare] = [present(group.kv.key)]
        puts = []
        for each in new:
            key = balancer_records.target_key(group.record.id, each.id, each.port)
            compares.append(as_read(key, await parts.store.get(key)))
            puts.append(Put(key, records.encode(each)))
        if (await parts.store.txn(compares, puts)).succeeded:
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


async def _target(parts: Parts, group: TargetGroupRecord, given: dict[str, Any]) -> TargetRecord:
    """Return a target that a request names; raises ``ApiError``."""
    target_id, port = given["Id"], requests.port(given.get("Port", group.port))
    if group.target_type == "ip":
        address = _ip_address(target_id)
    else:
        target_id, address = await _host(parts, target_id)
    return TargetRecord(
        group_arn=group.arn,
        id=target_id,
        port=port,
        address=address,
        zone=given.get("AvailabilityZone") or "",
    )


def _ip_address(given: str) -> str:
    try:
        return str(ipaddress.IPv4Address(given))
    except ValueError:
        raise ValidationError(
            f"The IP address '{given[:_SHOWN]}' is not a valid IPv4 address"
        ) from None


async def _host(parts: Parts, given: str) -> tuple[str, str]:
    """Return the id and the address of a container instance, by its id or its EC2 instance id."""
    async for _, instance in access.scan(parts.store, InstanceRecord, records.INSTANCES):
        if given in (instance.id, instance.ec2_instance_id) and instance.status != "INACTIVE":
            address = host_ports.host_address(instance)
            if not address:
                raise InvalidTargetException(
                    f"The instance '{given[:_SHOWN]}' has told no address of its own; set "
                    "ECS_HOST_ADDRESS on it"
                )
            return given, address
    raise InvalidTargetException(f"Instance ID '{given[:_SHOWN]}' is not valid")


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
