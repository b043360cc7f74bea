"""The engine's part of a container: Docker API ``Config`` and ``HostConfig`` from a definition.

Most settings of a container definition are sent in the Docker API's own format
(``dockerConfig.config`` and ``.hostConfig``), which the agent merges over what it generates itself.
Settings with typed fields in the payload (image, command, ports, mounts, CPU, memory...) are not here;
log drivers are in ``log_configuration``.

Pure: takes a container of ``containerDefinitions`` as DescribeTaskDefinition shows it.

Tests: ``tests/unit/controlplane/definition/test_payload.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIB = 1024 * 1024
_NS_PER_S = 1_000_000_000
CMD: Final = "CMD"
CMD_SHELL: Final = "CMD-SHELL"
NO_CHECK: Final = "NONE"
"""First words of a health check: a program, a line for the shell, and no check at all."""

_DEVICE_PERMISSIONS = {"read": "r", "write": "w", "mknod": "m"}


def config(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``Config`` part; empty if the definition sets none of it."""
    body = _present(
        User=container.get("user"),
        Hostname=container.get("hostname"),
        WorkingDir=container.get("workingDirectory"),
        Tty=container.get("pseudoTerminal"),
        OpenStdin=container.get("interactive"),
        NetworkDisabled=container.get("disableNetworking"),
        Labels=container.get("dockerLabels"),
    )
    if container.get("healthCheck"):
        body["Healthcheck"] = _health_check(container["healthCheck"])
    return body


def host_config(container: Mapping[str, Any], network_mode: str) -> dict[str, Any]:
    """Return the ``HostConfig`` part.

    Args:
        container: the container's definition with overrides applied.
        network_mode: the task's; awsvpc is left out, because the agent handles it.
    """
    body = _present(
        NetworkMode=network_mode if network_mode != "awsvpc" else None,
        Privileged=container.get("privileged"),
        ReadonlyRootfs=container.get("readonlyRootFilesystem"),
        Dns=container.get("dnsServers"),
        DnsSearch=container.get("dnsSearchDomains"),
        SecurityOpt=container.get("dockerSecurityOptions"),
    )
    if container.get("memoryReservation"):
        body["MemoryReservation"] = container["memoryReservation"] * MIB
    if container.get("extraHosts"):
        body["ExtraHosts"] = [f"{h['hostname']}:{h['ipAddress']}" for h in container["extraHosts"]]
    if container.get("ulimits"):
        body["Ulimits"] = [
            {"Name": u["name"], "Soft": u["softLimit"], "Hard": u["hardLimit"]}
            for u in container["ulimits"]
        ]
    if container.get("systemControls"):
        body["Sysctls"] = {
            s["namespace"]: s.get("value", "")
            for s in container["systemControls"]
            if s.get("namespace")
        }
    linux = container.get("linuxParameters") or {}
    return body | _linux_parameters(linux, container.get("memory") or 0)


def _present(**members: Any) -> dict[str, Any]:
    """Return the members that are not empty."""
    return {name: value for name, value in members.items() if value}


def health_test(command: Sequence[str]) -> list[str]:
    """Return a health check's command as the engine takes it.

    The engine runs no check whose first word it does not know. It is taken for a program with its
    arguments, which is what CMD stands for: users report that Fargate does so. Not tried there.
    """
    known = not command or command[0] in (CMD, CMD_SHELL, NO_CHECK)
    return list(command) if known else [CMD, *command]


def _health_check(check: Mapping[str, Any]) -> dict[str, Any]:
    """Return the check; durations are nanoseconds, and missing values have ECS's defaults."""
    return {
        "Test": health_test(check.get("command", ())),
        "Interval": int(check.get("interval") or 30) * _NS_PER_S,
        "Timeout": int(check.get("timeout") or 5) * _NS_PER_S,
        "Retries": int(check.get("retries") or 3),
        "StartPeriod": int(check.get("startPeriod") or 0) * _NS_PER_S,
    }


def _linux_parameters(linux: Mapping[str, Any], memory_mib: int) -> dict[str, Any]:
    capabilities = linux.get("capabilities") or {}
    body = _present(
        CapAdd=capabilities.get("add"),
        CapDrop=capabilities.get("drop"),
        Devices=[_device(device) for device in linux.get("devices", ())],
        Tmpfs={t["containerPath"]: _tmpfs_options(t) for t in linux.get("tmpfs", ())},
        ShmSize=(linux.get("sharedMemorySize") or 0) * MIB,
    )
    if linux.get("initProcessEnabled") is not None:
        body["Init"] = linux["initProcessEnabled"]
    # The engine limits memory and swap together, and ignores swap without a memory limit. ECS
    # ignores swappiness without maxSwap.
    if linux.get("maxSwap") is not None and memory_mib:
        body["MemorySwap"] = (memory_mib + linux["maxSwap"]) * MIB
        if linux.get("swappiness") is not None:
            body["MemorySwappiness"] = linux["swappiness"]
    return body


def _device(device: Mapping[str, Any]) -> dict[str, str]:
    permissions = device.get("permissions") or list(_DEVICE_PERMISSIONS)
    return {
        "PathOnHost": device["hostPath"],
        "PathInContainer": device.get("containerPath") or device["hostPath"],
        "CgroupPermissions": "".join(_DEVICE_PERMISSIONS.get(p, "") for p in permissions),
    }


def _tmpfs_options(tmpfs: Mapping[str, Any]) -> str:
    return ",".join([*tmpfs.get("mountOptions", ()), f"size={tmpfs['size']}m"])
