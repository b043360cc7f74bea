"""``ecs.config.json``: settings as one JSON object, with the names of the Go agent's structure.

Reads one file; no other I/O. Every member becomes text in the syntax of ``ecs.config``, so that the
same parsers and bounds check it. Source of names and types: Amazon ECS agent 1.105.1,
``agent/config/types.go``: names in any case, durations as integer nanoseconds, enumerations as
numbers. There as here, a zero, an empty string and an empty list count as not set.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent.config import image_names, values
from agent.config.files import FileContent, GivenValue, text_of
from agent.config.settings import variables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config.variable import Variable

MEMBERS = {
    "APIEndpoint": "ECS_BACKEND_HOST",
    "AWSRegion": "AWS_DEFAULT_REGION",
    "AWSVPCBlockInstanceMetdata": "ECS_AWSVPC_BLOCK_IMDS",
    "AppArmorCapable": "ECS_APPARMOR_CAPABLE",
    "AvailableLoggingDrivers": "ECS_AVAILABLE_LOGGING_DRIVERS",
    "CgroupCPUPeriod": "ECS_CGROUP_CPU_PERIOD",
    "CgroupPath": "ECS_CGROUP_PATH",
    "Cluster": "ECS_CLUSTER",
    "ContainerCreateTimeout": "ECS_CONTAINER_CREATE_TIMEOUT",
    "ContainerInstancePropagateTagsFrom": "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM",
    "ContainerInstanceTags": "ECS_CONTAINER_INSTANCE_TAGS",
    "ContainerStartTimeout": "ECS_CONTAINER_START_TIMEOUT",
    "CredentialsAuditLogDisabled": "ECS_AUDIT_LOGFILE_DISABLED",
    "CredentialsAuditLogFile": "ECS_AUDIT_LOGFILE",
    "DataDir": "ECS_DATADIR",
    "DependentContainersPullUpfront": "ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT",
    "DisableDockerHealthCheck": "ECS_DISABLE_DOCKER_HEALTH_CHECK",
    "DisableMetrics": "ECS_DISABLE_METRICS",
    "DockerEndpoint": "DOCKER_HOST",
    "DockerStopTimeout": "ECS_CONTAINER_STOP_TIMEOUT",
    "DynamicHostPortRange": "ECS_DYNAMIC_HOST_PORT_RANGE",
    "EngineAuthData": "ECS_ENGINE_AUTH_DATA",
    "EngineAuthType": "ECS_ENGINE_AUTH_TYPE",
    "External": "ECS_EXTERNAL",
    "GPUSupportEnabled": "ECS_ENABLE_GPU_SUPPORT",
    "DeleteNonECSImagesEnabled": "ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP",
    "ImageCleanupDisabled": "ECS_DISABLE_IMAGE_CLEANUP",
    "ImageCleanupExclusionList": "ECS_EXCLUDE_UNTRACKED_IMAGE",
    "ImageCleanupInterval": "ECS_IMAGE_CLEANUP_INTERVAL",
    "MinimumImageDeletionAge": "ECS_IMAGE_MINIMUM_CLEANUP_AGE",
    "NonECSMinimumImageDeletionAge": "NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE",
    "NumImagesToDeletePerCycle": "ECS_NUM_IMAGES_DELETE_PER_CYCLE",
    "NumNonECSContainersToDeletePerCycle": "NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE",
    "ImagePullBehavior": "ECS_IMAGE_PULL_BEHAVIOR",
    "ImagePullInactivityTimeout": "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT",
    "ImagePullTimeout": "ECS_IMAGE_PULL_TIMEOUT",
    "NvidiaRuntime": "ECS_NVIDIA_RUNTIME",
    "InstanceAttributes": "ECS_INSTANCE_ATTRIBUTES",
    "ManifestPullTimeout": "ECS_MANIFEST_PULL_TIMEOUT",
    "OverrideAWSLogsExecutionRole": "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE",
    "PollingMetricsWaitDuration": "ECS_POLLING_METRICS_WAIT_DURATION",
    "PrivilegedDisabled": "ECS_DISABLE_PRIVILEGED",
    "PrometheusMetricsEnabled": "ECS_ENABLE_PROMETHEUS_METRICS",
    "PropagateTaskMemoryLimitCgroupV2": "ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2",
    "ReservedMemory": "ECS_RESERVED_MEMORY",
    "ReservedPorts": "ECS_RESERVED_PORTS",
    "ReservedPortsUDP": "ECS_RESERVED_PORTS_UDP",
    "SELinuxCapable": "ECS_SELINUX_CAPABLE",
    "ShouldExcludeIPv6PortBinding": "ECS_EXCLUDE_IPV6_PORTBINDING",
    "SpotInstanceDrainingEnabled": "ECS_ENABLE_SPOT_INSTANCE_DRAINING",
    "TaskCPUMemLimit": "ECS_ENABLE_TASK_CPU_MEM_LIMIT",
    "TaskCleanupWaitDuration": "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION",
    "TaskCleanupWaitDurationJitter": "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER",
    "TaskPidsLimit": "ECS_TASK_PIDS_LIMIT",
    "UpdatesEnabled": "ECS_UPDATES_ENABLED",
    "TaskIAMRoleEnabled": "ECS_ENABLE_TASK_IAM_ROLE",
    "TaskIAMRoleEnabledForNetworkHost": "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST",
    "VolumePluginCapabilities": "ECS_VOLUME_PLUGIN_CAPABILITIES",
    "WarmPoolsSupport": "ECS_WARM_POOLS_CHECK",
}
"""Members that are settings here, each with its variable."""

OLD_NAMES = {"ClusterArn": "Cluster"}
"""Old members, used if the new one is not set."""

MEMBERS_WITHOUT_EFFECT = frozenset(
    [
        "AWSVPCAdditionalLocalRoutes",
        "CNIPluginsPath",
        "CSIDriverSocketPath",
        "Checkpoint",
        "ContainerMetadataEnabled",
        "DataDirOnHost",
        "EBSTASupportEnabled",
        "ENIPauseContainerCleanupDelaySeconds",
        "ENITrunkingEnabled",
        "EnableRuntimeStats",
        "FSxWindowsFileServerCapable",
        "FirelensAsyncEnabled",
        "GMSACapable",
        "GMSADomainlessCapable",
        "IMDSIAMRolesEnabled",
        "InferentiaSupportEnabled",
        "InstanceENIDNSServerList",
        "InstanceIPCompatibility",
        "NoIID",
        "NodeStageTimeout",
        "NodeUnstageTimeout",
        "OverrideAWSVPCLocalIPv4Address",
        "PauseContainerImageName",
        "PauseContainerTag",
        "PauseContainerTarballPath",
        "PlatformVariables",
        "PollMetrics",
        "RuntimeStatsLogFile",
        "SharedVolumeMatchFullConfig",
        "TaskENIEnabled",
        "TaskMetadataAZDisabled",
        "TaskMetadataBurstRate",
        "TaskMetadataSteadyStateRate",
        "UpdateDownloadDir",
    ]
)
"""Members that the Go agent knows and that have no effect here."""

_WHOLE = {
    values.DURATION: "is not a duration; write nanoseconds: 30000000000 is 30 s",
    values.INT: "is not an integer; write it without quotes",
}
_NUMBERED = {
    "ImagePullBehavior": ("default", "always", "once", "prefer-cached"),
    "ContainerInstancePropagateTagsFrom": ("none", "ec2_instance"),
}
"""Enumerations, which the file gives as an index into these words."""


def read(path: Path, *, named: bool) -> FileContent:
    """Read and parse one file.

    Args:
        path: the file; a missing or empty file sets nothing.
        named: the file was named explicitly: warn if it is missing.

    Raises:
        ConfigError: the file cannot be read; the text says how to fix it.
    """
    text = text_of(path)
    if text is None:
        missing = f"{path}: there is no such file; check ECS_AGENT_CONFIG_FILE_PATH"
        return FileContent(values={}, warnings=(missing,) if named else ())
    return parse(text, name=str(path))


def parse(text: str, *, name: str) -> FileContent:
    """Parse the text of a file; messages call the file ``name``. Pure."""
    if not text.strip():
        return FileContent(values={})
    try:
        members = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        place = f"{name}:{error.lineno}:{error.colno}"
        return _unusable(f"{place}: is not valid JSON ({error.msg}); fix the file or remove it")
    except (RecursionError, ValueError):
        return _unusable(f"{name}: is not readable JSON; fix the file or remove it")
    if not isinstance(members, _Pairs):
        return _unusable(f'{name}: is not a JSON object; write for example {{"Cluster": "prod"}}')
    return _settings_of(members, name)


def is_secret(member: str) -> bool:
    """Tell whether the value of a member of this name must not be shown."""
    variable = _by_name().get(MEMBERS.get(_known_as(member), ""))
    return variable is None or variable.kind.secret or variable.kind.holds_password


class _Pairs(list[tuple[str, Any]]):
    """Members of a JSON object as written, including duplicate names."""


def _unusable(problem: str) -> FileContent:
    return FileContent(values={}, problems=(problem,))


def _settings_of(members: _Pairs, name: str) -> FileContent:
    chosen: dict[str, Any] = {}
    warnings: list[str] = []
    for written, value in members:
        member = _known_as(written)
        if not member:
            warnings.append(f"{name}: {written[:40]} is not a known setting and has no effect")
        elif member in chosen:
            warnings.append(f"{name}: {member} occurs more than once; the last one wins")
        chosen[member] = value
    for old, new in OLD_NAMES.items():
        value = chosen.pop(old, None)
        if _is_zero(chosen.get(new)):
            chosen[new] = value
    in_vain = sorted(chosen.keys() & MEMBERS_WITHOUT_EFFECT)
    if in_vain:
        warnings.append(f"{name}: no effect in this version: {', '.join(in_vain)}")
    return _converted(chosen, name, warnings)


def _converted(chosen: Mapping[str, Any], name: str, warnings: list[str]) -> FileContent:
    given: dict[str, GivenValue] = {}
    problems: list[str] = []
    for member, value in chosen.items():
        if member not in MEMBERS or _is_zero(value):
            continue
        origin = f"{name}:{member}"
        variable = _by_name()[MEMBERS[member]]
        try:
            text = _as_text(member, variable, value)
        except (TypeError, ValueError) as error:
            problems.append(f"{origin}: {error}")
            continue
        given[variable.name] = GivenValue(variable.name, text, origin)
    return FileContent(given, tuple(warnings), tuple(problems))


def _as_text(member: str, variable: Variable, value: Any) -> str:
    """Return a member's value in the syntax of ``ecs.config``; raise if its type is wrong."""
    if member in _NUMBERED:
        return _word(_NUMBERED[member], value)
    if variable.kind is values.BOOL:
        if value not in (True, False) or isinstance(value, float):
            raise TypeError("is not a boolean; write true or false, without quotes")
        return "true" if value else "false"
    if variable.kind in _WHOLE:
        if not _is_whole(value):
            raise TypeError(_WHOLE[variable.kind])
        return f"{value}ns" if variable.kind is values.DURATION else str(value)
    if isinstance(value, list):
        if variable.kind is image_names.NAMES:
            return ",".join(str(name) for name in value)
        return json.dumps(_plain(value))
    if isinstance(value, str):
        return value.strip()
    raise TypeError("is not a string; put it in double quotes")


def _word(words: tuple[str, ...], value: Any) -> str:
    if not _is_whole(value) or not 0 <= value < len(words):
        legend = ", ".join(f"{at} is {word}" for at, word in enumerate(words))
        raise ValueError(f"is not a number from 0 to {len(words) - 1}; {legend}")
    return words[int(value)]


def _plain(value: Any) -> Any:
    """Return JSON with its objects converted to ``dict``."""
    if isinstance(value, _Pairs):
        return {name: _plain(item) for name, item in value}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_zero(value: Any) -> bool:
    """Tell whether Go would see no value here; a boolean always counts as a value."""
    return not isinstance(value, bool) and value in (None, 0, "", [])


def _known_as(written: str) -> str:
    """Return a member's name as spelled in the table; empty for an unknown one."""
    known = {m.lower(): m for m in (*MEMBERS, *OLD_NAMES, *MEMBERS_WITHOUT_EFFECT)}
    return known.get(written.lower(), "")


def _by_name() -> dict[str, Variable]:
    return {variable.name: variable for variable in variables().values()}
