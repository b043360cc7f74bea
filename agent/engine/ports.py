"""Published ports of a container: picked by the agent, bound, and displayed. Pure.

Names and reads the ports in a task's record (``record.host_ports``); ``steps`` and ``engine`` pick
and hold them with ``network.HostPorts``. Fails with ``PayloadError``, worded as in Amazon ECS, for
a mapping that cannot be published.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from agent.errors import PayloadError
from agent.model import reasons
from agent.model.status import NetworkMode
from agent.model.task import NetworkBinding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.payload import Container, PortMapping, TaskPayload
    from agent.model.task import AgentTask


def keyed_mappings(container: Container) -> list[tuple[str, PortMapping]]:
    """Return the mappings of a container, each with the key under which its ports are stored.

    The key is ``container/port/protocol``. If several mappings publish the same port, the second
    one has the key ``container/port#2/protocol``, and so on.
    """
    seen: Counter[str] = Counter()
    keyed = []
    for mapping in container.port_mappings:
        protocol = mapping.protocol or "tcp"
        port = str(mapping.container_port_range or mapping.container_port)
        seen[f"{port}/{protocol}"] += 1
        times = seen[f"{port}/{protocol}"]
        name = port if times == 1 else f"{port}#{times}"
        keyed.append((f"{container.name}/{name}/{protocol}", mapping))
    return keyed


def held_ports(record: AgentTask) -> list[tuple[str, list[int]]]:
    """Return the host ports that nobody else is to get, each list with its protocol.

    Those that the agent picked for a task, and those that its containers need.
    """
    picked = [(key.rsplit("/", 1)[-1], ports) for key, ports in record.host_ports.items()]
    certain = [
        (protocol, [port])
        for container in record.payload.containers
        for protocol, port in certain_ports(record.payload, container)
    ]
    return picked + certain


def certain_ports(payload: TaskPayload, container: Container) -> list[tuple[str, int]]:
    """Return the host ports that a container needs and no other will do, each with its protocol."""
    if payload.mode is NetworkMode.BRIDGE:
        asked = [
            (each, [each.host_port]) for each in container.port_mappings if not needs_pick(each)
        ]
    elif payload.mode is NetworkMode.HOST:
        asked = [
            (each, [each.container_port])
            for each in container.port_mappings
            if not each.container_port_range
        ]
    else:
        asked = []
    found = ((mapping.protocol or "tcp", port) for mapping, ports in asked for port in ports)
    return [(protocol, port) for protocol, port in found if protocol in ("tcp", "udp")]


def container_ports(mapping: PortMapping) -> list[int]:
    """Return the container ports of a mapping, in order.

    Raises:
        PayloadError: a range not of the form ``first-last``, or a port outside 1 to 65535.
    """
    if not mapping.container_port_range:
        ports = [mapping.container_port]
    else:
        first, dash, last = mapping.container_port_range.partition("-")
        # At most five digits: a longer number is not a port, and int() refuses very long ones.
        digits = all(part.isdecimal() and len(part) <= 5 for part in (first, last))
        if not (dash and digits and int(first) <= int(last)):
            text = f"containerPortRange {mapping.container_port_range[:30]!r} is not first-last"
            raise _bad_port(text)
        if int(last) > 65535:
            raise _bad_port(f"port {last} is outside 1-65535")
        ports = list(range(int(first), int(last) + 1))
    for port in (*ports, mapping.host_port or 1):
        if not 1 <= port <= 65535:
            raise _bad_port(f"port {port} is outside 1-65535")
    return ports


def _bad_port(text: str) -> PayloadError:
    return PayloadError(f"error retrieving docker port map: {text}", name=reasons.HOST_CONFIG)


def needs_pick(mapping: PortMapping) -> bool:
    """Return whether the agent must choose the host ports of a mapping."""
    return bool(mapping.container_port_range) or mapping.host_port == 0


def port_pairs(container: Container) -> list[str]:
    """Return every ``port/protocol`` that a container publishes."""
    return [
        f"{port}/{mapping.protocol or 'tcp'}"
        for mapping in container.port_mappings
        for port in container_ports(mapping)
    ]


def ready_ports(container: Container) -> tuple[str, ...] | None:
    """Return what a ready sandbox must publish for a container: ``80/tcp``, ``8000-8009/udp``...

    None if it needs a certain port of the host, which no sandbox has.
    """
    if not all(needs_pick(mapping) for mapping in container.port_mappings):
        return None
    found = []
    for mapping in container.port_mappings:
        numbers = container_ports(mapping)
        text = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
        found.append(f"{text}/{mapping.protocol or 'tcp'}")
    return tuple(found)


def stand_ins(container: Container) -> dict[str, list[int]]:
    """Return host ports in place of those that are yet to be picked, by the keys of mappings."""
    return {
        key: container_ports(mapping)
        for key, mapping in keyed_mappings(container)
        if needs_pick(mapping)
    }


def _host_ports_of(key: str, mapping: PortMapping, picked: Mapping[str, list[int]]) -> list[int]:
    if needs_pick(mapping):
        return picked.get(key, [])
    return [mapping.host_port]


def published(container: Container, bindings: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return the ports that the agent picked for a container, as requested from the engine.

    Args:
        container: the container's part of the payload.
        bindings: host ports by ``port/protocol``, in the order of the mappings.

    A mapping without ports in the engine is left out.
    """
    left = {port: list(numbers) for port, numbers in bindings.items()}
    picked: dict[str, list[int]] = {}
    for key, mapping in keyed_mappings(container):
        wanted = [f"{port}/{mapping.protocol or 'tcp'}" for port in container_ports(mapping)]
        if not all(left.get(port) for port in wanted):
            continue
        hosts = [left[port].pop(0) for port in wanted]
        if needs_pick(mapping):
            picked[key] = hosts
    return picked


def port_bindings(
    container: Container, picked: Mapping[str, list[int]]
) -> dict[str, list[dict[str, str]]]:
    """Return ``HostConfig.PortBindings`` of a bridge container.

    Raises:
        PayloadError: the agent should have picked ports for a mapping, but has not.
    """
    bindings: dict[str, list[dict[str, str]]] = {}
    for key, mapping in keyed_mappings(container):
        hosts = _host_ports_of(key, mapping, picked)
        ports = container_ports(mapping)
        if len(hosts) != len(ports):
            raise _bad_port(f"no host ports were picked for {key}")
        for port, host in zip(ports, hosts, strict=True):
            published = f"{port}/{mapping.protocol or 'tcp'}"
            bindings.setdefault(published, []).append({"HostPort": str(host)})
    return bindings


def network_bindings(
    payload: TaskPayload, container: Container, picked: Mapping[str, list[int]]
) -> list[NetworkBinding]:
    """Return the ports of a running container as DescribeTasks shows them.

    In bridge mode the published ports, in host mode the ports themselves; in awsvpc and none mode
    none.
    """
    if payload.mode not in (NetworkMode.BRIDGE, NetworkMode.HOST):
        return []
    result = []
    for key, mapping in keyed_mappings(container):
        ports = container_ports(mapping)
        hosts = ports
        if payload.mode is NetworkMode.BRIDGE:
            hosts = _host_ports_of(key, mapping, picked)
        if not hosts:
            continue
        protocol = mapping.protocol or "tcp"
        if mapping.container_port_range:
            result.append(
                NetworkBinding(
                    container_port_range=mapping.container_port_range,
                    host_port_range=f"{hosts[0]}-{hosts[-1]}",
                    protocol=protocol,
                )
            )
        else:
            result.append(
                NetworkBinding(container_port=ports[0], host_port=hosts[0], protocol=protocol)
            )
    return result
