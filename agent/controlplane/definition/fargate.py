"""Additional rules for a task definition that requires FARGATE. Pure.

Source of the rules: the Amazon ECS API reference and the developer guide, "Task definition differences
for Fargate"; error texts are those of the service if known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.front.errors import ClientException

if TYPE_CHECKING:
    from collections.abc import Mapping

_GIB = 1024
SIZES: Mapping[int, tuple[int, ...]] = {
    256: (512, 1 * _GIB, 2 * _GIB),
    512: tuple(range(1 * _GIB, 4 * _GIB + 1, _GIB)),
    1024: tuple(range(2 * _GIB, 8 * _GIB + 1, _GIB)),
    2048: tuple(range(4 * _GIB, 16 * _GIB + 1, _GIB)),
    4096: tuple(range(8 * _GIB, 30 * _GIB + 1, _GIB)),
    8192: tuple(range(16 * _GIB, 60 * _GIB + 1, 4 * _GIB)),
    16384: tuple(range(32 * _GIB, 120 * _GIB + 1, 8 * _GIB)),
}
"""Possible memory of a task in MiB, by its CPU units."""

_TIMEOUTS_S = range(2, 120 + 1)
_LINUX_PARAMETERS = ("devices", "sharedMemorySize", "tmpfs", "maxSwap", "swappiness")
_CONTAINER_MEMBERS = ("privileged", "links", "dockerSecurityOptions")


def check(definition: Mapping[str, Any]) -> None:
    """Raise ``ClientException`` if Amazon ECS could not run a definition on Fargate.

    Args:
        definition: with its sizes as numbers of CPU units and MiB.
    """
    for name in ("cpu", "memory"):
        if name not in definition:
            raise ClientException(f"Fargate requires that '{name}' be defined at the task level.")
    cpu, memory = int(definition["cpu"]), int(definition["memory"])
    if memory not in SIZES.get(cpu, ()):
        raise ClientException(
            f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. See "
            "the Amazon ECS documentation for the valid values."
        )
    if definition.get("networkMode") != "awsvpc":
        raise ClientException("Fargate only supports network mode 'awsvpc'.")
    if definition.get("pidMode") == "host":
        raise ClientException("Fargate only supports pidMode 'task'.")
    if definition.get("ipcMode"):
        raise ClientException("Fargate does not support 'ipcMode'.")
    for volume in definition.get("volumes", ()):
        _check_volume(volume)
    for container in definition["containerDefinitions"]:
        _check_container(container)


def _check_volume(volume: Mapping[str, Any]) -> None:
    if volume.get("host", {}).get("sourcePath"):
        raise ClientException(
            f"Fargate does not support 'sourcePath', which the volume '{volume.get('name', '')}' has."
        )
    if volume.get("dockerVolumeConfiguration"):
        raise ClientException(
            "Fargate does not support 'dockerVolumeConfiguration', which the volume "
            f"'{volume.get('name', '')}' has."
        )


def _check_container(container: Mapping[str, Any]) -> None:
    linux = container.get("linuxParameters", {})
    found = [member for member in _CONTAINER_MEMBERS if container.get(member)]
    found += [f"linuxParameters.{member}" for member in _LINUX_PARAMETERS if linux.get(member)]
    if found:
        raise _unsupported(container, f"'{found[0]}'")
    added = set(linux.get("capabilities", {}).get("add", ())) - {"SYS_PTRACE"}
    if added:
        raise _unsupported(container, f"the capability {min(added)}")
    for member in ("startTimeout", "stopTimeout"):
        if container.get(member) and container[member] not in _TIMEOUTS_S:
            raise _unsupported(
                container,
                f"a '{member}' that is not between {_TIMEOUTS_S[0]} and {_TIMEOUTS_S[-1]} seconds",
            )


def _unsupported(container: Mapping[str, Any], what: str) -> ClientException:
    return ClientException(
        f"Fargate does not support {what}, which the container '{container.get('name', '')}' has."
    )
