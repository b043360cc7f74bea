"""Creates the body of ``POST /containers/create`` from a container of a payload. Pure.

The order is that of Amazon ECS (agent 1.105.1, ``api/task/task.go``): first the fields that the
agent generates, then the payload's ``dockerConfig`` JSON laid over them, then the fields that the
agent must control (namespaces, control group, labels). Sizes in payloads are MiB; the engine expects bytes. Fails
with ``PayloadError``, whose name says which part of the order is at fault.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.engine import (
    container_gpus,
    log_config,
    overlay,
    ports,
    shared_namespaces,
    shared_network,
)
from agent.engine.container_gpus import GpuSettings
from agent.engine.labels import (
    LABEL_CLUSTER,
    LABEL_CONTAINER,
    LABEL_FAMILY,
    LABEL_OWNER,
    LABEL_REVISION,
    LABEL_TASK,
)
from agent.engine.preparations.contract import Provision
from agent.errors import PayloadError
from agent.model import ids, reasons
from agent.model.resources import MIB
from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.payload import Container, TaskPayload

MIN_CPU_SHARES = 2
MAX_CPU_SHARES = 262_144
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""By which AWS SDKs know their region; ECS sets both where nobody sets either."""


@dataclass(frozen=True, slots=True)
class ContainerContext:
    """Values for a container's body that are not in its payload."""

    cluster: str = "default"
    owner: str = ""
    sandbox_id: str = ""
    """Engine id of the task's sandbox, in awsvpc mode."""
    resolv_conf: str = ""
    """Host path of the container's own resolv.conf, if ``shared_network.own_resolvers`` wants
    one."""
    host_ports: Mapping[str, list[int]] = field(default_factory=dict)
    """Ports picked for this task, by ``port_key``."""
    provision: Provision = field(default_factory=Provision)
    """What the task's preparations provide."""
    image: str = ""
    """By which the engine knows the image, if that is not the ordered name."""
    image_variables: frozenset[str] = frozenset()
    """Names of the environment variables that the image sets."""
    region: str = ""
    """Given to containers for which nothing else names a region; empty to give none."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that override those in the definition."""
    binds: tuple[str, ...] = ()
    """What is mounted besides all else, as the engine writes it."""
    gpus: GpuSettings = field(default_factory=GpuSettings)


def engine_name(payload: TaskPayload, container: str) -> str:
    """Return the container's name in the engine."""
    return ids.container_engine_name(payload.arn, payload.family, payload.version, container)


def body(payload: TaskPayload, container: Container, around: ContainerContext) -> dict[str, Any]:
    """Return the create body of one container.

    Raises:
        PayloadError: the container cannot be created as ordered (``HostConfigError`` or
            ``DockerClientConfigError``, as ECS names them).
    """
    config = _config(payload, container, around.image or container.image)
    host_config = _host_config(payload, container, around)
    given = overlay.checked(container.docker_config.config, reasons.CLIENT_CONFIG, "config")
    own = {key: v for key, v in given.items() if key.casefold() not in overlay.BESIDE_CONFIG}
    overlay.overlay(config, own, spelling=overlay.CONFIG_KEYS)
    given = overlay.checked(container.docker_config.host_config, reasons.HOST_CONFIG, "hostConfig")
    overlay.overlay(host_config, given, spelling=overlay.HOST_CONFIG_KEYS)
    _add_environment(container, around, config)
    if container.name in around.provision.log_configs:
        host_config["LogConfig"] = dict(around.provision.log_configs[container.name])
    else:
        options = around.provision.log_options.get(container.name, {})
        log_config.complete(container, host_config, options)
    binds = [*around.provision.binds.get(container.name, []), *around.binds]
    if binds:
        host_config["Binds"] = [*(host_config.get("Binds") or []), *binds]
    _join_namespaces(payload, container, around, config, host_config)
    container_gpus.give(payload, container, around.gpus, config, host_config)
    if around.provision.cgroup_parent:
        host_config["CgroupParent"] = around.provision.cgroup_parent
    _check_life(container, host_config)
    config["Labels"] = {**_own_labels(container, config), **_labels(payload, container, around)}
    if container.health_check_type == "docker" and not config.get("Healthcheck"):
        text = f"container {container.name} has a health check type but no health check"
        raise PayloadError(text, name=reasons.CLIENT_CONFIG)
    config["HostConfig"] = host_config
    return config


def _config(payload: TaskPayload, container: Container, image: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Image": image,
        "Env": [f"{key}={value}" for key, value in container.environment.items()],
    }
    command = _command(container)
    if command is not None:
        config["Cmd"] = command
    if container.entry_point is not None:
        config["Entrypoint"] = container.entry_point
    if payload.mode is NetworkMode.BRIDGE:
        exposed: dict[str, Any] = {key: {} for key in ports.port_pairs(container)}
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
        raise _bad_overrides(container, "it is not an object")
    unknown = sorted(overrides.keys() - {"command"})
    if unknown:
        raise _bad_overrides(container, f"unknown field {unknown[0]!r}")
    command = overrides.get("command")
    if command is None:
        return container.command
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise _bad_overrides(container, "command is not a list of strings")
    return command


def _bad_overrides(container: Container, cause: str) -> PayloadError:
    text = f"overrides of container {container.name} cannot be read: {cause}"
    return PayloadError(text, name=reasons.CLIENT_CONFIG)


def _host_config(
    payload: TaskPayload, container: Container, around: ContainerContext
) -> dict[str, Any]:
    host_config: dict[str, Any] = {
        "NetworkMode": payload.mode.value,
        "CpuShares": min(max(container.cpu, MIN_CPU_SHARES), MAX_CPU_SHARES),
    }
    memory_mib = container.memory or around.provision.memory_mib
    if memory_mib:
        host_config["Memory"] = memory_mib * MIB
    if container.privileged:
        host_config["Privileged"] = True
    binds = _binds(container, around)
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
        bindings = ports.port_bindings(container, around.host_ports)
        if bindings:
            host_config["PortBindings"] = bindings
    return host_config


def _link(payload: TaskPayload, link: str) -> str:
    name, _, alias = link.partition(":")
    return f"{engine_name(payload, name)}:{alias or name}"


def _binds(container: Container, around: ContainerContext) -> list[str]:
    binds = []
    for mount in container.mount_points:
        source = around.provision.mount_sources.get(mount.source_volume)
        if source is None:
            text = f"Invalid volume referenced: {mount.source_volume}"
            raise PayloadError(text, name=reasons.HOST_CONFIG)
        if not mount.container_path:
            text = f"volume {mount.source_volume} has no containerPath in {container.name}"
            raise PayloadError(text, name=reasons.HOST_CONFIG)
        binds.append(f"{source}:{mount.container_path}" + (":ro" if mount.read_only else ""))
    return binds


def _add_environment(
    container: Container, around: ContainerContext, config: dict[str, Any]
) -> None:
    """Add what the order does not set: secrets and the agent's own win over it, it wins over files.

    The region is added last, if none of these, nor the image, sets either of its variables.
    """
    files = around.provision.file_environment.get(container.name, {})
    secrets = {
        **around.provision.environment.get(container.name, {}),
        **around.environment,
        **around.provision.secret_environment.get(container.name, {}),
    }
    if not files and not secrets and not around.region:
        return
    ordered = config.get("Env") or []
    if not isinstance(ordered, list) or not all(isinstance(pair, str) for pair in ordered):
        text = f"dockerConfig.config.Env of container {container.name} is not a list of texts"
        raise PayloadError(text, name=reasons.CLIENT_CONFIG)
    names = {pair.partition("=")[0] for pair in ordered}
    named = names | secrets.keys() | files.keys() | around.image_variables
    regions = REGION_VARIABLES if around.region and named.isdisjoint(REGION_VARIABLES) else ()
    config["Env"] = [
        *(f"{name}={v}" for name, v in files.items() if name not in names | secrets.keys()),
        *(pair for pair in ordered if pair.partition("=")[0] not in secrets),
        *(f"{name}={value}" for name, value in secrets.items()),
        *(f"{name}={around.region}" for name in regions),
    ]


def _join_namespaces(
    payload: TaskPayload,
    container: Container,
    around: ContainerContext,
    config: dict[str, Any],
    host_config: dict[str, Any],
) -> None:
    if payload.mode is NetworkMode.AWSVPC:
        shared_network.join(
            container,
            config,
            host_config,
            sandbox_id=around.sandbox_id,
            resolv_conf=around.resolv_conf,
        )
    holder_id = around.provision.namespaces or around.sandbox_id
    shared_namespaces.join(payload, container, host_config, holder_id=holder_id)


def _check_life(container: Container, host_config: Mapping[str, Any]) -> None:
    """Refuse settings by which the engine would restart or remove the container on its own."""
    policy = host_config.get("RestartPolicy") or {}
    words = policy.values() if isinstance(policy, dict) else [policy]
    asked = ""
    if any(isinstance(word, str) and word not in ("", "no") for word in words):
        asked = "to restart it (RestartPolicy); use the container's restartPolicy"
    elif host_config.get("AutoRemove"):
        asked = "to remove it (AutoRemove), but the agent does that once its end was reported"
    if asked:
        text = f"container {container.name} asks the engine {asked}"
        raise PayloadError(text, name=reasons.HOST_CONFIG)


def _own_labels(container: Container, config: Mapping[str, Any]) -> dict[str, str]:
    labels = config.get("Labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        text = f"dockerConfig.config.Labels of container {container.name} is not a map of texts"
        raise PayloadError(text, name=reasons.CLIENT_CONFIG)
    return labels


def _labels(payload: TaskPayload, container: Container, around: ContainerContext) -> dict[str, str]:
    return {
        LABEL_TASK: payload.arn,
        LABEL_CONTAINER: container.name,
        LABEL_FAMILY: payload.family,
        LABEL_REVISION: payload.version,
        LABEL_CLUSTER: around.cluster,
        LABEL_OWNER: around.owner,
    }
