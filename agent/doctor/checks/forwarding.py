"""The network path of tasks: forwarding, packet filters, free addresses, and packet sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent.doctor import reading, routes
from agent.doctor.checks.kernel import docker_chain
from agent.doctor.findings import Finding, FindingList
from agent.errors import BAD_JSON, ConfigError
from agent.network import host_routes
from agent.network.address_pool import AddressPool
from agent.network.fleet import own_ipv6
from agent.network.host_routes import Route
from agent.resources import host_address

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Settings
    from agent.doctor.host import HostFacts

_SMALLEST_MTU = 1280
_DOCKER_BRIDGE = "docker0"
"""The engine's bridge unless configured otherwise."""
_UP = 0x1
_IPTABLES_TABLES = frozenset({("ip", "filter"), ("ip6", "filter")})
"""Tables that iptables writes; its policy is checked separately."""


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """The bridge for containers in bridge mode."""

    name: str = _DOCKER_BRIDGE
    exists: bool = True
    is_up: bool = True
    mtu: int = 0
    """0 if it cannot be read."""
    unasked: str = ""
    """Why the engine could not be asked which bridge it uses, if so."""
    none: bool = False
    """The engine is set up without a bridge."""


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that decide whether packets of tasks pass. None means unknown."""

    forwards: bool | None
    routes: tuple[Route, ...] | None = ()
    forward_drops: bool | None = False
    """The policy of iptables for forwarded packets; False without iptables."""
    policy_trouble: str = ""
    """Why the policy is unknown."""
    docker_chain: bool | None = False
    dropping_chains: tuple[str, ...] | None = ()
    """Chains of other nftables tables that drop forwarded packets, as ``family table chain``."""
    chains_trouble: str = ""
    reverse_filter: int = 0
    bridge_filter: bool = False
    """Packets between ports of one bridge also pass through iptables."""
    default_link: str = ""
    """The link with the default route; empty without one."""
    default_mtu: int = 0
    bridge: Bridge = Bridge()
    task_bridge_exists: bool = False
    fleet_without_ipv6: str = ""
    """Why tasks cannot have IPv6 addresses that other hosts reach; empty if they can."""
    agent_runs: bool = False
    """The agent has started, so it has turned on forwarding and created its bridge."""


async def check(host: HostFacts) -> list[Finding]:
    """Read the kernel settings, the filters and the routes."""
    net = host.root / "sys/class/net"
    told = await host.text("proc/net/route")
    table = routes.parse(told)
    default = next((r.interface for r in table if r.network.prefixlen == 0), "")
    policy = await reading.program("iptables", "-w", "2", "-S", "FORWARD")
    chains = await reading.program("nft", "-j", "list", "chains")
    switch = (await host.text("proc/sys/net/ipv4/ip_forward")).strip()
    task_bridge = net / host.settings.task_bridge
    agent = (await host.agent()).view
    found = Paths(
        forwards=switch == "1" if switch else None,
        routes=tuple(table) if told else None,
        forward_drops="-P FORWARD DROP" in policy.out if policy.code in (0, 127) else None,
        policy_trouble=policy.trouble,
        docker_chain=await docker_chain(),
        dropping_chains=dropping_chains(chains.out, host.settings.firewall_table),
        chains_trouble=chains.trouble,
        reverse_filter=_number(await host.text("proc/sys/net/ipv4/conf/all/rp_filter")),
        bridge_filter=_number(await host.text("proc/sys/net/bridge/bridge-nf-call-iptables")) == 1,
        default_link=default,
        default_mtu=await reading.blocking(lambda: routes.mtu_of(net, default)) if default else 0,
        bridge=await _bridge(host, net),
        task_bridge_exists=await reading.blocking(task_bridge.exists),
        fleet_without_ipv6=await _fleet_without_ipv6(host.settings),
        agent_runs=agent is not None and agent.engine_connected,
    )
    return judge(host.settings, found)


async def _fleet_without_ipv6(settings: Settings) -> str:
    if not settings.fleet_network:
        return ""
    address = settings.host_ipv6_address or host_address.find_ipv6()
    driver, mtu = settings.fleet_network, settings.task_mtu
    return await reading.blocking(lambda: own_ipv6.why_none(driver, mtu, address))


async def _bridge(host: HostFacts, net: Path) -> Bridge:
    """Return the kernel's facts about the bridge that the engine uses."""
    name, unasked = _DOCKER_BRIDGE, (await host.engine()).trouble
    if not unasked:
        try:
            answer = await reading.get(host.engine_socket, "/networks/bridge")
            name = bridge_of(answer)
        except ValueError as error:
            if "answered 404" in str(error):
                return Bridge(none=True)
            unasked = str(error)
        except (OSError, TimeoutError) as error:
            unasked = str(error) or "the engine does not answer"
    link = net / name
    flags = await reading.blocking(lambda: reading.text_of(link / "flags"))
    return Bridge(
        name=name,
        exists=await reading.blocking(link.exists),
        is_up=not flags or bool(int(flags, 16) & _UP),
        mtu=await reading.blocking(lambda: routes.mtu_of(net, name)),
        unasked=unasked,
    )


def bridge_of(answer: bytes) -> str:
    """Return the name of the bridge behind an engine's network. Pure."""
    try:
        options = msgspec.json.decode(answer).get("Options") or {}
        return str(options.get("com.docker.network.bridge.name") or _DOCKER_BRIDGE)
    except (*BAD_JSON, AttributeError):
        return _DOCKER_BRIDGE


def dropping_chains(text: str, ours: str) -> tuple[str, ...] | None:
    """Return the chains that drop forwarded packets, from ``nft -j list chains``. Pure.

    None if the text is not such a list.
    """
    try:
        objects: list[dict[str, Any]] = msgspec.json.decode(text)["nftables"]
    except (*BAD_JSON, KeyError, TypeError):
        return None
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
    verdict = FindingList("forwarding")
    _judge_switches(verdict, found)
    _judge_filters(verdict, settings, found)
    _judge_pool(verdict, settings, found)
    _judge_bridges(verdict, settings, found)
    _judge_mtu(verdict, settings, found)
    _judge_fleet(verdict, settings, found)
    return verdict.findings


def _judge_switches(verdict: FindingList, found: Paths) -> None:
    mend = "turn it on permanently, so that it stays on after a reboot"
    command = "echo net.ipv4.ip_forward=1 > /etc/sysctl.d/60-ecs-agent.conf && sysctl --system"
    if found.forwards is None:
        verdict.unknown(
            "whether net.ipv4.ip_forward is on",
            "it cannot be read",
            "mount /proc",
            "sysctl net.ipv4.ip_forward",
        )
    elif found.forwards:
        strict = ", strict reverse path filter" if found.reverse_filter == 1 else ""
        verdict.ok(f"net.ipv4.ip_forward is on{strict}")
    elif found.agent_runs:
        verdict.error(
            "net.ipv4.ip_forward is off although the agent turned it on: something turns it off, "
            "and tasks cannot reach other networks",
            mend,
            command,
        )
    else:
        verdict.warn(
            "net.ipv4.ip_forward is off; the agent and Docker turn it on when they start",
            mend,
            command,
        )


def _judge_filters(verdict: FindingList, settings: Settings, found: Paths) -> None:
    bridge = settings.task_bridge
    if found.forward_drops is None:
        verdict.unknown("whether iptables lets forwarded packets pass", found.policy_trouble)
    elif found.forward_drops and found.docker_chain is None:
        verdict.unknown("whether rules in DOCKER-USER let forwarded packets pass", "")
    elif found.forward_drops and not found.docker_chain:
        verdict.error(
            "iptables drops forwarded packets, and there is no chain DOCKER-USER where the agent "
            "could accept packets of tasks: tasks in awsvpc mode have no network",
            "accept packets of the bridge, or start Docker with its iptables rules",
            f"iptables -I FORWARD -i {bridge} -j ACCEPT && iptables -I FORWARD -o {bridge} "
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        )
    elif found.forward_drops:
        verdict.ok("iptables drops forwarded packets; rules in DOCKER-USER accept those of tasks")
    elif found.bridge_filter:
        verdict.ok("iptables lets forwarded packets pass, including those within a bridge")
    if found.dropping_chains is None:
        verdict.unknown("whether other nftables rules drop packets", found.chains_trouble)
    for chain in found.dropping_chains or ():
        family, table, name = chain.split(" ", 2)
        verdict.warn(
            f"the nftables chain {chain} drops forwarded packets that its rules do not accept: "
            "tasks in awsvpc mode may have no network",
            f"accept packets of {bridge} in that chain",
            f"nft insert rule {family} {table} {name} iifname {bridge} accept && "
            f"nft insert rule {family} {table} {name} oifname {bridge} "
            "ct state established,related accept",
        )


def _judge_pool(verdict: FindingList, settings: Settings, found: Paths) -> None:
    try:
        addresses = AddressPool(
            settings.task_pool_cidr,
            ipv6_cidr=settings.task_pool_ipv6_cidr,
            reserved_cidr=settings.task_pool_reserved_cidr,
            quarantine_s=0,
        )
    except ConfigError as error:
        verdict.error(str(error), "set networks that fit each other")
        return
    if addresses.is_ipv6_only:
        verdict.ok(f"tasks have IPv6 alone, from {addresses.ipv6_network}")
        return
    pool = addresses.network
    if found.routes is None:
        verdict.unknown(
            f"whether anything on this host uses the task addresses {pool}",
            "the routes cannot be read",
            "mount /proc",
            "ip route show",
        )
        return
    if settings.task_network_driver == "bridge":
        route = host_routes.clash(pool, settings.task_bridge, found.routes)
    else:
        taken = host_routes.not_of_links(found.routes, addresses)
        route = host_routes.clash(pool, settings.task_network_parent, taken)
    if route is None:
        verdict.ok(f"task addresses: {pool}, which no route of this host uses")
        return
    free = routes.free_pool(found.routes, pool.prefixlen)
    verdict.error(
        f"ECS_TASK_POOL_CIDR {pool} overlaps {route.network}, which this host reaches through "
        f"{route.interface}: the agent will not start",
        "set it to a network that nothing else uses" + (f": {free} is free here" if free else ""),
        f"echo ECS_TASK_POOL_CIDR={free} >> /etc/ecs/ecs.config" if free else "",
    )


def _judge_bridges(verdict: FindingList, settings: Settings, found: Paths) -> None:
    bridge = found.bridge
    if bridge.none:
        verdict.warn(
            "Docker is set up without a bridge: tasks in bridge mode fail to start",
            'remove "bridge": "none" from /etc/docker/daemon.json if you need such tasks',
        )
    elif not bridge.exists and bridge.unasked:
        verdict.unknown(f"whether Docker has a bridge other than {bridge.name}", bridge.unasked)
    elif not bridge.exists:
        again = "" if bridge.name == _DOCKER_BRIDGE else f"create {bridge.name} again, then "
        verdict.error(
            f"Docker's bridge {bridge.name} is gone: every task in bridge mode fails to start",
            f"{again}restart Docker; with live-restore, tasks keep running",
            "systemctl restart docker",
        )
    elif not bridge.is_up:
        verdict.error(
            f"Docker's bridge {bridge.name} is down: tasks in bridge mode have no network",
            "set it up, and find out what takes it down",
            f"ip link set {bridge.name} up",
        )
    if found.agent_runs and not found.task_bridge_exists:
        verdict.error(
            f"the agent's bridge {settings.task_bridge} is gone: tasks in awsvpc mode have no "
            "network",
            "wait for the agent to create it again; if it disappears again, find out what removes "
            "it",
            "journalctl -u ecs-agent -n 50 --no-pager",
        )


def _judge_fleet(verdict: FindingList, settings: Settings, found: Paths) -> None:
    """Say whether tasks can have IPv6 between hosts: not an error, because control may have no network of it."""
    if not settings.fleet_network:
        return
    if not found.fleet_without_ipv6:
        verdict.ok(
            "tasks can reach tasks on other hosts by IPv4 and, where control has it, by IPv6"
        )
    elif not settings.task_pool_cidr:
        verdict.error(
            f"tasks are to have IPv6 alone, and other hosts cannot reach it: {found.fleet_without_ipv6}",
            "give this host IPv6",
            "ip -6 address show",
        )
    else:
        verdict.ok(
            f"tasks can reach tasks on other hosts by IPv4 alone: {found.fleet_without_ipv6}"
        )


def _judge_mtu(verdict: FindingList, settings: Settings, found: Paths) -> None:
    if not found.default_link and found.routes is not None:
        verdict.warn(
            "there is no default route: tasks can reach only this host's own networks",
            "add a default gateway if tasks must reach other networks",
            "ip route show",
        )
        return
    if not found.default_mtu:
        verdict.unknown(
            "the packet size limit of the default route",
            f"the MTU of {found.default_link or 'the link with the default route'} cannot be read",
            "check the link",
            f"ip link show {found.default_link}".rstrip(),
        )
        return
    before = len(verdict.findings)
    if settings.task_mtu > found.default_mtu:
        verdict.warn(
            f"ECS_TASK_MTU {settings.task_mtu} is larger than the MTU {found.default_mtu} of the "
            "default route: large packets get lost",
            "remove ECS_TASK_MTU; the agent then uses the MTU of the default route",
        )
    if found.default_mtu < _SMALLEST_MTU:
        verdict.warn(
            f"the default route has an MTU of only {found.default_mtu}",
            "raise the MTU of the link with the default route",
        )
    if found.bridge.mtu > found.default_mtu:
        verdict.warn(
            f"Docker's bridge has the MTU {found.bridge.mtu}, but the default route only "
            f"{found.default_mtu}: in bridge mode, large packets get lost and downloads hang",
            f'put "mtu": {found.default_mtu} into /etc/docker/daemon.json and restart Docker',
            "systemctl restart docker",
        )
    if len(verdict.findings) == before:
        inside = f", {found.bridge.mtu} on {found.bridge.name}" if found.bridge.mtu else ""
        verdict.ok(f"MTU {found.default_mtu} on the default route{inside}")


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0
