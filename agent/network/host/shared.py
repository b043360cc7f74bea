"""The parts of the host's network that all sandboxes share: the driver's, forwarding, firewall, an address.

``ensure`` creates them. ``repair`` checks cheaply whether somebody changed them (a restarted
Docker, ``nft flush ruleset``, a deleted bridge), repairs them in the same way, and reports what it
found. ``remove`` removes them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from agent.errors import NetworkFailure
from agent.network import addresses
from agent.network.background import uninterrupted
from agent.network.bridge.bridge_ports import Place
from agent.network.bridge.egress_links import EgressLinks
from agent.network.bridge.links import TASK_INTERFACE, bridge_port_of
from agent.network.host import docker_chain, firewall, forwarding
from agent.network.host.agent_address import ADDRESS
from agent.network.host.kernel_messages import EVERYTHING, Part
from agent.network.kernel import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from concurrent.futures import Executor

    from agent.model.security_groups import SecurityGroup
    from agent.network.address_pool import Ipv6Lease
    from agent.network.bridge.bridge_port_rules import BridgePort, Layout
    from agent.network.bridge.links import HostLinks, SandboxLink
    from agent.network.drivers.contract import Subnet, TaskDriver, WatchedLink
    from agent.network.host.agent_address import AgentAddress
    from agent.network.sandbox_record import SandboxRecord

T = TypeVar("T")

_log = structlog.get_logger(__name__)


def links_are(names: Sequence[str], wrong: Place) -> str:
    """Describe what is wrong with these links: their number, or the name of a single one."""
    if len(names) == 1:
        return f"link {names[0]} was {wrong.value}"
    return f"{len(names)} links were {wrong.value}"


def _missing_neighbours(count: int) -> str:
    return f"{count} tasks were missing from the host's neighbours"


class HostNetwork:
    """What the driver has on the host, and the rules, of one agent. Its calls run one at a time."""

    def __init__(
        self,
        *,
        driver: TaskDriver,
        links: HostLinks,
        agent_address: AgentAddress,
        rules: firewall.Firewall,
        files: Executor,
    ) -> None:
        self._driver = driver
        self._agent_address = agent_address
        self._rules = rules
        self._files = files
        self._lock = asyncio.Lock()
        self._outside = EgressLinks(links)
        self._wanted: firewall.Wanted | None = None
        self._seen: tuple[firewall.Wanted, int] | None = None
        """The input of the rules when they were last found right, and the kernel's count of rule changes
        before that."""
        self._legacy_tables = False
        self._told_of_connections = False

    async def ensure(self, records: Collection[SandboxRecord]) -> None:
        """Create bridge, forwarding and rules, or correct them.

        Raises:
            NetworkFailure: the kernel or ``nft`` failed; the next call tries again.
        """
        async with self._lock:
            await self._outside.look()
            await self._take_shape(records, [bridge_port_of(record) for record in records])
            self._legacy_tables = await self._block(docker_chain.has_legacy_tables)
        if self.problem:
            _log.error("tasks are not isolated from each other", problem=self.problem)

    async def _take_shape(
        self, records: Collection[SandboxRecord], ports: Collection[BridgePort] | None = None
    ) -> None:
        await self._driver.ensure(records)
        wanted = self._wanted_for(self._driver.layout(records))
        if wanted.layout.is_routed:
            await self._turn_forwarding_on(wanted.layout)
        await self._agent_address.ensure()
        await self._block(self._rules.ensure, wanted, ports)
        self._seen = None  # the next check compares
        self._wanted = wanted

    def _wanted_for(self, layout: Layout) -> firewall.Wanted:
        return firewall.Wanted(layout, self._outside.names)

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
        found: list[str] = []
        async with self._lock:
            if parts & Part.OUTSIDE:
                await self._outside.look()
            wanted = self._wanted_for(self._driver.layout(records))
            if wanted != self._wanted:
                # Nobody changed anything of ours: the last task with an address of an earlier pool
                # is gone, or the host has other links to the outside.
                await self._take_shape(records)
            if parts & Part.BRIDGE:
                found += await self._driver.ensure(records)
            if found or parts & Part.FORWARDING:
                off = await self._switches_off(wanted.layout)
                if off:
                    await self._turn_forwarding_on(wanted.layout)
                    found.append(f"{' and '.join(off)} was 0")
            found += await self._rules_and_address(parts, wanted)
            gone = []
            if parts & Part.PORTS:
                places = await self._driver.places(records)
                if not parts & Part.BRIDGE and any(
                    place is not Place.GOOD for place in places.values()
                ):
                    found += await self._driver.ensure(records)
                gone = await self._ports(records, places, found)
            if parts & (Part.BRIDGE | Part.PORTS):
                await self._host_parts(records, found)
            return found, gone

    async def differences(self, records: Collection[SandboxRecord]) -> list[str]:
        """Return in words what ``repair`` would repair now, also of links; changes nothing.

        Raises:
            NetworkFailure: the kernel or ``nft`` failed.
        """
        async with self._lock:
            found = await self._driver.differences(records)
            wanted = self._wanted_for(self._driver.layout(records))
            off = await self._switches_off(wanted.layout)
            found += [f"{' and '.join(off)} was 0"] if off else []
            if not await self._agent_address.is_present():
                found.append(f"the address {ADDRESS} was gone")
            found += await self._block(self._rules.differences, wanted)
            places = await self._driver.places(records)
            for wrong in (Place.GONE, Place.OFF_BRIDGE, Place.DOWN, Place.ALTERED):
                misplaced = [name for name, place in places.items() if place is wrong]
                found += [links_are(misplaced, wrong)] if misplaced else []
            unknown = await self._driver.unknown(records)
            if unknown:
                found.append(_missing_neighbours(len(unknown)))
        return found

    async def _switches_off(self, layout: Layout) -> list[str]:
        if not layout.is_routed:
            return []
        switches_off = partial(forwarding.switches_off, ipv6=bool(layout.ipv6_pools))
        return await self._block(switches_off, self._driver.watched.name)

    async def _turn_forwarding_on(self, layout: Layout) -> None:
        turn_on = partial(forwarding.turn_on, ipv6=bool(layout.ipv6_pools))
        await self._block(turn_on, self._driver.watched.name)

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
        """Restore the ways to tasks, which are lost with other damage, too, and then not reported."""
        unknown = await self._driver.unknown(records)
        if not unknown:
            return
        await self._driver.make_known(unknown)
        if not found:
            found.append(_missing_neighbours(len(unknown)))

    async def _ports(
        self, records: Collection[SandboxRecord], places: Mapping[str, Place], found: list[str]
    ) -> list[SandboxRecord]:
        """Put existing links back in their place; return the records of missing ones."""
        for wrong in (Place.OFF_BRIDGE, Place.DOWN, Place.ALTERED):
            misplaced = [each for each in records if places[each.host_interface] is wrong]
            if misplaced:
                await self._driver.put_back(misplaced)
                found.append(links_are([each.host_interface for each in misplaced], wrong))
        return [record for record in records if places[record.host_interface] is Place.GONE]

    @property
    def problem(self) -> str:
        """Why this host cannot isolate tasks from each other; empty if it can."""
        return self._rules.ports.problem

    @property
    def subnet(self) -> Subnet:
        """What new tasks are told of the network around them."""
        return self._driver.subnet

    @property
    def driver(self) -> str:
        """Name of the driver, as in the rows of its sandboxes."""
        return self._driver.name

    @property
    def rules_inside(self) -> tuple[str, str] | None:
        """Table in each task's namespace that decides what leaves by an interface, and that interface.

        None if all that tasks send passes the rules of this host.
        """
        table = self._driver.table_inside
        return (table, TASK_INTERFACE) if table else None

    def mac_of(self, ipv4: str) -> str:
        """Return the MAC of a new task's interface."""
        return self._driver.mac_of(ipv4)

    def ipv6_of(self, ipv4: str) -> Ipv6Lease | None:
        """Return what a new task with this address has of IPv6."""
        return self._driver.ipv6_of(ipv4)

    @property
    def mtu(self) -> int:
        """MTU in bytes of new tasks' interfaces."""
        return self._driver.mtu

    @property
    def watched(self) -> WatchedLink:
        """The link of the host that all tasks depend on."""
        return self._driver.watched

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
        await self._driver.attach(netns, spec)

    async def detach(self, link: str) -> None:
        """Remove a link with its rules, neighbour and tracked connections. Idempotent.

        Raises:
            NetworkFailure: the kernel refused.
        """
        await self._driver.detach(link)
        await self._change_of_ours(partial(self._rules.ports.dismiss, link))
        ipv4 = addresses.address_of_link(link)
        if ipv4 is not None:
            ipv6 = self._driver.ipv6_of(ipv4)
            own = [ipv4, ipv6.address] if ipv6 is not None else [ipv4]
            await self.admit_to_groups(own, ())
            for address in own:
                await self._forget_connections(address)

    async def _forget_connections(self, address: str) -> None:
        try:
            await self._block(connections.forget, address)
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
            await self._driver.remove()

    async def _put_rules_right(self, wanted: firewall.Wanted) -> list[str]:
        # The count from before the look: what somebody changes meanwhile must not pass for seen.
        number = await self._block(firewall.generation)
        differing = await self._block(self._rules.differences, wanted)
        if differing:
            await self._block(self._rules.ensure, wanted)
        self._seen = None if differing or number is None else (wanted, number)
        return differing

    async def _rules_may_have_changed(self, wanted: firewall.Wanted) -> bool:
        if self._legacy_tables or self._seen is None:
            return True
        return self._seen != (wanted, await self._block(firewall.generation))

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        """Run blocking work; returns only when it has ended, even if cancelled.

        The thread cannot be stopped, and the next holder of the lock, for example a removal, must
        not run beside it.
        """
        job = asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)
        return await uninterrupted(job)
