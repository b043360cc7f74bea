"""Tags of namespaces and registries: TagResource, UntagResource, ListTagsForResource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access
from agent.controlplane.api.servicediscovery import requests
from agent.controlplane.api.servicediscovery.errors import ResourceNotFoundException
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery.record import NamespaceRecord, RegistryRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.parts import Handlers, Parts


async def tag(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add tags, or give them new values."""
    given = request["Tags"]
    await _change(parts, request["ResourceARN"], lambda old: requests.with_tags(old, given))
    return {}


async def untag(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags; keys that it does not have are ignored."""
    gone = frozenset(request["TagKeys"])
    await _change(
        parts,
        request["ResourceARN"],
        lambda old: {key: value for key, value in old.items() if key not in gone},
    )
    return {}


async def list_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a namespace or a registry."""
    kind, key = _named(parts, request["ResourceARN"])
    found = await access.find(parts.store, kind, key)
    if found is None:
        raise _missing(request["ResourceARN"])
    return {"Tags": [{"Key": key, "Value": value} for key, value in found.record.tags.items()]}


async def _change(
    parts: Parts, arn: str, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    kind, key = _named(parts, arn)
    changed = await access.change(
        parts.store, kind, key, lambda old: replace(old, tags=change(old.tags))
    )
    if changed is None:
        raise _missing(arn)


def _named(parts: Parts, arn: str) -> tuple[type[NamespaceRecord] | type[RegistryRecord], str]:
    """Return the type and the key of what an ARN names; raises ``ResourceNotFoundException``."""
    of_namespaces, of_registries = parts.names.namespace(""), parts.names.registry("")
    if arn.startswith(of_namespaces):
        return NamespaceRecord, kinds.namespace_key(arn.removeprefix(of_namespaces))
    if arn.startswith(of_registries):
        return RegistryRecord, kinds.registry_key(arn.removeprefix(of_registries))
    raise _missing(arn)


def _missing(arn: str) -> ResourceNotFoundException:
    return ResourceNotFoundException(f"No namespace or service has the ARN {requests.shown(arn)}.")


HANDLERS: Handlers = {
    "TagResource": tag,
    "UntagResource": untag,
    "ListTagsForResource": list_tags,
}
