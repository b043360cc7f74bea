"""Whether a container has what its definition asks for, by what the engine says of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MIB = 1024 * 1024
_DRIVERS = {"awsfirelens": "fluentd"}
"""What the engine is given for a driver that ECS alone knows."""
_SAME_CONFIG = {
    "user": "User",
    "workingDirectory": "WorkingDir",
    "command": "Cmd",
    "entryPoint": "Entrypoint",
}
"""Members of a container that the engine shows unchanged."""


def missing(
    definition: Mapping[str, Any], container: Mapping[str, Any], seen: Mapping[str, Any]
) -> list[str]:
    """Return what a container of a task asks for and does not have; empty when it has all.

    Args:
        definition: the task definition as registered.
        container: the container's definition.
        seen: ``docker inspect`` of the container.
    """
    return [
        *_of_config(container, seen["Config"]),
        *_of_host_config(container, seen["HostConfig"]),
        *_mounts(container, seen),
        *_of_task(definition, seen["HostConfig"]),
    ]


def _of_config(container: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    yield from _environment(container, dict(e.partition("=")[::2] for e in config["Env"]))
    for name, value in container.get("dockerLabels", {}).items():
        if config["Labels"].get(name) != value:
            yield f"label {name}"
    for member, key in _SAME_CONFIG.items():
        if container.get(member) and config[key] != container[member]:
            yield member
    if container.get("healthCheck") and not config.get("Healthcheck"):
        yield "healthCheck"


def _environment(container: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[str]:
    for pair in container.get("environment", ()):
        if environment.get(pair["name"]) != pair.get("value", ""):
            yield f"environment {pair['name']}"
    for secret in container.get("secrets", ()):
        if not environment.get(secret["name"]):
            yield f"secret {secret['name']}"
    if container.get("environmentFiles") and "FROM_FILE" not in environment:
        yield "environmentFiles"


def _of_host_config(container: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[str]:
    linux = container.get("linuxParameters", {})
    log = container.get("logConfiguration") or {}
    driver = log.get("logDriver", "")
    wanted: dict[str, tuple[Any, Any]] = {
        "memory": (container.get("memory", 0) * _MIB, host["Memory"]),
        "memoryReservation": (
            container.get("memoryReservation", 0) * _MIB,
            host["MemoryReservation"],
        ),
        "cpu": (container.get("cpu", 0), host["CpuShares"]),
        "logConfiguration": (_DRIVERS.get(driver, driver), host["LogConfig"]["Type"]),
        "privileged": (container.get("privileged"), host["Privileged"]),
        "readonlyRootFilesystem": (
            container.get("readonlyRootFilesystem"),
            host["ReadonlyRootfs"],
        ),
        "initProcessEnabled": (linux.get("initProcessEnabled"), host.get("Init")),
        "sharedMemorySize": (linux.get("sharedMemorySize", 0) * _MIB, host["ShmSize"]),
    }
    yield from (what for what, (asked, found) in wanted.items() if asked and asked != found)
    yield from (
        f"capability {name}"
        for name in linux.get("capabilities", {}).get("add", ())
        if name not in (host["CapAdd"] or ())
    )
    limits = {limit["Name"] for limit in host["Ulimits"] or ()}
    for limit in container.get("ulimits", ()):
        if limit["name"] not in limits:
            yield f"ulimit {limit['name']}"


def _mounts(container: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[str]:
    mounted = {mount["Destination"].rstrip("/") for mount in seen["Mounts"]}
    for mount in container.get("mountPoints", ()):
        if mount["containerPath"].rstrip("/") not in mounted:
            yield f"mount {mount['containerPath']}"


def _of_task(definition: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[str]:
    sized = definition.get("cpu") or definition.get("memory")
    if sized and not host["CgroupParent"]:
        yield "the limits of the task"
    mode = definition.get("networkMode") or "bridge"
    is_joined = host["NetworkMode"].startswith("container:")
    if (mode == "awsvpc") != is_joined and mode != "bridge":
        yield f"network mode {mode}"
    for member, key in (("pidMode", "PidMode"), ("ipcMode", "IpcMode")):
        wanted = definition.get(member)
        is_right = host[key].startswith("container:") if wanted == "task" else host[key] == wanted
        if wanted and not is_right:
            yield member
