"""Keeps the host's part of task networks intact: what to check, and what is repaired by whom.

``RepairLoop`` decides when to check. A check goes from the host's part (``HostNetwork``) and the
container engine's rules to the links of single sandboxes (``LinkRepair``); sandboxes that nobody can
use are removed on the way.

Tests: ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from agent.errors import NetworkFailure
from agent.network.addresses import address_of_link
from agent.network.host.docker_chain import CHAIN
from agent.network.host.engine_rules import EngineRules
from agent.network.host.firewall import groups_table, names_table
from agent.network.host.kernel_messages import EVERYTHING, Ours, Part
from agent.network.host.repair_loop import RepairLoop, RepairResult
from agent.network.sandboxes import survey as surveys
from agent.network.sandboxes.link_repair import LinkRepair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from agent.model.views import RepairView
    from agent.network.fleet.fleet import FleetNetwork
    from agent.network.host.repair_loop import Suspicions
    from agent.network.host.shared import HostNetwork
    from agent.network.kernel.namespaces import Process
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.sandboxes.lifecycle import SandboxLifecycle
    from agent.network.sandboxes.sandbox import SandboxMaker
    from agent.network.sandboxes.sandbox_table import SandboxTable
    from agent.network.sandboxes.survey import Survey
    from agent.network.sandboxes.task_enis import TaskEnis
    from agent.network.settings import NetworkSettings

_log = structlog.get_logger(__name__)


class Upkeep:
    """Checks and repairs the networks of one agent. Belongs to one event loop."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        settings: NetworkSettings,
        *,
        host: HostNetwork,
        table: SandboxTable,
        lifecycle: SandboxLifecycle,
        maker: SandboxMaker,
        survey: Survey,
        suspicions: Suspicions,
        enis: TaskEnis,
        fleet: FleetNetwork | None,
        files: Executor,
    ) -> None:
        self._settings = settings
        self._host = host
        self._table = table
        self._lifecycle = lifecycle
        self._maker = maker
        self._survey = survey
        self._suspicions = suspicions
        self._enis = enis
        self._fleet = fleet
        self._files = files
        self._rule_names = (
            settings.table,
            f"{settings.table}_links",
            groups_table(settings.table),
            names_table(settings.table),
            CHAIN,
        )
        self._engine_rules = EngineRules(files)
        self._loop = RepairLoop(self._look, suspicions, interval_s=settings.check_interval_s)
        self._link_repair = LinkRepair(
            self._reattach, is_in_use=table.is_in_use, give_up=lifecycle.ended
        )
        self.rules_checked: Callable[[], None] | None = None
        """Called after each check of the rules, for those who keep rules besides these."""
        self._not_serving: set[str] = set()
        """Addresses of sandboxes whose namespace is incomplete."""
        self._seen_alive: set[Process] = set()
        """Processes of sandboxes that were looked at while they were watched."""

    @property
    def problems(self) -> list[str]:
        """One sentence per problem; empty if there is none."""
        found = (self._loop.problem, self._host.problem, self._engine_rules.problem)
        of_fleet = self._fleet.problems if self._fleet is not None else []
        return [*(problem for problem in found if problem), *of_fleet]

    @property
    def repairs(self) -> list[RepairView]:
        """The newest repairs of changes by others, oldest first."""
        return list(self._loop.repairs)

    async def run(self) -> None:
        """Check and repair until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._loop.run(), name="repair-network")
            group.create_task(self._compare(), name="compare-networks")

    async def engine_differences(self) -> list[str]:
        """Return in words what a check would repair of the engine's own rules; changes nothing."""
        return await self._engine_rules.differences()

    async def put_right(self, incomplete: Iterable[SandboxRecord] = ()) -> str:
        """Check everything, report what was repaired, and return what could not be.

        Args:
            incomplete: sandboxes whose namespace is to be set up again.
        """
        self._not_serving.update(record.ipv4 for record in incomplete)
        await self._lifecycle.empty_scrap()
        began = time.monotonic()
        found, failing = await self._look(EVERYTHING)
        if found:
            self._loop.tell(found, took_s=time.monotonic() - began, noticed="by a requested check")
        return failing

    def ours(self) -> Ours:
        """Return what kernel messages are compared with."""
        link = self._host.watched
        return Ours(
            bridge=link.name,
            bridge_index=link.number,
            bridge_mac=link.mac,
            port_master=link.port_master,
            is_port=self._is_port,
            rules=tuple(name.encode() + b"\0" for name in self._rule_names),
            own_changes=self._host.rule_sockets,
        )

    def _is_port(self, link: str) -> bool:
        ipv4 = address_of_link(link)
        return ipv4 is not None and self._table.is_in_use(ipv4)

    async def _compare(self) -> None:
        """Check the namespaces that were taken over, and repair incomplete ones."""
        for record in await self._survey.not_serving(self._table.in_use()):
            _log.warning("network of a sandbox is incomplete", ipv4=record.ipv4)
            self._not_serving.add(record.ipv4)
        if self._not_serving:
            self._suspicions.add(Part.PORTS)

    async def _reattach(self, record: SandboxRecord) -> None:
        await self._maker.reattach(record)
        if record.eni_placed:
            await self._enis.place(record)
        self._not_serving.discard(record.ipv4)

    async def _look(self, parts: Part) -> RepairResult:
        self._lifecycle.sweep()
        if parts == EVERYTHING:
            for record in await self._departed():
                self._lifecycle.ended(record.ipv4)
        found, gone = await self._host.repair(self._table.in_use(), parts)
        if parts & Part.RULES:
            found += await self._engine_rules.look()
            if self.rules_checked is not None:
                self.rules_checked()
        incomplete = [
            self._table.records[ipv4] for ipv4 in self._not_serving if ipv4 in self._table.records
        ]
        links = await self._link_repair.mend([*gone, *incomplete])
        fleet = await self._repair_fleet(parts)
        failing = "; ".join(each.failing for each in (links, fleet) if each.failing)
        return RepairResult([*found, *links.found, *fleet.found], failing)

    async def _repair_fleet(self, parts: Part) -> RepairResult:
        # A link to the outside that was down has lost its routes, which the kernel does not report.
        # So has WireGuard with the address of the bridge, from which they send.
        if self._fleet is None or not parts & (Part.FLEET | Part.OUTSIDE | Part.BRIDGE):
            return RepairResult([])
        try:
            return RepairResult(await self._fleet.repair())
        except NetworkFailure as error:
            return RepairResult([], str(error))

    async def _departed(self) -> list[SandboxRecord]:
        """Return the sandboxes that have ended.

        The kernel reports the end of a process that is watched; so that is looked at once, because it may
        have ended, and its pid be another's, before the watch began.
        """
        in_use = self._table.in_use()
        watched = {row.process for row in in_use if self._lifecycle.is_watched(row.ipv4)}
        sure = watched & self._seen_alive
        unsure = [row for row in in_use if row.process not in sure]
        departed: list[SandboxRecord] = []
        if unsure:
            loop = asyncio.get_running_loop()
            living = await loop.run_in_executor(self._files, surveys.living, unsure)
            departed = [row for row in unsure if row.ipv4 not in living]
        self._seen_alive = watched - {row.process for row in departed}
        return departed
