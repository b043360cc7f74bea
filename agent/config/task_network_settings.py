"""The settings of task networks: addresses, drivers, the network between hosts, and what tasks reach.

Pure data, the fifth part of the table of ``Settings``.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.config import network_values, values
from agent.config.metrics_settings import MetricsSettings
from agent.config.variable import Bounds, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNetworkSettings(MetricsSettings):
    """What concerns the networks of tasks; see ``Settings``, which includes all of these."""

    task_pool_cidr: str = setting(
        "ECS_TASK_POOL_CIDR",
        network_values.IPV4_POOL,
        "10.207.0.0/20",
        "Addresses for tasks in `awsvpc` mode; the bridge gets the first one. Must not overlap a "
        "network that the host or its tasks need to reach. `none` if tasks are to have IPv6 alone.",
        ours=True,
    )
    task_pool_ipv6_cidr: str = setting(
        "ECS_TASK_POOL_IPV6_CIDR",
        network_values.IPV6_NETWORK,
        "",
        "IPv6 addresses for tasks in `awsvpc` mode, beside those of IPv4 or instead of them.",
        ours=True,
    )
    task_pool_reserved_cidr: str = setting(
        "ECS_TASK_POOL_RESERVED_CIDR",
        network_values.NETWORK,
        "",
        "Part of one of these networks whose addresses only tasks get that ask for one.",
        ours=True,
    )
    task_ipv6_egress: str = setting(
        "ECS_TASK_IPV6_EGRESS",
        values.choice("masquerade", "routed"),
        "masquerade",
        "With the driver `bridge`: whether what tasks send out by IPv6 leaves with the host's address, or "
        "with their own, for which your routers need a route to the host.",
        ours=True,
    )
    task_network_driver: str = setting(
        "ECS_TASK_NETWORK_DRIVER",
        values.choice("bridge", "routed", "macvlan", "ipvlan", "ipvlan-l3"),
        "bridge",
        "How `awsvpc` tasks get their addresses; see [task networking](task-networking.md).",
        ours=True,
    )
    task_network_parent: str = setting(
        "ECS_TASK_NETWORK_PARENT",
        network_values.INTERFACE,
        "",
        "Link of the host on whose network tasks are, with `macvlan`, `ipvlan` and `ipvlan-l3`.",
        ours=True,
    )
    task_network_gateway: str = setting(
        "ECS_TASK_NETWORK_GATEWAY",
        network_values.ADDRESS,
        "",
        "Router of tasks on the parent's network, with `macvlan` and `ipvlan`.",
        ours=True,
        note="the host's",
    )
    task_network_ipv6_gateway: str = setting(
        "ECS_TASK_NETWORK_IPV6_GATEWAY",
        network_values.ADDRESS,
        "",
        "The same for IPv6; it may be a link-local address.",
        ours=True,
        note="the host's",
    )
    task_bridge: str = setting(
        "ECS_TASK_BRIDGE",
        network_values.INTERFACE,
        "ecs-br0",
        "Bridge that connects the tasks; the agent creates it.",
        ours=True,
    )
    fleet_network: str = setting(
        "ECS_FLEET_NETWORK",
        values.choice("routes", "wireguard"),
        "",
        "How `awsvpc` tasks reach tasks on other hosts by their addresses: with `routes`, hosts of one layer "
        "2 network route to each other; with `wireguard`, packets are encrypted on any network. Control "
        "gives this host a range of its `--fleet-range` and `--fleet-ipv6-range`, which replace "
        "`ECS_TASK_POOL_CIDR` and `ECS_TASK_POOL_IPV6_CIDR`; see [task networking](task-networking.md#between-hosts).",
        ours=True,
        note="not at all",
    )
    host_ipv6_address: str = setting(
        "ECS_HOST_IPV6_ADDRESS",
        network_values.ADDRESS,
        "",
        "IPv6 address at which other hosts reach this one, for `ECS_FLEET_NETWORK=routes` with IPv6.",
        ours=True,
        note="the address towards the default route",
    )
    fleet_port: int = setting(
        "ECS_FLEET_PORT",
        values.INT,
        "51820",
        "UDP port of this host for `ECS_FLEET_NETWORK=wireguard`; other hosts must reach it.",
        bounds=Bounds(1, 65535, "refuse"),
        ours=True,
    )
    fleet_key_rotation_s: float = setting(
        "ECS_FLEET_KEY_ROTATION",
        values.DURATION,
        "0",
        "How old the WireGuard key of this host gets before it is replaced, which pauses its traffic with "
        "other hosts for some seconds; at least an hour, and with `0` never.",
        ours=True,
    )
    task_dns_servers: tuple[str, ...] = setting(
        "ECS_TASK_DNS_SERVERS",
        network_values.ADDRESSES,
        "[]",
        "Name servers of `awsvpc` tasks.",
        ours=True,
        note="the host's",
    )
    task_mtu: int = setting(
        "ECS_TASK_MTU",
        values.INT,
        "0",
        "MTU of task interfaces; 0 means the MTU of the host's default route.",
        bounds=Bounds(0, 65535, "refuse"),
        ours=True,
    )
    block_imds: bool = setting(
        "ECS_AWSVPC_BLOCK_IMDS",
        values.BOOL,
        "false",
        "Block the instance metadata address, 169.254.169.254, for `awsvpc` tasks.",
    )
    control_ports: tuple[int, ...] = setting(
        "ECS_CONTROL_PORTS",
        network_values.PORTS,
        "[6820,6821]",
        "TCP ports at which a control endpoint on this host listens, besides that of "
        "`ECS_CONTROL_ENDPOINT`. Tasks in `awsvpc` and `bridge` mode do not reach them.",
        ours=True,
    )
    task_allowed_ports: tuple[int, ...] = setting(
        "ECS_TASK_ALLOWED_PORTS",
        network_values.PORTS,
        "[]",
        "Ports of control and of the agent on this host that tasks may reach nevertheless, for example "
        "`[6820]` for tasks that call the ECS API. Introspection has "
        "`ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS`.",
        ours=True,
    )
    task_eni: bool = setting(
        "ECS_ENABLE_TASK_ENI",
        values.BOOL,
        "true",
        "Move the network interfaces that Amazon ECS attaches to this EC2 instance into `awsvpc` tasks.",
        amazon_only=True,
    )
    high_density_eni: bool = setting(
        "ECS_ENABLE_HIGH_DENSITY_ENI",
        values.BOOL,
        "true",
        "Accept interfaces that are VLANs of a trunk, if the kernel has VLANs and "
        "`ECS_ENABLE_TASK_ENI` is on.",
        amazon_only=True,
    )
    warm_sandboxes: int = setting(
        "ECS_WARM_SANDBOXES",
        values.INT,
        "4",
        "Network sandboxes kept ready for `awsvpc` tasks, and at least so many for containers in `bridge` "
        "mode that publish the same ports, once there was one. After a burst of launches, each pool "
        "grows to its size, within 1/32 of the available memory, and shrinks within hours. 0 keeps none.",
        bounds=Bounds(0, 256, "refuse"),
        ours=True,
    )
    firewall_table: str = setting(
        "ECS_FIREWALL_TABLE",
        network_values.TABLE,
        "ecs_agent",
        "nftables table for all rules of the agent.",
        ours=True,
    )
