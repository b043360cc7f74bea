"""``serviceConnectConfiguration`` of CreateService and UpdateService, and ListServicesByNamespace.

Tasks reach each other directly: an alias is a name that hosts answer with the addresses of tasks (``discovery.feed``).
A task changes the port of the alias to that of its container (``network.alias_ports``). What only a proxy could do is
refused (``definition.service_fields``).

Source: the ECS API reference (``ServiceConnectConfiguration``) and developer guide ("Service Connect").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs import task_orders
from agent.controlplane.definition import payload
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery import stored
from agent.controlplane.discovery.record import AliasRecord, NamespaceRecord, RegistryRecord
from agent.controlplane.front.errors import (
    InvalidParameterException,
    NamespaceNotFoundException,
    UnsupportedFeatureException,
)
from agent.controlplane.services.record import ACTIVE, ROLLING, Endpoint, ServiceConnect
from agent.controlplane.store.contract import Put, absent, as_read, present

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Parts
    from agent.controlplane.records import ClusterRecord
    from agent.controlplane.services.record import ServiceRecord
    from agent.controlplane.store.contract import Compare, Op

ENDPOINTS_MOST: Final = 5
"""Of one service, so that tasks can be stopped by few transactions (``services.balancing.batch``). Ours."""
_DISCOVERY_NAME: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,63}")
_DNS_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_DNS_NAME_MOST: Final = 127
_DEFAULT_NAME_MOST: Final = 253
_PORTS: Final = range(1, 65536)
_SHOWN: Final = 255


def configuration(
    cluster: ClusterRecord, request: Mapping[str, Any], known: ServiceConnect | None
) -> dict[str, Any]:
    """Return the configuration after a request, with its namespace; empty without Service Connect.

    ``known`` is what the service has so far.

    Raises:
        InvalidParameterException: neither it nor the cluster names a namespace.
    """
    given = request.get("serviceConnectConfiguration")
    if given is None:
        return known.configuration if known is not None else {}
    if not given["enabled"]:
        return {}
    namespace = given.get("namespace") or cluster.connect_namespace
    if not namespace:
        raise InvalidParameterException(
            "serviceConnectConfiguration needs a namespace: the cluster has no default namespace "
            "(serviceConnectDefaults)."
        )
    return {**given, "namespace": namespace}


async def connected(
    parts: Parts, service: ServiceRecord, configured: Mapping[str, Any]
) -> ServiceRecord:
    """Return a service whose primary deployment has Service Connect as it is configured, if it is.

    Raises:
        InvalidParameterException: a name or a port cannot be as it is given.
        NamespaceNotFoundException: there is no such namespace.
        UnsupportedFeatureException: it would need a proxy, or its tasks have no addresses of their own.
    """
    if not configured:
        return service
    primary = service.primary
    namespace = await namespace_of(parts, configured["namespace"])
    found = await task_orders.active_task_definition(
        parts, primary.task_definition_arn, or_inactive=True
    )
    definition = found.definition
    if payload.network_mode(definition) != "awsvpc":
        raise UnsupportedFeatureException(
            "'serviceConnectConfiguration' is only supported for task definitions with the network mode awsvpc: "
            "control does not know the addresses of hosts."
        )
    services = configured.get("services") or []
    if len(services) > ENDPOINTS_MOST:
        raise InvalidParameterException(
            f"serviceConnectConfiguration can have at most {ENDPOINTS_MOST} services on this control endpoint."
        )
    endpoints: list[Endpoint] = []
    for given in services:
        endpoint = await _endpoint(parts, service, namespace, given, definition)
        if any(one.discovery_name == endpoint.discovery_name for one in endpoints):
            raise InvalidParameterException(
                f"The discoveryName {endpoint.discovery_name} is used twice in serviceConnectConfiguration."
            )
        if any(
            one.alias_port == endpoint.alias_port and one.port != endpoint.port for one in endpoints
        ):
            raise UnsupportedFeatureException(
                f"'clientAliases.port' {endpoint.alias_port} is not supported for two ports of the same tasks: clients "
                "reach tasks directly; give each another port."
            )
        endpoints.append(endpoint)
    connect = ServiceConnect(
        configuration=dict(configured), namespace_id=namespace.id, endpoints=endpoints
    )
    deployments = [replace(primary, service_connect=connect), *service.deployments[1:]]
    return replace(service, deployments=deployments)


async def namespace_of(parts: Parts, given: str) -> NamespaceRecord:
    """Return a namespace by its name or ARN; raises ``NamespaceNotFoundException``."""
    prefix = parts.names.namespace("")
    if given.startswith(prefix):
        key = kinds.namespace_key(given.removeprefix(prefix))
        found = await access.find(parts.store, NamespaceRecord, key)
    else:
        found = await stored.namespace_named(parts.store, given)
    if found is None:
        raise NamespaceNotFoundException
    return found.record


async def _endpoint(
    parts: Parts,
    service: ServiceRecord,
    namespace: NamespaceRecord,
    given: Mapping[str, Any],
    definition: Mapping[str, Any],
) -> Endpoint:
    port_name = given["portName"]
    port = _port(port_name, definition)
    name: str = given.get("discoveryName") or port_name
    if not _DISCOVERY_NAME.fullmatch(name):
        raise InvalidParameterException(
            f"The discoveryName {name[:_SHOWN]!r} must be 1 to 64 lower-case letters, digits, _ or -, and not begin "
            "with -."
        )
    aliases = given.get("clientAliases") or []
    if len(aliases) != 1:
        raise InvalidParameterException(
            f"The Service Connect service with the portName {port_name} must have one client alias, not "
            f"{len(aliases)}."
        )
    alias_port = aliases[0]["port"]
    if alias_port not in _PORTS:
        raise InvalidParameterException("The port of a client alias must be between 1 and 65535.")
    if alias_port != port and alias_port in _tcp_ports(definition):
        raise UnsupportedFeatureException(
            f"'clientAliases.port' {alias_port} is not supported for the portName {port_name}: clients reach tasks "
            f"directly, and another port mapping of the task definition has this container port; use {port}."
        )
    known = await stored.registry_named(parts.store, namespace, name)
    if known is not None and known.record.ecs_service != service.arn:
        taken_by = known.record.ecs_service or known.record.arn
        raise InvalidParameterException(
            f"The discoveryName {name} is used in the namespace {namespace.name} already, by {taken_by}."
        )
    return Endpoint(
        registry_id=known.record.id if known is not None else stored.new_id("srv"),
        discovery_name=name,
        dns_name=_dns_name(aliases[0].get("dnsName") or "", name, namespace),
        port=port,
        alias_port=alias_port,
    )


def _port(name: str, definition: Mapping[str, Any]) -> int:
    """Return the container port of the port mapping with a name."""
    mappings = [
        mapping
        for container in definition["containerDefinitions"]
        for mapping in container.get("portMappings") or ()
        if mapping.get("name") == name
    ]
    if not mappings:
        raise InvalidParameterException(
            f"The portName {name[:_SHOWN]!r} is the name of no port mapping in the task definition."
        )
    port: int = mappings[0].get("containerPort") or 0
    if not port or mappings[0].get("protocol", "tcp") != "tcp":
        raise InvalidParameterException(
            f"The port mapping {name} cannot be used with Service Connect: it must be one TCP port."
        )
    return port


def _tcp_ports(definition: Mapping[str, Any]) -> set[int]:
    """Return the TCP ports of all containers; of ranges, none, which a redirected port may then hide."""
    return {
        mapping.get("containerPort", 0)
        for container in definition["containerDefinitions"]
        for mapping in container.get("portMappings") or ()
        if mapping.get("protocol", "tcp") == "tcp"
    }


def _dns_name(given: str, discovery_name: str, namespace: NamespaceRecord) -> str:
    """Return the name that clients ask for; that of ECS if none is given."""
    name = given or f"{discovery_name}.{namespace.name.lower()}"
    most = _DNS_NAME_MOST if given else _DEFAULT_NAME_MOST
    if len(name) > most or not _DNS_NAME.fullmatch(name):
        hint = "" if given else "; give the client alias another dnsName"
        raise InvalidParameterException(
            f"The dnsName {name[:_SHOWN]!r} must be a domain name of lower-case letters, digits, _, - and ., not "
            f"begin with -, and have at most {most} characters{hint}."
        )
    return name


def check(service: ServiceRecord) -> None:
    """Check what the primary deployment with Service Connect needs of its service.

    Raises:
        InvalidParameterException: it has more tasks than a registry can have.
        UnsupportedFeatureException: traffic would have to be shifted.
    """
    connect = service.primary.service_connect
    if connect is None or not connect.endpoints:
        return
    if service.desired_count > stored.INSTANCES_MOST:
        raise InvalidParameterException(
            f"desiredCount can be at most {stored.INSTANCES_MOST} for a service with Service Connect."
        )
    strategy = service.deployment_configuration["strategy"]
    if strategy != ROLLING:
        raise UnsupportedFeatureException(
            f"'deploymentConfiguration.strategy' {strategy} is not supported with 'serviceConnectConfiguration."
            "services': an alias leads to all healthy tasks, old and new; use ROLLING."
        )


async def uses(
    parts: Parts, before: ServiceRecord | None, service: ServiceRecord
) -> tuple[list[Compare], list[Op]]:
    """Return what a transaction has to hold and to do for a new deployment with endpoints.

    It makes the registries that there are not yet. Without a new deployment, nothing.

    Raises:
        InvalidParameterException: an alias leads to another service.
    """
    connect = service.primary.service_connect
    is_new = before is None or before.primary.id != service.primary.id
    if connect is None or not is_new:
        return [], []
    compares: dict[str, Compare] = {}
    then: list[Op] = []
    for one in connect.endpoints:
        key = kinds.registry_key(one.registry_id)
        if await parts.store.get(key) is not None:
            compares[key] = present(key)
        else:
            more, puts = _new_registry(parts, service, connect, one)
            compares |= more
            then += puts
        alias_key = kinds.alias_key(connect.namespace_id, one.dns_name)
        alias = await access.find(parts.store, AliasRecord, alias_key)
        if alias is not None and alias.record.ecs_service != service.arn:
            raise InvalidParameterException(
                f"The dnsName {one.dns_name} leads to another service in this namespace: {alias.record.ecs_service}."
            )
        compares[alias_key] = as_read(alias_key, alias.kv if alias is not None else None)
    return list(compares.values()), list(dict.fromkeys(then))


def _new_registry(
    parts: Parts, service: ServiceRecord, connect: ServiceConnect, endpoint: Endpoint
) -> tuple[dict[str, Compare], list[Op]]:
    namespace_key = kinds.namespace_key(connect.namespace_id)
    name_key = f"{kinds.registry_names_prefix(connect.namespace_id)}{endpoint.discovery_name}"
    record = RegistryRecord(
        id=endpoint.registry_id,
        arn=parts.names.registry(endpoint.registry_id),
        name=endpoint.discovery_name,
        namespace_id=connect.namespace_id,
        has_custom_health=True,
        description=f"Service Connect of the service {service.name}",
        created_at=parts.clock(),
        ecs_service=service.arn,
    )
    return {namespace_key: present(namespace_key), name_key: absent(name_key)}, [
        Put(kinds.registry_key(record.id), records.encode(record)),
        Put(name_key, record.id.encode()),
        Put(kinds.guard_key(connect.namespace_id), b""),
    ]


async def services_in(parts: Parts, namespace: str) -> list[str]:
    """Return the ARNs of the ACTIVE services whose Service Connect uses a namespace, sorted.

    Args:
        parts: the store, and services, which were read.
        namespace: its name or ARN.

    Raises:
        NamespaceNotFoundException: there is no such namespace.
    """
    found = await namespace_of(parts, namespace)
    return [
        service.arn
        for service in parts.services.with_service_connect()
        if service.status == ACTIVE
        and service.primary.service_connect is not None
        and service.primary.service_connect.namespace_id == found.id
    ]


async def default_namespace(parts: Parts, request: Mapping[str, Any]) -> str | None:
    """Return the ARN of the namespace in ``serviceConnectDefaults``; empty to have none, None if it is not given.

    A name that there is not gets an HTTP namespace, as on Amazon ECS.

    Raises:
        InvalidParameterException: it cannot be a name.
        NamespaceNotFoundException: it is the ARN of none.
    """
    defaults = request.get("serviceConnectDefaults")
    if defaults is None:
        return None
    given: str = defaults["namespace"]
    if not given or given.startswith("arn:"):
        return (await namespace_of(parts, given)).arn if given else ""
    made = await stored.http_namespace(parts.store, parts.names, given, parts.clock())
    if made is None:
        raise InvalidParameterException(
            "The namespace in serviceConnectDefaults must have 1 to 1024 visible ASCII characters other than "
            '< > " and /.'
        )
    return made.arn
