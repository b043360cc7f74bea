"""Answers operators' questions about the task networks of one agent, and checks them on order.

The agent repairs what the kernel reports as changed, and checks regularly (``upkeep``). A check on
order also finds what those do not look for: sandboxes whose inside differs from their row, and
containers and links of ours whose address nobody holds. It changes nothing unless it is told to
repair; the repair is that of ``upkeep``, and the removal of what nobody holds.

Tests: ``tests/unit/network/inspection``, ``tests/integration/network/test_inspection.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from agent.config.addresses import TASK_ADDRESS
from agent.errors import AgentError, NetworkFailure, NoSuchContainer
from agent.model.network_views import (
    DifferenceView,
    NetworkCheckView,
    NetworkView,
    PoolView,
    SandboxView,
    TraceView,
)
from agent.network import other_firewalls
from agent.network.addresses import address_of_link
from agent.network.background import uninterrupted
from agent.network.inspection import devices, rules
from agent.network.other_firewalls import Doorway
from agent.network.sandboxes import survey as surveys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from concurrent.futures import Executor

    from agent.network.address_pool import AddressPool
    from agent.network.fleet.fleet import FleetNetwork
    from agent.network.host.shared import HostNetwork
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.sandboxes.sandbox_table import SandboxTable
    from agent.network.sandboxes.survey import Strays, Survey
    from agent.network.settings import NetworkSettings
    from agent.network.upkeep import Upkeep
    from agent.runtime.protocol import ContainerEngine

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class _Found(NamedTuple):
    words: list[str]
    incomplete: list[SandboxRecord]
    strays: Strays


class NetworkInspection:
    """Shows and checks the networks of one agent. Belongs to one event loop."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        settings: NetworkSettings,
        *,
        host: HostNetwork,
        table: SandboxTable,
        addresses: AddressPool,
        survey: Survey,
        upkeep: Upkeep,
        engine: ContainerEngine,
        fleet: FleetNetwork | None,
        files: Executor,
    ) -> None:
        self._settings = settings
        self._host = host
        self._table = table
        self._addresses = addresses
        self._survey = survey
        self._upkeep = upkeep
        self._engine = engine
        self._fleet = fleet
        self._files = files
        self._checking = asyncio.Lock()
        self._tracing = asyncio.Lock()

    async def view(self) -> NetworkView:
        """Return pools, sandboxes, devices and rules as they are now.

        Raises:
            NetworkFailure: ``nft`` is missing, failed or did not answer.
        """
        records = sorted(self._table.records.values(), key=lambda r: IPv4Address(r.ipv4))
        ports = [(record.host_interface, record.ipv4) for record in records]
        links, listed = await asyncio.gather(
            self._block(devices.devices, self._host.watched.name, self._host.driver, ports),
            self._block(rules.listed, self._settings.table),
        )
        return NetworkView(
            pools=self._pools(),
            sandboxes=[self._sandbox(record) for record in records],
            devices=links,
            rules=listed,
            peers=await self._fleet.peers() if self._fleet is not None else [],
            problems=self._upkeep.problems,
        )

    def _pools(self) -> list[PoolView]:
        pool = self._addresses
        # Not the pool's own gateways: with some drivers, that of tasks is another host, or none.
        networks = [(str(pool.network), self._host.subnet.gateway)]
        lease = self._host.ipv6_of(pool.gateway)
        if lease is not None:
            networks.append((str(pool.ipv6_network), lease.gateway))
        return [
            PoolView(
                cidr=cidr,
                gateway=gateway,
                interface=self._host.watched.name,
                mtu=self._host.mtu,
                size=pool.size,
                held=pool.held,
                resting=pool.resting,
            )
            for cidr, gateway in networks
        ]

    def _sandbox(self, record: SandboxRecord) -> SandboxView:
        return SandboxView(
            ipv4=record.ipv4,
            ipv6=record.ipv6.address if record.ipv6 is not None else "",
            state=self._table.state_of(record),
            task=record.task_arn,
            mac=record.mac,
            interface=record.host_interface,
            mtu=record.mtu,
            container_id=record.container_id,
            pid=record.pid,
        )

    async def check(self, *, repair: bool) -> NetworkCheckView:
        """Compare what is recorded with kernel and engine; with ``repair``, mend what differs.

        Checks run one at a time. What still differs after a repair is not marked as repaired, and
        ``problems`` says why where it is known.

        Raises:
            NetworkFailure: the kernel did not answer.
            RuntimeFailure: the engine cannot list its containers.
        """
        async with self._checking:
            before = await self._differences()
            if not repair or not before.words:
                differences = [DifferenceView(found=text, repaired=False) for text in before.words]
                return NetworkCheckView(
                    repair=repair, differences=differences, problems=self._upkeep.problems
                )
            problems = await self._repair(before)
            left = (await self._differences()).words
            return NetworkCheckView(
                repair=True,
                differences=[
                    DifferenceView(found=text, repaired=text not in left) for text in before.words
                ],
                problems=list(dict.fromkeys([*problems, *self._upkeep.problems])),
            )

    async def trace(
        self, task_arn: str, runtime_ids: Sequence[str], *, peer: str, port: int, protocol: str
    ) -> TraceView:
        """Try a connection from a task, and return which rules of this host decide on it.

        Connections are tried one at a time, each for a few seconds at most.

        Args:
            task_arn: the task.
            runtime_ids: engine ids of its containers; one must run if the task holds no sandbox.
            peer: an IPv4 or IPv6 address.
            port: where the peer may listen.
            protocol: ``tcp`` or ``udp``.

        Raises:
            NetworkFailure: no container of the task runs, or ``nft`` failed.
            RuntimeFailure: the engine does not answer.
        """
        from agent.network.tracing import trace  # noqa: PLC0415 - few hosts ever trace

        async with self._tracing:
            netns = trace.open_netns(await self._process_of(task_arn, runtime_ids))
            inside = self._host.rules_inside if task_arn in self._table.by_task else None
            within = trace.Inside(*inside) if inside else None
            try:
                probe = trace.Probe(peer, port, protocol)
                return await self._finish(trace.run, self._settings.table, netns, probe, within)
            finally:
                os.close(netns)

    async def _process_of(self, task_arn: str, runtime_ids: Sequence[str]) -> int:
        """Return a process in the network of a task."""
        held = self._table.records.get(self._table.by_task.get(task_arn, ""))
        if held is not None:
            return held.pid
        for runtime_id in runtime_ids:
            with contextlib.suppress(NoSuchContainer):
                state = await self._engine.inspect_container(runtime_id)
                if state.running:
                    return state.pid
        raise NetworkFailure("no container of the task runs, so it has no network now")

    async def clear_trace(self) -> None:
        """Remove the rules of a trace that ended with its process; failures are only logged."""
        from agent.network.tracing import trace  # noqa: PLC0415 - as above

        async with self._tracing:
            try:
                await self._finish(trace.clear, self._settings.table)
            except NetworkFailure as error:
                _log.warning("rules of an earlier trace not removed", error=str(error))

    async def tell_of_firewalls(self) -> None:
        """Log other firewalls of the host that affect tasks."""
        settings = self._settings
        door = Doorway(settings.bridge, TASK_ADDRESS, settings.server_port)
        try:
            found = await self._block(other_firewalls.look, door)
        except NetworkFailure as error:
            _log.warning("other firewalls not looked for", error=str(error))
            return
        for each in found:
            _log.warning(
                "another firewall affects tasks", firewall=each.name, does=each.does,
                mend=f"{each.mend}: {each.command}",
            )  # fmt: skip

    async def _finish(self, work: Callable[..., T], *arguments: object) -> T:
        """Run blocking work to its end, even if the caller is gone: it cleans up after itself."""
        return await uninterrupted(self._block(work, *arguments))

    async def _differences(self) -> _Found:
        records = self._table.in_use()
        living = await self._block(surveys.living, records)
        alive = [record for record in records if record.ipv4 in living]
        words = [
            f"the pause container of {record.ipv4} has ended"
            for record in records
            if record.ipv4 not in living
        ]
        words += await self._host.differences(alive)
        words += await self._upkeep.engine_differences()
        words += await self._fleet.differences() if self._fleet is not None else []
        incomplete = await self._survey.not_serving(alive)
        words += [f"the network of {r.ipv4} differs inside its namespace" for r in incomplete]
        strays = await self._survey.strays(
            known={record.container_id for record in self._table.records.values()},
            is_held=self._addresses.is_held,
        )
        names = [container.name.lstrip("/") for container in strays.containers]
        words += [f"container {name} belongs to no sandbox" for name in names]
        words += [f"link {name} belongs to no sandbox" for name in strays.links]
        return _Found(words, incomplete, strays)

    async def _repair(self, found: _Found) -> list[str]:
        """Mend what was found; return why something could not be, one sentence each."""
        problems = []
        try:
            failing = await self._upkeep.put_right(incomplete=found.incomplete)
            problems += [failing] if failing else []
        except AgentError as error:
            problems.append(str(error))
        remove_container = partial(self._engine.remove_container, force=True)
        removals: list[tuple[str, str | None, Callable[[str], Awaitable[None]]]] = [
            *((name, address_of_link(name), self._host.detach) for name in found.strays.links),
            *((c.id, surveys.address_of(c), remove_container) for c in found.strays.containers),
        ]
        for what, ipv4, remove in removals:
            try:
                await self._remove_stray(what, ipv4 or "", remove)
            except AgentError as error:
                problems.append(str(error))
        return problems

    async def _remove_stray(
        self, what: str, ipv4: str, remove: Callable[[str], Awaitable[None]]
    ) -> None:
        """Remove what belongs to an address that nobody holds, and hold the address meanwhile."""
        if self._addresses.is_held(ipv4):
            return  # somebody has taken it since, and replaces what is in its way
        self._addresses.hold(ipv4)
        try:
            await remove(what)
        finally:
            self._addresses.give_back(ipv4, asyncio.get_running_loop().time())

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)
