"""The way of tasks to the outside: forwarding, filters, addresses that are free, and packet sizes."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

import msgspec

from agent.doctor import reading, routes
from agent.doctor.checks.kernel import docker_chain
from agent.doctor.findings import Finding, Verdict
from agent.network import claims
from agent.network.claims import Route

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.doctor.host import Host

_SMALLEST_MTU = 1280
_DOCKER_BRIDGE = "docker0"
_IPTABLES_TABLES = frozenset({("ip", "filter"), ("ip6", "filter")})
"""What iptables writes; its policy is looked at by itself."""


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether packets of tasks pass."""

    forwards: bool
    routes: tuple[Route, ...] = ()
    forward_drops: bool = False
    """The policy of iptables for forwarded packets."""
    docker_chain: bool = False
    dropping_chains: tuple[str, ...] = ()
    """Chains of other nftables tables that drop what is forwarded, as ``family table chain``."""
    reverse_filter: int = 0
    bridge_filter: bool = False
    """Packets between ports of one bridge go through iptables, too."""
    default_mtu: int = 0
    docker_mtu: int = 0
    agent_runs: bool = False


async def check(host: Host) -> list[Finding]:
    """Read the kernel's switches, the filters and the routes."""
    net = host.root / "sys/class/net"
    table = routes.parse(await host.text("proc/net/route"))
    default = next((r.interface for r in table if r.network.prefixlen == 0), "")
    policy = await reading.program("iptables", "-w", "2", "-S", "FORWARD")
    chains = await reading.program("nft", "-j", "list", "chains")
    found = Paths(
        forwards=(await host.text("proc/sys/net/ipv4/ip_forward")).strip() == "1",
        routes=tuple(table),
        forward_drops="-P FORWARD DROP" in policy.out,
        docker_chain=await docker_chain(),
        dropping_chains=dropping_chains(chains.out, host.settings.firewall_table),
        reverse_filter=_number(await host.text("proc/sys/net/ipv4/conf/all/rp_filter")),
        bridge_filter=_number(await host.text("proc/sys/net/bridge/bridge-nf-call-iptables")) == 1,
        default_mtu=await reading.blocking(lambda: routes.mtu_of(net, default)) if default else 0,
        docker_mtu=await reading.blocking(lambda: routes.mtu_of(net, _DOCKER_BRIDGE)),
        agent_runs=(await host.agent()).view is not None,
    )
    return judge(host.settings, found)


def dropping_chains(text: str, ours: str) -> tuple[str, ...]:
    """Return the chains that drop forwarded packets, from ``nft -j list chains``. Pure."""
    try:
        objects: list[dict[str, Any]] = msgspec.json.decode(text)["nftables"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ()
    chains = [entry["chain"] for entry in objects if "chain" in entry]
    return tuple(
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward"
        and chain.get("policy") == "drop"
        and chain["family"] in {"ip", "inet"}
        and chain["table"] != ours
        and (chain["family"], chain["table"]) not in _IPTABLES_TABLES
    )


def judge(settings: Settings, found: Paths) -> list[Finding]:
    """Return the verdict on forwarding. Pure."""
    verdict = Verdict("forwarding")
    _judge_switches(verdict, found)
    _judge_filters(verdict, settings, found)
    _judge_pool(verdict, settings, found)
    _judge_mtu(verdict, settings, found)
    return verdict.findings


def _judge_switches(verdict: Verdict, found: Paths) -> None:
    mend = "turn it on for good, so that nothing turns it off at the next boot"
    command = "echo net.ipv4.ip_forward=1 > /etc/sysctl.d/60-ecs-agent.conf && sysctl --system"
    if found.forwards:
        strict = ", strict reverse path filter" if found.reverse_filter == 1 else ""
        verdict.ok(f"net.ipv4.ip_forward is on{strict}")
    elif found.agent_runs:
        verdict.error(
            "net.ipv4.ip_forward is off though the agent turned it on: something turns it off, and "
            "tasks cannot reach the outside",
            mend,
            command,
        )
    else:
        verdict.warn(
            "net.ipv4.ip_forward is off; the agent and Docker turn it on at their start",
            mend,
            command,
        )


def _judge_filters(verdict: Verdict, settings: Settings, found: Paths) -> None:
    bridge = settings.task_bridge
    if found.forward_drops and not found.docker_chain:
        verdict.error(
            "iptables drops forwarded packets and there is no chain DOCKER-USER, in which the agent "
            "could let those of tasks pass: tasks in awsvpc mode are cut off",
            "let packets of the bridge pass, or start Docker with its iptables rules",
            f"iptables -I FORWARD -i {bridge} -j ACCEPT && iptables -I FORWARD -o {bridge} "
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        )
    elif found.forward_drops:
        verdict.ok("iptables drops forwarded packets; tasks pass by rules in DOCKER-USER")
    elif found.bridge_filter:
        verdict.ok("iptables lets forwarded packets pass, those within a bridge included")
    for chain in found.dropping_chains:
        family, table, name = chain.split(" ", 2)
        verdict.warn(
            f"the nftables chain {chain} drops what is forwarded unless a rule of its own accepts "
            "it: tasks in awsvpc mode may be cut off",
            f"let packets of {bridge} pass in that chain",
            f"nft insert rule {family} {table} {name} iifname {bridge} accept && "
            f"nft insert rule {family} {table} {name} oifname {bridge} "
            "ct state established,related accept",
        )


def _judge_pool(verdict: Verdict, settings: Settings, found: Paths) -> None:
    pool = IPv4Network(settings.task_pool_cidr)
    route = claims.clash(pool, settings.task_bridge, found.routes)
    if route is None:
        verdict.ok(f"addresses of tasks: {pool}, which no route of this host claims")
        return
    free = routes.free_pool(found.routes, pool.prefixlen)
    verdict.error(
        f"ECS_TASK_POOL_CIDR {pool} overlaps {route.network}, which this host reaches through "
        f"{route.interface}: the agent will not start",
        "set it to a network that nothing else uses" + (f": {free} is free here" if free else ""),
        f"echo ECS_TASK_POOL_CIDR={free} >> /etc/ecs/ecs.config" if free else "",
    )


def _judge_mtu(verdict: Verdict, settings: Settings, found: Paths) -> None:
    if not found.default_mtu:
        verdict.warn(
            "there is no default route: tasks reach this host's own networks only",
            "give the host a gateway, if tasks are to reach more",
            "ip route show",
        )
        return
    if settings.task_mtu > found.default_mtu:
        verdict.warn(
            f"ECS_TASK_MTU {settings.task_mtu} is larger than the {found.default_mtu} of the way "
            "to the outside: large packets get lost",
            "take ECS_TASK_MTU out; the agent then takes that of the default route",
        )
    if found.default_mtu < _SMALLEST_MTU:
        verdict.warn(
            f"the way to the outside takes packets of {found.default_mtu} bytes only",
            "raise the MTU of the link with the default route",
        )
    if found.docker_mtu > found.default_mtu:
        verdict.warn(
            f"Docker's bridge takes packets of {found.docker_mtu} bytes, the way to the outside "
            f"only {found.default_mtu}: in bridge mode, large packets get lost and downloads hang",
            f'put "mtu": {found.default_mtu} into /etc/docker/daemon.json and restart Docker',
            "systemctl restart docker",
        )


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0
