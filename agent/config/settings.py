"""The table of settings: one field of ``Settings`` per variable, with its syntax and default.

Pure data. Names, defaults and bounds follow the Amazon ECS agent 1.105.1 (or the values that its
packages set, if those differ). The text of each setting states differences and additions; it is
also the text of ``docs/configuration.md``.
"""

# ruff: noqa: RUF009 - setting returns a dataclass field, created once per class like any other
from __future__ import annotations

from dataclasses import dataclass, fields
from types import NoneType
from typing import TYPE_CHECKING, Literal

from agent.config import network_values, values
from agent.config.nfs_servers import EFS_SERVERS, NfsExport
from agent.config.task_network_settings import TaskNetworkSettings
from agent.config.values import SecretText
from agent.config.variable import Bounds, Variable, setting

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.host_policy import HostPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(TaskNetworkSettings):
    """Every setting that has an effect. Durations are in seconds. Immutable and safe to share."""

    # This host
    json_file: Path | None = setting(
        "ECS_AGENT_CONFIG_FILE_PATH",
        values.PATH,
        "",
        "Settings as JSON, with the names that the Amazon ECS agent uses.",
        note="the name of the last `ecs.config` plus `.json`",
        empty=NoneType,
    )
    docker_host: str = setting(
        "DOCKER_HOST",
        values.DOCKER_HOST,
        "unix:///var/run/docker.sock",
        "Address of the Docker Engine API.",
    )
    socket_path: Path = setting(
        "ECS_AGENT_SOCKET",
        values.PATH,
        "/run/ecs-agent/agent.sock",
        "Unix socket for `ecs-agent status`, `tasks`, `why` and so on; only root may use it.",
        ours=True,
    )
    data_dir: Path = setting(
        "ECS_DATADIR",
        values.PATH,
        "/var/lib/ecs/data",
        "Directory of the agent's state; created at start with mode 0700.",
    )
    engine_auth_type: str = setting(
        "ECS_ENGINE_AUTH_TYPE",
        values.choice("docker", "dockercfg"),
        "",
        "Format of `ECS_ENGINE_AUTH_DATA`.",
    )
    engine_auth_data: SecretText = setting(
        "ECS_ENGINE_AUTH_DATA",
        values.JSON_SECRET,
        "",
        "Registry credentials. Never logged, never stored.",
        empty=SecretText,
    )

    # Tasks and containers
    task_cleanup_wait_s: float = setting(
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION",
        values.DURATION,
        "3h",
        "How long a stopped task's containers are kept for inspection.",
        bounds=Bounds(low=1, outside="default"),
    )
    task_cleanup_jitter_s: float = setting(
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER",
        values.DURATION,
        "0",
        "The agent adds a random time up to this to the wait.",
    )
    drain_on_shutdown_s: float = setting(
        "ECS_DRAIN_ON_SHUTDOWN",
        values.DURATION,
        "0",
        "How long a shutdown or reboot of the host waits while control replaces the tasks of services on "
        "other hosts. Tasks that still run are then stopped and reported. With `0`, the host is not drained.",
        ours=True,
        bounds=Bounds(high=3600),
    )
    container_stop_timeout_s: float = setting(
        "ECS_CONTAINER_STOP_TIMEOUT",
        values.DURATION,
        "30s",
        "Time between SIGTERM and SIGKILL if the container definition sets none.",
        bounds=Bounds(low=1),
    )
    container_start_timeout_s: float = setting(
        "ECS_CONTAINER_START_TIMEOUT",
        values.DURATION,
        "3m",
        "Deadline of the engine's start call.",
        bounds=Bounds(low=45),
    )
    container_create_timeout_s: float = setting(
        "ECS_CONTAINER_CREATE_TIMEOUT",
        values.DURATION,
        "4m",
        "Deadline of the engine's create call.",
        bounds=Bounds(low=60),
    )
    dynamic_host_port_range: tuple[int, int] | None = setting(
        "ECS_DYNAMIC_HOST_PORT_RANGE",
        network_values.PORT_RANGE,
        "",
        "Host ports that the agent may pick from for mappings with host port 0.",
        note="the kernel's local port range",
        empty=NoneType,
    )

    # Limits of tasks as a whole
    task_limits: bool | None = setting(
        "ECS_ENABLE_TASK_CPU_MEM_LIMIT",
        values.BOOL,
        "",
        "Limit CPU and memory of a task as a whole, as its definition says, with a control group around "
        "its containers. With `true`, the agent does not start on a host where that cannot be done.",
        note="on where the host can do it",
        empty=NoneType,
    )
    cgroup_path: Path = setting(
        "ECS_CGROUP_PATH",
        values.PATH,
        "/sys/fs/cgroup",
        "Where control groups are mounted.",
    )
    cgroup_cpu_period_s: float = setting(
        "ECS_CGROUP_CPU_PERIOD",
        values.DURATION,
        "100ms",
        "Period in which a task gets its CPU time. A task whose share of it would be less than 1 ms "
        "has a longer one.",
        bounds=Bounds(0.008, 0.1, "default"),
    )
    task_pids_limit: int = setting(
        "ECS_TASK_PIDS_LIMIT",
        values.INT,
        "0",
        "Most processes and threads of a task; 0 for no limit.",
        bounds=Bounds(0, 4194304, "default"),
    )
    propagate_task_memory: bool = setting(
        "ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2",
        values.BOOL,
        "false",
        "Give containers without a memory limit that of their task, so that programs see it: they look "
        "at their own control group only. For hosts with cgroup v2.",
    )

    # What tasks find on this host
    offer_fargate: bool | None = setting(
        "ECS_OFFER_FARGATE",
        values.BOOL,
        "",
        "Run tasks with launch type FARGATE here: any task of the cluster that says so, with its CPU "
        "and memory enforced.",
        ours=True,
        note="`false`; `true` in `ecs-agent standalone`",
        empty=NoneType,
    )
    fargate_all_clusters: bool | None = setting(
        "ECS_FARGATE_ALL_CLUSTERS",
        values.BOOL,
        "",
        "With `ECS_OFFER_FARGATE`: run such tasks of all clusters of this control endpoint, and not only of "
        "this host's own.",
        ours=True,
        note="`false`; `true` in `ecs-agent standalone`",
        empty=NoneType,
    )
    efs_servers: dict[str, NfsExport] = setting(
        "ECS_EFS_SERVERS",
        EFS_SERVERS,
        "{}",
        "NFS servers that stand for EFS file systems, for sites without AWS: file system "
        "(`fs-0123`), access point (`fs-0123/fsap-0456`) or `*` to `HOST:/PATH`. The path of `*` "
        "may have `{fileSystemId}` and `{accessPointId}`.",
        ours=True,
    )
    efs_servers_trusted: bool = setting(
        "ECS_EFS_SERVERS_TRUSTED",
        values.BOOL,
        "false",
        "Mount EFS volumes that ask for encryption in transit or IAM authorization from the servers "
        "of `ECS_EFS_SERVERS` without either, because the way to them is safe.",
        ours=True,
    )
    volume_plugin_capabilities: tuple[str, ...] = setting(
        "ECS_VOLUME_PLUGIN_CAPABILITIES",
        values.VOLUME_PLUGIN_CAPABILITIES,
        "[]",
        "`efsAuth` if the engine has Amazon's volume plugin, which mounts EFS with TLS and IAM.",
    )

    # Introspection
    introspection_port: int = setting(
        "ECS_INTROSPECTION_PORT",
        values.INT,
        "51678",
        "Port at which programs on this host see what it runs (`/v1/metadata`, `/v1/tasks`), and which "
        "`ecs-agent healthcheck` asks; 0 turns it off.",
        bounds=Bounds(0, 65535, "refuse"),
        ours=True,
    )
    healthcheck_host: str = setting(
        "ECS_AGENT_HEALTHCHECK_HOST",
        values.TEXT,
        "localhost",
        "Host that `ecs-agent healthcheck` asks; read from its environment alone.",
    )

    # Logs of containers
    log_relay_port: int = setting(
        "ECS_LOG_RELAY_PORT",
        values.INT,
        "51681",
        "Loopback port at which the agent takes logs from the engine's `awslogs` driver, for a "
        "control endpoint of this project. Containers keep the port that they were made with.",
        bounds=Bounds(1, 65535, "refuse"),
        ours=True,
    )
    log_spool_mb: int = setting(
        "ECS_LOG_SPOOL_MB",
        values.INT,
        "1024",
        "Disk space in megabytes for logs that wait for control, compressed; beyond it, the oldest of "
        "the task that has most are dropped.",
        bounds=Bounds(16, 1_000_000, "refuse"),
        ours=True,
    )
    log_spool_task_mb: int = setting(
        "ECS_LOG_SPOOL_TASK_MB",
        values.INT,
        "256",
        "The same for a single task.",
        bounds=Bounds(4, 1_000_000, "refuse"),
        ours=True,
    )

    firelens_async: bool = setting(
        "ECS_ENABLE_FIRELENS_ASYNC",
        values.BOOL,
        "true",
        "Containers that log to a FireLens router start and run while it cannot be reached.",
    )

    # Log
    log_level: Literal["crit", "error", "warn", "info", "debug"] = setting(
        "ECS_LOGLEVEL",
        values.choice("crit", "error", "warn", "info", "debug"),
        "info",
        "Least severe level that is logged.",
    )
    log_format: str = setting(
        "ECS_LOG_OUTPUT_FORMAT",
        values.choice("logfmt", "json"),
        "",
        "Format of log lines.",
        note="coloured columns on a terminal, `logfmt` in the journal, else `json`",
    )
    log_file: Path | None = setting(
        "ECS_LOGFILE",
        values.PATH,
        "",
        "File for log lines, in addition to standard error.",
        empty=NoneType,
    )
    log_rollover: Literal["size", "hourly", "none"] = setting(
        "ECS_LOG_ROLLOVER_TYPE",
        values.choice("size", "hourly", "none"),
        "size",
        "When the agent starts a new log file.",
    )
    log_max_file_size_mb: float = setting(
        "ECS_LOG_MAX_FILE_SIZE_MB",
        values.NUMBER,
        "5",
        "Size in megabytes at which the agent starts a new log file.",
        bounds=Bounds(low=0.1, outside="default"),
    )
    log_max_roll_count: int = setting(
        "ECS_LOG_MAX_ROLL_COUNT",
        values.INT,
        "24",
        "Number of old log files to keep.",
        bounds=Bounds(low=1, outside="default"),
    )

    cluster_given: bool = False
    """Whether ``ECS_CLUSTER`` is set: only a host without it may create the cluster `default`."""

    host_policy: HostPolicy | None = None
    """What ``ECS_HOST_POLICY_FILE`` says, with ``ECS_DISABLE_PRIVILEGED`` as one of its rules; None
    without either."""

    warnings: tuple[str, ...] = ()
    """One line per setting without effect and per value moved into its bounds. For the log."""


def variables() -> dict[str, Variable]:
    """Return every setting by field name, in the order of the table."""
    return {f.name: f.metadata["variable"] for f in fields(Settings) if "variable" in f.metadata}
