"""Instances of registries: RegisterInstance, Deregister, Get, List, and their health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access
from agent.controlplane.api.servicediscovery import instance_rules, registries, requests
from agent.controlplane.api.servicediscovery.errors import (
    CustomHealthNotFound,
    InstanceNotFound,
    ResourceInUse,
    ResourceLimitExceeded,
)
from agent.controlplane.discovery import health, stored
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery.record import RegisteredInstance, RegistryRecord
from agent.controlplane.store.contract import as_read, present, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts


async def register_instance(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Register an instance, or give one other attributes; repeated with its token, change nothing."""
    instance_id = instance_rules.instance_id(request["InstanceId"])
    tries = access.ConflictRetries(f"instance {instance_id}")
    while True:
        registry = (await registries.find(parts, request["ServiceId"])).record
        if registry.ecs_service:
            raise registries.of_service_connect(registry)
        attributes, first_health = instance_rules.attributes(request["Attributes"], registry)
        key = kinds.instance_key(registry.id, instance_id)
        known = await access.find(parts.store, RegisteredInstance, key)
        token = request.get("CreatorRequestId", "")
        if known is None:
            await _check_room(parts, registry)
        elif known.record.task:
            raise _of_a_task(known.record)
        elif token and (token, attributes) == (
            known.record.creator_request_id,
            known.record.attributes,
        ):
            return {"OperationId": known.record.operation_id}
        done = _operation(parts, "REGISTER_INSTANCE", registry, instance_id)
        instance = RegisteredInstance(
            id=instance_id,
            attributes=attributes,
            health=first_health,
            creator_request_id=token,
            operation_id=done.id,
        )
        conditions = [
            present(kinds.registry_key(registry.id)),
            as_read(key, known.kv if known is not None else None),
        ]
        then = [*stored.put_instance(registry.id, instance), stored.put_operation(done)]
        if (await parts.store.txn(conditions, then)).succeeded:
            return {"OperationId": done.id}
        await tries.again()


async def _check_room(parts: Parts, registry: RegistryRecord) -> None:
    there = await stored.count(parts.store, kinds.instances_prefix(registry.id))
    if there >= stored.INSTANCES_MOST:
        raise ResourceLimitExceeded(
            f"The service {registry.id} has {there} instances, and can have at most "
            f"{stored.INSTANCES_MOST}."
        )


def _of_a_task(instance: RegisteredInstance) -> ResourceInUse:
    return ResourceInUse(
        f"The instance {instance.id} stands for a task of an ECS service, which alone changes it; stop "
        "the task, or update the service."
    )


def _operation(
    parts: Parts, kind: str, registry: RegistryRecord, instance_id: str
) -> kinds.OperationRecord:
    targets = {"SERVICE": registry.id, "INSTANCE": instance_id}
    return stored.operation(kind, targets, parts.clock())


async def deregister_instance(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove an instance that an operator registered."""
    tries = access.ConflictRetries(f"instance {requests.shown(request['InstanceId'])}")
    while True:
        registry, found = await _find(parts, request)
        if found.record.task:
            raise _of_a_task(found.record)
        done = _operation(parts, "DEREGISTER_INSTANCE", registry, found.record.id)
        then = [
            *stored.delete_instance(registry.id, found.record.id),
            stored.put_operation(done),
        ]
        if (await parts.store.txn([unchanged(found.kv)], then)).succeeded:
            return {"OperationId": done.id}
        await tries.again()


async def get_instance(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return an instance."""
    _, found = await _find(parts, request)
    shown = _shown(parts, found.record) | {
        "CreatorRequestId": found.record.creator_request_id or None
    }
    return {"ResourceOwner": parts.names.account, "Instance": shown}


async def list_instances(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of the instances of a registry."""
    registry = (await registries.find(parts, request["ServiceId"])).record
    found, token = await _page(parts, "ListInstances", request, registry)
    return {
        "ResourceOwner": parts.names.account,
        "Instances": [_shown(parts, one) for one in found],
        "NextToken": token,
    }


async def get_instances_health_status(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the health of instances, of all or of some; UNKNOWN where nobody sets it."""
    registry = (await registries.find(parts, request["ServiceId"])).record
    asked: list[str] | None = request.get("Instances")
    if asked:
        keys = {one: kinds.instance_key(registry.id, one) for one in asked}
        known = await access.find_many(parts.store, RegisteredInstance, keys.values())
        for one, key in keys.items():
            if key not in known:
                raise _missing(one)
        found, token = [known[key].record for key in keys.values()], None
    else:
        found, token = await _page(parts, "GetInstancesHealthStatus", request, registry)
    return {
        "Status": {one.id: health.status(registry, one) for one in found},
        "NextToken": token,
    }


async def update_instance_custom_health_status(
    parts: Parts, request: dict[str, Any]
) -> dict[str, Any]:
    """Set the health of an instance."""
    tries = access.ConflictRetries(f"instance {requests.shown(request['InstanceId'])}")
    while True:
        registry, found = await _find(parts, request)
        if not registry.has_custom_health:
            raise CustomHealthNotFound(
                f"The service {registry.id} has no HealthCheckCustomConfig, so the health of its instances "
                "cannot be set."
            )
        if found.record.task:
            raise _of_a_task_health(found.record)
        if found.record.health == request["Status"]:
            return {}
        then = stored.put_instance(registry.id, replace(found.record, health=request["Status"]))
        if (await parts.store.txn([unchanged(found.kv)], then)).succeeded:
            return {}
        await tries.again()


def _of_a_task_health(instance: RegisteredInstance) -> CustomHealthNotFound:
    return CustomHealthNotFound(
        f"The instance {instance.id} stands for a task of an ECS service, and has the health of the task."
    )


async def _find(
    parts: Parts, request: dict[str, Any]
) -> tuple[RegistryRecord, Found[RegisteredInstance]]:
    """Return an instance and its registry.

    Raises:
        ServiceNotFound: there is no such registry.
        InstanceNotFound: there is no such instance in it.
    """
    registry = (await registries.find(parts, request["ServiceId"])).record
    key = kinds.instance_key(registry.id, request["InstanceId"])
    found = await access.find(parts.store, RegisteredInstance, key)
    if found is None:
        raise _missing(request["InstanceId"])
    return registry, found


def _missing(given: str) -> InstanceNotFound:
    return InstanceNotFound(f"The instance {requests.shown(given)} can't be found.")


async def _page(
    parts: Parts, operation: str, request: dict[str, Any], registry: RegistryRecord
) -> tuple[list[RegisteredInstance], str | None]:
    async def every(after: str | None) -> AsyncIterator[RegisteredInstance]:
        start = kinds.instance_key(registry.id, after) if after else None
        async for found in access.scan(
            parts.store,
            RegisteredInstance,
            kinds.instances_prefix(registry.id),
            start_after=start,
        ):
            yield found.record

    return await requests.page(operation, request, every=every, filters=("ServiceId",))


def _shown(parts: Parts, instance: RegisteredInstance) -> dict[str, Any]:
    return {
        "Id": instance.id,
        "Attributes": instance.attributes,
        "CreatedByAccount": parts.names.account,
    }


HANDLERS: Handlers = {
    "RegisterInstance": register_instance,
    "DeregisterInstance": deregister_instance,
    "GetInstance": get_instance,
    "ListInstances": list_instances,
    "GetInstancesHealthStatus": get_instances_health_status,
    "UpdateInstanceCustomHealthStatus": update_instance_custom_health_status,
}
