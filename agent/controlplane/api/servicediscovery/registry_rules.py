"""What a registry may be. Pure. Source: Cloud Map's API reference (CreateService, UpdateService)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.servicediscovery import requests
from agent.controlplane.api.servicediscovery.errors import InvalidInput
from agent.controlplane.discovery.record import HTTP, MULTIVALUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.discovery.record import NamespaceRecord, RegistryRecord

_NAME_MOST: Final = 127
_TTL_MOST: Final = 2**31 - 1
_THRESHOLD_MOST: Final = 10


def name(request: Mapping[str, Any], namespace: NamespaceRecord) -> str:
    """Return the name of a new registry; raises ``InvalidInput``."""
    given: str = request["Name"]
    if len(given) > _NAME_MOST or not requests.DOMAIN.fullmatch(given):
        raise InvalidInput(
            f"Name must be labels of letters, digits, _ and -, such as web, not {requests.shown(given)!r}."
        )
    if namespace.is_dns and len(given) + 1 + len(namespace.name) > requests.DOMAIN_MOST:
        raise InvalidInput(f"{given}.{namespace.name} is longer than a name of DNS may be.")
    return given


def dns_config(
    request: Mapping[str, Any], namespace: NamespaceRecord
) -> tuple[dict[str, int], str]:
    """Return the seconds of each type of record, and the routing policy, of a new registry.

    Raises:
        InvalidInput: they cannot be, or not in this namespace.
    """
    given = request.get("DnsConfig")
    if not namespace.is_dns:
        if given is not None:
            raise InvalidInput("DnsConfig cannot be specified for a service in an HTTP namespace.")
        return {}, MULTIVALUE
    if request.get("Type") == HTTP:
        if given is not None:
            raise InvalidInput("DnsConfig cannot be specified for a service of the type HTTP.")
        return {}, MULTIVALUE
    if given is None:
        raise InvalidInput("A service in a DNS namespace needs DnsConfig, or the type HTTP.")
    return dns_records(given), given.get("RoutingPolicy", MULTIVALUE)


def dns_records(given: Mapping[str, Any]) -> dict[str, int]:
    """Return the seconds of each type of record of a ``DnsConfig``; raises ``InvalidInput``."""
    found: dict[str, int] = {}
    if not given["DnsRecords"]:
        raise InvalidInput("DnsRecords must have an item.")
    for one in given["DnsRecords"]:
        kind, ttl_s = one["Type"], one["TTL"]
        if kind == "CNAME":
            raise InvalidInput("CNAME records are not supported by this control endpoint; use A.")
        if kind in found:
            raise InvalidInput(f"DnsRecords has the type {kind} twice.")
        if not 0 <= ttl_s <= _TTL_MOST:
            raise InvalidInput(f"TTL must be between 0 and {_TTL_MOST}.")
        found[kind] = ttl_s
    return found


def changed_records(change: Mapping[str, Any], old: RegistryRecord) -> dict[str, int]:
    """Return the records after an UpdateService request: those that it leaves out go.

    Raises:
        InvalidInput: it has a type of record that the registry does not have, or ``DnsConfig`` has no records.
    """
    given = change.get("DnsConfig")
    if given is None:
        return {}
    found = dns_records(given)
    new = sorted(set(found) - set(old.dns_records))
    if new:
        raise InvalidInput(
            f"Records of the type {', '.join(new)} cannot be added to the service {old.id}; create "
            "another service."
        )
    return found


def health(request: Mapping[str, Any]) -> tuple[bool, int]:
    """Return whether instances have a custom health, and the threshold that was given.

    Raises:
        InvalidInput: something else would check them.
    """
    refuse_checks(request)
    given = request.get("HealthCheckCustomConfig")
    threshold = (given or {}).get("FailureThreshold", 1)
    if not 1 <= threshold <= _THRESHOLD_MOST:
        raise InvalidInput(f"FailureThreshold must be between 1 and {_THRESHOLD_MOST}.")
    return given is not None, threshold


def refuse_checks(request: Mapping[str, Any]) -> None:
    """Refuse health checks that control would have to make; raises ``InvalidInput``."""
    if "HealthCheckConfig" in request:
        raise InvalidInput(
            "HealthCheckConfig is not supported by this control endpoint, which makes no health checks; use "
            "HealthCheckCustomConfig, and a health check of the container."
        )
