"""How settings become the parts of an agent: what ``daemon`` makes each of them with.

A setting that one part alone needs is handed to it here. Reads the host once (``read_host``); all else
is pure.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import __version__, logs
from agent.awslogs.relay import LogRelay
from agent.cgroups.groups import GroupSettings, TaskGroups
from agent.config.addresses import TASK_PORT, HostPort
from agent.endpoints.introspection import Introspection
from agent.endpoints.prometheus import snapshot
from agent.engine.container_gpus import GpuSettings
from agent.engine.engine import EngineSettings
from agent.engine.labels import LABEL_OWNER, LABEL_TASK
from agent.engine.planner import Policy
from agent.engine.preparations.efs import EFS_AUTH, EfsSettings
from agent.engine.preparations.firelens import FirelensSettings
from agent.engine.tools import StepSettings
from agent.errors import ConfigError
from agent.images import Images, PullLimits
from agent.images.auth import Credentials
from agent.images.cleanup import CleanupSettings, ImageCleanup
from agent.images.disk import EngineDisk, Watermarks
from agent.images.locks import ImageLocks
from agent.images.logins import RegistryLogins
from agent.images.removal_plan import CleanupPolicy
from agent.images.uses import ImageUses
from agent.metrics.sampler import Sampler
from agent.model.status import NetworkMode
from agent.network.host import agent_address
from agent.network.sandboxes.sandbox import SANDBOX_LABEL
from agent.network.settings import NetworkSettings
from agent.resources import attributes, host_address, inventory
from agent.runtime.pause.pause import REPOSITORY as PAUSE_REPOSITORY
from agent.supervision import held_sockets
from agent.supervision.loopback_server import LoopbackServer
from agent.task_endpoint.audit import AuditLog
from agent.task_endpoint.callers import Callers, Ends
from agent.task_endpoint.metadata.parts import FilePlace, HostNames
from agent.task_endpoint.processes import ContainerProcesses
from agent.task_endpoint.server import TaskServer
from agent.task_endpoint.throttle import RequestRate
from agent.upstream.host_identity import AVAILABILITY_ZONE
from agent.upstream.protocol import RegisterInfo

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable

    from agent.awslogs.parts import LogParts
    from agent.config import Settings
    from agent.endpoints.introspection import Introspected
    from agent.endpoints.source import WatchedAgent
    from agent.engine.task_places import TaskPlace
    from agent.fetching import TaskServices
    from agent.metrics.targets import SampleTarget
    from agent.model.lookups import AskControl
    from agent.model.resources import HostResources
    from agent.model.task import AgentTask
    from agent.otlp.exporter import Exporter
    from agent.runtime.protocol import ContainerEngine, ContainerSummary, EngineInfo
    from agent.state import StateStore
    from agent.supervision.held_sockets import HeldSockets
    from agent.task_endpoint.contract import Route
    from agent.upstream.host_identity import Machine
    from agent.upstream.protocol import Control

CONTAINERD_ROOT: Final = "/var/lib/containerd"
IMDS_ADDRESSES = ("169.254.169.254/32",)
"""The instance metadata service, which hands out the host's own credentials."""


@dataclass(frozen=True, slots=True)
class TaskRequests:
    """What answers the requests of tasks."""

    callers: Callers
    audit: AuditLog
    routes: list[Route]
    """Of all parts of ``task_endpoint``."""
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Answers by kind of path and HTTP status."""


async def read_host(settings: Settings, info: EngineInfo) -> HostResources:
    """Return what this host has for tasks, less what the settings reserve."""
    ports = {*settings.reserved_ports, settings.log_relay_port}
    if settings.prometheus:
        ports.add(settings.prometheus_port)
    if settings.introspection_port:
        ports.add(settings.introspection_port)
    return await inventory.read_host(
        reserved_memory_mib=settings.reserved_memory_mib,
        reserved_tcp=ports,
        reserved_udp=settings.reserved_ports_udp,
        gpu_enabled=settings.gpu_support is not False,
        engine_info=info,
    )


def network_settings(settings: Settings, owner: str, engine_bridge: str) -> NetworkSettings:
    """Return how task networks look.

    Args:
        settings: the settings.
        owner: names the agent whose sandboxes they are.
        engine_bridge: link of the engine's default bridge; empty if it has none.
    """
    return NetworkSettings(
        owner=owner,
        pool_cidr=settings.task_pool_cidr,
        bridge=settings.task_bridge,
        table=settings.firewall_table,
        warm_sandboxes=settings.warm_sandboxes,
        dns_servers=settings.task_dns_servers,
        mtu=settings.task_mtu,
        blocked_addresses=IMDS_ADDRESSES if settings.block_imds else (),
        engine_bridge=engine_bridge,
        introspection_port=0 if settings.introspection_offhost else settings.introspection_port,
    )


def need_network(records: Iterable[AgentTask]) -> bool:
    """Return whether one of these tasks has not stopped and has a network."""
    return any(not r.is_done and r.payload.mode is not NetworkMode.NONE for r in records)


async def task_groups(settings: Settings, info: EngineInfo, owner: str) -> TaskGroups:
    """Prepare the host for the control groups of tasks.

    Raises:
        ConfigError: tasks cannot be limited here, and the settings insist on it.
    """
    groups = await TaskGroups.open(
        GroupSettings(
            owner=owner,
            root=settings.cgroup_path,
            enabled=settings.task_limits is not False,
            period_us=round(settings.cgroup_cpu_period_s * 1_000_000),
            pids=settings.task_pids_limit,
            propagate_memory=settings.propagate_task_memory,
        ),
        engine_driver=info.cgroup_driver,
        engine_version=info.cgroup_version,
    )
    if groups.problem and settings.task_limits:
        await groups.close()
        raise ConfigError(f"ECS_ENABLE_TASK_CPU_MEM_LIMIT=true: {groups.problem}")
    return groups


@dataclass(frozen=True, slots=True)
class ImageParts:
    """What brings images onto the host, and what removes them."""

    images: Images
    cleanup: ImageCleanup


async def open_images(
    settings: Settings,
    runtime: ContainerEngine,
    info: EngineInfo,
    services: TaskServices,
    control: AskControl,
    store: StateStore,
    wanted: Callable[[], Iterable[str]],
) -> ImageParts:
    """Return what gets and removes images.

    Args:
        settings: the settings.
        runtime: the container engine.
        info: what it says of itself.
        services: keep the logins of AWS that orders name.
        control: keeps those that it has itself.
        store: keeps which images were got.
        wanted: returns the images of all tasks.

    Raises:
        StateFailure: what an earlier process noted cannot be read.
    """
    uses, locks = await ImageUses.open(store), ImageLocks()
    paths = [info.data_root, CONTAINERD_ROOT] if info.images_in_containerd else [info.data_root]
    cleanup = ImageCleanup(
        runtime,
        uses=uses,
        locks=locks,
        disk=EngineDisk([Path(path) for path in paths if path]),
        settings=_cleanup_settings(settings),
        wanted=wanted,
        is_ours=_is_ours,
    )
    images = Images(
        runtime,
        behavior=settings.image_pull_behavior,
        logins=RegistryLogins(
            Credentials(settings.engine_auth_type, settings.engine_auth_data), services, control
        ),
        limits=PullLimits(
            side_by_side=settings.image_pull_limit,
            inactivity_s=settings.image_pull_inactivity_timeout_s,
            total_s=settings.image_pull_timeout_s,
            manifest_s=settings.manifest_pull_timeout_s,
            mirrors=settings.registry_mirrors,
        ),
        uses=uses,
        locks=locks,
        room=cleanup,
    )
    return ImageParts(images, cleanup)


def _cleanup_settings(settings: Settings) -> CleanupSettings:
    return CleanupSettings(
        enabled=not settings.image_cleanup_disabled,
        # Who prefers cached images wants to keep them; as on Amazon ECS.
        by_age=settings.image_pull_behavior != "prefer-cached",
        interval_s=settings.image_cleanup_interval_s,
        policy=CleanupPolicy(
            minimum_age_s=settings.image_minimum_age_s,
            most=settings.images_removed_per_cycle,
            untracked=settings.untracked_cleanup,
            untracked_minimum_age_s=settings.untracked_minimum_age_s,
        ),
        excluded=settings.images_excluded,
        excluded_repositories=frozenset({PAUSE_REPOSITORY}),
        containers_most=settings.untracked_containers_per_cycle,
        containers_age_s=settings.task_cleanup_wait_s,
        watermarks=Watermarks(high=settings.image_disk_high, low=settings.image_disk_low),
    )


def _is_ours(container: ContainerSummary) -> bool:
    """Tell whether an agent, this one or another on the host, made a container."""
    return bool(container.labels.keys() & {LABEL_OWNER, LABEL_TASK, SANDBOX_LABEL})


def engine_settings(
    settings: Settings, owner: str, info: EngineInfo, *, ec2_instance_id: str = ""
) -> EngineSettings:
    """Return how tasks are carried out.

    Args:
        settings: the settings.
        owner: names the agent whose containers they are.
        info: what the container engine says of itself.
        ec2_instance_id: of this host; empty where it is no EC2 instance.
    """
    return EngineSettings(
        steps=StepSettings(
            cluster=settings.cluster,
            owner=owner,
            stop_timeout_s=round(settings.container_stop_timeout_s),
            create_limit_s=settings.container_create_timeout_s,
            start_limit_s=settings.container_start_timeout_s,
            privileged_allowed=not settings.disable_privileged,
            efs=EfsSettings(
                servers=settings.efs_servers,
                trusted=settings.efs_servers_trusted,
                plugin=EFS_AUTH in settings.volume_plugin_capabilities,
            ),
            firelens=FirelensSettings(
                directory=settings.data_dir.absolute() / "firelens",
                cluster=settings.cluster,
                instance_id=ec2_instance_id,
                is_async=settings.firelens_async,
                async_option="fluentd-async" if _is_20_10(info) else "fluentd-async-connect",
            ),
            gpus=GpuSettings(
                runtime=settings.nvidia_runtime, mps_pipes=str(settings.nvidia_mps_pipes or "")
            ),
        ),
        policy=Policy(settings.pull_dependent_upfront, settings.task_cleanup_wait_s),
        cleanup_jitter_s=settings.task_cleanup_jitter_s,
    )


def _is_20_10(info: EngineInfo) -> bool:
    """Tell whether the engine is of version 20.10 or newer, which began with API 1.41."""
    major, _, minor = info.api_version.partition(".")
    return major != "1" or not minor.isdecimal() or int(minor) >= 41


def sampler(
    settings: Settings,
    info: EngineInfo,
    host: HostResources,
    targets: Callable[[], Iterable[SampleTarget]],
    new_containers: asyncio.Event,
) -> Sampler:
    """Return what measures ``targets``, and at once when ``new_containers`` is set."""
    return Sampler(
        targets,
        interval_s=settings.metrics_interval_s,
        cgroup_root=settings.cgroup_path,
        cgroup_driver=info.cgroup_driver,
        disks={"data": Path(info.data_root or "/"), "root": Path("/")},
        gpus=[gpu.uuid for gpu in host.gpus],
        poked=new_containers,
    )


async def otlp_exporter(
    settings: Settings, agent: WatchedAgent, samples: Sampler | None
) -> Exporter:
    """Return what sends the agent's metrics to a collector."""
    from agent.otlp import exporter  # noqa: PLC0415 - few agents need it

    headers = settings.otlp_headers.reveal()
    return await exporter.Exporter.open(
        exporter.OtlpSettings(
            url=exporter.metrics_url(settings.otlp_endpoint),
            interval_s=settings.otlp_interval_s,
            headers=json.loads(headers) if headers else {},
        ),
        lambda: snapshot(agent, samples),
    )


def describe(  # noqa: PLR0913 - what only the daemon knows
    settings: Settings,
    host: HostResources,
    info: EngineInfo,
    machine: Machine,
    *,
    towards_ecs: bool,
    task_limits: bool,
    known_tasks: list[str],
    security_groups: bool = False,
) -> RegisterInfo:
    """Return what a control is told of this host when it registers.

    Args:
        settings: the settings.
        host: what the host has.
        info: what the container engine says of itself.
        machine: what the machine says of itself.
        towards_ecs: whether it is Amazon ECS that is told.
        task_limits: whether tasks are limited as a whole.
        known_tasks: ARNs of the tasks that the agent holds.
        security_groups: whether those of tasks are enforced.

    Raises:
        ConfigError: attributes that an operator set are not valid.
    """
    features = _features(
        settings, host, info, task_limits=task_limits, security_groups=security_groups
    )
    return RegisterInfo(
        resources=host,
        attributes=_attributes(settings, host, features, info.api_version, towards_ecs=towards_ecs),
        tags=settings.container_instance_tags,
        agent_version=__version__,
        machine_id=machine.id,
        machine_key=machine.key,
        known_tasks=known_tasks,
    )


def _features(
    settings: Settings,
    host: HostResources,
    info: EngineInfo,
    *,
    task_limits: bool,
    security_groups: bool,
) -> attributes.Features:
    return attributes.Features(
        logging_drivers=_log_drivers(settings, info),
        awslogs_role=settings.awslogs_execution_role,
        firelens="fluentd" in info.log_drivers or not info.log_drivers,
        task_roles=settings.task_roles,
        task_roles_on_host=settings.task_roles_on_host,
        privileged=not settings.disable_privileged,
        health_checks=not settings.disable_health_check,
        volume_plugins=info.volume_plugins,
        gpu_mps=bool(settings.nvidia_mps_pipes and any(gpu.is_shareable for gpu in host.gpus)),
        selinux=settings.selinux,
        apparmor=settings.apparmor,
        task_limits=task_limits,
        security_groups=security_groups,
        fargate=bool(settings.offer_fargate),
        nfs=host.mounts_nfs,
        efs_auth=EFS_AUTH in settings.volume_plugin_capabilities
        or (settings.efs_servers_trusted and bool(settings.efs_servers)),
    )


def _attributes(
    settings: Settings,
    host: HostResources,
    features: attributes.Features,
    api_version: str,
    *,
    towards_ecs: bool,
) -> dict[str, str]:
    metrics = HostPort(settings.prometheus_address, settings.prometheus_port)
    reach = host_address.attributes(
        settings.host_address or host_address.find(), metrics if settings.prometheus else None
    )
    if towards_ecs:
        attributes.checked(settings.instance_attributes)  # the client adds them by itself
        if not (settings.host_address or settings.prometheus):
            reach = {}  # Amazon ECS takes ten attributes that are not its own: leave them to operators
        return reach | attributes.towards_ecs(
            host,
            features,
            api_version=api_version,
            zone=settings.availability_zone,
            external=settings.external,
            detailed_os_family=settings.detailed_os_family,
        )
    return reach | attributes.advertised(
        host,
        features,
        api_version=api_version,
        zone=settings.availability_zone,
        custom=settings.instance_attributes,
    )


def _log_drivers(settings: Settings, info: EngineInfo) -> tuple[str, ...]:
    """Return the drivers that the settings name and the engine has, where it lists what it has."""
    has = (
        {*info.log_drivers, "none"} if info.log_drivers else set(settings.available_logging_drivers)
    )
    return tuple(driver for driver in settings.available_logging_drivers if driver in has)


def introspection(settings: Settings, agent: Introspected) -> list[Introspection]:
    """Return the introspection endpoint; none where the settings turn it off."""
    port = settings.introspection_port
    return [Introspection(agent, port=port)] if port else []


def host_names(
    settings: Settings, owner: str, store: StateStore, instance_arn: Callable[[], str]
) -> HostNames:
    """Return what tasks are told that this host is called.

    Args:
        settings: the settings.
        owner: names the agent whose containers they are.
        store: knows the zone that Amazon ECS said.
        instance_arn: returns this host's container instance; empty before the first registration.
    """

    async def zone() -> str:
        if settings.metadata_zone_hidden:
            return ""
        return settings.availability_zone or await store.get_meta(AVAILABILITY_ZONE) or ""

    return HostNames(settings.cluster, owner, instance_arn, zone)


def metadata_files(settings: Settings, info: EngineInfo) -> FilePlace | None:
    """Return where metadata files of containers are; None where they get none."""
    if not settings.metadata_files:
        return None
    labels = any("selinux" in option for option in info.security_options)
    return FilePlace(settings.data_dir.absolute() / "metadata", selinux=labels)


async def callers(settings: Settings, places: Callable[[], Iterable[TaskPlace]]) -> Callers:
    """Return what tells which of the tasks at ``places`` sent a request; looks at the cgroup mount."""
    return Callers(
        places,
        await asyncio.to_thread(ContainerProcesses.open, settings.cgroup_path),
        Ends(agent_address.ADDRESS, (agent_address.PORT, TASK_PORT)),
    )


def audit_log(settings: Settings, control: Control, cleanup: contextlib.AsyncExitStack) -> AuditLog:
    """Return the audit log; its file, if there is one, is closed by ``cleanup``.

    Raises:
        ConfigError: the file cannot be opened.
    """
    write = None
    if settings.audit_log_file is not None and not settings.audit_log_disabled:
        file = logs.open_file(settings, settings.audit_log_file, "ECS_AUDIT_LOGFILE")
        cleanup.callback(file.close)
        write = logs.file_writer(file)
    return AuditLog(settings.cluster, lambda: control.status.instance_arn, write)


def loopback_servers(
    settings: Settings, sockets: HeldSockets, parts: LogParts, control: Control, tasks: TaskRequests
) -> list[LoopbackServer]:
    """Return the servers for tasks and for the engine's log driver, which sends logs for control."""
    relay = partial(
        LogRelay.open, spool=parts.spool, grants=parts.grants, make_stream=control.make_log_stream
    )
    serve = partial(
        TaskServer.open,
        routes=tasks.routes,
        callers=tasks.callers,
        rate=RequestRate(*settings.task_request_rate),
        refused=tasks.audit.refused,
        counts=tasks.counts,
    )
    return [
        LoopbackServer(
            sockets,
            held_sockets.TASKS,
            TASK_PORT,
            serve,
            loss="tasks get no credentials, and containers whose logs go to control or CloudWatch do "
            "not start; end the other process, such as Amazon's agent",
            host=agent_address.ADDRESS,
        ),
        LoopbackServer(
            sockets,
            held_sockets.LOGS,
            settings.log_relay_port,
            relay,
            loss="logs do not reach control; end the other process, or set ECS_LOG_RELAY_PORT",
        ),
    ]
