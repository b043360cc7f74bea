"""The parts of the host's network that all sandboxes share: bridge, forwarding, firewall, an address.

``ensure`` creates them. ``repair`` checks cheaply whether somebody changed them (a restarted
Docker, ``nft flush ruleset``, a deleted bridge), repairs them in the same way, and reports what it
found. ``remove`` removes them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from agent.errors import NetworkFailure
from agent.network import addresses, claims
from agent.network.bridge import bridge_ports
from agent.network.bridge.bridge_port_rules import BridgePort, Layout
from agent.network.bridge.bridge_ports import Place
from agent.network.bridge.egress_links import EgressLinks
from agent.network.bridge.links import bridge_port_of
from agent.network.host import docker_chain, firewall, forwarding
from agent.network.host.agent_address import ADDRESS
from agent.network.host.kernel_messages import EVERYTHING, Part
from agent.network.kernel import connections
from agent.network.settings import POOL_SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from concurrent.futures import Executor

    from agent.model.security_groups import SecurityGroup
    from agent.network.addresses import AddressPool
    from agent.network.bridge.links import HostLinks, SandboxLink
    from agent.network.host.agent_address import AgentAddress
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.settings import NetworkSettings

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class BridgeConfig(NamedTuple):
    """The input for the bridge and the rules."""

    bridge_addresses: frozenset[str]
    pools: frozenset[str]


def shape_of(pool: AddressPool, records: Iterable[SandboxRecord]) -> BridgeConfig:
    """Return the shape for the current pool, and for tasks with addresses of an earlier one."""
    gateways = {f"{pool.gateway}/{pool.prefix_len}"}
    gateways.update(f"{record.gateway}/{record.prefix_len}" for record in records)
    pools = {str(IPv4Interface(gateway).network) for gateway in gateways}
    return BridgeConfig(frozenset(gateways), frozenset(pools))


def layout_of(shape: BridgeConfig) -> Layout:
    """Return the input for the rules for ports. Pure."""
    gateways = frozenset(str(IPv4Interface(address).ip) for address in shape.bridge_addresses)
    return Layout(shape.pools, gateways)


def links_are(names: Sequence[str], wrong: Place) -> str:
    """Describe what is wrong with these links: their number, or the name of a single one."""
    if len(names) == 1:
        return f"link {names[0]} was {wrong.value}"
    return f"{len(names)} links were {wrong.value}"


def _missing_neighbours(count: int) -> str:
    return f"{count} tasks were missing from the host's neighbours"


async def check_pool(pool: AddressPool, settings: NetworkSettings, links: HostLinks) -> None:
    """Refuse a pool that overlaps another network of the host.

    Raises:
        NetworkFailure: it does; the text names the setting and what uses its addresses.
    """
    found = claims.clash(pool.network, settings.bridge, await links.routes())
    if found is not None:
        raise NetworkFailure(
            f"{POOL_SETTING}={pool.network} overlaps {found.network} of this host "
            f"({found.interface or 'no interface'}); choose a network that nothing else uses"
        )


class HostNetwork:
    """Bridge and rules of one agent. Its calls run one at a time."""

    def __init__(
        self,
        *,
        links: HostLinks,
        agent_address: AgentAddress,
        rules: firewall.Firewall,
        pool: AddressPool,
        settings: NetworkSettings,
        files: Executor,
        mtu: int,
    ) -> None:
        self._links = links
        self._agent_address = agent_address
        self._rules = rules
        self._pool = pool
        self._settings = settings
        self._files = files
        self._mtu = mtu
        self._lock = asyncio.Lock()
        self._outside = EgressLinks(links)
        self._wanted: firewall.Wanted | None = None
        self._seen: tuple[firewall.Wanted, int] | None = None
        """The input of the current rules, and the kernel's count of rule changes right after."""
        self._legacy_tables = False
        self._told_of_connections = False

    async def ensure(self, records: Collection[SandboxRecord]) -> None:
        """Create bridge, forwarding and rules, or correct them.

        Raises:
            NetworkFailure: the kernel or ``nft`` failed; the next call tries again.
        """
        shape = shape_of(self._pool, records)
        async with self._lock:
            await self._outside.look()
            await self._take_shape(shape, [bridge_port_of(record) for record in records])
            self._legacy_tables = await self._block(docker_chain.has_legacy_tables)
        if self.problem:
            _log.error("tasks are not isolated from each other", problem=self.problem)

    async def _take_shape(
        self, shape: BridgeConfig, ports: Collection[BridgePort] | None = None
    ) -> None:
        await self._bridge(shape)
        await self._block(forwarding.turn_on, self._settings.bridge)
        await self._agent_address.ensure()
        wanted = self._wanted_for(shape)
        await self._block(self._rules.ensure, wanted, ports)
        await self._remember(wanted)
        self._wanted = wanted

    def _wanted_for(self, shape: BridgeConfig) -> firewall.Wanted:
        return firewall.Wanted(layout_of(shape), self._outside.names)

    async def repair(
        self, records: Collection[SandboxRecord], parts: Part = EVERYTHING
    ) -> tuple[list[str], list[SandboxRecord]]:
        """Repair what has changed since the last check.

        Args:
            records: sandboxes that are alive and not about to be removed.
            parts: what to check; if ports are wrong, the bridge is checked, too.

        Returns:
            What was found and repaired, in words; and the records whose link is missing, which the
            caller has to repair.

        Raises:
            NetworkFailure: the kernel or ``nft`` failed; the next call tries again.
        """
        shape = shape_of(self._pool, records)
        found: list[str] = []
        async with self._lock:
            if parts & Part.OUTSIDE:
                await self._outside.look()
            wanted = self._wanted_for(shape)
            if wanted != self._wanted:
                # Nobody changed anything of ours: the last task with an address of an earlier pool
                # is gone, or the host has other links to the outside.
                await self._take_shape(shape)
            if parts & Part.BRIDGE:
                found += await self._bridge(shape)
            if found or parts & Part.FORWARDING:
                off = await self._block(forwarding.switches_off, self._settings.bridge)
                if off:
                    await self._block(forwarding.turn_on, self._settings.bridge)
                    found.append(f"{' and '.join(off)} was 0")
            found += await self._rules_and_address(parts, wanted)
            gone = []
            if parts & Part.PORTS:
                places = await self._places(records)
                if not parts & Part.BRIDGE and any(
                    place is not Place.GOOD for place in places.values()
                ):
                    found += await self._bridge(shape)
                gone = await self._ports(records, places, found)
            if parts & (Part.BRIDGE | Part.PORTS):
                await self._host_parts(records, found)
            return found, gone

    async def differences(self, records: Collection[SandboxRecord]) -> list[str]:
        """Return in words what ``repair`` would repair now, also of links; changes nothing.

        Raises:
            NetworkFailure: the kernel or ``nft`` failed.
        """
        shape = shape_of(self._pool, records)
        async with self._lock:
            mac = addresses.mac_of(self._pool.gateway)
            found = await self._links.bridge_differences(shape.bridge_addresses, mac)
            off = await self._block(forwarding.switches_off, self._settings.bridge)
            found += [f"{' and '.join(off)} was 0"] if off else []
            if not await self._agent_address.is_present():
                found.append(f"the address {ADDRESS} was gone")
            found += await self._block(self._rules.differences, self._wanted_for(shape))
            places = await self._places(records)
            for wrong in (Place.GONE, Place.OFF_BRIDGE, Place.DOWN, Place.ALTERED):
                misplaced = [name for name, place in places.items() if place is wrong]
                found += [links_are(misplaced, wrong)] if misplaced else []
            ports = [bridge_port_of(record) for record in records]
            bridge = self._settings.bridge
            unknown = await self._block(bridge_ports.unknown_neighbours, ports, bridge)
            if unknown:
                found.append(_missing_neighbours(len(unknown)))
        return found

    async def _rules_and_address(self, parts: Part, wanted: firewall.Wanted) -> list[str]:
        found = []
        if parts & Part.AGENT_ADDRESS and await self._agent_address.ensure():
            found.append(f"the address {ADDRESS} was gone")
        if parts & (Part.RULES | Part.BRIDGE):
            found += await self._block(self._rules.groups.mend_bridge)
        if parts & Part.RULES and await self._rules_may_have_changed(wanted):
            found += await self._put_rules_right(wanted)
        return found

    async def _host_parts(self, records: Collection[SandboxRecord], found: list[str]) -> None:
        """Restore the host's neighbours, which a bridge loses with its state, address or MAC."""
        ports = [bridge_port_of(record) for record in records]
        unknown = await self._block(bridge_ports.unknown_neighbours, ports, self._settings.bridge)
        if not unknown:
            return
        await self._links.set_neighbours(unknown)
        if not found:
            found.append(_missing_neighbours(len(unknown)))

    async def _places(self, records: Collection[SandboxRecord]) -> dict[str, Place]:
        ports = [bridge_port_of(record) for record in records]
        return await self._block(bridge_ports.places, ports, self._settings.bridge)

    async def _ports(
        self, records: Collection[SandboxRecord], places: Mapping[str, Place], found: list[str]
    ) -> list[SandboxRecord]:
        """Put existing links back in their place; return the records of missing ones."""
        ports = {record.host_interface: bridge_port_of(record) for record in records}
        for wrong in (Place.OFF_BRIDGE, Place.DOWN, Place.ALTERED):
            misplaced = [name for name, place in places.items() if place is wrong]
            if misplaced:
                await self._links.join(ports[name] for name in misplaced)
                found.append(links_are(misplaced, wrong))
        return [record for record in records if places[record.host_interface] is Place.GONE]

    @property
    def problem(self) -> str:
        """Why this host cannot isolate tasks from each other; empty if it can."""
        return self._rules.ports.problem

    @property
    def bridge_index(self) -> int:
        """The kernel's index of the bridge; 0 before the first ``ensure``."""
        return self._links.bridge_index

    @property
    def gateway(self) -> str:
        """The bridge's own address in the pool."""
        return self._pool.gateway

    @property
    def rule_sockets(self) -> frozenset[int]:
        """Mark the kernel's messages on elements that we changed ourselves."""
        return frozenset({self._rules.ports.port_id, self._rules.groups.port_id}) - {0}

    async def admit_to_groups(self, addresses: Collection[str], groups: Collection[str]) -> None:
        """Have a task's packets pass the rules of its security groups from now on. Idempotent.

        Raises:
            NetworkFailure: the kernel refused, so the task must not start.
        """
        await self._change_of_ours(partial(self._rules.groups.admit, addresses, groups))

    async def set_groups(self, groups: Mapping[str, SecurityGroup]) -> None:
        """Have these rules and members of security groups count from now on. Idempotent.

        Raises:
            NetworkFailure: the kernel refused; the next check tries again.
        """
        await self._change_of_ours(partial(self._rules.groups.set_groups, groups))

    async def attach(self, netns: int, spec: SandboxLink) -> None:
        """Create the link of a namespace, on the bridge and with the rules of its port.

        Args:
            netns: descriptor of the namespace; stays open.
            spec: properties of the link.

        Raises:
            NetworkFailure: the kernel refused.
        """
        # Before its link is up, or the task's first packets would be lost.
        await self._change_of_ours(partial(self._rules.ports.admit, bridge_port_of(spec)))
        await self._links.attach(netns, spec)

    async def detach(self, link: str) -> None:
        """Remove a link with its rules, neighbour and tracked connections. Idempotent.

        Raises:
            NetworkFailure: the kernel refused.
        """
        await self._links.delete(link)
        await self._change_of_ours(partial(self._rules.ports.dismiss, link))
        ipv4 = addresses.address_of_link(link)
        if ipv4 is not None:
            await self.admit_to_groups([ipv4], ())
            await self._forget_connections(ipv4)

    async def _forget_connections(self, ipv4: str) -> None:
        try:
            await self._block(connections.forget, ipv4)
        except NetworkFailure as error:
            # Not worth keeping the task for: it matters only to the next one with its address.
            if not self._told_of_connections:
                _log.warning("tracked connections of a task not removed", error=str(error))
            self._told_of_connections = True

    async def _change_of_ours(self, change: Callable[[], int]) -> None:
        """Make a change and note its count, so that the next check need not compare all rules."""

        def carry_out() -> tuple[int | None, int, int | None]:
            return firewall.generation(), change(), firewall.generation()

        before, changes, after = await self._block(carry_out)
        if before is None or after != before + changes:
            return  # others changed rules, too
        if self._seen is not None and self._seen[1] == before:
            self._seen = (self._seen[0], after)

    async def remove(self) -> None:
        """Remove bridge and rules; not an error if they are gone."""
        async with self._lock:
            self._seen = self._wanted = None
            await self._block(self._rules.remove)
            await self._agent_address.remove()
            await self._links.delete(self._settings.bridge)

    async def _bridge(self, shape: BridgeConfig) -> list[str]:
        mac = addresses.mac_of(self._pool.gateway)
        return await self._links.ensure_bridge(shape.bridge_addresses, mac, self._mtu)

    async def _put_rules_right(self, wanted: firewall.Wanted) -> list[str]:
        differing = await self._block(self._rules.differences, wanted)
        if differing:
            await self._block(self._rules.ensure, wanted)
        await self._remember(wanted)
        return differing

    async def _rules_may_have_changed(self, wanted: firewall.Wanted) -> bool:
        if self._legacy_tables or self._seen is None:
            return True
        return self._seen != (wanted, await self._block(firewall.generation))

    async def _remember(self, wanted: firewall.Wanted) -> None:
        number = await self._block(firewall.generation)
        self._seen = None if number is None else (wanted, number)

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        """Run blocking work; returns only when it has ended, even if cancelled.

        The thread cannot be stopped, and the next holder of the lock, for example a removal, must
        not run beside it.
        """
        job = asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            if not job.cancelled():
                job.exception()  # nobody is left to handle it
            raise
