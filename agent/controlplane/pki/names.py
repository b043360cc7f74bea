"""How identities of hosts, and control, are named in certificates. Pure.

A host is a URI among the alternative names of its certificate. Control's own certificate has, besides the names of its
machine, one that is the same everywhere: agents that trust control's authority ask for that name, so that nobody has to
configure under which names control is reached. No other certificate of the authority is for servers.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTORY: Final = "pki"
"""In the data directory of control."""
AUTHORITY_FILE: Final = "authority.pem"
BEGINS_BEFORE_S: Final = 3600.0
"""Certificates are valid from this long before they are made, for hosts whose clocks are slow."""
URI_PREFIX: Final = "urn:ecs-host-agent:host:"
HOST_ID: Final = re.compile(r"[0-9a-f]{32}")


class Shown(NamedTuple):
    """The certificate of a host, as far as it is looked at."""

    host: str
    serial: str
    """In hexadecimal, as control keeps it."""
    made_at: float
    """Unix time."""


def uri_of(host_id: str) -> str:
    """Return the name of a host in its certificate."""
    return f"{URI_PREFIX}{host_id}"


def host_of(peer_certificate: Mapping[str, Any] | None) -> str:
    """Return the id of the host in a verified certificate as ``ssl`` gives it; empty if it names none."""
    if not peer_certificate:
        return ""
    for kind, value in peer_certificate.get("subjectAltName", ()):
        if kind == "URI" and value.startswith(URI_PREFIX):
            host_id = value[len(URI_PREFIX) :]
            return host_id if HOST_ID.fullmatch(host_id) else ""
    return ""


def shown_by(peer_certificate: Mapping[str, Any] | None) -> Shown | None:
    """Return what the verified certificate of a host says; None if it is none of a host."""
    host = host_of(peer_certificate)
    if not host or peer_certificate is None:
        return None
    begins = ssl.cert_time_to_seconds(peer_certificate["notBefore"])
    serial = str(peer_certificate["serialNumber"]).lower().lstrip("0")
    return Shown(host, serial, begins + BEGINS_BEFORE_S)
