"""Reads the actual state of sandboxes from engine and kernel, whatever their rows say.

Used to recreate lost or wrong rows, and to compare what tasks really have with what they should
have. Read-only.

Tests: ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

import asyncio
import os
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec
import structlog

from agent.errors import BAD_JSON, AgentError, NetworkFailure
from agent.model.eni import TaskEni
from agent.network import addresses
from agent.network.bridge.links import AGENT_INTERFACE, TASK_INTERFACE
from agent.network.kernel import namespaces
from agent.network.sandbox_record import SandboxRecord
from agent.network.sandboxes import interior, recovery
from agent.network.sandboxes.sandbox import ADDRESS_LABEL, ENI_LABEL, SANDBOX_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from concurrent.futures import Executor

    from agent.network.address_pool import AddressPool
    from agent.network.bridge.links import HostLinks
    from agent.network.drivers.contract import TaskDriver
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.sandboxes.interior import Interior
    from agent.network.sandboxes.task_enis import TaskEnis
    from agent.network.settings import NetworkSettings
    from agent.runtime.protocol import ContainerEngine, ContainerState, ContainerSummary

T = TypeVar("T")

_PARALLEL: Final = 8

_log = structlog.get_logger(__name__)


class Strays(NamedTuple):
    """Containers and links of ours whose address nobody holds."""

    containers: list[ContainerSummary]
    links: list[str]


class Survey:
    """Examines sandboxes. Belongs to one event loop."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        *,
        engine: ContainerEngine,
        lane: NetlinkLane,
        links: HostLinks,
        driver: TaskDriver,
        pool: AddressPool,
        settings: NetworkSettings,
        enis: TaskEnis,
        files: Executor,
    ) -> None:
        self._engine = engine
        self._lane = lane
        self._links = links
        self._driver = driver
        self._pool = pool
        self._settings = settings
        self._enis = enis
        self._files = files
        self._slots = asyncio.Semaphore(_PARALLEL)

    async def everything(self, rows: list[SandboxRecord]) -> recovery.Seen:
        """Return what exists of this agent's sandboxes, to be matched with their rows.

        Raises:
            NetworkFailure: the kernel does not list the links.
            RuntimeFailure: the engine cannot list its containers.
        """
        containers = await self._engine.list_containers(
            labels={SANDBOX_LABEL: self._settings.owner}
        )
        alive = await self._block(living, rows)
        return recovery.Seen(
            containers=containers,
            alive=alive,
            ports=await self._driver.present(),
            links=await self._links.links(),
            surveyed=await self.without_fitting_row(containers, rows, alive),
        )

    async def strays(self, *, known: Collection[str], is_held: Callable[[str], bool]) -> Strays:
        """Return containers and links of ours that nobody can be using.

        Those of addresses that are held are left out: they may just be being made or removed.

        Args:
            known: engine ids of the sandboxes in the table.
            is_held: returns whether an address is handed out.

        Raises:
            NetworkFailure: the kernel does not list the links.
            RuntimeFailure: the engine cannot list its containers.
        """

        def is_free(ipv4: str | None) -> bool:
            return ipv4 is not None and ipv4 in self._pool and not is_held(ipv4)

        labels = {SANDBOX_LABEL: self._settings.owner}
        containers = await self._engine.list_containers(labels=labels)
        links = await self._links.names()
        return Strays(
            [c for c in containers if c.id not in known and is_free(address_of(c))],
            [name for name in sorted(links) if is_free(addresses.address_of_link(name))],
        )

    async def without_fitting_row(
        self,
        containers: Iterable[ContainerSummary],
        rows: Iterable[SandboxRecord],
        alive: Collection[str],
    ) -> list[SandboxRecord]:
        """Return the running sandboxes without a matching row, as rows without a task.

        One that cannot be examined is left out and logged: it stays unchanged.

        Args:
            containers: all containers of sandboxes.
            rows: all rows.
            alive: addresses of the rows whose pause process still runs.
        """
        by_id = {row.container_id: row for row in rows}
        looks = []
        for container in containers:
            ipv4 = address_of(container)
            if ipv4 is None or container.state not in ("running", "paused"):
                continue
            if recovery.needs_survey(by_id.get(container.id), ipv4, alive):
                looks.append(self._look(container.id, ipv4))
        found = await asyncio.gather(*looks)
        return [record for record in found if record is not None]

    async def not_serving(self, records: Iterable[SandboxRecord]) -> list[SandboxRecord]:
        """Return the sandboxes whose namespace differs from their row."""
        asked = list(records)
        answers = await asyncio.gather(*(self._serves(record) for record in asked))
        return [record for record, serves in zip(asked, answers, strict=True) if not serves]

    async def _look(self, container_id: str, ipv4: str) -> SandboxRecord | None:
        try:
            async with self._slots:
                state = await self._engine.inspect_container(container_id)
                process = await self._block(namespaces.identify, state.pid)
                if not state.running or process is None:
                    return None
                eni = eni_of(state)
                link = AGENT_INTERFACE if eni is not None else TASK_INTERFACE
                found = await self._interior(process, link)
        except AgentError as error:
            _log.warning("sandbox not recognized", ipv4=ipv4, error=str(error))
            return None
        own = [a for a in (found.addresses if found else ()) if a.startswith(f"{ipv4}/")]
        if found is None or not own:
            return None  # it was restarted: the namespace with the address is another one
        _log.warning("sandbox recognized without a matching row", ipv4=ipv4)
        ipv6 = self._driver.ipv6_of(ipv4)
        if ipv6 is not None and f"{ipv6.address}/{ipv6.prefix_len}" not in found.addresses:
            ipv6 = None
        ipv6_only = ipv6 is not None and self._pool.is_ipv6_only
        told_elsewhere = eni is not None or ipv6_only
        return SandboxRecord(
            ipv4=ipv4,
            prefix_len=self._driver.subnet.prefix_len
            if told_elsewhere
            else int(own[0].partition("/")[2]),
            gateway=found.gateway or self._driver.subnet.gateway,
            mac=found.mac,
            mtu=found.mtu,
            hostname=addresses.hostname_of(ipv4),
            host_interface=addresses.link_name_of(ipv4),
            container_id=container_id,
            pid=process.pid,
            started_ticks=process.started_ticks,
            netns=process.netns,
            created_at=state.created_at,
            boot_id=await self._block(namespaces.boot_id),
            driver=self._driver.name,
            ipv6=ipv6,
            ipv6_only=ipv6_only,
            eni=eni,
        )

    async def _serves(self, record: SandboxRecord) -> bool:
        try:
            async with self._slots:
                if record.eni is not None:
                    return await self._has_eni(record)
                found = await self._interior(record.process)
        except NetworkFailure as error:
            _log.warning("network of a sandbox not checked", ipv4=record.ipv4, error=str(error))
            return True  # if it has died, that is noticed elsewhere
        return found is not None and found.serves(record)

    async def _has_eni(self, record: SandboxRecord) -> bool:
        if not record.eni_placed:
            return True  # its task places it with the next claim
        link = await self._interior(record.process, AGENT_INTERFACE)
        has_link = link is not None and link.is_up and f"{record.ipv4}/32" in link.addresses
        return has_link and await self._enis.serves(record)

    async def _interior(
        self, process: namespaces.Process, link: str = TASK_INTERFACE
    ) -> Interior | None:
        netns = await self._block(namespaces.open_netns, process)
        try:
            return await interior.read(self._lane, netns, link)
        finally:
            os.close(netns)

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)


def living(rows: Collection[SandboxRecord]) -> frozenset[str]:
    """Return the addresses whose pause process is still the same. Blocks on ``/proc``."""
    boot_id = namespaces.boot_id()
    return frozenset(
        row.ipv4
        for row in rows
        if row.is_of_boot(boot_id) and namespaces.identify(row.pid) == row.process
    )


def eni_of(state: ContainerState) -> TaskEni | None:
    """Return the interface in a sandbox's label; None if there is none."""
    label = state.labels.get(ENI_LABEL)
    if label is None:
        return None
    try:
        return msgspec.json.decode(label, type=TaskEni)
    except BAD_JSON:
        return None


def address_of(container: ContainerSummary) -> str | None:
    """Return the address in a sandbox's label; None if there is none."""
    try:
        return str(IPv4Address(container.labels.get(ADDRESS_LABEL, "")))
    except ValueError:
        return None
