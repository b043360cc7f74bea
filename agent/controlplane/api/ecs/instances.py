"""Container instances: describe, list, deregister, drain.

Hosts register with the agents' protocols, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane import access, records
from agent.controlplane.api.ecs.instance_shapes import InstanceLoad, show_instance
from agent.controlplane.api.ecs.naming import DESCRIBE_LIMIT, active_cluster, at_most, resource_id
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.front.pages import page_size, start_after, token
from agent.controlplane.instance_status import SETTABLE, with_status
from agent.controlplane.records import InstanceRecord
from agent.controlplane.scheduler.query import QueryError, parse
from agent.controlplane.tasks.retire import retire, retire_idle

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts

STATE_LIMIT = 10
"""Maximum number of instances in one UpdateContainerInstancesState call."""
_KIND = "container-instance"


async def describe_container_instances(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe instances by id or ARN; unknown ones are ``MISSING`` failures."""
    cluster = await active_cluster(parts, request)
    given = request["containerInstances"]
    if not given:
        raise InvalidParameterException("Container instance cannot be empty.")
    at_most(given, DESCRIBE_LIMIT, "instanceIds")
    ids = list(dict.fromkeys(resource_id(parts.names, text, _KIND, cluster.name) for text in given))
    found, failures = await _find(parts, cluster.name, ids)
    with_tags = "TAGS" in request.get("include", [])
    shown = [await _show(parts, record, with_tags=with_tags) for record in found]
    return {"containerInstances": shown, "failures": failures}


async def list_container_instances(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the ARNs of a cluster's instances that match a filter and a status."""
    cluster = await active_cluster(parts, request)
    size = page_size(request)
    after = start_after("ListContainerInstances", request)
    status = request.get("status")
    chosen = [
        arn
        for arn in await _choose(parts, cluster.name, status, request.get("filter"))
        if after is None or arn > after
    ]
    response: dict[str, Any] = {"containerInstanceArns": chosen[:size]}
    if len(chosen) > size:
        response["nextToken"] = token("ListContainerInstances", request, chosen[size - 1])
    return response


async def deregister_container_instance(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Deregister an instance; if it has tasks, only with ``force``, which stops them too."""
    cluster = await active_cluster(parts, request)
    instance_id = resource_id(parts.names, request["containerInstance"], _KIND, cluster.name)
    found, _ = await _find(parts, cluster.name, [instance_id])
    if not found:
        raise InvalidParameterException("The referenced container instance was not found.")
    end = retire if request.get("force") else retire_idle
    retired = await end(
        parts.store, found[0], reason="Container instance was deregistered", clock=parts.clock
    )
    if retired is None:
        raise InvalidParameterException("Found running tasks on the instance.")
    return {"containerInstance": await _show(parts, retired, with_tags=True)}


async def update_container_instances_state(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set instances to DRAINING, so that nothing new is placed on them, or back to ACTIVE."""
    cluster = await active_cluster(parts, request)
    status = request["status"]
    if status not in SETTABLE:
        raise InvalidParameterException(
            "Container instance status should be one of [ACTIVE,DRAINING]"
        )
    given = request["containerInstances"]
    if not given:
        raise InvalidParameterException("Container instance cannot be empty.")
    at_most(given, STATE_LIMIT, "instanceIds")
    ids = dict.fromkeys(resource_id(parts.names, text, _KIND, cluster.name) for text in given)
    shown, failures = [], []
    for instance_id in ids:
        changed = await access.change(
            parts.store,
            InstanceRecord,
            records.instance_key(cluster.name, instance_id),
            lambda old: with_status(old, status),
        )
        if changed is None or changed.status == "INACTIVE":
            arn = parts.names.instance(cluster.name, instance_id)
            failures.append({"arn": arn, "reason": "INACTIVE" if changed else "MISSING"})
        else:
            shown.append(await _show(parts, changed, with_tags=False))
    return {"containerInstances": shown, "failures": failures}


async def _find(
    parts: Parts, cluster: str, ids: list[str]
) -> tuple[list[InstanceRecord], list[dict[str, str]]]:
    keys = {instance_id: records.instance_key(cluster, instance_id) for instance_id in ids}
    found = await access.find_many(parts.store, InstanceRecord, keys.values())
    failures = [
        {"arn": parts.names.instance(cluster, instance_id), "reason": "MISSING"}
        for instance_id, key in keys.items()
        if key not in found
    ]
    return [found[key].record for key in keys.values() if key in found], failures


async def _show(parts: Parts, record: InstanceRecord, *, with_tags: bool) -> dict[str, Any]:
    load = await InstanceLoad.read(parts.store, record)
    return show_instance(record, load, with_tags=with_tags)


async def _choose(
    parts: Parts, cluster: str, status: str | None, expression: str | None
) -> list[str]:
    """Return the ARNs in order; without a status, all except INACTIVE ones."""
    if not expression:
        prefix = records.instances_prefix(cluster)
        return [
            record.arn
            async for _, record in access.scan(parts.store, InstanceRecord, prefix)
            if (record.status == status if status else record.status != "INACTIVE")
        ]
    try:
        matches = parse(expression)
    except QueryError as error:
        raise InvalidParameterException(str(error)) from None
    hosts = await parts.fleet.read(cluster)
    return sorted(
        arn
        for arn, host in hosts.items()
        if (not status or host.record.status == status) and matches(host.instance)
    )


HANDLERS: Handlers = {
    "DescribeContainerInstances": describe_container_instances,
    "ListContainerInstances": list_container_instances,
    "DeregisterContainerInstance": deregister_container_instance,
    "UpdateContainerInstancesState": update_container_instances_state,
}
