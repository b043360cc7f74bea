"""What the host has for tasks, and how it is set up for them: networks and control groups."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.cgroups.groups import GroupSettings, TaskGroups
from agent.errors import ConfigError
from agent.model.fleet import WIREGUARD
from agent.model.status import NetworkMode
from agent.network.settings import (
    IPV6_POOL_SETTING,
    POOL_SETTING,
    FleetSettings,
    NetworkSettings,
)
from agent.resources import host_address, inventory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config import Settings
    from agent.model.resources import HostResources
    from agent.model.task import AgentTask
    from agent.runtime.protocol import EngineInfo

WIREGUARD_BYTES = 80
"""What WireGuard takes of each packet in IPv6, and some bytes more than in IPv4."""
_BY_CONTROL = "the range that control gave this host"
IMDS_ADDRESSES = ("169.254.169.254/32", "fd00:ec2::254/128")
"""The instance metadata service, which hands out the host's own credentials."""


async def read_host(settings: Settings, info: EngineInfo) -> HostResources:
    """Return what this host has for tasks, less what the settings reserve."""
    ports = {*settings.reserved_ports, settings.log_relay_port}
    if settings.prometheus:
        ports.add(settings.prometheus_port)
    if settings.introspection_port:
        ports.add(settings.introspection_port)
    policy = settings.host_policy
    return await inventory.read_host(
        reserved_memory_mib=settings.reserved_memory_mib,
        reserved_tcp=ports,
        reserved_udp={*settings.reserved_ports_udp, *_tunnel_ports(settings)},
        gpu_enabled=settings.gpu_support is not False and (policy is None or policy.gpus),
        engine_info=info,
    )


def _tunnel_ports(settings: Settings) -> tuple[int, ...]:
    return (settings.fleet_port,) if settings.fleet_network == WIREGUARD else ()


def network_settings(
    settings: Settings, owner: str, engine_bridge: str, fleet: FleetSettings | None = None
) -> NetworkSettings:
    """Return how task networks look.

    Args:
        settings: the settings.
        owner: names the agent whose sandboxes they are.
        engine_bridge: link of the engine's default bridge; empty if it has none.
        fleet: the part of this host in the network between hosts; None if it takes none.
    """
    by_control, by_control_ipv6 = (fleet.range, fleet.ipv6_range) if fleet is not None else ("", "")
    return NetworkSettings(
        owner=owner,
        pool_cidr=by_control or settings.task_pool_cidr,
        pool_from=_BY_CONTROL if by_control else POOL_SETTING,
        ipv6_cidr=by_control_ipv6 or settings.task_pool_ipv6_cidr,
        ipv6_pool_from=_BY_CONTROL if by_control_ipv6 else IPV6_POOL_SETTING,
        reserved_cidr=settings.task_pool_reserved_cidr,
        ipv6_masquerade=settings.task_ipv6_egress == "masquerade",
        fleet=fleet,
        tunnel_bytes=WIREGUARD_BYTES if fleet is not None and fleet.driver == WIREGUARD else 0,
        driver=settings.task_network_driver,
        parent=settings.task_network_parent,
        gateway=settings.task_network_gateway,
        ipv6_gateway=settings.task_network_ipv6_gateway,
        bridge=settings.task_bridge,
        table=settings.firewall_table,
        warm_sandboxes=settings.warm_sandboxes,
        dns_servers=settings.task_dns_servers,
        mtu=settings.task_mtu,
        blocked_addresses=IMDS_ADDRESSES if settings.block_imds else (),
        engine_bridge=engine_bridge,
        introspection_port=0 if settings.introspection_offhost else settings.introspection_port,
        closed_ports=closed_ports(settings),
    )


def closed_ports(settings: Settings) -> tuple[int, ...]:
    """Return the TCP ports of control and agent on this host that its tasks must not reach.

    The port of a control endpoint on another host is not one of them: here it belongs to somebody else.
    The introspection port has rules of its own.
    """
    ports = set(settings.control_ports)
    if settings.prometheus:
        ports.add(settings.prometheus_port)
    for url in filter(None, (settings.control_endpoint, settings.backend_host)):
        parts = urlsplit(url)
        if host_address.is_own(parts.hostname or ""):
            ports.add(parts.port or (443 if parts.scheme.lower() == "https" else 80))
    return tuple(sorted(ports - set(settings.task_allowed_ports)))


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
