"""What a task definition must be: checks it and fills in what the service fills in. Pure.

Source of the rules: the Amazon ECS API reference (RegisterTaskDefinition) and the developer guide;
texts are the service's own where they are known.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane.api.container_rules import check_container, fixed_ports
from agent.controlplane.api.errors import ClientException
from agent.controlplane.scheduler.query import QueryError, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTAINER_LIMIT = 10
CONSTRAINT_LIMIT = 10
SIZE_LIMIT_BYTES = 65536

_FAMILY = re.compile(r"[A-Za-z0-9_-]{1,255}")
_VOLUME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_CPU = re.compile(r"(\d{1,9})|(\d{0,4}\.?\d{1,3})\s*vcpu", re.IGNORECASE | re.ASCII)
_MEMORY = re.compile(r"(\d{1,9})|(\d{0,6}\.?\d{1,3})\s*gb", re.IGNORECASE | re.ASCII)
_CPU_UNITS = range(128, 196608 + 1)
_MEMORY_MINIMUM_MIB = 4
_FAMILY_TEXT = "up to 255 letters, numbers, hyphens and underscores are allowed."
_EXITED = frozenset({"COMPLETE", "SUCCESS"})
_VOLUME_KINDS = (
    "host",
    "dockerVolumeConfiguration",
    "efsVolumeConfiguration",
    "fsxWindowsFileServerVolumeConfiguration",
    "s3filesVolumeConfiguration",
)

_COM = "com.amazonaws.ecs.capability."
_ECS = "ecs.capability."


def check_definition(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task definition as it is stored and described.

    Args:
        request: a RegisterTaskDefinition request that passed the service model.

    Raises:
        ClientException: a rule is broken.
    """
    check_family(request["family"])
    definition = {k: v for k, v in request.items() if k not in ("family", "tags")}
    definition |= _task_sizes(request)
    size = len(msgspec.json.encode(definition))
    if size > SIZE_LIMIT_BYTES:
        raise ClientException(
            f"Actual length: '{size}'. Max allowed length is '{SIZE_LIMIT_BYTES}' bytes."
        )
    definition["volumes"] = _volumes(request.get("volumes", []))
    definition["placementConstraints"] = _constraints(request.get("placementConstraints", []))
    definition["containerDefinitions"] = _containers(definition)
    return definition


def check_family(family: str) -> None:
    """Raise ``ClientException`` when the name of a family is not valid."""
    if not family:
        raise ClientException("Family should not be null or empty.")
    if not _FAMILY.fullmatch(family):
        raise ClientException(f"Family contains invalid characters: {_FAMILY_TEXT}")


def compatibilities(definition: Mapping[str, Any]) -> list[str]:
    """Return the launch types that a checked definition can have."""
    found = {"EC2", *definition.get("requiresCompatibilities", [])}
    if definition.get("networkMode") != "awsvpc":
        found.add("EXTERNAL")
    return [kind for kind in ("EXTERNAL", "EC2", "FARGATE", "MANAGED_INSTANCES") if kind in found]


def required_attributes(definition: Mapping[str, Any]) -> list[str]:
    """Return the capabilities that an instance needs to run a checked definition."""
    needed: set[str] = set()
    if definition.get("networkMode") == "awsvpc":
        needed.add(f"{_ECS}task-eni")
    for container in definition["containerDefinitions"]:
        if "logConfiguration" in container:
            needed.add(f"{_COM}logging-driver.{container['logConfiguration']['logDriver']}")
        if container.get("privileged"):
            needed.add(f"{_COM}privileged-container")
        if container.get("healthCheck"):
            needed.add(f"{_ECS}container-health-check")
        if container.get("dependsOn"):
            needed.add(f"{_ECS}container-ordering")
        if container.get("restartPolicy", {}).get("enabled"):
            needed.add(f"{_ECS}container-restart-policy")
        if any("containerPortRange" in mapping for mapping in container["portMappings"]):
            needed.add(f"{_ECS}network.container-port-range")
    return sorted(needed)


def cpu_units(text: str) -> int:
    """Return the CPU units of ``1024``, ``1 vCPU`` or ``.5 vcpu``.

    Raises:
        ClientException: it is none of these, or out of range.
    """
    match = _CPU.fullmatch(text.strip())
    if match is not None:
        units = int(match[1]) if match[1] else round(float(match[2]) * 1024)
        if units in _CPU_UNITS:
            return units
    raise ClientException("Invalid 'cpu' setting for task.")


def memory_mib(text: str) -> int:
    """Return the MiB of ``1024``, ``1GB`` or ``0.5 gb``.

    Raises:
        ClientException: it is none of these, or too little.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is not None:
        mib = int(match[1]) if match[1] else round(float(match[2]) * 1024)
        if mib >= _MEMORY_MINIMUM_MIB:
            return mib
    raise ClientException("Invalid 'memory' setting for task.")


def _task_sizes(request: Mapping[str, Any]) -> dict[str, str]:
    sizes: dict[str, str] = {}
    if request.get("cpu"):
        sizes["cpu"] = str(cpu_units(request["cpu"]))
    if request.get("memory"):
        sizes["memory"] = str(memory_mib(request["memory"]))
    if "FARGATE" in request.get("requiresCompatibilities", []):
        for name in ("cpu", "memory"):
            if name not in sizes:
                raise ClientException(
                    f"Fargate requires that '{name}' be defined at the task level."
                )
        if request.get("networkMode") != "awsvpc":
            raise ClientException("Fargate only supports network mode 'awsvpc'.")
    return sizes


def _volumes(volumes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    seen: set[str] = set()
    for volume in volumes:
        name = volume.get("name", "")
        if not _VOLUME.fullmatch(name):
            raise ClientException(
                f"The volume name '{name[:255]}' is not valid: use up to 255 letters, numbers, "
                "hyphens and underscores."
            )
        if name in seen:
            raise ClientException(f"Duplicate volume name '{name}'.")
        seen.add(name)
        if sum(kind in volume for kind in _VOLUME_KINDS) > 1:
            raise ClientException(
                f"The volume '{name}' can have only one of: {', '.join(_VOLUME_KINDS)}."
            )
        docker = volume.get("dockerVolumeConfiguration", {})
        if docker.get("autoprovision") is not None and docker.get("scope") != "shared":
            raise ClientException(
                f"Volume '{name}': autoprovision can only be used when scope is shared."
            )
        path = volume.get("host", {}).get("sourcePath", "")
        if path and not path.startswith("/"):
            raise ClientException(f"Volume '{name}': the host path must be absolute.")
    return [{"host": {}, **v} if not _has_kind(v) else dict(v) for v in volumes]


def _has_kind(volume: Mapping[str, Any]) -> bool:
    return any(kind in volume for kind in _VOLUME_KINDS) or bool(volume.get("configuredAtLaunch"))


def _constraints(constraints: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if len(constraints) > CONSTRAINT_LIMIT:
        raise ClientException(f"At most {CONSTRAINT_LIMIT} placement constraints are allowed.")
    for constraint in constraints:
        if not constraint.get("type") or not constraint.get("expression"):
            raise ClientException("A placement constraint needs a type and an expression.")
        try:
            parse(constraint["expression"])
        except QueryError as error:
            raise ClientException(str(error)) from None
    return [dict(constraint) for constraint in constraints]


def _containers(definition: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = definition["containerDefinitions"]
    if not given:
        raise ClientException("Container list cannot be empty.")
    if len(given) > CONTAINER_LIMIT:
        raise ClientException(f"Container list cannot contain more than {CONTAINER_LIMIT} items.")
    mode = definition.get("networkMode", "bridge")
    containers = [
        check_container(
            container,
            network_mode=mode,
            volumes={volume["name"] for volume in definition["volumes"]},
            has_task_memory="memory" in definition,
        )
        for container in given
    ]
    twice = [name for name, count in Counter(c["name"] for c in containers).items() if count > 1]
    if twice:
        raise ClientException(f"Container names must be unique; used more than once: {twice[0]}")
    if not any(container["essential"] for container in containers):
        raise ClientException("Task definition must have at least one essential container.")
    _check_sums(definition, containers)
    _check_ports(containers, mode)
    _check_references(definition, containers)
    return containers


def _check_sums(definition: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]) -> None:
    if "memory" in definition:
        most = int(definition["memory"])
        for container in containers:
            if (container.get("memory") or container.get("memoryReservation") or 0) > most:
                raise ClientException(
                    f"Invalid setting for container '{container['name']}'. 'memory' must not be "
                    "greater than the memory of the task."
                )
        if sum(container.get("memoryReservation") or 0 for container in containers) > most:
            raise ClientException(
                "Total memoryReservation of the containers is greater than the memory of the task."
            )
    if "cpu" in definition:
        total = sum(container["cpu"] for container in containers)
        if total > int(definition["cpu"]):
            raise ClientException(
                "Total cpu of the containers is greater than the cpu of the task."
            )


def _check_ports(containers: Sequence[Mapping[str, Any]], mode: str) -> None:
    if mode == "awsvpc":
        return
    counts = Counter(port for container in containers for port in fixed_ports(container))
    twice = [f"{port}/{protocol}" for (port, protocol), count in counts.items() if count > 1]
    if twice:
        raise ClientException(f"The host port {twice[0]} is used by more than one port mapping.")


def _check_references(
    definition: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]
) -> None:
    by_name = {container["name"]: container for container in containers}
    edges: dict[str, set[str]] = {name: set() for name in by_name}
    for container in containers:
        name = container["name"]
        for link in container.get("links", []):
            edges[name].add(_known(by_name, name, link.split(":")[0], "links"))
        for source in container["volumesFrom"]:
            other = source.get("sourceContainer", "")
            edges[name].add(_known(by_name, name, other, "volumesFrom"))
        for dependency in container.get("dependsOn", []):
            other = _known(by_name, name, dependency["containerName"], "dependsOn")
            _check_condition(name, by_name[other], dependency["condition"])
            edges[name].add(other)
    proxy = definition.get("proxyConfiguration")
    if proxy is not None and proxy["containerName"] not in by_name:
        raise ClientException(
            f"proxyConfiguration names the container '{proxy['containerName']}', which the task "
            "definition does not have."
        )
    _check_acyclic(edges)


def _known(by_name: Mapping[str, Any], name: str, other: str, member: str) -> str:
    if other == name:
        raise ClientException(f"Container '{name}' names itself in '{member}'.")
    if other not in by_name:
        raise ClientException(
            f"Container '{name}' names the container '{other}' in '{member}', which the task "
            "definition does not have."
        )
    return other


def _check_condition(name: str, other: Mapping[str, Any], condition: str) -> None:
    if condition == "HEALTHY" and "healthCheck" not in other:
        raise ClientException(
            f"Container '{name}' depends on '{other['name']}' being HEALTHY, but that container "
            "has no health check."
        )
    if condition in _EXITED and other["essential"]:
        raise ClientException(
            f"Container '{name}' depends on '{other['name']}' with condition {condition}, which "
            "cannot be set on an essential container."
        )


def _check_acyclic(edges: Mapping[str, set[str]]) -> None:
    left = {name: set(others) for name, others in edges.items()}
    while left:
        free = [name for name, others in left.items() if not others]
        if not free:
            raise ClientException(
                f"There is a cycle in the dependencies of the containers {', '.join(sorted(left))}."
            )
        for name in free:
            del left[name]
        for others in left.values():
            others.difference_update(free)
