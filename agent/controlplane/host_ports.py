"""Where hosts and the published ports of their containers are reached, by what agents have told. Pure.

Tests: ``tests/unit/controlplane/monitoring/test_targets.py``, ``tests/unit/controlplane/services/test_places.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.records import InstanceRecord
    from agent.model.task import NetworkBinding

HOST_ADDRESS: Final = "ecs-host-agent.address"
"""Attribute of hosts: the address under which other machines reach them."""

_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}|::1?")
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - what a container is bound to


def is_host(text: str) -> bool:
    """Return whether a text can be an address or the name of a host."""
    return _HOST.fullmatch(text) is not None


def host_address(instance: InstanceRecord | None) -> str:
    """Return the address of a host; empty if it has reported none that is valid."""
    told = instance.attribute_values.get(HOST_ADDRESS) if instance is not None else None
    return told if told and is_host(told) else ""


def published(
    bindings: Sequence[NetworkBinding], container_port: int, host: str
) -> tuple[str, int] | None:
    """Return the address and port at which a container's TCP port is reached on its host.

    Args:
        bindings: those of the container.
        container_port: which port.
        host: the address of the host; empty if it is not known.

    Returns:
        None if the port is not published. The address is empty if the port is bound to all addresses of a
        host that has reported none.
    """
    for binding in bindings:
        port = _host_port(binding, container_port)
        if port is not None:
            return (host if binding.bind_ip in _ANY_ADDRESS else binding.bind_ip), port
    return None


def _host_port(binding: NetworkBinding, port: int) -> int | None:
    """Return the host's port of a container's port; None if this binding is of another one."""
    if binding.protocol != "tcp":
        return None
    if binding.container_port == port:
        return binding.host_port
    first, _, last = (binding.container_port_range or "").partition("-")
    start, _, _ = (binding.host_port_range or "").partition("-")
    if not (first.isdigit() and last.isdigit() and start.isdigit()):
        return None
    return int(start) + port - int(first) if int(first) <= port <= int(last) else None
