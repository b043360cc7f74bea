"""The networks of a container, in each network mode. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING

from agent.model.eni import IPV6_PREFIX_LEN
from agent.model.status import NetworkMode
from agent.runtime.protocol import joined
from agent.task_endpoint.metadata.document import Network, NetworkV4
from agent.task_endpoint.metadata.facts import NetworksUnknown

if TYPE_CHECKING:
    from agent.model.eni import TaskEni
    from agent.model.task import TaskNetwork
    from agent.runtime.protocol import ContainerDetails
    from agent.task_endpoint.metadata.facts import SeenTask


def of_container(
    seen: SeenTask, docker_id: str, details: ContainerDetails | None, *, extended: bool
) -> list[Network]:
    """Return the networks of one container.

    Args:
        seen: its task.
        docker_id: its engine id.
        details: the container as the engine describes it.
        extended: whether for version 4.

    Raises:
        NetworksUnknown: its networks are those of the engine, which did not describe it.
    """
    payload, network = seen.record.payload, seen.record.network
    if payload.mode is NetworkMode.AWSVPC:
        return [of_task(network, seen.sandbox, extended=extended)] if network else []
    if details is None:
        raise NetworksUnknown(docker_id)
    return _of_engine(details, extended=extended)


def of_task(network: TaskNetwork, sandbox: ContainerDetails | None, *, extended: bool) -> Network:
    """Return the one network of a task in awsvpc mode.

    Name servers are those that the sandbox was made with: its containers get them from it.
    """
    mode = NetworkMode.AWSVPC.value
    if network.eni is not None:
        return _of_eni(network.eni, extended=extended)
    ipv4 = [network.ipv4] if network.ipv4 else []
    ipv6 = [network.ipv6] if network.ipv6 else []
    if not extended:
        return Network(network_mode=mode, ipv4_addresses=ipv4, ipv6_addresses=ipv6)
    subnets = [
        str(ip_network(f"{address}/{length}", strict=False)) if address else ""
        for address, length in (
            (network.ipv4, network.prefix_len),
            (network.ipv6, network.ipv6_prefix_len),
        )
    ]
    return NetworkV4(
        network_mode=mode,
        ipv4_addresses=ipv4,
        ipv6_addresses=ipv6,
        attachment_index=0,
        mac_address=network.mac,
        ipv4_subnet_cidr_block=subnets[0],
        ipv6_subnet_cidr_block=subnets[1],
        domain_name_servers=list(sandbox.dns_servers) if sandbox else [],
        domain_name_search_list=list(sandbox.dns_search) if sandbox else [],
        private_dns_name=network.hostname,
        subnet_gateway_ipv4_address=(
            f"{network.gateway}/{network.prefix_len}" if network.gateway else ""
        ),
        # As Amazon ECS, which tells only tasks with IPv6 alone.
        subnet_gateway_ipv6_address=(
            f"{network.ipv6_gateway}/{network.ipv6_prefix_len}"
            if network.ipv6_gateway and not network.ipv4
            else ""
        ),
    )


def _of_eni(eni: TaskEni, *, extended: bool) -> Network:
    """Return the network of a task with an ENI, all of it as Amazon ECS ordered it."""
    mode, ipv4, ipv6 = NetworkMode.AWSVPC.value, list(eni.ipv4), list(eni.ipv6)
    if not extended:
        return Network(network_mode=mode, ipv4_addresses=ipv4, ipv6_addresses=ipv6)
    return NetworkV4(
        network_mode=mode,
        ipv4_addresses=ipv4,
        ipv6_addresses=ipv6,
        attachment_index=0,
        mac_address=eni.mac,
        ipv4_subnet_cidr_block=str(
            IPv4Network(f"{eni.ipv4_gateway}/{eni.ipv4_prefix_len}", strict=False)
        )
        if ipv4
        else "",
        ipv6_subnet_cidr_block=str(IPv6Network(f"{ipv6[0]}/{IPV6_PREFIX_LEN}", strict=False))
        if ipv6
        else "",
        domain_name_servers=list(eni.dns_servers),
        domain_name_search_list=list(eni.dns_search),
        private_dns_name=eni.hostname,
        subnet_gateway_ipv4_address=f"{eni.ipv4_gateway}/{eni.ipv4_prefix_len}" if ipv4 else "",
        subnet_gateway_ipv6_address=f"{eni.ipv6_gateway}/{IPV6_PREFIX_LEN}"
        if eni.ipv6_gateway and not ipv4
        else "",
    )


def _of_engine(details: ContainerDetails, *, extended: bool) -> list[Network]:
    """Return the engine's networks of a container.

    One that has no address there, as in host mode, has one empty text: readers take the first
    address of the list without a look at its length.
    """
    made = NetworkV4 if extended else Network
    ends = [(end.network, end.ipv4, end.ipv6) for end in details.networks]
    # One that joined a sandbox has none here, unless that was described, too: in none mode.
    mode = (
        NetworkMode.NONE.value if joined(details.state.network_mode) else details.state.network_mode
    )
    return [
        made(
            network_mode=name,
            ipv4_addresses=[ipv4],
            ipv6_addresses=[ipv6] if extended and ipv6 else [],
        )
        for name, ipv4, ipv6 in ends or [(mode, details.state.ipv4, "")]
    ]
