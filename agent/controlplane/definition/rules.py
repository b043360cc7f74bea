"""Rules for task definitions: checks one and fills in the service's defaults. Pure.

Source of the rules: the Amazon ECS API reference (RegisterTaskDefinition) and the developer guide;
error texts are those of the service if known.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane.definition import fargate, gpus, log_configuration
from agent.controlplane.definition.container_rules import check_container, check_overridable
from agent.controlplane.definition.overrides import OverrideError
from agent.controlplane.definition.port_rules import check_host_ports
from agent.controlplane.definition.sizes import InvalidSize, cpu_units, memory_mib
from agent.controlplane.definition.support import refusal_at_registration
from agent.controlplane.front.errors import ClientException
from agent.controlplane.scheduler.query import QueryError, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTAINER_LIMIT = 10
CONSTRAINT_LIMIT = 10
SIZE_LIMIT_BYTES = 65536

_FAMILY = re.compile(r"[A-Za-z0-9_-]{1,255}")
_VOLUME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ROLE = re.compile(
    r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}|[\w+=,.@-]{1,64}", re.ASCII
)
_NOT_KEPT = frozenset({"family", "tags", "cpu", "memory"})
"""Members that are stored next to the definition, or in another form."""
_FAMILY_TEXT = "up to 255 letters, numbers, hyphens and underscores are allowed."
_EXITED = frozenset({"COMPLETE", "SUCCESS"})
_NO_CHECK: Mapping[str, Any] = {"command": ["NONE"]}
_VOLUME_KINDS = ("host", "dockerVolumeConfiguration", "efsVolumeConfiguration")


def check_definition(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task definition as it is stored and described.

    Args:
        request: a RegisterTaskDefinition request that passed the service model.

    Raises:
        ClientException: a rule is broken.
    """
    check_family(request["family"])
    refusal = refusal_at_registration(request)
    if refusal is not None:
        raise ClientException(refusal.text)
    definition = {k: v for k, v in request.items() if k not in _NOT_KEPT}
    definition |= _task_sizes(request)
    _check_roles(definition)
    size = len(msgspec.json.encode(definition))
    if size > SIZE_LIMIT_BYTES:
        raise ClientException(
            f"Actual length: '{size}'. Max allowed length is '{SIZE_LIMIT_BYTES}' bytes."
        )
    definition["volumes"] = _volumes(request.get("volumes", []))
    definition["placementConstraints"] = _constraints(request.get("placementConstraints", []))
    definition["containerDefinitions"] = _containers(definition)
    _check_gpus(definition)
    if "FARGATE" in definition.get("requiresCompatibilities", []):
        fargate.check(definition)
    return definition


def check_family(family: str) -> None:
    """Raise ``ClientException`` if the name of a family is not valid."""
    if not family:
        raise ClientException("Family should not be null or empty.")
    if not _FAMILY.fullmatch(family):
        raise ClientException(f"Family contains invalid characters: {_FAMILY_TEXT}")


def compatibilities(definition: Mapping[str, Any]) -> list[str]:
    """Return the launch types with which a checked definition can run."""
    found = {"EC2", *definition.get("requiresCompatibilities", [])}
    if definition.get("networkMode") != "awsvpc":
        found.add("EXTERNAL")
    return [kind for kind in ("EXTERNAL", "EC2", "FARGATE", "MANAGED_INSTANCES") if kind in found]


def check_effective(body: Mapping[str, Any]) -> None:
    """Check a definition after overrides were applied, with the rules of registration.

    Args:
        body: the definition with overrides applied, its sizes as numbers.

    Raises:
        ClientException: a rule is broken.
    """
    _check_roles(body)
    for container in body["containerDefinitions"]:
        check_overridable(container, has_task_memory=bool(body.get("memory")))
    _check_gpus(body)
    _check_sums(body, body["containerDefinitions"])


def _check_gpus(body: Mapping[str, Any]) -> None:
    try:
        gpus.of(body)
    except OverrideError as error:
        raise ClientException(str(error)) from None


def _task_sizes(request: Mapping[str, Any]) -> dict[str, str]:
    try:
        sizes = {
            "cpu": cpu_units(request.get("cpu", "")),
            "memory": memory_mib(request.get("memory", "")),
        }
    except InvalidSize as error:
        raise ClientException(str(error)) from None
    return {name: str(size) for name, size in sizes.items() if size}


def _check_roles(definition: Mapping[str, Any]) -> None:
    for member in ("taskRoleArn", "executionRoleArn"):
        if definition.get(member) and not _ROLE.fullmatch(definition[member]):
            raise ClientException("Role is not valid")


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
        _check_efs(name, volume.get("efsVolumeConfiguration", {}))
        path = volume.get("host", {}).get("sourcePath", "")
        if path and not path.startswith("/"):
            raise ClientException(f"Volume '{name}': the host path must be absolute.")
        if ":" in path:
            raise ClientException(f"Volume '{name}': the host path must not contain a colon.")
    return [_filled(volume) for volume in volumes]


def _check_efs(name: str, efs: Mapping[str, Any]) -> None:
    """Check what an EFS volume asks for together; source: EFSVolumeConfiguration in the API reference."""
    authorization = efs.get("authorizationConfig", {})
    access_point = authorization.get("accessPointId")
    encrypted = efs.get("transitEncryption") == "ENABLED"
    if access_point and efs.get("rootDirectory", "/") not in ("", "/"):
        raise ClientException(
            f"Volume '{name}': rootDirectory must be omitted or set to / if an EFS access point "
            "is specified."
        )
    needs = "iam" if authorization.get("iam") == "ENABLED" else "accessPointId"
    if (access_point or needs == "iam") and not encrypted:
        raise ClientException(
            f"Volume '{name}': transitEncryption must be ENABLED when {needs} is specified."
        )
    if efs.get("transitEncryptionPort") and not encrypted:
        raise ClientException(
            f"Volume '{name}': transitEncryption must be ENABLED when transitEncryptionPort is "
            "specified."
        )


def _filled(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Return a volume as the service would store it."""
    if not any(kind in volume for kind in _VOLUME_KINDS):
        return {"host": {}, **volume}
    efs = volume.get("efsVolumeConfiguration")
    if efs is None:
        return dict(volume)
    return {**volume, "efsVolumeConfiguration": {"rootDirectory": "/", **efs}}


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
    log_configuration.check_routers(containers)
    _check_sums(definition, containers)
    check_host_ports(containers, mode)
    _check_references(containers)
    return containers


def _check_sums(definition: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]) -> None:
    if definition.get("memory"):
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
    if definition.get("cpu"):
        total = sum(container["cpu"] for container in containers)
        if total > int(definition["cpu"]):
            raise ClientException(
                "Total cpu of the containers is greater than the cpu of the task."
            )


def _check_references(containers: Sequence[Mapping[str, Any]]) -> None:
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
    if condition == "HEALTHY" and other.get("healthCheck", _NO_CHECK)["command"][0] == "NONE":
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
