"""From a container of a payload to the body of ``POST /containers/create``. Pure.

Order of building, as on Amazon ECS (agent 1.105.1, ``api/task/task.go``): what the agent generates,
then the payload's ``dockerConfig`` JSON laid over it, then what the agent must have its way with
(namespaces, labels). Sizes in payloads are MiB, the engine wants bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import PayloadError
from agent.model import ids, reasons
from agent.model.resources import MIB
from agent.model.status import NetworkMode
from agent.model.task import NetworkBinding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.model.payload import Container, PortMapping, TaskPayload, Volume
    from agent.model.task import TaskRecord

MIN_CPU_SHARES = 2
MAX_CPU_SHARES = 262_144

# What is generated or judged here, by its one spelling: the engine reads keys in any case.
_CONFIG_KEYS = (
    "Image",
    "Env",
    "Cmd",
    "Entrypoint",
    "ExposedPorts",
    "Labels",
    "Healthcheck",
    "Hostname",
    "Domainname",
    "MacAddress",
)
_HOST_CONFIG_KEYS = (
    "NetworkMode",
    "PidMode",
    "IpcMode",
    "CpuShares",
    "Memory",
    "Privileged",
    "Binds",
    "VolumesFrom",
    "DeviceRequests",
    "Links",
    "PortBindings",
    "PublishAllPorts",
    "Dns",
    "DnsSearch",
    "DnsOptions",
    "ExtraHosts",
)
_BESIDE_CONFIG = frozenset({"hostconfig", "networkingconfig"})
"""Keys of the create body that are no part of the engine's ``Config``."""

LABEL_TASK = "com.amazonaws.ecs.task-arn"
LABEL_CONTAINER = "com.amazonaws.ecs.container-name"
LABEL_FAMILY = "com.amazonaws.ecs.task-definition-family"
LABEL_REVISION = "com.amazonaws.ecs.task-definition-version"
LABEL_CLUSTER = "com.amazonaws.ecs.cluster"
LABEL_OWNER = "ecs-host-agent.owner"
"""Which agent made the container; one host may carry several, and none touches another's."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container's body needs beside its payload."""

    cluster: str = "default"
    owner: str = ""
    sandbox_id: str = ""
    """Engine id of the task's sandbox, in awsvpc mode."""
    host_ports: Mapping[str, list[int]] = field(default_factory=dict)
    """Ports picked for this task, by ``port_key``."""
    privileged_allowed: bool = True


def engine_name(payload: TaskPayload, container: str) -> str:
    """Return the container's name in the engine."""
    return ids.container_engine_name(payload.arn, payload.family, payload.version, container)


def body(payload: TaskPayload, container: Container, around: Surroundings) -> dict[str, Any]:
    """Return the create body of one container.

    Raises:
        PayloadError: the container cannot be built as ordered (``HostConfigError`` or
            ``DockerClientConfigError``, as ECS names them).
    """
    config = _config(payload, container)
    host_config = _host_config(payload, container, around)
    given = _json(container.docker_config.config, reasons.CLIENT_CONFIG, "config")
    for key in [key for key in given if key.casefold() in _BESIDE_CONFIG]:
        del given[key]
    overlay(config, given, spelling=_CONFIG_KEYS)
    given = _json(container.docker_config.host_config, reasons.HOST_CONFIG, "hostConfig")
    overlay(host_config, given, spelling=_HOST_CONFIG_KEYS)
    _join_namespaces(payload, container, around, config, host_config)
    if host_config.get("Privileged") and not around.privileged_allowed:
        raise PayloadError(
            f"container {container.name} asks for privileged, which this host refuses "
            "(ECS_DISABLE_PRIVILEGED)",
            name=reasons.HOST_CONFIG,
        )
    config["Labels"] = {**_own_labels(container, config), **_labels(payload, container, around)}
    if container.health_check_type == "docker" and not config.get("Healthcheck"):
        text = f"container {container.name} has a health check type but no health check"
        raise PayloadError(text, name=reasons.CLIENT_CONFIG)
    config["HostConfig"] = host_config
    return config


def _config(payload: TaskPayload, container: Container) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Image": container.image,
        "Env": [f"{key}={value}" for key, value in container.environment.items()],
    }
    command = _command(container)
    if command is not None:
        config["Cmd"] = command
    if container.entry_point is not None:
        config["Entrypoint"] = container.entry_point
    if payload.mode is NetworkMode.BRIDGE:
        exposed: dict[str, Any] = {key: {} for key in port_pairs(container)}
        if exposed:
            config["ExposedPorts"] = exposed
    return config


def _command(container: Container) -> list[str] | None:
    overrides = container.overrides
    if overrides is None or overrides == "":
        return container.command
    if isinstance(overrides, str):
        try:
            overrides = json.loads(overrides)
        except (ValueError, RecursionError) as error:
            raise _bad_overrides(container, str(error)) from None
    if not isinstance(overrides, dict):
        raise _bad_overrides(container, "it is no object")
    unknown = sorted(overrides.keys() - {"command"})
    if unknown:
        raise _bad_overrides(container, f"unknown field {unknown[0]!r}")
    command = overrides.get("command")
    if command is None:
        return container.command
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise _bad_overrides(container, "command is no list of strings")
    return command


def _bad_overrides(container: Container, cause: str) -> PayloadError:
    text = f"overrides of container {container.name} cannot be read: {cause}"
    return PayloadError(text, name=reasons.CLIENT_CONFIG)


def _host_config(
    payload: TaskPayload, container: Container, around: Surroundings
) -> dict[str, Any]:
    host_config: dict[str, Any] = {
        "NetworkMode": payload.mode.value,
        "CpuShares": min(max(container.cpu, MIN_CPU_SHARES), MAX_CPU_SHARES),
    }
    if container.memory:
        host_config["Memory"] = container.memory * MIB
    if container.privileged:
        host_config["Privileged"] = True
    binds = _binds(payload, container)
    if binds:
        host_config["Binds"] = binds
    if container.volumes_from:
        host_config["VolumesFrom"] = [
            engine_name(payload, v.source_container) + (":ro" if v.read_only else "")
            for v in container.volumes_from
        ]
    if payload.mode is NetworkMode.BRIDGE:
        if container.links:
            host_config["Links"] = [_link(payload, link) for link in container.links]
        ports = _port_bindings(container, around.host_ports)
        if ports:
            host_config["PortBindings"] = ports
    gpus = [
        a.name for a in payload.associations if container.name in a.containers and a.type == "gpu"
    ]
    if gpus:
        host_config["DeviceRequests"] = [{"DeviceIDs": gpus, "Capabilities": [["gpu"]]}]
    return host_config


def _link(payload: TaskPayload, link: str) -> str:
    name, _, alias = link.partition(":")
    return f"{engine_name(payload, name)}:{alias or name}"


def _binds(payload: TaskPayload, container: Container) -> list[str]:
    sources = volume_sources(payload)
    binds = []
    for mount in container.mount_points:
        source = sources.get(mount.source_volume)
        if source is None:
            text = f"Invalid volume referenced: {mount.source_volume}"
            raise PayloadError(text, name=reasons.HOST_CONFIG)
        if not mount.container_path:
            text = f"volume {mount.source_volume} has no containerPath in {container.name}"
            raise PayloadError(text, name=reasons.HOST_CONFIG)
        binds.append(f"{source}:{mount.container_path}" + (":ro" if mount.read_only else ""))
    return binds


def volume_kind(volume: Volume) -> str:
    """Return the type of a volume; one without is ``docker`` or ``host`` by what it carries."""
    return volume.type or ("docker" if volume.docker_volume_configuration else "host")


def volume_sources(payload: TaskPayload) -> dict[str, str]:
    """Return, for each volume of the task, the host path or engine volume that containers mount."""
    sources = {}
    for volume in payload.volumes:
        docker = volume.docker_volume_configuration or {}
        kind = volume_kind(volume)
        if kind == "host" and volume.host is not None and volume.host.source_path:
            sources[volume.name] = volume.host.source_path
        elif kind == "docker" and docker.get("scope") == "shared":
            sources[volume.name] = volume.name
        else:
            sources[volume.name] = ids.volume_engine_name(
                payload.arn, payload.family, payload.version, volume.name
            )
    return sources


# -- ports ------------------------------------------------------------------------------------


def port_key(container: Container, mapping: PortMapping) -> str:
    """Return the name under which the ports picked for a mapping are kept."""
    port = mapping.container_port_range or mapping.container_port
    return f"{container.name}/{port}/{mapping.protocol or 'tcp'}"


def picked_ports(record: TaskRecord) -> list[tuple[str, list[int]]]:
    """Return the ports that the agent picked for a task, each list with its protocol."""
    return [(key.rsplit("/", 1)[-1], ports) for key, ports in record.host_ports.items()]


def container_ports(mapping: PortMapping) -> list[int]:
    """Return the container ports of a mapping, in order.

    Raises:
        PayloadError: a range that is no ``first-last`` or a port outside 1 to 65535.
    """
    if not mapping.container_port_range:
        ports = [mapping.container_port]
    else:
        first, dash, last = mapping.container_port_range.partition("-")
        # Five digits at most: a longer number is no port, and may be too long to be read at all.
        digits = all(part.isdecimal() and len(part) <= 5 for part in (first, last))
        if not (dash and digits and int(first) <= int(last)):
            text = f"containerPortRange {mapping.container_port_range[:30]!r} is no first-last"
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
    """Tell whether the agent must choose the host ports of a mapping."""
    return bool(mapping.container_port_range) or mapping.host_port == 0


def port_pairs(container: Container) -> list[str]:
    """Return every ``port/protocol`` that a container publishes."""
    return [
        f"{port}/{mapping.protocol or 'tcp'}"
        for mapping in container.port_mappings
        for port in container_ports(mapping)
    ]


def _host_ports_of(
    container: Container, mapping: PortMapping, picked: Mapping[str, list[int]]
) -> list[int]:
    if needs_pick(mapping):
        return picked.get(port_key(container, mapping), [])
    return [mapping.host_port]


def _port_bindings(
    container: Container, picked: Mapping[str, list[int]]
) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for mapping in container.port_mappings:
        hosts = _host_ports_of(container, mapping, picked)
        ports = container_ports(mapping)
        if len(hosts) != len(ports):
            raise _bad_port(f"no host ports were picked for {port_key(container, mapping)}")
        for port, host in zip(ports, hosts, strict=True):
            key = f"{port}/{mapping.protocol or 'tcp'}"
            bindings.setdefault(key, []).append({"HostPort": str(host)})
    return bindings


def network_bindings(
    payload: TaskPayload, container: Container, picked: Mapping[str, list[int]]
) -> list[NetworkBinding]:
    """Return what DescribeTasks shows of a running container's ports.

    Bridge shows what is published, host the ports themselves, awsvpc and none nothing.
    """
    if payload.mode not in (NetworkMode.BRIDGE, NetworkMode.HOST):
        return []
    result = []
    for mapping in container.port_mappings:
        ports = container_ports(mapping)
        hosts = ports
        if payload.mode is NetworkMode.BRIDGE:
            hosts = _host_ports_of(container, mapping, picked)
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


# -- the payload's own engine configuration ------------------------------------------------------


def _json(text: str | None, error_name: str, what: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"dockerConfig.{what} is no JSON: {error}", name=error_name) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PayloadError(f"dockerConfig.{what} is no JSON object", name=error_name)
    return value


def overlay(base: dict[str, Any], top: Mapping[str, Any], *, spelling: Iterable[str] = ()) -> None:
    """Lay engine configuration from the payload over what the agent generated, in place.

    Keys match whatever their case; objects merge, lists and scalars replace, null clears objects
    and lists and leaves scalars (the semantics of decoding JSON into a filled structure). Keys of
    ``spelling`` are written that way even if the base does not have them.
    """
    # casefold, as the engine does it: there "\N{LATIN SMALL LETTER LONG S}" is an s as well.
    by_fold = {key.casefold(): key for key in (*spelling, *base)}
    for key, value in top.items():
        name = by_fold.get(key.casefold(), key)
        current = base.get(name)
        if value is None:
            if isinstance(current, dict | list):
                base.pop(name)
        elif isinstance(current, dict) and isinstance(value, dict):
            merged = dict(current)
            overlay(merged, value)
            base[name] = merged
        else:
            base[name] = value
            by_fold[key.casefold()] = name


def _join_namespaces(
    payload: TaskPayload,
    container: Container,
    around: Surroundings,
    config: dict[str, Any],
    host_config: dict[str, Any],
) -> None:
    if payload.mode is NetworkMode.AWSVPC:
        host_config["NetworkMode"] = f"container:{around.sandbox_id}"
        # The sandbox owns all of these; the engine refuses them on a container that joins it.
        for key in ("Dns", "DnsSearch", "DnsOptions", "ExtraHosts"):
            host_config.pop(key, None)
        for key in ("Links", "PortBindings", "PublishAllPorts"):
            host_config.pop(key, None)
        for key in ("Hostname", "Domainname", "ExposedPorts", "MacAddress"):
            config.pop(key, None)
    if payload.pid_mode == "host":
        host_config["PidMode"] = "host"
    elif payload.pid_mode:
        raise _unsupported_mode("pidMode", payload.pid_mode, container)
    if payload.ipc_mode in ("host", "none"):
        host_config["IpcMode"] = payload.ipc_mode
    elif payload.ipc_mode:
        raise _unsupported_mode("ipcMode", payload.ipc_mode, container)


def _unsupported_mode(what: str, value: str, container: Container) -> PayloadError:
    text = f"{what} {value!r} of container {container.name} is not supported by this agent"
    return PayloadError(text, name=reasons.HOST_CONFIG)


def _own_labels(container: Container, config: Mapping[str, Any]) -> dict[str, str]:
    labels = config.get("Labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        text = f"dockerConfig.config.Labels of container {container.name} are no texts by name"
        raise PayloadError(text, name=reasons.CLIENT_CONFIG)
    return labels


def _labels(payload: TaskPayload, container: Container, around: Surroundings) -> dict[str, str]:
    return {
        LABEL_TASK: payload.arn,
        LABEL_CONTAINER: container.name,
        LABEL_FAMILY: payload.family,
        LABEL_REVISION: payload.version,
        LABEL_CLUSTER: around.cluster,
        LABEL_OWNER: around.owner,
    }
