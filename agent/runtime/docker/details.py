"""Reads what a container may be told of itself from the engine's JSON (inspect). Pure.

Like ``parse``, it gives a field that is missing or of the wrong type its default. Times stay texts as the
engine writes them, because a float does not hold nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.runtime.docker.parse import container_state, integer, member, text, texts
from agent.runtime.protocol import (
    ContainerDetails,
    EndpointInNetwork,
    HealthProbe,
    Mount,
    PublishedPort,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER = "0001-01-01T00:00:00Z"


def container_details(raw: Mapping[str, Any]) -> ContainerDetails:
    """Read ``/containers/{id}/json``."""
    state, config = member(raw, "State"), member(raw, "Config")
    host_config, network = member(raw, "HostConfig"), member(raw, "NetworkSettings")
    return ContainerDetails(
        state=container_state(raw),
        image=text(config, "Image"),
        created_at=_time(raw, "Created"),
        started_at=_time(state, "StartedAt"),
        finished_at=_time(state, "FinishedAt"),
        networks=_networks(network),
        ports=_ports(member(network, "Ports")),
        mounts=_mounts(raw.get("Mounts")),
        probe=_probe(member(state, "Health")),
        dns_servers=texts(host_config, "Dns"),
        dns_search=texts(host_config, "DnsSearch"),
    )


def _time(raw: Mapping[str, Any], key: str) -> str:
    found = text(raw, key)
    return "" if found == _NEVER else found


def _networks(settings: Mapping[str, Any]) -> tuple[EndpointInNetwork, ...]:
    return tuple(
        EndpointInNetwork(
            network=name,
            ipv4=text(end, "IPAddress"),
            ipv6=text(end, "GlobalIPv6Address"),
        )
        for name, end in member(settings, "Networks").items()
        if isinstance(end, dict)
    )


def _ports(raw: Mapping[str, Any]) -> tuple[PublishedPort, ...]:
    """Read the ports that are published; one that is only exposed has null in place of a list."""
    found = []
    for name, bindings in raw.items():
        port, _, protocol = name.partition("/")
        if not isinstance(bindings, list) or not port.isdecimal():
            continue
        found += [
            PublishedPort(
                container_port=int(port),
                protocol=protocol or "tcp",
                host_port=integer(each, "HostPort"),
                host_ip=text(each, "HostIp"),
            )
            for each in bindings
            if isinstance(each, dict)
        ]
    return tuple(found)


def _mounts(raw: Any) -> tuple[Mount, ...]:
    """Read the mounts, by their places: the engine lists them in no order."""
    if not isinstance(raw, list):
        return ()
    found = (
        Mount(
            name=text(each, "Name"),
            source=text(each, "Source"),
            destination=text(each, "Destination"),
        )
        for each in raw
        if isinstance(each, dict)
    )
    return tuple(sorted(found, key=lambda mount: mount.destination))


def _probe(health: Mapping[str, Any]) -> HealthProbe | None:
    log = health.get("Log")
    last = log[-1] if isinstance(log, list) and log else None
    if not isinstance(last, dict):
        return None
    return HealthProbe(exit_code=integer(last, "ExitCode"), output=text(last, "Output"))
