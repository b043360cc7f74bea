"""What the store has of a service's endpoints of Service Connect, besides the service itself. Pure.

An alias leads to the registries of all deployments that have it: while one follows another, clients reach the tasks
of both. A registry goes with the last deployment that names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import records
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery.record import AliasRecord
from agent.controlplane.services.record import INACTIVE
from agent.controlplane.store.contract import Delete, Put

if TYPE_CHECKING:
    from agent.controlplane.services.record import ServiceConnect, ServiceRecord
    from agent.controlplane.store.contract import Op


def ops(before: ServiceRecord | None, service: ServiceRecord) -> list[Op]:
    """Return what brings the aliases and registries up to date with a change of a service.

    Registries are only removed here: who gives a service a deployment also makes its registries. Only for a
    transaction that compares the service. ``before`` is None for a new service.
    """
    old = _aliases(before) if before is not None else {}
    new = _aliases(service)
    found: list[Op] = [
        Put(key, records.encode(alias)) for key, alias in new.items() if old.get(key) != alias
    ]
    found += [Delete(key) for key in old if key not in new]
    left = _registries(service)
    gone = _registries(before) if before is not None else {}
    for registry_id, (namespace_id, name) in gone.items():
        if registry_id not in left:
            found += [
                Delete(kinds.registry_key(registry_id)),
                # The name is in lower case whatever the namespace is.
                Delete(f"{kinds.registry_names_prefix(namespace_id)}{name}"),
                Delete(kinds.guard_key(registry_id)),
                Put(kinds.guard_key(namespace_id), b""),
            ]
    return list(dict.fromkeys(found))


def _connects(service: ServiceRecord) -> list[ServiceConnect]:
    """Return what the deployments of a service have of Service Connect, newest first."""
    deployments = service.deployments if service.status != INACTIVE else ()
    return [one.service_connect for one in deployments if one.service_connect is not None]


def _aliases(service: ServiceRecord) -> dict[str, AliasRecord]:
    """Return the aliases of a service by their keys."""
    found: dict[str, list[str]] = {}
    for connect in _connects(service):
        for endpoint in connect.endpoints:
            ids = found.setdefault(kinds.alias_key(connect.namespace_id, endpoint.dns_name), [])
            if endpoint.registry_id not in ids:
                ids.append(endpoint.registry_id)
    return {key: AliasRecord(ecs_service=service.arn, registries=ids) for key, ids in found.items()}


def _registries(service: ServiceRecord) -> dict[str, tuple[str, str]]:
    """Return namespace and name of each registry of a service, by its id."""
    return {
        endpoint.registry_id: (connect.namespace_id, endpoint.discovery_name)
        for connect in _connects(service)
        for endpoint in connect.endpoints
    }
