"""What a control is told of this host when it registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import __version__
from agent.config.addresses import HostPort
from agent.engine.preparations.efs import EFS_AUTH
from agent.model.fleet import FleetHost
from agent.resources import attributes, host_address
from agent.upstream.protocol import RegisterInfo
from agent.wiring.host_policy import offered

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.model.resources import HostResources
    from agent.network.settings import FleetSettings
    from agent.runtime.protocol import EngineInfo
    from agent.upstream.host_identity import Machine


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
    task_names: bool = False,
    fleet: FleetSettings | None = None,
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
        task_names: whether names of tasks are answered to tasks with addresses of their own.
        fleet: its part in the network between hosts; None if it takes none.

    Raises:
        ConfigError: attributes that an operator set are not valid.
    """
    features = _features(
        settings,
        host,
        info,
        task_limits=task_limits,
        security_groups=security_groups,
        task_names=task_names,
    )
    return RegisterInfo(
        resources=host,
        attributes=_attributes(settings, host, features, info.api_version, towards_ecs=towards_ecs),
        tags=settings.container_instance_tags,
        agent_version=__version__,
        machine_id=machine.id,
        machine_key=machine.key,
        known_tasks=known_tasks,
        fleet=_fleet_host(settings, fleet) if fleet is not None else None,
    )


def _fleet_host(settings: Settings, fleet: FleetSettings) -> FleetHost:
    return FleetHost(
        driver=fleet.driver,
        address=settings.host_address or host_address.find(),
        range=fleet.range,
        ipv6_range=fleet.ipv6_range,
        has_ipv6=not fleet.ipv6_problem,
        ipv6_only=fleet.ipv6_only,
        ipv6_address=fleet.ipv6_address,
        port=fleet.port,
        public_key=fleet.public_key,
    )


def _features(
    settings: Settings,
    host: HostResources,
    info: EngineInfo,
    *,
    task_limits: bool,
    security_groups: bool,
    task_names: bool,
) -> attributes.Features:
    features = attributes.Features(
        logging_drivers=_log_drivers(settings, info),
        awslogs_role=settings.awslogs_execution_role,
        firelens="fluentd" in info.log_drivers or not info.log_drivers,
        task_roles=settings.task_roles,
        task_roles_on_host=settings.task_roles_on_host,
        health_checks=not settings.disable_health_check,
        volume_plugins=info.volume_plugins,
        gpu_mps=bool(settings.nvidia_mps_pipes and any(gpu.is_shareable for gpu in host.gpus)),
        selinux=settings.selinux,
        apparmor=settings.apparmor,
        task_limits=task_limits,
        security_groups=security_groups,
        task_names=task_names,
        fargate=bool(settings.offer_fargate),
        fargate_all_clusters=bool(settings.fargate_all_clusters),
        nfs=host.mounts_nfs,
        faults=host.impairs_networks,
        eni=settings.task_eni,
        eni_trunking=settings.high_density_eni and host.makes_vlans,
        eni_blocks_imds=settings.block_imds,
        efs_auth=EFS_AUTH in settings.volume_plugin_capabilities
        or (settings.efs_servers_trusted and bool(settings.efs_servers)),
    )
    return offered(features, settings.host_policy)


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
        task_pool=settings.task_pool_cidr,
        custom=settings.instance_attributes,
    )


def _log_drivers(settings: Settings, info: EngineInfo) -> tuple[str, ...]:
    """Return the drivers that the settings name and the engine has, where it lists what it has."""
    has = (
        {*info.log_drivers, "none"} if info.log_drivers else set(settings.available_logging_drivers)
    )
    return tuple(driver for driver in settings.available_logging_drivers if driver in has)
