"""Rules for container definitions: checks one and fills in the service's defaults. Pure.

Source of the rules: the Amazon ECS API reference (ContainerDefinition and its parts) and the
developer guide; error texts are those of the service if known. The service model has already checked
types, required members and enums.

Tests: ``tests/unit/controlplane/definition/test_rules.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from agent.controlplane.definition import fetched_rules, log_configuration
from agent.controlplane.definition.docker_config import CMD, CMD_SHELL
from agent.controlplane.definition.port_rules import check_mappings
from agent.controlplane.front.errors import ClientException

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

MEMORY_MINIMUM_MIB = 4
"""The engine's minimum when the API was made; newer engines need 6 and fail when the task starts."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_IMAGE = re.compile(r"[A-Za-z0-9_.:/#-]{1,255}(?:@sha256:[A-Fa-f0-9]{64})?")
_NEED_NETWORK = ("links", "extraHosts", "dnsServers", "dnsSearchDomains")
"""The engine ignores these in a container without a network."""
_SHOWN = 64
"""How many characters of a value an error repeats at most."""
_ALIAS_LINK = re.compile(r"([A-Za-z0-9_-]+)(?::[A-Za-z0-9_.-]+)?")


def check_container(
    container: dict[str, Any],
    *,
    network_mode: str,
    volumes: Collection[str],
    has_task_memory: bool,
) -> dict[str, Any]:
    """Return a container definition as the service would store it.

    Args:
        container: as the client sent it; not changed.
        network_mode: of the task; ``bridge`` if none is given.
        volumes: names of the task's volumes.
        has_task_memory: whether the task itself has a memory limit.

    Raises:
        ClientException: a rule is broken; the text names the container.
    """
    _check_name(container)
    _check_network(container, network_mode)
    _check_mounts(container, volumes)
    _check_limits(container)
    log_configuration.check(container)
    fetched_rules.check(container)
    check_overridable(container, has_task_memory=has_task_memory)
    filled: dict[str, Any] = {
        "cpu": 0,
        "essential": True,
        "environment": [],
        "mountPoints": [],
        "volumesFrom": [],
        "systemControls": [],
        **container,
    }
    filled["portMappings"] = check_mappings(container, network_mode)
    if "healthCheck" in container:
        filled["healthCheck"] = _health_check(container)
    if "restartPolicy" in container:
        _check_restart_policy(container)
    return filled


def check_overridable(container: Mapping[str, Any], *, has_task_memory: bool) -> None:
    """Check the members of a container that a run can override; raises ``ClientException``."""
    _check_sizes(container, has_task_memory=has_task_memory)
    for variable in container.get("environment", []):
        if not variable.get("name"):
            _refuse(container, "An environment variable needs a 'name'.")
        if "=" in variable["name"]:
            # The part behind it would become the beginning of the value.
            _refuse(
                container,
                f"The name of the environment variable '{variable['name'][:_SHOWN]}' must not "
                "contain '='.",
            )
    fetched_rules.check_secrets(container)
    fetched_rules.check_files(container)
    _check_resources(container)


def _refuse(container: Mapping[str, Any], text: str) -> NoReturn:
    raise ClientException(f"Invalid setting for container '{container.get('name', '')}'. {text}")


def _check_name(container: Mapping[str, Any]) -> None:
    if not container.get("name"):
        raise ClientException("Container.name should not be null or empty.")
    if not _NAME.fullmatch(container["name"]):
        raise ClientException(
            "Container.name contains invalid characters: use up to 255 letters, numbers, hyphens "
            "and underscores."
        )
    if not container.get("image"):
        raise ClientException("Container.image should not be null or empty.")
    if not _IMAGE.fullmatch(container["image"]):
        raise ClientException(
            "Container.image contains invalid characters: use up to 255 letters, numbers, hyphens, "
            "underscores, colons, periods, forward slashes and number signs, and a digest only as "
            "@sha256: with 64 hexadecimal digits."
        )


def _check_sizes(container: Mapping[str, Any], *, has_task_memory: bool) -> None:
    limit, reservation = container.get("memory"), container.get("memoryReservation")
    if limit is None and reservation is None and not has_task_memory:
        _refuse(container, "At least one of 'memory' or 'memoryReservation' must be specified.")
    for name, value in (("memory", limit), ("memoryReservation", reservation)):
        if value is not None and value < MEMORY_MINIMUM_MIB:
            _refuse(container, f"'{name}' must be at least {MEMORY_MINIMUM_MIB} MiB.")
    if limit is not None and reservation is not None and reservation > limit:
        _refuse(container, "'memory' must be greater than or equal to 'memoryReservation'.")
    if container.get("cpu", 0) < 0:
        _refuse(container, "'cpu' must not be negative.")


def _check_network(container: Mapping[str, Any], mode: str) -> None:
    if mode == "awsvpc":
        for member, words in (("hostname", "Hostname is"), ("extraHosts", "Extra hosts are")):
            if container.get(member):
                raise ClientException(
                    f"{words} not supported on container when networkMode=awsvpc."
                )
    for member in _NEED_NETWORK if container.get("disableNetworking") else ():
        if container.get(member):
            _refuse(container, f"'{member}' needs networking, which 'disableNetworking' ends.")
    if container.get("links") and mode != "bridge":
        raise ClientException(f"Links are not supported when networkMode={mode}.")
    for link in container.get("links", []):
        if not _ALIAS_LINK.fullmatch(link):
            _refuse(container, f"The link '{link}' must be name or name:alias.")


def _check_mounts(container: Mapping[str, Any], volumes: Collection[str]) -> None:
    seen: set[str] = set()
    for mount in container.get("mountPoints", []):
        source, path = mount.get("sourceVolume", ""), mount.get("containerPath", "")
        if source not in volumes:
            raise ClientException(f"Unknown volume '{source}'.")
        if not path:
            _refuse(container, f"The mount of volume '{source}' needs a 'containerPath'.")
        if not path.startswith("/") or ":" in path:
            # What is behind a colon would be taken for the options of the mount.
            _refuse(
                container,
                f"The containerPath '{path[:_SHOWN]}' must be an absolute path without colons.",
            )
        if path in seen:
            _refuse(container, f"Duplicate mount point '{path}'.")
        seen.add(path)


def _check_limits(container: Mapping[str, Any]) -> None:
    for name in ("startTimeout", "stopTimeout"):
        if container.get(name, 0) < 0:
            _refuse(container, f"'{name}' must not be negative.")
    _check_ulimits(container)
    _check_sysctls(container)
    _check_linux(container, container.get("linuxParameters", {}))


def _check_ulimits(container: Mapping[str, Any]) -> None:
    names: set[str] = set()
    for ulimit in container.get("ulimits", []):
        if ulimit["name"] in names:
            _refuse(container, f"Duplicate ulimit '{ulimit['name']}'.")
        names.add(ulimit["name"])
        soft, hard = ulimit["softLimit"], ulimit["hardLimit"]
        # -1 means no limit.
        if min(soft, hard) < -1 or (hard != -1 and not 0 <= soft <= hard):
            _refuse(
                container, f"The soft limit of ulimit '{ulimit['name']}' passes its hard limit."
            )


def _check_sysctls(container: Mapping[str, Any]) -> None:
    namespaces: set[str] = set()
    for control in container.get("systemControls", []):
        namespace = control.get("namespace", "")
        if not namespace or not control.get("value"):
            _refuse(container, "An item of 'systemControls' needs a 'namespace' and a 'value'.")
        if namespace in namespaces:
            _refuse(container, f"Duplicate system control '{namespace[:_SHOWN]}'.")
        namespaces.add(namespace)


def _check_linux(container: Mapping[str, Any], linux: Mapping[str, Any]) -> None:
    if not 0 <= linux.get("swappiness", 0) <= 100:
        _refuse(container, "'swappiness' must be between 0 and 100.")
    for name in ("maxSwap", "sharedMemorySize"):
        if linux.get(name, 0) < 0:
            _refuse(container, f"'{name}' must not be negative.")
    tmpfs_paths: set[str] = set()
    for tmpfs in linux.get("tmpfs", []):
        path = tmpfs["containerPath"]
        if tmpfs["size"] <= 0:
            _refuse(container, "'size' of a tmpfs must be greater than 0.")
        if not path.startswith("/"):
            _refuse(container, f"The tmpfs '{path[:_SHOWN]}' must have an absolute containerPath.")
        if path in tmpfs_paths:
            _refuse(container, f"Duplicate tmpfs '{path[:_SHOWN]}'.")
        tmpfs_paths.add(path)


def _check_resources(container: Mapping[str, Any]) -> None:
    kinds: set[str] = set()
    for requirement in container.get("resourceRequirements", []):
        kind, value = requirement["type"], requirement.get("value", "")
        if kind in kinds:
            _refuse(container, f"Duplicate resource requirement '{kind}'.")
        kinds.add(kind)
        if requirement.get("sharingStrategy"):
            if kind != "GPU":
                _refuse(container, "Only a requirement of type GPU can have a 'sharingStrategy'.")
            if value:
                _refuse(
                    container, "A GPU requirement has a 'value' or a 'sharingStrategy', not both."
                )
        elif kind == "GPU" and not re.fullmatch(r"ALL|[1-9][0-9]{0,3}", value):
            _refuse(
                container, "The value of a GPU requirement must be a whole number above 0, or ALL."
            )


def _health_check(container: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the service's defaults; times are seconds."""
    check: dict[str, Any] = {
        "interval": 30,
        "timeout": 5,
        "retries": 3,
        **container["healthCheck"],
    }
    _check_health_command(container, check["command"])
    limits = {
        "interval": (5, 300),
        "timeout": (2, 60),
        "retries": (1, 10),
        "startPeriod": (0, 300),
    }
    for name, (least, most) in limits.items():
        if not least <= check.get(name, least) <= most:
            _refuse(container, f"The health check's {name} must be between {least} and {most}.")
    return check


def _check_health_command(container: Mapping[str, Any], command: Sequence[str]) -> None:
    """Take a program without CMD in front, as Amazon ECS does; a line for a shell needs CMD-SHELL."""
    first = command[0] if command else ""
    if not first.strip() or (first in (CMD, CMD_SHELL) and len(command) < 2):
        _refuse(container, "The health check command is empty.")
    if any(letter.isspace() for letter in first):
        _refuse(
            container,
            "The health check command must begin with CMD, CMD-SHELL or the path of a program; put "
            "CMD-SHELL in front of a line that a shell is to run.",
        )


def _check_restart_policy(container: Mapping[str, Any]) -> None:
    policy = container["restartPolicy"]
    if not policy["enabled"]:
        return
    if len(policy.get("ignoredExitCodes", [])) > 50:
        _refuse(container, "'ignoredExitCodes' can have at most 50 items.")
    if not 60 <= policy.get("restartAttemptPeriod", 300) <= 1800:
        _refuse(container, "'restartAttemptPeriod' must be between 60 and 1800.")
