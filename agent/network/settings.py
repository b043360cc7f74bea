"""Settings of the task networks on this host: plain values from the daemon."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from msgspec import Struct

from agent.config.addresses import TASK_PORT
from agent.config.values import SecretText

POOL_SETTING = "ECS_TASK_POOL_CIDR"
RESERVED_SETTING = "ECS_TASK_POOL_RESERVED_CIDR"
IPV6_POOL_SETTING = "ECS_TASK_POOL_IPV6_CIDR"
BRIDGE_SETTING = "ECS_TASK_BRIDGE"
DNS_SETTING = "ECS_TASK_DNS_SERVERS"
DRIVER_SETTING = "ECS_TASK_NETWORK_DRIVER"
PARENT_SETTING = "ECS_TASK_NETWORK_PARENT"
GATEWAY_SETTING = "ECS_TASK_NETWORK_GATEWAY"
IPV6_GATEWAY_SETTING = "ECS_TASK_NETWORK_IPV6_GATEWAY"
PORTS_SETTING = "ECS_DYNAMIC_HOST_PORT_RANGE"


class FleetSettings(Struct, frozen=True, kw_only=True):
    """The part of this host in the network between hosts."""

    driver: str
    """One of ``model.fleet.DRIVERS``."""
    range: str = ""
    """The IPv4 range that control gave this host; empty before it has, or if it has none to give."""
    fleet_range: str = ""
    """The network from which all IPv4 ranges are; empty without one."""
    ipv6_range: str = ""
    """The same of IPv6."""
    ipv6_fleet_range: str = ""
    ipv6_only: bool = False
    """Whether tasks here have IPv6 alone."""
    ipv6_address: str = ""
    """Under which other hosts reach this one by IPv6, with plain routes."""
    ipv6_problem: str = ""
    """Why tasks here cannot have IPv6 addresses that other hosts reach; empty if they can."""
    port: int = 0
    """UDP port of WireGuard."""
    public_key: str = ""
    private_key: SecretText = SecretText()

    @property
    def gateway(self) -> str:
        """This host's own address towards tasks, the first of its range; empty before it has one."""
        return str(IPv4Network(self.range)[1]) if self.range else ""

    @property
    def ipv6_gateway(self) -> str:
        """The same of IPv6."""
        return str(IPv6Network(self.ipv6_range)[1]) if self.ipv6_range else ""


class NetworkSettings(Struct, frozen=True, kw_only=True):
    """Settings of ``TaskNetworks``. Bridge, pool and table belong to one agent only."""

    owner: str
    """Identifies this agent among several on one host; the value of ``SANDBOX_LABEL``."""
    pool_cidr: str = "10.207.0.0/20"
    """IPv4 network of the tasks; its first address is the bridge's. Empty if tasks have IPv6 alone."""
    ipv6_cidr: str = ""
    """IPv6 network of the tasks; its first address is the bridge's. Empty if tasks have no IPv6."""
    reserved_cidr: str = ""
    """Part of a pool whose addresses only tasks get that ask for one; empty for none."""
    ipv6_masquerade: bool = True
    """Whether what tasks send out by IPv6 leaves with the host's address, with the driver ``bridge``."""
    pool_from: str = POOL_SETTING
    """Where ``pool_cidr`` comes from, for those who read errors."""
    ipv6_pool_from: str = IPV6_POOL_SETTING
    """The same of ``ipv6_cidr``."""
    driver: str = "bridge"
    """Name of the driver that gives tasks their addresses."""
    parent: str = ""
    """Link of the host on whose network tasks are, for drivers with a parent."""
    gateway: str = ""
    """Router of tasks on the parent's network; empty for that of the host."""
    ipv6_gateway: str = ""
    """The same for IPv6."""
    bridge: str = "ecs-br0"
    table: str = "ecs_agent"
    """nftables table that contains only our rules, and all of them."""
    warm_sandboxes: int = 4
    """Sandboxes kept ready for future tasks in any case."""
    burst_sandboxes: int = 256
    """Most that are kept ready after a burst of launches; memory and addresses may allow less."""
    dns_servers: tuple[str, ...] = ()
    """Name servers of tasks; empty for those of the host."""
    mtu: int = 0
    """MTU of task interfaces; 0 for that of the link with the default route."""
    blocked_addresses: tuple[str, ...] = ()
    """Prefixes that tasks cannot reach, for example ``169.254.169.254/32``."""
    server_port: int = TASK_PORT
    """Of the agent's server, to which ``agent_address`` leads."""
    engine_bridge: str = "docker0"
    """Link of the engine's default bridge; empty if it has none."""
    introspection_port: int = 0
    """Port of introspection, if other hosts must not reach it; 0 if they may, or there is none."""
    closed_ports: tuple[int, ...] = ()
    """TCP ports of this host that tasks with a network of their own must not reach."""
    tunnel_bytes: int = 0
    """What a tunnel to other hosts takes of each packet."""
    fleet: FleetSettings | None = None
    """None if this host takes no part in the network between hosts."""
    quarantine_s: float = 60.0
    """Time between the release of an address and its next use: peers may still send to it."""
    quiet_s: float = 0.5
    """The pool is refilled when no task was launched for this long."""
    check_interval_s: float = 15.0
    """Interval of checks of the firewall; each fourth is of bridge and links, too."""
    parallel: int = 8
    """Sandboxes created in parallel; more would only wait for each other inside the engine."""

    @property
    def is_ipv6_only(self) -> bool:
        """Whether tasks have IPv6 alone."""
        return not self.pool_cidr

    @property
    def answers_names(self) -> bool:
        """Whether questions of ``awsvpc`` tasks for names can be led to the agent (``agent.dns``)."""
        return self.driver == "bridge" and bool(self.pool_cidr)
