"""Registries, which Cloud Map calls services: CreateService, Get, Update, Delete and ListServices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.servicediscovery import background, namespaces, registry_rules, requests
from agent.controlplane.api.servicediscovery.errors import (
    InvalidInput,
    NamespaceNotFound,
    ResourceInUse,
    ServiceAlreadyExists,
    ServiceNotFound,
)
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery import stored
from agent.controlplane.discovery.record import NamespaceRecord, RegistryRecord
from agent.controlplane.store.contract import Delete, Put, absent, present, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.store.contract import Op

_FILTERS: Final = {"NAMESPACE_ID": ("EQ", "IN"), "RESOURCE_OWNER": ("EQ",)}


async def create_service(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a registry; a call that is repeated with its token returns the one that it created."""
    namespace = (await namespaces.find(parts, _namespace_of(request))).record
    record = _new(parts, request, namespace)
    name_key = kinds.registry_name_key(namespace, record.name)
    tries = access.ConflictRetries(f"service {record.name}")
    while True:
        done = await parts.store.txn(
            [present(kinds.namespace_key(namespace.id)), absent(name_key)],
            [
                Put(kinds.registry_key(record.id), records.encode(record)),
                Put(name_key, record.id.encode()),
                Put(kinds.guard_key(namespace.id), b""),
            ],
        )
        if done.succeeded:
            return {"Service": _shown(parts, record, 0)}
        known = await stored.registry_named(parts.store, namespace, record.name)
        if known is not None:
            return {"Service": await _repeated(parts, known.record, record)}
        await namespaces.find(parts, namespace.id)
        await tries.again()


def _namespace_of(request: dict[str, Any]) -> str:
    given: str = request.get("NamespaceId") or request.get("DnsConfig", {}).get("NamespaceId", "")
    if not given:
        raise InvalidInput("NamespaceId is required.")
    return given


def _new(parts: Parts, request: dict[str, Any], namespace: NamespaceRecord) -> RegistryRecord:
    dns_records, policy = registry_rules.dns_config(request, namespace)
    has_health, threshold = registry_rules.health(request)
    registry_id = stored.new_id("srv")
    return RegistryRecord(
        id=registry_id,
        arn=parts.names.registry(registry_id),
        name=registry_rules.name(request, namespace),
        namespace_id=namespace.id,
        dns_records=dns_records,
        routing_policy=policy,
        has_custom_health=has_health,
        failure_threshold=threshold,
        description=requests.description(request),
        tags=requests.with_tags({}, request.get("Tags", ())),
        created_at=parts.clock(),
        creator_request_id=request.get("CreatorRequestId", ""),
        fingerprint=requests.fingerprint(request),
    )


async def _repeated(parts: Parts, old: RegistryRecord, new: RegistryRecord) -> dict[str, Any]:
    """Return the existing registry, if a request is the one that created it."""
    if (old.creator_request_id, old.fingerprint) == (new.creator_request_id, new.fingerprint):
        return _shown(parts, old, await _count(parts, old))
    raise ServiceAlreadyExists(
        f"Service already exists: {old.id}",
        {
            "ServiceId": old.id,
            "ServiceArn": old.arn,
            "CreatorRequestId": old.creator_request_id,
        },
    )


async def get_service(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a registry."""
    record = (await find(parts, request["Id"])).record
    return {"Service": _shown(parts, record, await _count(parts, record))}


async def update_service(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change description and records of a registry; records that are left out go."""
    found, change = await find(parts, request["Id"]), request["Service"]
    registry_rules.refuse_checks(change)
    if "DnsConfig" in change and not found.record.dns_records:
        raise InvalidInput(f"The service {found.record.id} has no records of DNS.")

    def changed(old: RegistryRecord) -> RegistryRecord:
        return replace(
            old,
            description=(
                requests.description(change) if "Description" in change else old.description
            ),
            dns_records=registry_rules.changed_records(change, old),
        )

    if await access.change(parts.store, RegistryRecord, found.kv.key, changed) is None:
        raise _missing(request["Id"])
    return await background.noted(parts, "UPDATE_SERVICE", {"SERVICE": found.record.id})


async def delete_service(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a registry without instances."""
    tries = access.ConflictRetries(f"service {requests.shown(request['Id'])}")
    while True:
        found = await find(parts, request["Id"])
        record = found.record
        if record.ecs_service:
            raise of_service_connect(record)
        instances = kinds.instances_prefix(record.id)
        still_empty = await stored.still_empty(parts.store, record.id, instances)
        if still_empty is None:
            raise ResourceInUse(
                "Service contains registered instances; delete the instances before deleting the service"
            )
        namespace = await namespaces.find(parts, record.namespace_id)
        then: list[Op] = [
            Delete(found.kv.key),
            Delete(kinds.registry_name_key(namespace.record, record.name)),
            Delete(kinds.guard_key(record.id)),
            Put(kinds.guard_key(record.namespace_id), b""),
        ]
        if (await parts.store.txn([unchanged(found.kv), still_empty], then)).succeeded:
            return {}
        await tries.again()


async def list_services(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of registries."""
    filters = request.get("Filters", ())
    requests.check_filters(filters, _FILTERS)
    filters = [
        one
        if one["Name"] != "NAMESPACE_ID"
        else {
            **one,
            "Values": [requests.own_id(parts.names, each, "namespace") for each in one["Values"]],
        }
        for one in filters
    ]

    async def every(after: str | None) -> AsyncIterator[RegistryRecord]:
        start = kinds.registry_key(after) if after else None
        async for found in access.scan(
            parts.store, RegistryRecord, kinds.REGISTRIES, start_after=start
        ):
            yield found.record

    found, token = await requests.page(
        "ListServices",
        request,
        every=every,
        is_wanted=lambda one: requests.passes(
            filters, {"NAMESPACE_ID": one.namespace_id, "RESOURCE_OWNER": "SELF"}
        ),
    )
    return {"Services": [_shown(parts, one, None) for one in found], "NextToken": token}


async def find(parts: Parts, given: str) -> Found[RegistryRecord]:
    """Return a registry by its id or ARN; raises ``ServiceNotFound``."""
    key = kinds.registry_key(requests.own_id(parts.names, given, "service"))
    found = await access.find(parts.store, RegistryRecord, key)
    if found is None:
        raise _missing(given)
    return found


async def named(
    parts: Parts, namespace_name: str, service_name: str
) -> tuple[NamespaceRecord, RegistryRecord]:
    """Return a registry and its namespace, by their names.

    Raises:
        NamespaceNotFound: there is no such namespace.
        ServiceNotFound: there is no such registry in it.
    """
    namespace = await stored.namespace_named(parts.store, namespace_name)
    if namespace is None:
        raise NamespaceNotFound(f"The namespace {requests.shown(namespace_name)} can't be found.")
    found = await stored.registry_named(parts.store, namespace.record, service_name)
    if found is None:
        raise _missing(service_name)
    return namespace.record, found.record


def of_service_connect(record: RegistryRecord) -> ResourceInUse:
    """Return why somebody else cannot change a registry that Service Connect has made."""
    return ResourceInUse(
        f"The service {record.id} belongs to Service Connect of {record.ecs_service}, which alone changes it; update "
        "or delete that ECS service."
    )


def _missing(given: str) -> ServiceNotFound:
    return ServiceNotFound(f"The service {requests.shown(given)} can't be found.")


async def _count(parts: Parts, record: RegistryRecord) -> int:
    return await stored.count(parts.store, kinds.instances_prefix(record.id))


def _shown(parts: Parts, record: RegistryRecord, instances: int | None) -> dict[str, Any]:
    """Return a registry; lists do not count its instances."""
    dns = {
        "NamespaceId": record.namespace_id,
        "RoutingPolicy": record.routing_policy,
        "DnsRecords": [{"Type": kind, "TTL": ttl} for kind, ttl in record.dns_records.items()],
    }
    return {
        "Id": record.id,
        "Arn": record.arn,
        "ResourceOwner": parts.names.account,
        "Name": record.name,
        "NamespaceId": record.namespace_id,
        "Description": record.description or None,
        "InstanceCount": instances,
        "DnsConfig": dns if record.dns_records else None,
        "Type": record.type,
        "HealthCheckCustomConfig": (
            {"FailureThreshold": record.failure_threshold} if record.has_custom_health else None
        ),
        "CreateDate": record.created_at,
        "CreatorRequestId": record.creator_request_id,
        "CreatedByAccount": parts.names.account,
    }


HANDLERS: Handlers = {
    "CreateService": create_service,
    "GetService": get_service,
    "UpdateService": update_service,
    "DeleteService": delete_service,
    "ListServices": list_services,
}
