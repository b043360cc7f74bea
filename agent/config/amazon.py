"""Every setting of the Amazon ECS agent, and what this agent does with it. Pure data.

``docs/configuration.md`` is generated from this table, and ``ecs-agent doctor`` uses it for its
explanations. The agent itself never loads it. Source of names, defaults and bounds: Amazon ECS
agent 1.105.1, ``agent/config`` and ``ecs-init``. Defaults are those on a host set up by Amazon's
packages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Edge = tuple[float | None, float | None, Literal["clamp", "default", "refuse"]]
"""Lowest and highest value, and what happens beyond them."""


class Compatibility(StrEnum):
    """How this agent treats a setting."""

    SAME = "same"
    DIFFERENT = "different"
    NONE = "not applicable"


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of the Amazon ECS agent."""

    name: str
    verdict: Compatibility
    default: str = ""
    """Amazon's default, as an operator would write it or in words; empty if there is none."""
    bounds: Edge | None = None
    """Amazon's limits; given if the verdict is ``same``."""
    how: str = ""
    """How it differs, or why it does not apply."""


def _same(name: str, default: str = "", bounds: Edge | None = None) -> Row:
    return Row(name, Compatibility.SAME, default, bounds)


def _other(name: str, default: str, how: str) -> Row:
    return Row(name, Compatibility.DIFFERENT, default, how=how)


def _none(name: str, default: str, why: str) -> Row:
    return Row(name, Compatibility.NONE, default, how=why)


_NO_DIRECTORY = "Active Directory credentials are not supported."
_NO_CONTAINER = "For Amazon's starter: this agent is a host service, not a container."
_UNREAD = "Amazon's agent does not read it either."
_WINDOWS = "For Windows hosts."

JOINING = (
    _same("ECS_CLUSTER", "default"),
    _other(
        "AWS_DEFAULT_REGION",
        "from instance metadata",
        "Optional if `ECS_BACKEND_HOST` is set; Amazon's agent would not start.",
    ),
    _same("ECS_BACKEND_HOST", "the region's endpoint"),
    _same("ECS_EXTERNAL", "false"),
    _same("AWS_ACCESS_KEY_ID", "from the sources listed in `docs/amazon-ecs.md`"),
    _same("AWS_SECRET_ACCESS_KEY"),
    _same("AWS_SESSION_TOKEN"),
    _same("ECS_ALTERNATE_CREDENTIAL_PROFILE", "default"),
    _other("HTTP_PROXY", "", "No SOCKS5 proxies; pulls use the engine's own proxy."),
    _other("HTTPS_PROXY", "`HTTP_PROXY`", "No SOCKS5 proxies; pulls use the engine's own proxy."),
    _other(
        "NO_PROXY",
        "`169.254.169.254,169.254.170.2` and the engine's socket",
        "The engine's socket needs no entry: it is never reached through a proxy.",
    ),
    _other(
        "AWS_EC2_METADATA_DISABLED",
        "false",
        "Every true boolean disables it, not only the word `true`.",
    ),
    _other(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "http://169.254.169.254",
        "A host whose firmware does not identify it as EC2 uses metadata only if this is set.",
    ),
    _other("DOCKER_HOST", "unix:///var/run/docker.sock", "Only `unix://` addresses."),
    _same("ECS_ENGINE_AUTH_TYPE"),
    _same("ECS_ENGINE_AUTH_DATA"),
    _other(
        "ECS_AGENT_CONFIG_FILE_PATH",
        "/etc/ecs/ecs.config.json",
        "With `--config FILE` the default is `FILE.json`. Unknown members cause a warning.",
    ),
    _none(
        "ECS_INSTANCE_IP_COMPATIBILITY",
        "from the host's default routes",
        "No effect yet: the agent uses IPv4 endpoints; set `ECS_BACKEND_HOST` for another one.",
    ),
    _same("ECS_DETAILED_OS_FAMILY", "from `/etc/os-release`"),
    _other(
        "SSL_CERT_DIR",
        "the system's",
        "Not read from `ecs.config`. OpenSSL reads it from the process environment.",
    ),
)
REGISTRATION = (
    _same("ECS_INSTANCE_ATTRIBUTES"),
    _same("ECS_CONTAINER_INSTANCE_TAGS"),
    _same("ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", "none"),
    _same("ECS_RESERVED_PORTS", "[22,2375,2376,51678,51679]"),
    _same("ECS_RESERVED_PORTS_UDP", "[]"),
    _same("ECS_RESERVED_MEMORY", "0", (0, 65535, "refuse")),
    _other(
        "ECS_AVAILABLE_LOGGING_DRIVERS",
        '["json-file","syslog","awslogs","fluentd","none"]',
        "Drivers that the engine does not have are left out. `awsfirelens` is accepted and has no "
        "effect: it is offered where the engine has `fluentd`.",
    ),
    _same("ECS_DISABLE_PRIVILEGED", "false"),
    _same("ECS_SELINUX_CAPABLE", "false"),
    _same("ECS_APPARMOR_CAPABLE", "false"),
    _same("ECS_WARM_POOLS_CHECK", "false"),
    _same("ECS_ENABLE_SPOT_INSTANCE_DRAINING", "false"),
)
STATE_AND_IMAGES = (
    _other(
        "ECS_DATADIR",
        "/data",
        "A directory on the host, by default `/var/lib/ecs/data`, which Amazon's starter mounts as "
        "`/data`. The state of Amazon's agent is not read.",
    ),
    _none("ECS_CHECKPOINT", "true", "State is always kept."),
    _none("ECS_HOST_DATA_DIR", "/var/lib/ecs", "The agent uses the host's paths directly."),
    _same("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "3h", (1, None, "default")),
    _same("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", "0"),
    _other(
        "ECS_DISABLE_IMAGE_CLEANUP",
        "false",
        "Also turns off the removal of images from a full disk, which Amazon's agent does not have.",
    ),
    _same("ECS_IMAGE_CLEANUP_INTERVAL", "30m", (600, None, "default")),
    _other(
        "ECS_IMAGE_MINIMUM_CLEANUP_AGE",
        "1h",
        "An image that no registry gave is never removed by age; Amazon's agent removes those that "
        "tasks have used.",
    ),
    _same("NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE", "1h"),
    _same("ECS_NUM_IMAGES_DELETE_PER_CYCLE", "5", (1, None, "default")),
    _other(
        "NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE",
        "5",
        "A container that was created and never started is as old as its creation; Amazon's agent "
        "removes it at once.",
    ),
    _same("ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP", "false"),
    _same("ECS_EXCLUDE_UNTRACKED_IMAGE"),
    _same("ECS_IMAGE_PULL_BEHAVIOR", "default"),
    _same("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "1m", (60, None, "clamp")),
    _other("ECS_IMAGE_PULL_TIMEOUT", "2h", "A value below 1 s is ignored."),
    _same("ECS_MANIFEST_PULL_TIMEOUT", "1m", (30, None, "clamp")),
    _same("ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", "false"),
    _none(
        "ECS_SHARED_VOLUME_MATCH_FULL_CONFIG",
        "false",
        "No effect yet: an existing shared volume is matched by its name.",
    ),
)
CONTAINERS = (
    _same("ECS_CONTAINER_STOP_TIMEOUT", "30s", (1, None, "clamp")),
    _same("ECS_CONTAINER_START_TIMEOUT", "3m", (45, None, "clamp")),
    _same("ECS_CONTAINER_CREATE_TIMEOUT", "4m", (60, None, "clamp")),
    _other(
        "ECS_ENABLE_TASK_CPU_MEM_LIMIT",
        "true where the host can do it",
        "The way to limit follows the engine's cgroup driver, not the cgroup version alone.",
    ),
    _same("ECS_CGROUP_PATH", "/sys/fs/cgroup"),
    _same("ECS_CGROUP_CPU_PERIOD", "100ms", (0.008, 0.1, "default")),
    _same("ECS_TASK_PIDS_LIMIT", "0", (0, 4194304, "default")),
    _same("ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2", "false"),
    _same("ECS_DYNAMIC_HOST_PORT_RANGE", "the kernel's local port range"),
    _other(
        "ECS_EXCLUDE_IPV6_PORTBINDING",
        "true; false on hosts without IPv4",
        "Default `true` on every host.",
    ),
    _other(
        "ECS_ENABLE_CONTAINER_METADATA",
        "false",
        "Containers get the directory read-only, and the addresses of the host are not in the file.",
    ),
    _same("ECS_DISABLE_DOCKER_HEALTH_CHECK", "false"),
    _same("ECS_ENABLE_FIRELENS_ASYNC", "true"),
)
NETWORK_AND_ROLES = (
    _same("ECS_ENABLE_TASK_IAM_ROLE", "true"),
    _same("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", "true"),
    _same("ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE", "true"),
    _other(
        "ECS_ENABLE_TASK_ENI",
        "true; false with `ECS_EXTERNAL`",
        "Also off where instance metadata names no VPC. Tasks ordered without an interface get an "
        "address from the agent.",
    ),
    _other(
        "ECS_ENABLE_HIGH_DENSITY_ENI",
        "true",
        "Offered only if the kernel can make VLANs (`8021q`).",
    ),
    _same("ECS_AWSVPC_BLOCK_IMDS", "false"),
    _none(
        "ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES",
        "[]",
        "Tasks reach every network through the host.",
    ),
    _none("ECS_CNI_PLUGINS_PATH", "/amazon-ecs-cni-plugins", "The agent uses no CNI plugins."),
    _none("ECS_PAUSE_LABELS", "", "No effect yet: sandboxes have only the agent's labels."),
    _other("ECS_TASK_METADATA_RPS_LIMIT", "40,60", "What cannot be read is refused, not ignored."),
    _same("ECS_DISABLE_TASK_METADATA_AZ", "false"),
)
LOG_AND_METRICS = (
    _other("ECS_LOGLEVEL", "info", "`none` is refused."),
    _none(
        "ECS_LOGLEVEL_ON_INSTANCE",
        "that of `ECS_LOGLEVEL`",
        "The file and standard error have the same level: `ECS_LOGLEVEL`.",
    ),
    _other(
        "ECS_LOGFILE",
        "/log/ecs-agent.log",
        "A path on the host; no file by default, because the journal keeps the log.",
    ),
    _same("ECS_LOG_ROLLOVER_TYPE", "size"),
    _other("ECS_LOG_OUTPUT_FORMAT", "logfmt", "The default depends on where the log goes."),
    _other("ECS_LOG_MAX_FILE_SIZE_MB", "5", "A value below 0.1 is ignored."),
    _other("ECS_LOG_MAX_ROLL_COUNT", "24", "A value below 1 is ignored."),
    _other(
        "ECS_AUDIT_LOGFILE",
        "/log/audit.log",
        "A path on the host; no file by default, because the journal keeps these lines.",
    ),
    _same("ECS_AUDIT_LOGFILE_DISABLED", "false"),
    _same("ECS_DISABLE_METRICS", "false"),
    _none(
        "ECS_POLL_METRICS",
        "false",
        "The agent reads kernel counters at intervals and does not use the engine's statistics.",
    ),
    _other(
        "ECS_POLLING_METRICS_WAIT_DURATION",
        "10s",
        "Always used; minimum 1 s. Amazon's agent: minimum 5 s, only with `ECS_POLL_METRICS`.",
    ),
    _other(
        "ECS_ENABLE_PROMETHEUS_METRICS",
        "false",
        "Other metrics, at `ECS_PROMETHEUS_ADDRESS` (by default the loopback) and `ECS_PROMETHEUS_PORT`.",
    ),
    _none("ECS_ENABLE_RUNTIME_STATS", "false", "A profiler of the Go runtime."),
    _same("ECS_AGENT_HEALTHCHECK_HOST", "localhost"),
)
UPDATES_AND_DEVICES = (
    _other(
        "ECS_UPDATES_ENABLED",
        "true",
        "Accepted; the agent refuses updates ordered by Amazon ECS with either value.",
    ),
    _none("ECS_UPDATE_DOWNLOAD_DIR", "/var/cache/ecs", "This agent is updated by packages."),
    _other(
        "ECS_ENABLE_GPU_SUPPORT",
        "false",
        "On if the host has GPUs, unless set to `false`. GPUs are read from the driver (NVML).",
    ),
    _other(
        "ECS_NVIDIA_RUNTIME",
        "nvidia",
        "None by default: GPUs are requested as devices, which needs no runtime. Amazon's agent does so "
        "on external hosts.",
    ),
    _none("ECS_ENABLE_INF_SUPPORT", "false", "Inferentia is not supported."),
    _other(
        "ECS_VOLUME_PLUGIN_CAPABILITIES",
        '["efsAuth"]',
        "Empty by default: only hosts with Amazon's volume plugin have it.",
    ),
    _none(
        "ECS_EBSTA_SUPPORTED",
        "true",
        "No effect yet: attached EBS volumes are reported, but not mounted into tasks.",
    ),
    _none("ECS_GMSA_SUPPORTED", "false", _NO_DIRECTORY),
    _none("CREDENTIALS_FETCHER_HOST", "", _NO_DIRECTORY),
    _none("CREDENTIALS_FETCHER_HOST_DIR", "", _NO_DIRECTORY),
    _none("CREDENTIALS_FETCHER_SECRET_NAME_FOR_DOMAINLESS_GMSA", "", _NO_DIRECTORY),
    _none("ECS_DOMAIN_JOINED_LINUX_INSTANCE", "false", _NO_DIRECTORY),
    _none("ECS_FSX_WINDOWS_FILE_SERVER_SUPPORTED", "", _WINDOWS),
    _none("ECS_ENABLE_CPU_UNBOUNDED_WINDOWS_WORKAROUND", "false", _WINDOWS),
    _none("ECS_ENABLE_MEMORY_UNBOUNDED_WINDOWS_WORKAROUND", "false", _WINDOWS),
    _none("ECS_DOCKER_PULL_INACTIVITY_TIMEOUT", "", _UNREAD),
    _none("ECS_POLL_METRICS_WAIT_DURATION", "", _UNREAD),
    _none("ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME", "", _UNREAD),
)
STARTER = (
    _none("ECS_LOG_DRIVER", "json-file", _NO_CONTAINER),
    _none("ECS_LOG_OPTS", "{}", _NO_CONTAINER),
    _none("ECS_INIT_DOCKER_LOG_FILE_SIZE", "16m", _NO_CONTAINER),
    _none("ECS_INIT_DOCKER_LOG_FILE_NUM", "4", _NO_CONTAINER),
    _none("ECS_AGENT_LABELS", "", _NO_CONTAINER),
    _none("ECS_AGENT_APPARMOR_PROFILE", "ecs-agent-default", _NO_CONTAINER),
    _none("ECS_AGENT_PID_NAMESPACE_HOST", "false", _NO_CONTAINER),
    _none("ECS_AGENT_RUN_PRIVILEGED", "false", _NO_CONTAINER),
    _none(
        "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER",
        "false",
        "Loopback addresses are not made routable, so there is nothing to filter: the agent has an "
        "address of its own.",
    ),
    _same("ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS", "false"),
)
FLAGS = (
    _other("-version", "", "`ecs-agent version`."),
    _other("-loglevel", "", "`ECS_LOGLEVEL`."),
    _other("-loglevel-driver", "", "`ECS_LOGLEVEL`."),
    _none("-loglevel-on-instance", "", "The file and standard error have the same level."),
    _none("-ecs-attributes", "", "The control endpoint shows them after registration."),
    _none("-k", "", "Certificates are always checked; add your own authority system-wide."),
    _other(
        "-license",
        "",
        "`/license` of the introspection endpoint; the package includes the licences.",
    ),
    _other("-blackhole-ec2-metadata", "", "`AWS_EC2_METADATA_DISABLED=true`."),
    _other("-healthcheck", "", "`ecs-agent healthcheck`."),
)
JSON_ONLY = (
    _none("NoIID", "false", "`AWS_EC2_METADATA_DISABLED=true` omits the document."),
    _none("PauseContainerTarballPath", "", "The agent includes its own sandbox image."),
    _none("PauseContainerImageName", "", "The agent includes its own sandbox image."),
    _none("PauseContainerTag", "", "The agent includes its own sandbox image."),
    _none("OverrideAWSVPCLocalIPv4Address", "", "`ECS_TASK_POOL_CIDR` sets the addresses."),
    _none("ENIPauseContainerCleanupDelaySeconds", "0", "Sandboxes end with their tasks."),
    _none("InstanceENIDNSServerList", "", "`ECS_TASK_DNS_SERVERS` sets the name servers."),
    _none("CSIDriverSocketPath", "", "There is no CSI driver: EBS volumes are only reported."),
    _none("NodeStageTimeout", "2s", "There is no CSI driver: EBS volumes are only reported."),
    _none("NodeUnstageTimeout", "30s", "There is no CSI driver: EBS volumes are only reported."),
    _none("RuntimeStatsLogFile", "", "A profiler of the Go runtime."),
    _none("IMDSIAMRolesEnabled", "false", "Nothing enables it in Amazon's agent either."),
)

GROUPS = {
    "Identity and endpoints": JOINING,
    "Registration": REGISTRATION,
    "State and images": STATE_AND_IMAGES,
    "Containers": CONTAINERS,
    "Task network and roles": NETWORK_AND_ROLES,
    "Log and metrics": LOG_AND_METRICS,
    "Updates, devices, volumes": UPDATES_AND_DEVICES,
    "Amazon's starter, ecs-init": STARTER,
    "Command-line options": FLAGS,
    "Members of `ecs.config.json` without a variable": JSON_ONLY,
}
"""All rows, in the order of the documentation page."""


def rows() -> dict[str, Row]:
    """Return every row by its name."""
    return {row.name: row for group in GROUPS.values() for row in group}
