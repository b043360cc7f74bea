"""The table of settings: one field of ``Settings`` per variable, with its syntax and default.

Pure data. Names, defaults and bounds follow the Amazon ECS agent 1.105.1 (with the values that its
packages inject where those differ); what differs from it, and what is ours alone, is said in the
text of each setting, which is also the text of ``docs/configuration.md``.
"""

# ruff: noqa: RUF009 - _setting returns a dataclass field, made once per class as any other
from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

from agent.config import values
from agent.config.values import Kind, SecretText

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bounds:
    """What happens to a number outside its range: it is moved to the edge, or dropped."""

    low: float | None = None
    high: float | None = None
    outside: Literal["clamp", "default", "refuse"] = "clamp"


@dataclass(frozen=True, slots=True)
class Variable:
    """Everything that is known of one setting but its value."""

    name: str
    kind: Kind
    default_text: str
    """The default as an operator would write it; empty for none."""
    doc: str
    bounds: Bounds | None = None
    ours: bool = False
    """True where the Amazon ECS agent has no such variable."""
    note: str = ""
    """The default in words, where it depends on the host."""


def _setting(  # noqa: PLR0913 - a row of the table has as many columns
    name: str,
    kind: Kind,
    default_text: str,
    doc: str,
    *,
    bounds: Bounds | None = None,
    ours: bool = False,
    note: str = "",
    empty: Callable[[], Any] = str,
) -> Any:
    """Describe one field; ``empty`` makes its value when ``default_text`` is empty."""
    variable = Variable(name, kind, default_text, doc, bounds, ours, note)
    metadata = {"variable": variable}
    if not default_text:
        return field(default_factory=empty, metadata=metadata)
    return field(default_factory=lambda: kind.parse(default_text), metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting that has an effect. Durations are seconds; safe to share, never changes."""

    # Identity and endpoints
    cluster: str = _setting(
        "ECS_CLUSTER", values.CLUSTER, "default", "Cluster that the host registers into."
    )
    control_endpoint: str = _setting(
        "ECS_CONTROL_ENDPOINT",
        values.URL,
        "",
        "URL of the control endpoint that gives orders. `ecs-agent standalone` sets it by itself.",
        ours=True,
    )
    control_token_file: Path | None = _setting(
        "ECS_CONTROL_TOKEN_FILE",
        values.PATH,
        "",
        "File with the token that control asks for. Read anew when control refuses the one in use. "
        "`ecs-agent join` writes it.",
        ours=True,
        empty=NoneType,
    )
    control_ca_file: Path | None = _setting(
        "ECS_CONTROL_CA_FILE",
        values.PATH,
        "",
        "PEM file of the authority that signed control's certificate, trusted besides the system's.",
        ours=True,
        empty=NoneType,
    )
    docker_host: str = _setting(
        "DOCKER_HOST",
        values.DOCKER_HOST,
        "unix:///var/run/docker.sock",
        "Address of the Docker Engine API.",
    )
    socket_path: Path = _setting(
        "ECS_AGENT_SOCKET",
        values.PATH,
        "/run/ecs-agent/agent.sock",
        "Unix socket for `ecs-agent status`, `tasks`, `why` and the like; root only.",
        ours=True,
    )
    data_dir: Path = _setting(
        "ECS_DATADIR",
        values.PATH,
        "/var/lib/ecs/data",
        "Directory of the agent's state; made at start, mode 0700.",
    )
    engine_auth_type: str = _setting(
        "ECS_ENGINE_AUTH_TYPE",
        values.choice("docker", "dockercfg"),
        "",
        "Format of `ECS_ENGINE_AUTH_DATA`.",
    )
    engine_auth_data: SecretText = _setting(
        "ECS_ENGINE_AUTH_DATA",
        values.JSON_SECRET,
        "",
        "Registry credentials. Never logged, never stored.",
        empty=SecretText,
    )

    # Registration
    instance_attributes: dict[str, str] = _setting(
        "ECS_INSTANCE_ATTRIBUTES",
        values.STRING_MAP,
        "",
        "Custom attributes of the container instance, sent at registration.",
        empty=dict,
    )
    container_instance_tags: dict[str, str] = _setting(
        "ECS_CONTAINER_INSTANCE_TAGS",
        values.STRING_MAP,
        "",
        "Tags of the container instance, sent at registration.",
        empty=dict,
    )
    reserved_ports: tuple[int, ...] = _setting(
        "ECS_RESERVED_PORTS",
        values.PORTS,
        "[22,2375,2376,51678,51679]",
        "TCP ports that no task may take. `ECS_PROMETHEUS_PORT` is added when Prometheus is on.",
    )
    reserved_ports_udp: tuple[int, ...] = _setting(
        "ECS_RESERVED_PORTS_UDP", values.PORTS, "[]", "UDP ports that no task may take."
    )
    reserved_memory_mib: int = _setting(
        "ECS_RESERVED_MEMORY",
        values.INT,
        "0",
        "MiB of memory kept back from tasks.",
        bounds=Bounds(0, 65535, "refuse"),
    )
    available_logging_drivers: tuple[str, ...] = _setting(
        "ECS_AVAILABLE_LOGGING_DRIVERS",
        values.LOG_DRIVERS,
        '["json-file","none"]',
        "Log drivers that tasks may ask for; each becomes a capability of the instance.",
    )
    disable_privileged: bool = _setting(
        "ECS_DISABLE_PRIVILEGED", values.BOOL, "false", "Refuse privileged containers."
    )
    selinux: bool = _setting(
        "ECS_SELINUX_CAPABLE",
        values.BOOL,
        "false",
        "Advertise that containers may set SELinux labels.",
    )
    apparmor: bool = _setting(
        "ECS_APPARMOR_CAPABLE",
        values.BOOL,
        "false",
        "Advertise that containers may set AppArmor profiles.",
    )
    disable_health_check: bool = _setting(
        "ECS_DISABLE_DOCKER_HEALTH_CHECK",
        values.BOOL,
        "false",
        "Do not advertise container health checks, so that no task with one is placed here.",
    )
    gpu_support: bool | None = _setting(
        "ECS_ENABLE_GPU_SUPPORT",
        values.BOOL,
        "",
        "Offer the host's NVIDIA GPUs to tasks. `true` warns when there are none.",
        note="on where there are GPUs",
        empty=NoneType,
    )

    # Tasks and containers
    task_cleanup_wait_s: float = _setting(
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION",
        values.DURATION,
        "3h",
        "How long a stopped task's containers are kept for inspection.",
        bounds=Bounds(low=1, outside="default"),
    )
    task_cleanup_jitter_s: float = _setting(
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER",
        values.DURATION,
        "0",
        "A random time up to this is added to the wait.",
    )
    container_stop_timeout_s: float = _setting(
        "ECS_CONTAINER_STOP_TIMEOUT",
        values.DURATION,
        "30s",
        "Time between SIGTERM and SIGKILL, where the container definition gives none.",
        bounds=Bounds(low=1),
    )
    container_start_timeout_s: float = _setting(
        "ECS_CONTAINER_START_TIMEOUT",
        values.DURATION,
        "3m",
        "Deadline of the engine's start call.",
        bounds=Bounds(low=45),
    )
    container_create_timeout_s: float = _setting(
        "ECS_CONTAINER_CREATE_TIMEOUT",
        values.DURATION,
        "4m",
        "Deadline of the engine's create call.",
        bounds=Bounds(low=60),
    )
    dynamic_host_port_range: tuple[int, int] | None = _setting(
        "ECS_DYNAMIC_HOST_PORT_RANGE",
        values.PORT_RANGE,
        "",
        "Host ports that the agent may pick from for mappings with host port 0.",
        note="the kernel's local port range",
        empty=NoneType,
    )

    # Images
    image_pull_behavior: Literal["default", "always", "once", "prefer-cached"] = _setting(
        "ECS_IMAGE_PULL_BEHAVIOR",
        values.choice("default", "always", "once", "prefer-cached"),
        "default",
        "When images are pulled: `default` pulls and falls back to the local copy, `always` pulls, "
        "`once` pulls what this agent has not pulled yet, `prefer-cached` pulls what is missing.",
    )
    image_pull_inactivity_timeout_s: float = _setting(
        "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT",
        values.DURATION,
        "1m",
        "A pull without progress for this long has failed.",
        bounds=Bounds(low=60),
    )
    image_pull_timeout_s: float = _setting(
        "ECS_IMAGE_PULL_TIMEOUT",
        values.DURATION,
        "2h",
        "Deadline of a whole pull.",
        bounds=Bounds(low=1, outside="default"),
    )
    manifest_pull_timeout_s: float = _setting(
        "ECS_MANIFEST_PULL_TIMEOUT",
        values.DURATION,
        "1m",
        "Deadline of looking up an image's digest.",
        bounds=Bounds(low=30),
    )
    pull_dependent_upfront: bool = _setting(
        "ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT",
        values.BOOL,
        "false",
        "Pull the images of containers whose `dependsOn` is not met yet.",
    )

    # Network of awsvpc tasks
    task_pool_cidr: str = _setting(
        "ECS_TASK_POOL_CIDR",
        values.IPV4_NETWORK,
        "10.207.0.0/20",
        "Addresses for tasks in `awsvpc` mode; the first is the bridge's. Must not overlap a "
        "network that the host or its tasks need to reach.",
        ours=True,
    )
    task_bridge: str = _setting(
        "ECS_TASK_BRIDGE",
        values.INTERFACE,
        "ecs-br0",
        "Bridge that connects the tasks; made by the agent.",
        ours=True,
    )
    task_dns_servers: tuple[str, ...] = _setting(
        "ECS_TASK_DNS_SERVERS",
        values.ADDRESSES,
        "[]",
        "Name servers of `awsvpc` tasks.",
        ours=True,
        note="the host's",
    )
    task_mtu: int = _setting(
        "ECS_TASK_MTU",
        values.INT,
        "0",
        "MTU of task interfaces; 0 takes that of the host's default route.",
        bounds=Bounds(0, 65535, "refuse"),
        ours=True,
    )
    block_imds: bool = _setting(
        "ECS_AWSVPC_BLOCK_IMDS",
        values.BOOL,
        "false",
        "Keep `awsvpc` tasks from the instance metadata address, 169.254.169.254.",
    )
    warm_sandboxes: int = _setting(
        "ECS_WARM_SANDBOXES",
        values.INT,
        "4",
        "Network sandboxes kept ready, so that `awsvpc` tasks start at once; 0 keeps none.",
        bounds=Bounds(0, 256, "refuse"),
        ours=True,
    )
    firewall_table: str = _setting(
        "ECS_FIREWALL_TABLE",
        values.TABLE,
        "ecs_agent",
        "nftables table that holds all our rules.",
        ours=True,
    )

    # Metrics
    disable_metrics: bool = _setting(
        "ECS_DISABLE_METRICS", values.BOOL, "false", "Take and send no samples."
    )
    metrics_interval_s: float = _setting(
        "ECS_POLLING_METRICS_WAIT_DURATION",
        values.DURATION,
        "10s",
        "Time between two samples. Amazon's agent allows 5s and more; ours reads counters itself.",
        bounds=Bounds(1, 20),
    )
    prometheus: bool = _setting(
        "ECS_ENABLE_PROMETHEUS_METRICS",
        values.BOOL,
        "false",
        "Serve Prometheus text at `/metrics` on the loopback.",
    )
    prometheus_port: int = _setting(
        "ECS_PROMETHEUS_PORT",
        values.INT,
        "51680",
        "Port of `/metrics`.",
        bounds=Bounds(1, 65535, "refuse"),
        ours=True,
    )

    # Log
    log_level: Literal["crit", "error", "warn", "info", "debug"] = _setting(
        "ECS_LOGLEVEL",
        values.choice("crit", "error", "warn", "info", "debug"),
        "info",
        "Least severe level that is logged.",
    )
    log_format: str = _setting(
        "ECS_LOG_OUTPUT_FORMAT",
        values.choice("logfmt", "json"),
        "",
        "Format of log lines.",
        note="coloured columns on a terminal, `logfmt` in the journal, else `json`",
    )
    log_file: Path | None = _setting(
        "ECS_LOGFILE",
        values.PATH,
        "",
        "File that log lines are written to, besides standard error.",
        empty=NoneType,
    )
    log_rollover: Literal["size", "hourly", "none"] = _setting(
        "ECS_LOG_ROLLOVER_TYPE",
        values.choice("size", "hourly", "none"),
        "size",
        "When the log file is begun anew.",
    )
    log_max_file_size_mb: float = _setting(
        "ECS_LOG_MAX_FILE_SIZE_MB",
        values.NUMBER,
        "5",
        "Size in megabytes at which the log file is begun anew.",
        bounds=Bounds(low=0.1, outside="default"),
    )
    log_max_roll_count: int = _setting(
        "ECS_LOG_MAX_ROLL_COUNT",
        values.INT,
        "24",
        "Old log files that are kept.",
        bounds=Bounds(low=1, outside="default"),
    )

    warnings: tuple[str, ...] = ()
    """One line each: settings without effect, values moved into their bounds. For the log."""


def variables() -> dict[str, Variable]:
    """Return every setting by the name of its field, in the order of the table."""
    return {f.name: f.metadata["variable"] for f in fields(Settings) if "variable" in f.metadata}
