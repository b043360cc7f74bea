"""Networks of awsvpc tasks: which task has which sandbox, and the pool of unused sandboxes.

::

    make ──► warm ──claim: one commit──► claimed ──release──► gone
       └─────────► handed to a waiting claim ──┘

A sandbox is complete before it can be claimed, so that a claim costs only one commit. The rows in
the store decide who has what; containers and links are matched against them at the start.
Everything stays in place when the process ends: tasks keep running, and the next process takes
over.

Tests: ``tests/integration/network/test_life.py``, ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from agent.errors import NetworkFailure, StateFailure
from agent.model.eni import read as read_eni
from agent.model.figures import SandboxFigures
from agent.network.addresses import AddressPool, parse_pool
from agent.network.background import BackgroundTasks, settle
from agent.network.bridge.links import HostLinks
from agent.network.drivers.opening import WITH_PARENT, DriverParts, open_driver, refuse_change
from agent.network.groups import bridge_filter
from agent.network.groups.group_state import GroupState
from agent.network.host.agent_address import AgentAddress, Doors
from agent.network.host.firewall import Firewall
from agent.network.host.kernel_messages import EVERYTHING, Part
from agent.network.host.repair_loop import Suspicions
from agent.network.host.shared import HostNetwork
from agent.network.host.watch import HostWatch
from agent.network.inspection.inspection import NetworkInspection
from agent.network.kernel.netlink import NetlinkLane
from agent.network.sandboxes import recovery
from agent.network.sandboxes import survey as surveys
from agent.network.sandboxes.leftovers import Leftovers
from agent.network.sandboxes.lifecycle import SandboxLifecycle
from agent.network.sandboxes.sandbox import SandboxMaker
from agent.network.sandboxes.sandbox_table import SandboxTable
from agent.network.sandboxes.survey import Survey
from agent.network.sandboxes.task_enis import TaskEnis
from agent.network.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
    from concurrent.futures import Executor

    from agent.model.eni import TaskEni
    from agent.model.fleet import FleetUpdate
    from agent.model.security_groups import GroupUpdates
    from agent.model.task import TaskNetwork
    from agent.model.views import RepairView
    from agent.network.fleet.fleet import FleetNetwork
    from agent.network.sandboxes.recovery import Holder
    from agent.network.settings import NetworkSettings
    from agent.runtime.protocol import ContainerEngine, EngineEvent
    from agent.state.store import StateStore

_CLOSE_LIMIT_S = 5.0
_log = structlog.get_logger(__name__)


class TaskNetworks:
    """Gives sandboxes to tasks and takes them back. Open it with ``TaskNetworks.open``.

    Belongs to one event loop. Any number of tasks may call ``claim``, ``release`` and ``reconcile``
    at once, whether or not ``run`` is running.
    """

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        *,
        table: SandboxTable,
        addresses: AddressPool,
        host: HostNetwork,
        groups: GroupState,
        filters_tasks: bool,
        is_told_of_groups: bool,
        lifecycle: SandboxLifecycle,
        upkeep: Upkeep,
        leftovers: Leftovers,
        inspection: NetworkInspection,
        suspicions: Suspicions,
        enis: TaskEnis,
        fleet: FleetNetwork | None,
        files: Executor,
        closing: contextlib.AsyncExitStack,
    ) -> None:
        """Take the parts that ``open`` made; ``closing`` closes them."""
        self.inspection = inspection
        """Shows and checks the networks on order."""
        self._table = table
        self._addresses = addresses
        self._host = host
        self._groups = groups
        self.filters_tasks = filters_tasks
        self._is_told_of_groups = is_told_of_groups
        """Whether this host can enforce security groups; tasks that name one fail otherwise."""
        self._lifecycle = lifecycle
        self._upkeep = upkeep
        self._leftovers = leftovers
        self._suspicions = suspicions
        self._enis = enis
        self._fleet = fleet
        self._files = files
        self._closing = closing
        self._has_groups = False
        """Whether control has said to this process what groups allow."""
        self._claims: dict[str, asyncio.Task[TaskNetwork]] = {}
        self._releases: dict[str, asyncio.Task[None]] = {}
        self._background = BackgroundTasks()

    @classmethod
    async def open(
        cls,
        settings: NetworkSettings,
        *,
        store: StateStore,
        engine: ContainerEngine,
        image: str,
        load_image: Callable[[], Awaitable[object]],
        holders: Mapping[str, Holder] | None = None,
        is_told_of_groups: bool = True,
    ) -> TaskNetworks:
        """Take over what an earlier process left, and create bridge and rules.

        Living sandboxes are not changed, and nothing is removed: see ``reconcile``.

        Args:
            settings: settings of the networks.
            store: holds the rows of kind ``sandbox``.
            engine: runs the pause containers.
            image: reference of the pause image, which must be on the host.
            load_image: loads the pause image again after it was removed.
            holders: which task has which sandbox, by its engine id, whatever the rows say.
            is_told_of_groups: control says what security groups allow. Over Amazon's wire it cannot,
                and its tasks' groups are not enforced.

        Raises:
            ConfigError: ``pool_cidr`` is not valid.
            NetworkFailure: the pool overlaps a network of the host, or the kernel refused.
            RuntimeFailure: the engine cannot list its containers.
            StateFailure: the rows cannot be read.
        """
        parse_pool(settings.pool_cidr)
        async with contextlib.AsyncExitStack() as closing:
            files = ThreadPoolExecutor(max_workers=4, thread_name_prefix="network")
            closing.callback(files.shutdown, wait=False, cancel_futures=True)
            lane = await NetlinkLane.open()
            closing.push_async_callback(lane.close)
            links = HostLinks(lane, settings.bridge)
            table = SandboxTable(store)
            rows, cursor = await table.load()
            groups = await GroupState.open(store)
            addresses = AddressPool(
                settings.pool_cidr,
                quarantine_s=settings.quarantine_s,
                cursor=cursor,
                named=settings.pool_from,
            )
            fleet = await _fleet_network(settings, lane, links)
            loop = asyncio.get_running_loop()
            alive = await loop.run_in_executor(files, surveys.living, rows)
            refuse_change(settings.driver, [r for r in rows if r.task_arn and r.ipv4 in alive])
            driver = await open_driver(DriverParts(settings, lane, links, addresses, files))
            rules = Firewall(
                settings.table,
                settings.blocked_addresses,
                doors=Doors(
                    settings.server_port,
                    settings.engine_bridge,
                    settings.bridge if driver.name == "bridge" else "",
                    settings.introspection_port,
                    settings.closed_ports,
                ),
                ports=driver.rules,
                resolvers=settings.dns_servers,
                fleet=settings.fleet.fleet_range if settings.fleet is not None else "",
            )
            closing.callback(rules.ports.close)
            closing.callback(rules.groups.close)
            cannot_filter = await loop.run_in_executor(files, _why_unfiltered, driver.name)
            if cannot_filter and is_told_of_groups:
                _log.warning("security groups are not enforced here", reason=cannot_filter)
            host = HostNetwork(
                driver=driver,
                links=links,
                agent_address=AgentAddress(lane),
                rules=rules,
                files=files,
            )
            maker = SandboxMaker(
                engine=engine,
                host=host,
                settings=settings,
                image=image,
                load_image=load_image,
                files=files,
            )
            enis = TaskEnis(lane, settings, files)
            closing.callback(enis.close)
            survey = Survey(
                engine=engine,
                lane=lane,
                links=links,
                driver=driver,
                pool=addresses,
                settings=settings,
                enis=enis,
                files=files,
            )
            suspicions = Suspicions()
            lifecycle = SandboxLifecycle(
                settings,
                table=table,
                maker=maker,
                addresses=addresses,
                suspicions=suspicions,
                enis=enis,
            )
            closing.push_async_callback(lifecycle.close, _CLOSE_LIMIT_S)
            upkeep = Upkeep(
                settings,
                host=host,
                table=table,
                lifecycle=lifecycle,
                maker=maker,
                survey=survey,
                suspicions=suspicions,
                enis=enis,
                fleet=fleet,
                files=files,
            )
            seen = await survey.everything(rows)
            plan = recovery.match(rows, seen, holders or {}, addresses.network)
            recovery.drop_of_others(plan, driver.name)
            leftovers = Leftovers(
                addresses,
                plan,
                seen.containers,
                remove_container=partial(engine.remove_container, force=True),
                remove_link=host.detach,
            )
            filters_tasks = is_told_of_groups and not cannot_filter
            await loop.run_in_executor(
                files, rules.groups.restore, groups.groups,
                {kept.ipv4: kept.security_groups for kept in plan.kept},
                recovery.of_unknown_groups(rows, plan) if filters_tasks else (),
            )  # fmt: skip
            await _take_over(plan, table, addresses, host, lifecycle)
            await enis.take_over(plan.kept)
            if await upkeep.put_right():
                # A link that cannot be created must not delay the other tasks.
                suspicions.add(EVERYTHING)
            closing.callback(HostWatch(upkeep.ours, suspicions.add).close)
            _log.info(
                "task networks ready", kept=len(plan.kept), warm=len(plan.ready),
                lost=len(plan.lost), recognized=len(plan.changed), unclear=len(leftovers),
            )  # fmt: skip
            inspection = NetworkInspection(
                settings,
                host=host,
                table=table,
                addresses=addresses,
                survey=survey,
                upkeep=upkeep,
                engine=engine,
                fleet=fleet,
                files=files,
            )
            return cls(
                inspection=inspection,
                table=table,
                addresses=addresses,
                host=host,
                groups=groups,
                filters_tasks=filters_tasks,
                is_told_of_groups=is_told_of_groups,
                lifecycle=lifecycle,
                upkeep=upkeep,
                leftovers=leftovers,
                suspicions=suspicions,
                enis=enis,
                fleet=fleet,
                files=files,
                closing=closing.pop_all(),
            )

    @property
    def warm(self) -> int:
        """Number of sandboxes that are ready to be claimed."""
        return len(self._lifecycle.warm)

    @property
    def figures(self) -> SandboxFigures:
        """How many sandboxes there are, and how launches got theirs."""
        warm = self._lifecycle.warm
        return SandboxFigures(
            warm=len(warm), claimed=len(self._table.by_task), hits=warm.hits, misses=warm.misses
        )

    @property
    def problems(self) -> list[str]:
        """One sentence per problem; empty if there is none."""
        pool = self._lifecycle.warm.problem
        return [*self._upkeep.problems, *([pool] if pool else [])]

    @property
    def repairs(self) -> list[RepairView]:
        """The newest repairs of changes by others, oldest first."""
        return self._upkeep.repairs

    def networks(self) -> dict[str, TaskNetwork]:
        """Return the network of every task that holds one, by task ARN."""
        return self._table.networks()

    def lost(self) -> frozenset[str]:
        """Return the ARNs of tasks whose sandbox died and that have not released it."""
        return self._table.lost()

    async def is_alive(self, task_arn: str) -> bool:
        """Return whether containers can join the sandbox that a task holds."""
        record = self._table.records.get(self._table.by_task.get(task_arn, ""))
        if record is None or not self._table.is_in_use(record.ipv4):
            return False
        loop = asyncio.get_running_loop()
        return bool(await loop.run_in_executor(self._files, surveys.living, [record]))

    async def run(self, *, on_lost: Callable[[str, str], object]) -> None:
        """Keep the pool filled and the host's part intact until cancelled.

        Args:
            on_lost: called with the ARN of a task that lost its network, and why; the task must
                still release it.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report_losses(on_lost), name="lost-networks")
            group.create_task(self._lifecycle.warm.refill(), name="refill-sandboxes")
            group.create_task(self._upkeep.run(), name="network-upkeep")
            group.create_task(self.inspection.clear_trace(), name="clear-trace")
            group.create_task(self.inspection.tell_of_firewalls(), name="other-firewalls")

    async def _report_losses(self, on_lost: Callable[[str, str], object]) -> None:
        while True:
            on_lost(*await self._lifecycle.losses.get())

    async def take_groups(self, updates: GroupUpdates) -> None:
        """Take what control says of security groups; what it allows counts from now on.

        A failure of the kernel is logged, and the next check tries again: until then, the old rules
        count. Repeatable.
        """
        is_first, self._has_groups = not self._has_groups, True
        if not self._groups.take(updates) and not is_first:
            return
        try:
            await self._host.set_groups(self._groups.groups)
        except NetworkFailure as error:
            _log.error("security groups not applied", error=str(error))
            self._suspicions.add(Part.RULES)

    async def take_fleet(self, update: FleetUpdate) -> None:
        """Take what control says of other hosts; their tasks are reached from now on.

        A failure of the kernel is logged, and tried again. Repeatable.
        """
        if self._fleet is None:
            return
        try:
            await self._fleet.take(update)
        except NetworkFailure as error:
            _log.error("the way to other hosts not changed", error=str(error))
            self._suspicions.add(Part.FLEET)

    async def claim(
        self, task_arn: str, attachment_id: str, security_groups: Collection[str] = ()
    ) -> TaskNetwork:
        """Return a task's network; durable before it returns, and the same for the same task.

        The rules of its security groups count before it returns. With a warm sandbox this costs one
        commit; otherwise one is created at once. A cancelled call may still have claimed: ``release``
        undoes it.

        Raises:
            NetworkFailure: no address is free, the kernel refused, or the task's sandbox died.
            RuntimeFailure: the engine could not create a sandbox.
            StateFailure: the claim could not be saved; nothing is claimed.
        """
        leaving = self._releases.get(task_arn)
        if leaving is not None:
            await asyncio.wait([leaving])
        groups = self._enforceable(security_groups)
        held = self._table.by_task.get(task_arn)
        if held is not None:
            await self._complete(held, attachment_id, groups)
            return self._answer(held)
        return await self._claim_once(
            task_arn, partial(self._claim, task_arn, attachment_id, groups)
        )

    def _enforceable(self, groups: Collection[str]) -> tuple[str, ...]:
        """Return the groups whose rules are to count for a task: none where nothing can be filtered.

        Raises:
            NetworkFailure: nothing can be filtered here, and the task is in more than the default group.
        """
        if self.filters_tasks:
            return tuple(sorted(groups))
        if not self._is_told_of_groups:
            return ()
        known = self._groups.groups
        named = sorted(g for g in groups if g not in known or not known[g].is_default)
        if named:
            raise NetworkFailure(
                f"this host cannot enforce the security groups {', '.join(named)}; "
                "the log of its agent says why"
            )
        return ()

    async def claim_eni(
        self, task_arn: str, attachment_id: str, interfaces: Sequence[dict[str, Any]]
    ) -> TaskNetwork:
        """Return the network of a task with an ENI, once that is in its sandbox; as ``claim``.

        The sandbox is claimed durably before the ENI is moved, so that it is known where it is. If
        the ENI cannot be placed, the claim stays: the next call tries again, and ``release`` returns
        what was moved.

        Raises:
            PayloadError: the interface cannot be set up as it is described.
            NetworkFailure: it is not on the host, the kernel refused, or the sandbox died.
            RuntimeFailure: the engine could not create a sandbox.
            StateFailure: the claim could not be saved.
        """
        eni = read_eni(interfaces)
        leaving = self._releases.get(task_arn)
        if leaving is not None:
            await asyncio.wait([leaving])
        named = attachment_id or eni.attachment_arn.rpartition("/")[2]
        return await self._claim_once(task_arn, partial(self._claim_eni, task_arn, named, eni))

    async def _claim_once(
        self, task_arn: str, work: Callable[[], Coroutine[Any, Any, TaskNetwork]]
    ) -> TaskNetwork:
        """Share one claim among all callers; it goes on when they are cancelled."""
        claim = self._claims.get(task_arn)
        if claim is None:
            claim = self._background.spawn(work())
            self._claims[task_arn] = claim
            claim.add_done_callback(lambda _: self._claims.pop(task_arn, None))
        return await asyncio.shield(claim)

    async def _claim_eni(self, task_arn: str, attachment_id: str, eni: TaskEni) -> TaskNetwork:
        held = self._table.by_task.get(task_arn)
        if held is None:
            record = await self._lifecycle.obtain_for(eni)
            record = record.claimed(task_arn, attachment_id, time.time())
            try:
                await self._table.write(record, self._addresses.cursor)
            except StateFailure:
                self._lifecycle.discard([record])
                raise
            held = record.ipv4
        else:
            await self._complete(held, attachment_id, ())
        answer = self._answer(held)
        record = self._table.records[held]
        if not record.is_complete:
            await self._enis.place(record)
            placed = msgspec.structs.replace(record, eni_placed=True)
            await self._table.write(placed, self._addresses.cursor)
        return answer

    async def _complete(
        self, ipv4: str, attachment_id: str, security_groups: tuple[str, ...]
    ) -> None:
        """Complete a recreated row with what only the task's order contains."""
        record = self._table.records[ipv4]
        groups = record.security_groups or security_groups
        # Also without any: a task whose groups were lost is closed until its order is here.
        await self._host.admit_to_groups([ipv4], groups)
        named = record.claimed(
            record.task_arn, record.attachment_id or attachment_id, record.claimed_at, groups
        )
        if named != record:
            await self._table.write(named, self._addresses.cursor)

    async def _claim(
        self, task_arn: str, attachment_id: str, security_groups: tuple[str, ...]
    ) -> TaskNetwork:
        with self._lifecycle.warm.launch():
            record = await self._lifecycle.obtain()
            claimed = record.claimed(task_arn, attachment_id, time.time(), security_groups)
            try:
                if security_groups:
                    await self._host.admit_to_groups([record.ipv4], security_groups)
                await self._table.write(claimed, self._addresses.cursor)
            except (NetworkFailure, StateFailure):
                self._lifecycle.warm.offer(record)  # nothing was saved: the sandbox is still free
                raise
            return self._answer(record.ipv4)

    def _answer(self, ipv4: str) -> TaskNetwork:
        if ipv4 in self._table.dead:
            raise NetworkFailure(f"the task's network sandbox {ipv4} has died")
        if ipv4 in self._table.leaving:
            raise NetworkFailure(f"the task's network sandbox {ipv4} is being removed")
        return self._table.records[ipv4].network()

    async def release(self, task_arn: str) -> None:
        """Remove a task's sandbox; returns when link, container and row are gone. Idempotent.

        Raises:
            RuntimeFailure: the engine did not remove the container; call again.
            NetworkFailure: the kernel did not remove the link; call again.
            StateFailure: the row could not be removed; call again.
        """
        claim = self._claims.get(task_arn)
        if claim is not None:
            await asyncio.wait([claim])
        leaving = self._releases.get(task_arn)
        if leaving is None:
            held = self._table.by_task.get(task_arn)
            if held is None:
                return
            leaving = self._background.spawn(self._lifecycle.remove(self._table.records[held]))
            self._releases[task_arn] = leaving
            leaving.add_done_callback(lambda _: self._releases.pop(task_arn, None))
        await asyncio.shield(leaving)

    async def reconcile(self, live_task_arns: Collection[str]) -> None:
        """Release the sandboxes of tasks that are not in this list, and remove leftovers.

        Call it only once control has listed what it wants: before that, there may be unknown tasks.
        What cannot be released is logged; the next call tries again.
        """
        # Copied now: a task that arrives during a removal is not in the list.
        live = frozenset(live_task_arns)
        gone = [arn for arn in self._table.by_task if arn not in live]
        self._lifecycle.discard(await self._leftovers.clear(self._table.records))
        await self._lifecycle.empty_scrap()
        await settle("network not released", [(arn, self.release(arn)) for arn in gone])

    async def reassert(self) -> None:
        """Repair whatever others changed: bridge, links, rules, forwarding. Cheap if nothing was.

        ``run`` does this when the kernel reports damage, and regularly.

        Raises:
            NetworkFailure: something cannot be repaired now.
        """
        failing = await self._upkeep.put_right()
        if failing:
            raise NetworkFailure(failing)

    def take_note_of(self, event: EngineEvent) -> None:
        """Request a full check soon if events of the engine were missed, as during its restart."""
        if event.action == "relist":
            self._suspicions.add(EVERYTHING)

    async def remove_host_objects(self) -> None:
        """Remove warm sandboxes, bridge, table and rules, from a host that no longer needs them.

        ``run`` must have ended. Another object's ``open`` creates everything again.

        Raises:
            NetworkFailure: tasks hold or may hold sandboxes, or something could not be removed.
        """
        if len(self._leftovers):
            raise NetworkFailure(
                f"{len(self._leftovers)} objects of task networks may belong to tasks that control "
                "has not listed yet"
            )
        holding = len(self._table.by_task) or len(self._claims)
        if holding:
            raise NetworkFailure(f"{holding} tasks still hold a network; stop them")
        left = await self._lifecycle.remove_unclaimed(_CLOSE_LIMIT_S)
        if left:
            raise NetworkFailure(f"{left} sandboxes could not be removed; try again")
        if self._fleet is not None:
            await self._fleet.remove()
        await self._host.remove()

    async def close(self) -> None:
        """End threads and sockets; sandboxes, bridge and rules stay. Idempotent.

        ``run`` must have ended.
        """
        await self._lifecycle.warm.finish(_CLOSE_LIMIT_S)
        await self._background.finish(_CLOSE_LIMIT_S)
        await self._closing.aclose()


async def _fleet_network(
    settings: NetworkSettings, lane: NetlinkLane, links: HostLinks
) -> FleetNetwork | None:
    """Return the part of this host in the network between hosts; its code is loaded only then."""
    if settings.fleet is None:
        return None
    from agent.network.fleet.fleet import open_fleet  # noqa: PLC0415 - only what is used

    mtu = await links.default_mtu() - settings.tunnel_bytes
    return await open_fleet(settings.fleet, lane, mtu)


def _why_unfiltered(driver: str) -> str:
    """Return why packets of tasks cannot be filtered on this host; empty if they can. Blocks."""
    if driver in WITH_PARENT:
        return f"with the driver {driver}, packets of tasks do not pass the rules of their host"
    return bridge_filter.why_not() if driver == "bridge" else ""


async def _take_over(
    plan: recovery.RecoveryPlan,
    table: SandboxTable,
    addresses: AddressPool,
    host: HostNetwork,
    lifecycle: SandboxLifecycle,
) -> None:
    table.take_over(plan)
    try:
        await table.correct(plan.changed, plan.void)
    except StateFailure as error:
        _log.warning("rows of sandboxes not corrected", error=str(error))
    for ipv4 in table.records:
        addresses.hold(ipv4)
    await host.ensure(table.in_use())
    lifecycle.take_over(plan)
