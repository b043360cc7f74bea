"""The attributes that an instance registers with: what this agent can really do on this host.

The long poll and Amazon ECS get the same, except for attributes with another meaning in Amazon ECS.

Pure. List a capability here only when the agent has it, because schedulers place tasks by these
attributes. Source of names and rules: Amazon ECS agent 1.105.1, ``agent/app/agent_capability*.go``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.model.resources import HostResources

_PREFIX = "com.amazonaws.ecs.capability."
_SHORT = "ecs.capability."

_REMOTE_API_MINORS = (17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 32)
"""Engine API versions that have an attribute; Amazon ECS added none after 1.32."""

_HEALTH_CHECK_MINOR = 24
_ECR_MINOR = 19
_TASK_ROLE_MINOR = 19

_LOGGING_DRIVER_MINORS = {
    "json-file": 18,
    "syslog": 18,
    "journald": 19,
    "none": 19,
    "gelf": 20,
    "fluentd": 20,
    "awslogs": 21,
    "splunk": 22,
    "logentries": 25,
    "sumologic": 29,
}

_ALWAYS = (
    "container-ordering",
    "container-restart-policy",
    "full-sync",
    "docker-plugin.local",
    "pid-ipc-namespace-sharing",
    "env-files.s3",
    "private-registry-authentication.secretsmanager",
    "secrets.asm.bootstrap.log-driver",
    "secrets.asm.environment-variables",
    "secrets.ssm.bootstrap.log-driver",
    "secrets.ssm.environment-variables",
)
_FIRELENS = (
    f"{_PREFIX}logging-driver.awsfirelens",
    f"{_SHORT}logging-driver.awsfirelens.log-driver-buffer-limit",
    f"{_SHORT}firelens.fluentd",
    f"{_SHORT}firelens.fluentbit",
    f"{_SHORT}firelens.options.config.file",
    f"{_SHORT}firelens.options.config.s3",
    f"{_SHORT}firelens.non-root-user",
)
_LATEST = ":latest"

CONTROL_SECRETS = "ecs-host-agent.control-secrets"
"""Ours: the agent takes secrets that our own control endpoint keeps, over the long poll."""

EXECUTE_COMMAND = "ecs-host-agent.execute-command"
"""Ours: the agent connects to our own control endpoint for commands in containers."""

FARGATE = "ecs-host-agent.fargate"
"""Ours: this host runs tasks with launch type FARGATE."""

FARGATE_ALL_CLUSTERS = "ecs-host-agent.fargate-all-clusters"
"""Ours: the same for such tasks of all clusters."""

GPU_MPS = "ecs-host-agent.gpu-mps"
"""Ours: containers share GPUs here by MPS, with limits."""

SECURITY_GROUPS = "ecs-host-agent.security-groups"
"""Ours: this host enforces the security groups of ``awsvpc`` tasks."""

SERVICE_CONNECT = "ecs-host-agent.service-connect"
"""Ours: tasks of this host find names of Service Connect."""

TASK_POOL = "ecs-host-agent.task-pool"
"""Ours: the IPv4 network of this host's ``awsvpc`` tasks."""

TASK_NETWORK = "ecs-host-agent.task-network"
"""Ours: this host gives addresses to ``awsvpc`` tasks itself, without an ENI."""

TASK_ENI = f"{_SHORT}task-eni"
"""To Amazon ECS: ENIs can be moved into tasks. To our own control: tasks get an address."""

FAULTS = f"{_SHORT}fault-injection"

ZONE = "ecs.availability-zone"
OUR_ZONE = "ecs-host-agent.availability-zone"
"""Name of the zone in ``towards_ecs``, because Amazon ECS sets the other name itself."""

_NAME = re.compile(r"[A-Za-z0-9_./\\-]{1,128}")
_VALUE = re.compile(r"[A-Za-z0-9_.:/@\\\- ]{0,128}")


class Features(Struct, frozen=True, kw_only=True):
    """What the settings and the host allow the agent to do."""

    logging_drivers: tuple[str, ...] = ("json-file", "none")
    """``ECS_AVAILABLE_LOGGING_DRIVERS``, those that the engine has."""
    firelens: bool = False
    """The engine has the log driver ``fluentd``, on which FireLens is built."""
    awslogs_role: bool = True
    """The driver ``awslogs`` can write with a task's execution role."""
    task_roles: bool = True
    """``ECS_ENABLE_TASK_IAM_ROLE``."""
    task_roles_on_host: bool = True
    """``ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST``: for tasks in ``host`` mode."""
    privileged: bool = True
    """False with ``ECS_DISABLE_PRIVILEGED``."""
    health_checks: bool = True
    """False with ``ECS_DISABLE_DOCKER_HEALTH_CHECK``."""
    awsvpc: bool = True
    """Tasks can have their own namespace and address."""
    security_groups: bool = False
    """Packets between tasks can be filtered, so their security groups are enforced."""
    task_names: bool = False
    """Names of tasks are answered to ``awsvpc`` tasks."""
    task_limits: bool = False
    """Task-level CPU and memory limits are enforced (a cgroup per task)."""
    port_ranges: bool = True
    """``containerPortRange`` is supported."""
    fargate: bool = False
    """``ECS_OFFER_FARGATE``."""
    fargate_all_clusters: bool = False
    """``ECS_FARGATE_ALL_CLUSTERS``."""
    nfs: bool = False
    """The kernel can mount NFS 4.1, and with it EFS file systems."""
    efs_auth: bool = False
    """EFS volumes with TLS, IAM or access points can be mounted."""
    volume_plugins: tuple[str, ...] = ()
    """Volume drivers of the engine other than ``local``."""
    gpu_mps: bool = False
    """The host has GPUs, and an MPS control daemon that shares them."""
    selinux: bool = False
    """``ECS_SELINUX_CAPABLE``."""
    apparmor: bool = False
    """``ECS_APPARMOR_CAPABLE``."""
    faults: bool = False
    """Faults can be injected into tasks, by a kernel that can delay and lose packets."""
    eni: bool = False
    """``ECS_ENABLE_TASK_ENI``: interfaces of Amazon ECS are moved into tasks."""
    eni_trunking: bool = False
    """``ECS_ENABLE_HIGH_DENSITY_ENI``, on a kernel that has VLANs."""
    eni_blocks_imds: bool = False
    """``ECS_AWSVPC_BLOCK_IMDS``."""


def advertised(
    host: HostResources,
    features: Features,
    *,
    api_version: str,
    zone: str = "",
    task_pool: str = "",
    custom: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the attributes to register; a capability has an empty value.

    Args:
        host: what the inventory found.
        features: the enabled features.
        api_version: the engine API in use, for example ``1.41``. Attributes of older APIs are
            included even if the engine dropped them, because task definitions still require them.
        zone: ``ECS_AVAILABILITY_ZONE``; without it, control determines the zone.
        task_pool: ``ECS_TASK_POOL_CIDR``; empty without IPv4.
        custom: ``ECS_INSTANCE_ATTRIBUTES``; the agent's attributes win over custom ones.

    Raises:
        ConfigError: a custom name or value is not one that ECS accepts.
    """
    minor = _minor(api_version)
    capabilities = [*_capabilities(features, minor), CONTROL_SECRETS, EXECUTE_COMMAND]
    if FARGATE in capabilities and features.fargate_all_clusters:
        capabilities.append(FARGATE_ALL_CLUSTERS)
    if features.awsvpc:
        capabilities.append(TASK_ENI)
        if features.security_groups:
            capabilities.append(SECURITY_GROUPS)
        if features.task_names:
            capabilities.append(SERVICE_CONNECT)
    if features.faults:
        capabilities.append(FAULTS)
    values = _valued(host) | ({ZONE: zone} if zone else {})
    if features.awsvpc and task_pool:
        values[TASK_POOL] = task_pool
    return checked(custom or {}) | dict.fromkeys(capabilities, "") | values


def towards_ecs(
    host: HostResources,
    features: Features,
    *,
    api_version: str,
    zone: str = "",
    external: bool = False,
    detailed_os_family: str = "",
) -> dict[str, str]:
    """Return the attributes to register with Amazon ECS, custom ones excluded.

    ``task-eni`` means for Amazon ECS that an ENI can be moved into a task (``Features.eni``), but
    ``Features.awsvpc`` is about addresses that the host assigns. ``TASK_NETWORK`` says that, and
    only our own control endpoint reads it. Capabilities that Amazon's agent omits on external hosts
    are omitted there; those of ENIs are omitted by the client outside of a VPC, too.

    Args:
        host: what the inventory found.
        features: the enabled features.
        api_version: the engine API in use, as in ``advertised``.
        zone: ``ECS_AVAILABILITY_ZONE``, which only our own control endpoint reads.
        external: ``ECS_EXTERNAL``; other hosts prove their architecture with an identity document.
        detailed_os_family: ``ECS_DETAILED_OS_FAMILY``; empty to use what the inventory found.
    """
    capabilities = _capabilities(features, _minor(api_version))
    if external:
        capabilities.append(f"{_SHORT}external")
    else:
        capabilities += [*_eni(features), *([FAULTS] if features.faults else [])]
    values = _valued(host)
    if detailed_os_family:
        values["ecs.os-type-detailed"] = detailed_os_family
    if not external or not host.architecture:
        del values["ecs.cpu-architecture"]
    if features.awsvpc:
        values[TASK_NETWORK] = "1"
    if zone:
        values[OUR_ZONE] = zone
    return dict.fromkeys(capabilities, "") | values


def _capabilities(features: Features, minor: int) -> list[str]:
    """Return capabilities that mean the same to every control, for engine API ``1.<minor>``."""
    names = [f"{_PREFIX}docker-remote-api.1.{m}" for m in _REMOTE_API_MINORS if m <= minor]
    names += _logging(features.logging_drivers, minor)
    names += [_SHORT + name for name in _ALWAYS]
    names += _volume_plugins(features.volume_plugins)
    names += _FIRELENS if features.firelens else ()
    switched = {
        f"{_PREFIX}privileged-container": features.privileged,
        f"{_PREFIX}ecr-auth": minor >= _ECR_MINOR,
        f"{_PREFIX}task-iam-role": features.task_roles and minor >= _TASK_ROLE_MINOR,
        f"{_PREFIX}task-iam-role-network-host": features.task_roles_on_host
        and minor >= _TASK_ROLE_MINOR,
        f"{_SHORT}execution-role-awslogs": features.awslogs_role,
        f"{_PREFIX}selinux": features.selinux,
        f"{_PREFIX}apparmor": features.apparmor,
        f"{_SHORT}container-health-check": features.health_checks and minor >= _HEALTH_CHECK_MINOR,
        f"{_SHORT}efs": features.nfs or features.efs_auth,
        f"{_SHORT}efsAuth": features.efs_auth,
        f"{_SHORT}task-cpu-mem-limit": features.task_limits,
        f"{_SHORT}increased-task-cpu-limit": features.task_limits,
        f"{_SHORT}network.container-port-range": features.port_ranges,
    }
    switched[GPU_MPS] = features.gpu_mps
    # What Fargate promises is a task of a fixed size with an address of its own.
    switched[FARGATE] = features.fargate and features.task_limits and features.awsvpc
    return names + [name for name, on in switched.items() if on]


def _eni(features: Features) -> list[str]:
    if not features.eni:
        return []
    return [
        TASK_ENI,
        f"{TASK_ENI}.ipv6",
        *([f"{TASK_ENI}-block-instance-metadata"] if features.eni_blocks_imds else []),
        *([f"{TASK_ENI}-trunking"] if features.eni_trunking else []),
    ]


def _valued(host: HostResources) -> dict[str, str]:
    values = {
        "ecs.os-type": "linux",
        "ecs.os-family": "LINUX",
        "ecs.os-type-detailed": host.os_family or "LINUX",
        "ecs.cpu-architecture": host.architecture,
    }
    if host.gpu_driver_version:
        values[f"{_SHORT}gpu-driver-version"] = host.gpu_driver_version
        values[f"{_SHORT}nvidia-driver-version.{host.gpu_driver_version}"] = ""
    return values


def _logging(drivers: Iterable[str], minor: int) -> list[str]:
    return [
        f"{_PREFIX}logging-driver.{driver}"
        for driver in drivers
        if driver in _LOGGING_DRIVER_MINORS and _LOGGING_DRIVER_MINORS[driver] <= minor
    ]


def _volume_plugins(plugins: Iterable[str]) -> list[str]:
    """Return attributes of plugins; one tagged ``latest`` is listed with and without the tag."""
    tagged = [name for plugin in plugins for name in {plugin, plugin.removesuffix(_LATEST)}]
    # Attribute names cannot contain colons.
    names = sorted(f"{_SHORT}docker-plugin.{name.replace(':', '.')}" for name in tagged)
    return [name for name in names if _NAME.fullmatch(name)]


def _minor(api_version: str) -> int:
    major, _, minor = api_version.partition(".")
    return int(minor) if major == "1" and minor.isdigit() else 0


def checked(custom: Mapping[str, str]) -> dict[str, str]:
    """Return ``ECS_INSTANCE_ATTRIBUTES`` unchanged; raise ``ConfigError`` if ECS refuses them."""
    for name, value in custom.items():
        if not _NAME.fullmatch(name):
            text = f"ECS_INSTANCE_ATTRIBUTES: the name {name!r} must be 1 to 128 letters, digits or _ . / -"
            raise ConfigError(text)
        if not _VALUE.fullmatch(value) or value != value.strip():
            text = (
                f"ECS_INSTANCE_ATTRIBUTES: the value {value!r} of {name!r} must be at most 128"
                " letters, digits, spaces or _ . : / @ -, without spaces at either end"
            )
            raise ConfigError(text)
    return dict(custom)
