"""``serviceRegistries`` of CreateService and UpdateService: the checks.

Source: the ECS API reference (``ServiceRegistry``) and developer guide ("Service discovery"). Error texts are
those of Amazon ECS where they are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery import stored
from agent.controlplane.discovery.record import RegistryRecord
from agent.controlplane.front.errors import (
    InvalidParameterException,
    UnsupportedFeatureException,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Parts
    from agent.controlplane.services.record import ServiceRecord
    from agent.controlplane.tasks.launch import TaskRequest

_SHOWN: Final = 255
_PORTS: Final = range(1, 65536)


async def check(parts: Parts, service: ServiceRecord, order: TaskRequest) -> None:
    """Check the registries of a service's primary deployment, which must not be empty.

    Raises:
        InvalidParameterException: as Amazon ECS does.
        UnsupportedFeatureException: the tasks have no addresses of their own.
    """
    given = service.primary.service_registries
    if len(given) > 1:
        raise InvalidParameterException("serviceRegistries can have at most 1 item.")
    registry = await _registry(parts, given[0].get("registryArn", ""))
    if not order.is_awsvpc:
        raise UnsupportedFeatureException(
            "'serviceRegistries' is only supported for task definitions with the network mode awsvpc: control "
            "does not know the addresses of hosts."
        )
    _check_port(given[0], registry, order.body)


def check_count(service: ServiceRecord) -> None:
    """Refuse more tasks than a registry can have instances; raises ``InvalidParameterException``."""
    if service.desired_count > stored.INSTANCES_MOST:
        raise InvalidParameterException(
            f"desiredCount can be at most {stored.INSTANCES_MOST} for a service with a service registry."
        )


async def _registry(parts: Parts, arn: str) -> RegistryRecord:
    registry_id = kinds.registry_id_of(parts.names, arn)
    found = None
    if registry_id:
        key = kinds.registry_key(registry_id)
        found = await access.find(parts.store, RegistryRecord, key)
    if found is None:
        raise InvalidParameterException(
            f"The service registry {arn[:_SHOWN]!r} does not exist; create it with aws servicediscovery "
            "create-service."
        )
    return found.record


def _check_port(
    given: Mapping[str, Any], registry: RegistryRecord, body: Mapping[str, Any]
) -> None:
    """Check which port is registered; raises ``InvalidParameterException``."""
    port, name, container_port = (
        given.get("port"),
        given.get("containerName"),
        given.get("containerPort"),
    )
    if port is not None and (name is not None or container_port is not None):
        raise InvalidParameterException(
            "A service registry has either a port, or a containerName and a containerPort, not both."
        )
    if (name is None) != (container_port is None):
        raise InvalidParameterException(
            "A service registry has a containerName and a containerPort together."
        )
    if port is not None and port not in _PORTS:
        raise InvalidParameterException("port must be between 1 and 65535.")
    if name is not None:
        container = next((c for c in body["containerDefinitions"] if c["name"] == name), None)
        if container is None:
            raise InvalidParameterException(
                f"The container {name[:_SHOWN]} does not exist in the task definition."
            )
        ports = {each.get("containerPort") for each in container.get("portMappings", ())}
        if container_port not in ports:
            raise InvalidParameterException(
                f"The container {name[:_SHOWN]} did not have a container port {container_port} defined."
            )
    elif port is None and "SRV" in registry.dns_records:
        raise InvalidParameterException(
            "A service registry with SRV records needs a port, or a containerName and a containerPort."
        )
