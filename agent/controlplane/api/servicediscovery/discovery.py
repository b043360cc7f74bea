"""DiscoverInstances and DiscoverInstancesRevision: what programs ask for a name."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.servicediscovery import registries
from agent.controlplane.api.servicediscovery.errors import InvalidInput
from agent.controlplane.discovery import health, stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Handlers, Parts

_MOST: Final = 1000
_WITHOUT: Final = 100
_RANDOM: Final = random.SystemRandom()


async def discover_instances(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return instances of a registry, in random order."""
    _check_owner(parts, request)
    size = request.get("MaxResults", _WITHOUT)
    if not 1 <= size <= _MOST:
        raise InvalidInput(f"MaxResults must be between 1 and {_MOST}.")
    namespace, registry = await registries.named(
        parts, request["NamespaceName"], request["ServiceName"]
    )
    revision = await stored.revision(parts.store, registry.id)
    found = health.by_health(
        registry,
        await stored.instances(parts.store, registry.id),
        request.get("HealthStatus", health.HEALTHY_OR_ELSE_ALL),
    )
    found = health.by_attributes(
        found, request.get("QueryParameters", {}), request.get("OptionalParameters", {})
    )
    return {
        "Instances": [
            {
                "InstanceId": one.id,
                "NamespaceName": namespace.name,
                "ServiceName": registry.name,
                "HealthStatus": health.status(registry, one),
                "Attributes": one.attributes,
            }
            for one in health.some(found, size, _RANDOM)
        ],
        "InstancesRevision": revision,
    }


async def discover_instances_revision(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a number that grows with every change of a registry's instances."""
    _check_owner(parts, request)
    _, registry = await registries.named(parts, request["NamespaceName"], request["ServiceName"])
    return {"InstancesRevision": await stored.revision(parts.store, registry.id)}


def _check_owner(parts: Parts, request: Mapping[str, Any]) -> None:
    owner = request.get("OwnerAccount", parts.names.account)
    if owner != parts.names.account:
        raise InvalidInput(
            f"OwnerAccount must be {parts.names.account}: this control endpoint shares no namespaces."
        )


HANDLERS: Handlers = {
    "DiscoverInstances": discover_instances,
    "DiscoverInstancesRevision": discover_instances_revision,
}
