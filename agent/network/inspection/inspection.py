"""Answers operators' questions about the task networks of one agent, and checks them on order.

The agent repairs what the kernel reports as changed, and checks regularly (``upkeep``). A check on
order also finds what those do not look for: sandboxes whose inside differs from their row, and
containers and links of ours whose address nobody holds. It changes nothing unless it is told to
repair; the repair is that of ``upkeep``, and the removal of what nobody holds.

Tests: ``tests/unit/network/inspection``, ``tests/integration/network/test_inspection.py``.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.errors import AgentError
from agent.model.network_views import (
    DifferenceView,
    NetworkCheckView,
    NetworkView,
    PoolView,
    SandboxView,
)
from agent.network.addresses import address_of_link
from agent.network.inspection import devices, rules
from agent.network.sandboxes import survey as surveys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from agent.network.addresses import AddressPool
    from agent.network.host.shared import HostNetwork
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.sandboxes.sandbox_table import SandboxTable
    from agent.network.sandboxes.survey import Strays, Survey
    from agent.network.settings import NetworkSettings
    from agent.network.upkeep import Upkeep

T = TypeVar("T")


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
        remove_container: Callable[[str], Awaitable[None]],
        files: Executor,
    ) -> None:
        """Take the parts; ``remove_container`` removes one by its engine id."""
        self._settings = settings
        self._host = host
        self._table = table
        self._addresses = addresses
        self._survey = survey
        self._upkeep = upkeep
        self._remove_container = remove_container
        self._files = files
        self._checking = asyncio.Lock()

    async def view(self) -> NetworkView:
        """Return pools, sandboxes, devices and rules as they are now.

        Raises:
            NetworkFailure: ``nft`` is missing, failed or did not answer.
        """
        records = sorted(self._table.records.values(), key=lambda r: IPv4Address(r.ipv4))
        ports = [(record.host_interface, record.ipv4) for record in records]
        links, listed = await asyncio.gather(
            self._block(devices.devices, self._settings.bridge, ports),
            self._block(rules.listed, self._settings.table),
        )
        return NetworkView(
            pools=[self._pool(links[0].mtu)],
            sandboxes=[self._sandbox(record) for record in records],
            devices=links,
            rules=listed,
            problems=self._upkeep.problems,
        )

    def _pool(self, mtu: int) -> PoolView:
        pool = self._addresses
        return PoolView(
            cidr=str(pool.network),
            gateway=pool.gateway,
            interface=self._settings.bridge,
            mtu=mtu,
            size=pool.size,
            held=pool.held,
            resting=pool.resting,
        )

    def _sandbox(self, record: SandboxRecord) -> SandboxView:
        return SandboxView(
            ipv4=record.ipv4,
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
        removals = [
            *((name, address_of_link(name), self._host.detach) for name in found.strays.links),
            *(
                (c.id, surveys.address_of(c), self._remove_container)
                for c in found.strays.containers
            ),
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
