"""What the attributes of an instance may be. Pure. Source: Cloud Map's API reference (RegisterInstance)."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from agent.controlplane.api.servicediscovery import requests
from agent.controlplane.api.servicediscovery.errors import InvalidInput
from agent.controlplane.discovery.record import HEALTHY, IPV4, IPV6, NEEDED, PORT, UNHEALTHY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.discovery.record import RegistryRecord

INITIAL_HEALTH: Final = "AWS_INIT_HEALTH_STATUS"
_ID: Final = re.compile(r"[0-9a-zA-Z_/:.@-]{1,64}")
_KEY: Final = re.compile(r"[!-~]{1,255}")
_VALUE: Final = re.compile(r"([!-~][ \t!-~]*)?")
_VALUE_MOST: Final = 1024
_MOST: Final = 30
_PORTS: Final = range(1, 65536)
_PORT: Final = re.compile(r"[0-9]{1,5}")
_REFUSED: Final = {
    "AWS_ALIAS_DNS_NAME": "there are no load balancers of AWS here",
    "AWS_EC2_INSTANCE_ID": "control does not know the addresses of instances of EC2",
    "AWS_INSTANCE_CNAME": "CNAME records are not supported",
}


def instance_id(given: str) -> str:
    """Return the id of a new instance; raises ``InvalidInput``."""
    if not _ID.fullmatch(given):
        raise InvalidInput(
            "InstanceId must have 1 to 64 letters, digits and characters of _/:.@-, not "
            f"{requests.shown(given)!r}."
        )
    return given


def attributes(given: Mapping[str, str], registry: RegistryRecord) -> tuple[dict[str, str], str]:
    """Return the attributes and the first health of an instance; no health if nobody sets it.

    Raises:
        InvalidInput: they cannot be, or a record in DNS needs one that is missing.
    """
    if len(given) > _MOST:
        raise InvalidInput(f"An instance can have at most {_MOST} attributes.")
    for key, value in given.items():
        if not _KEY.fullmatch(key) or len(value) > _VALUE_MOST or not _VALUE.fullmatch(value):
            raise InvalidInput(
                "An attribute has a key of at most 255 visible ASCII characters and a value of at most "
                f"{_VALUE_MOST}: {requests.shown(key)!r}"
            )
        if key in _REFUSED:
            raise InvalidInput(
                f"The attribute {key} is not supported by this control endpoint: {_REFUSED[key]}."
            )
    for kind in registry.dns_records:
        _check_record(kind, given)
    _check_values(given)
    kept = {key: value for key, value in given.items() if key != INITIAL_HEALTH}
    return kept, _health(given.get(INITIAL_HEALTH), registry)


def _check_record(kind: str, given: Mapping[str, str]) -> None:
    """Check that there is what a record has; SRV also has the address of its target."""
    if NEEDED[kind] not in given:
        raise InvalidInput(
            f"Attribute {NEEDED[kind]} is required for a service with {kind} records."
        )
    if kind == "SRV" and not {IPV4, IPV6} & set(given):
        raise InvalidInput(
            f"Attribute {IPV4} or {IPV6} is required for a service with SRV records."
        )


def _check_values(given: Mapping[str, str]) -> None:
    for key, kind in ((IPV4, ipaddress.IPv4Address), (IPV6, ipaddress.IPv6Address)):
        if key in given:
            try:
                kind(given[key])
            except ValueError:
                raise InvalidInput(
                    f"Invalid value for attribute {key}: {requests.shown(given[key])!r} is not an address."
                ) from None
    port = given.get(PORT)
    if port is not None and not (_PORT.fullmatch(port) and int(port) in _PORTS):
        raise InvalidInput(
            f"Invalid value for attribute {PORT}: {requests.shown(port)!r} is not a port."
        )


def _health(given: str | None, registry: RegistryRecord) -> str:
    if given is None:
        return HEALTHY if registry.has_custom_health else ""
    if given not in (HEALTHY, UNHEALTHY):
        raise InvalidInput(f"{INITIAL_HEALTH} must be {HEALTHY} or {UNHEALTHY}.")
    if not registry.has_custom_health:
        raise InvalidInput(
            f"{INITIAL_HEALTH} can only be given for a service with HealthCheckCustomConfig."
        )
    return given
