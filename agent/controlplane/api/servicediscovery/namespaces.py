"""Namespaces: CreateHttpNamespace, CreatePrivateDnsNamespace, Get, Update, Delete and ListNamespaces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.servicediscovery import background, requests
from agent.controlplane.api.servicediscovery.errors import (
    InvalidInput,
    NamespaceAlreadyExists,
    NamespaceNotFound,
    ResourceInUse,
)
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery import stored
from agent.controlplane.discovery.record import DNS_PRIVATE, HTTP, NamespaceRecord
from agent.controlplane.store.contract import Delete, Put, absent, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts

_HTTP_NAME: Final = re.compile(r"(?!arn:)[!-~]{1,1024}")
_FILTERS: Final = {
    "TYPE": ("EQ", "IN"),
    "NAME": ("EQ", "BEGINS_WITH"),
    "HTTP_NAME": ("EQ", "BEGINS_WITH"),
    "RESOURCE_OWNER": ("EQ",),
}


async def create_http_namespace(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a namespace whose names only DiscoverInstances answers."""
    if not _HTTP_NAME.fullmatch(request["Name"]):
        raise InvalidInput("Name must have 1 to 1024 visible ASCII characters, and be no ARN.")
    return await _create(parts, request, HTTP, "CreateHttpNamespace")


async def create_private_dns_namespace(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a namespace whose names hosts answer in DNS, too."""
    name: str = request["Name"]
    if len(name) > requests.DOMAIN_MOST or not requests.DOMAIN.fullmatch(name):
        raise InvalidInput(
            f"Name must be a domain name such as shop.internal, not {requests.shown(name)!r}."
        )
    return await _create(parts, request, DNS_PRIVATE, "CreatePrivateDnsNamespace")


async def _create(
    parts: Parts, request: dict[str, Any], kind: str, operation: str
) -> dict[str, Any]:
    now, namespace_id = parts.clock(), stored.new_id("ns")
    done = stored.operation("CREATE_NAMESPACE", {"NAMESPACE": namespace_id}, now)
    record = NamespaceRecord(
        id=namespace_id,
        arn=parts.names.namespace(namespace_id),
        name=request["Name"],
        type=kind,
        soa_ttl_s=_soa_ttl_s(request),
        description=requests.description(request),
        tags=requests.with_tags({}, request.get("Tags", ())),
        created_at=now,
        creator_request_id=request.get("CreatorRequestId", ""),
        fingerprint=requests.fingerprint({**request, "Type": operation}),
        operation_id=done.id,
    )
    name_key = kinds.namespace_name_key(record.name)
    then = [
        Put(kinds.namespace_key(record.id), records.encode(record)),
        Put(name_key, record.id.encode()),
        stored.put_operation(done),
    ]
    tries = access.ConflictRetries(f"namespace {requests.shown(record.name)}")
    while not (await parts.store.txn([absent(name_key)], then)).succeeded:
        known = await stored.namespace_named(parts.store, record.name)
        if known is not None:
            return {"OperationId": _repeated(known.record, record)}
        await tries.again()
    return {"OperationId": done.id}


def _repeated(old: NamespaceRecord, new: NamespaceRecord) -> str:
    """Return the operation that created a namespace, if a request is the one that did."""
    if (old.creator_request_id, old.fingerprint) == (new.creator_request_id, new.fingerprint):
        return old.operation_id
    raise NamespaceAlreadyExists(
        f"The namespace that you're trying to create already exists: {old.id}",
        {"NamespaceId": old.id, "CreatorRequestId": old.creator_request_id},
    )


def _soa_ttl_s(request: Mapping[str, Any]) -> int:
    given: int = (
        request.get("Properties", {}).get("DnsProperties", {}).get("SOA", {}).get("TTL", 15)
    )
    if not 0 <= given < 2**31:
        raise InvalidInput("The TTL of SOA must be between 0 and 2147483647.")
    return given


async def get_namespace(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a namespace."""
    record = (await find(parts, request["Id"])).record
    count = await stored.count(parts.store, kinds.registry_names_prefix(record.id))
    return {
        "Namespace": {
            **_shown(parts, record),
            "ServiceCount": count,
            "CreatorRequestId": record.creator_request_id,
        }
    }


async def update_namespace(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change the description and, in DNS, the time of a namespace."""
    found = await find(parts, request["Id"])
    is_dns, given = found.record.is_dns, request["Namespace"]
    properties = given.get("Properties")
    if properties is not None and not is_dns:
        raise InvalidInput(f"The namespace {found.record.id} has no properties of DNS.")

    def changed(old: NamespaceRecord) -> NamespaceRecord:
        return replace(
            old,
            description=requests.description(given) if "Description" in given else old.description,
            soa_ttl_s=_soa_ttl_s(given) if properties is not None else old.soa_ttl_s,
        )

    if await access.change(parts.store, NamespaceRecord, found.kv.key, changed) is None:
        raise _missing(request["Id"])
    return await background.noted(parts, "UPDATE_NAMESPACE", {"NAMESPACE": found.record.id})


async def delete_namespace(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a namespace in which nothing is."""
    tries = access.ConflictRetries(f"namespace {requests.shown(request['Id'])}")
    while True:
        found = await find(parts, request["Id"])
        record = found.record
        names = kinds.registry_names_prefix(record.id)
        still_empty = await stored.still_empty(parts.store, record.id, names)
        if still_empty is None:
            raise ResourceInUse(
                f"Namespace {record.id} has associated services; delete the services before deleting "
                "the namespace"
            )
        done = stored.operation("DELETE_NAMESPACE", {"NAMESPACE": record.id}, parts.clock())
        then = [
            Delete(found.kv.key),
            Delete(kinds.namespace_name_key(record.name)),
            Delete(kinds.guard_key(record.id)),
            stored.put_operation(done),
        ]
        if (await parts.store.txn([unchanged(found.kv), still_empty], then)).succeeded:
            return {"OperationId": done.id}
        await tries.again()


async def list_namespaces(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of namespaces."""
    filters = request.get("Filters", ())
    requests.check_filters(filters, _FILTERS)

    async def every(after: str | None) -> AsyncIterator[NamespaceRecord]:
        start = kinds.namespace_key(after) if after else None
        async for found in access.scan(
            parts.store, NamespaceRecord, kinds.NAMESPACES, start_after=start
        ):
            yield found.record

    found, token = await requests.page(
        "ListNamespaces",
        request,
        every=every,
        is_wanted=lambda one: requests.passes(
            filters,
            {"TYPE": one.type, "NAME": one.name, "HTTP_NAME": one.name, "RESOURCE_OWNER": "SELF"},
        ),
    )
    return {"Namespaces": [_shown(parts, one) for one in found], "NextToken": token}


async def find(parts: Parts, given: str) -> Found[NamespaceRecord]:
    """Return a namespace by its id or ARN; raises ``NamespaceNotFound``."""
    key = kinds.namespace_key(requests.own_id(parts.names, given, "namespace"))
    found = await access.find(parts.store, NamespaceRecord, key)
    if found is None:
        raise _missing(given)
    return found


def _missing(given: str) -> NamespaceNotFound:
    return NamespaceNotFound(f"The namespace {requests.shown(given)} can't be found.")


def _shown(parts: Parts, record: NamespaceRecord) -> dict[str, Any]:
    properties: dict[str, Any] = {"HttpProperties": {"HttpName": record.name}}
    if record.is_dns:
        properties["DnsProperties"] = {"SOA": {"TTL": record.soa_ttl_s}}
    return {
        "Id": record.id,
        "Arn": record.arn,
        "ResourceOwner": parts.names.account,
        "Name": record.name,
        "Type": record.type,
        "Description": record.description or None,
        "Properties": properties,
        "CreateDate": record.created_at,
    }


HANDLERS: Handlers = {
    "CreateHttpNamespace": create_http_namespace,
    "CreatePrivateDnsNamespace": create_private_dns_namespace,
    "GetNamespace": get_namespace,
    "UpdateHttpNamespace": update_namespace,
    "UpdatePrivateDnsNamespace": update_namespace,
    "DeleteNamespace": delete_namespace,
    "ListNamespaces": list_namespaces,
}
