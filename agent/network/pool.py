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
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from agent.errors import AgentError, NetworkFailure, StateFailure
from agent.network import namespaces, recovery
from agent.network.addresses import AddressPool, address_of_link, mac_of, parse_pool
from agent.network.docker_chain import CHAIN
from agent.network.engine_rules import EngineRules
from agent.network.firewall import Firewall
from agent.network.host import HostNetwork
from agent.network.kernel_messages import EVERYTHING, Ours, Part
from agent.network.leftovers import Leftovers
from agent.network.link_repair import LinkRepair
from agent.network.links import HostLinks
from agent.network.netlink import NetlinkLane
from agent.network.repair_loop import RepairLoop, RepairResult
from agent.network.sandbox import SANDBOX_LABEL, NameTaken, Sandboxes
from agent.network.sandbox_table import SandboxTable
from agent.network.survey import Survey
from agent.network.warm_pool import WarmPool
from agent.network.watch import HostWatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping

    from agent.model.task import TaskNetwork
    from agent.model.views import RepairView
    from agent.network.recovery import Holder
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.settings import NetworkSettings
    from agent.runtime.protocol import ContainerEngine, EngineEvent
    from agent.state.store import StateStore

T = TypeVar("T")

_CLOSE_LIMIT_S = 5.0
_log = structlog.get_logger(__name__)


class TaskNetworks:
    """Gives sandboxes to tasks and takes them back.

    Belongs to one event loop. Call ``start`` first; then any number of tasks may call ``claim``,
    ``release`` and ``reconcile`` at once, whether or not ``run`` is running.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        *,
        store: StateStore,
        engine: ContainerEngine,
        image: str,
        load_image: Callable[[], Awaitable[object]],
    ) -> None:
        """Take the parts; nothing is accessed before ``start``.

        Args:
            settings: settings of the networks; ``pool_cidr`` is checked here (``ConfigError``).
            store: holds the rows of kind ``sandbox``.
            engine: runs the pause containers.
            image: reference of the pause image, which must be on the host.
            load_image: loads the pause image again after it was removed.
        """
        parse_pool(settings.pool_cidr)
        self._losses: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        """ARNs of tasks that lost their network, and why, until ``run`` reports them."""
        self._settings = settings
        self._engine = engine
        self._image = image
        self._load_image = load_image
        self._files = ThreadPoolExecutor(max_workers=4, thread_name_prefix="network")
        self._engine_rules = EngineRules(self._files)
        self._lane = NetlinkLane()
        self._links = HostLinks(self._lane, settings.bridge)
        self._rules = Firewall(settings.table, settings.bridge, settings.blocked_addresses)
        self._watch = namespaces.ExitWatch()
        self._warm = WarmPool(
            make=self._make,
            keep=self._keep,
            watch=self._begin_watch,
            target=settings.warm_sandboxes,
            quiet_s=settings.quiet_s,
        )
        self._sandbox_table = SandboxTable(store)
        self._claims: dict[str, asyncio.Task[TaskNetwork]] = {}
        self._releases: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sweep: asyncio.Task[None] | None = None
        self._not_serving: set[str] = set()
        """Addresses of sandboxes whose namespace is incomplete."""
        self._repair_loop = RepairLoop(self._look, interval_s=settings.check_interval_s)
        self._host_watch = HostWatch(self._ours, self._repair_loop.suspect)
        self._started = False

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
    ) -> TaskNetworks:
        """Take over what an earlier process left, and make bridge and rules."""
        networks = cls(settings, store=store, engine=engine, image=image, load_image=load_image)
        try:
            await networks.start(holders)
        except BaseException:
            await networks.close()
            raise
        return networks

    @property
    def warm(self) -> int:
        """Number of sandboxes that are ready to be claimed."""
        return len(self._warm)

    @property
    def problems(self) -> list[str]:
        """One sentence per problem; empty if there is none."""
        parts = (self._repair_loop, self._rules.ports, self._warm, self._engine_rules)
        return [part.problem for part in parts if part.problem]

    @property
    def repairs(self) -> list[RepairView]:
        """The newest repairs of changes by others, oldest first."""
        return list(self._repair_loop.repairs)

    def networks(self) -> dict[str, TaskNetwork]:
        """Return the network of every task that holds one, by task ARN."""
        return self._sandbox_table.networks()

    def lost(self) -> frozenset[str]:
        """Return the ARNs of tasks whose sandbox died and that have not released it."""
        return self._sandbox_table.lost()

    async def is_alive(self, task_arn: str) -> bool:
        """Return whether containers can join the sandbox that a task holds."""
        lease = self._sandbox_table.leases.get(self._sandbox_table.by_task.get(task_arn, ""))
        if lease is None or not self._sandbox_table.is_in_use(lease.ipv4):
            return False
        return bool(await self._block(_living, [lease]))

    async def start(self, holders: Mapping[str, Holder] | None = None) -> None:
        """Take over what an earlier process left, and create bridge and rules. Once.

        Living sandboxes are not changed, and nothing is removed: see ``reconcile``.

        Args:
            holders: which task has which sandbox, by its engine id, whatever the rows say.

        Raises:
            NetworkFailure: the pool overlaps a network of the host, or the kernel refused.
            RuntimeFailure: the engine cannot list its containers.
            StateFailure: the rows cannot be read.
        """
        await self._lane.start()
        rows, cursor = await self._sandbox_table.load()
        settings = self._settings
        self._addresses = AddressPool(
            settings.pool_cidr, quarantine_s=settings.quarantine_s, cursor=cursor
        )
        self._host = HostNetwork(
            links=self._links,
            rules=self._rules,
            pool=self._addresses,
            settings=settings,
            files=self._files,
        )
        self._sandboxes = Sandboxes(
            engine=self._engine,
            host=self._host,
            pool=self._addresses,
            settings=settings,
            image=self._image,
            load_image=self._load_image,
            files=self._files,
        )
        self._mender = LinkRepair(
            self._reattach, is_in_use=self._sandbox_table.is_in_use, give_up=self._ended
        )
        await self._host.check_pool()
        self._sandboxes.mtu = settings.mtu or await self._links.default_mtu()
        self._survey = Survey(
            engine=self._engine,
            lane=self._lane,
            pool=self._addresses,
            files=self._files,
        )
        self._leftovers = Leftovers(
            self._addresses,
            remove_container=partial(self._engine.remove_container, force=True),
            remove_link=self._host.detach,
            complain=_complain_of_leftover,
        )
        await self._take_over(rows, holders or {})
        self._host_watch.start()
        self._started = True

    async def _take_over(self, rows: list[SandboxRecord], holders: Mapping[str, Holder]) -> None:
        containers = await self._engine.list_containers(
            labels={SANDBOX_LABEL: self._settings.owner}
        )
        alive = await self._block(_living, rows)
        seen = recovery.Seen(
            containers=containers,
            alive=alive,
            ports=await self._block(self._host.ports),
            links=await self._links.links(),
            surveyed=await self._survey.without_fitting_row(containers, rows, alive),
        )
        found = recovery.match(rows, seen, holders, self._addresses.network)
        self._sandbox_table.take_over(found)
        self._leftovers.take(found, containers)
        try:
            await self._sandbox_table.correct(found.changed, found.void)
        except StateFailure as error:
            _log.warning("rows of sandboxes not corrected", error=str(error))
        for ipv4 in self._sandbox_table.leases:
            self._addresses.hold(ipv4)
        await self._host.ensure(self._sandbox_table.in_use(), self._sandboxes.mtu)
        for lease in found.kept:
            self._begin_watch(lease)
        for lease in found.ready:
            self._warm.offer(lease)
        if await self._put_right():
            self.look_again()  # a link that cannot be created must not delay the other tasks
        _log.info(
            "task networks ready", kept=len(found.kept), warm=len(found.ready),
            lost=len(found.lost), recognized=len(found.changed), unclear=len(self._leftovers),
        )  # fmt: skip

    async def run(self, *, on_lost: Callable[[str, str], object]) -> None:
        """Keep the pool filled and the host's part intact until cancelled.

        Args:
            on_lost: called with the ARN of a task that lost its network, and why; the task must
                still release it.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_losses(on_lost), name="lost-networks")
            group.create_task(self._warm.refill(), name="refill-sandboxes")
            group.create_task(self._repair_loop.run(), name="repair-network")
            group.create_task(self._compare(), name="compare-networks")

    async def _tell_losses(self, on_lost: Callable[[str, str], object]) -> None:
        while True:
            on_lost(*await self._losses.get())

    async def _compare(self) -> None:
        """Check the namespaces that were taken over, and repair incomplete ones."""
        for lease in await self._survey.not_serving(self._sandbox_table.in_use()):
            _log.warning("network of a sandbox is incomplete", ipv4=lease.ipv4)
            self._not_serving.add(lease.ipv4)
        if self._not_serving:
            self._repair_loop.suspect(Part.PORTS)

    async def _reattach(self, lease: SandboxRecord) -> None:
        await self._sandboxes.reattach(lease)
        self._not_serving.discard(lease.ipv4)

    def _ours(self) -> Ours:
        """Return what kernel messages are compared with."""
        return Ours(
            bridge=self._settings.bridge,
            bridge_index=self._links.bridge_index,
            bridge_mac=mac_of(self._addresses.gateway),
            is_port=self._is_port,
            rules=(self._settings.table.encode() + b"\0", CHAIN.encode() + b"\0"),
            own_changes=self._rules.ports.port_id,
        )

    def _is_port(self, link: str) -> bool:
        ipv4 = address_of_link(link)
        return ipv4 is not None and self._sandbox_table.is_in_use(ipv4)

    async def claim(self, task_arn: str, attachment_id: str) -> TaskNetwork:
        """Return a task's network; durable before it returns, and the same for the same task.

        With a warm sandbox this costs one commit; otherwise one is created at once. A cancelled
        call may still have claimed: ``release`` undoes it.

        Raises:
            NetworkFailure: no address is free, the kernel refused, or the task's sandbox died.
            RuntimeFailure: the engine could not create a sandbox.
            StateFailure: the claim could not be saved; nothing is claimed.
        """
        leaving = self._releases.get(task_arn)
        if leaving is not None:
            await asyncio.wait([leaving])
        held = self._sandbox_table.by_task.get(task_arn)
        if held is not None:
            await self._name_attachment(held, attachment_id)
            return self._answer(held)
        flight = self._claims.get(task_arn)
        if flight is None:
            flight = self._spawn(self._claim(task_arn, attachment_id))
            self._claims[task_arn] = flight
            flight.add_done_callback(lambda _: self._claims.pop(task_arn, None))
        return await asyncio.shield(flight)

    async def _name_attachment(self, ipv4: str, attachment_id: str) -> None:
        """Complete a recreated row with the attachment id, which only the task's order contains."""
        lease = self._sandbox_table.leases[ipv4]
        if attachment_id and not lease.attachment_id:
            named = lease.claimed(lease.task_arn, attachment_id, lease.claimed_at)
            await self._sandbox_table.write(named, self._addresses.cursor)

    async def _claim(self, task_arn: str, attachment_id: str) -> TaskNetwork:
        with self._warm.launch():
            lease = await self._obtain()
            claimed = lease.claimed(task_arn, attachment_id, time.time())
            try:
                await self._sandbox_table.write(claimed, self._addresses.cursor)
            except StateFailure:
                self._warm.offer(lease)  # nothing was saved: the sandbox is still free
                raise
            return self._answer(lease.ipv4)

    async def _obtain(self) -> SandboxRecord:
        """Return a living sandbox of the pool; remove those that died while waiting."""
        while (lease := await self._warm.obtain()).ipv4 in self._sandbox_table.dead:
            self._sandbox_table.scrap[lease.ipv4] = lease
            self._repair_loop.suspect(Part.PORTS)
        return lease

    def _answer(self, ipv4: str) -> TaskNetwork:
        if ipv4 in self._sandbox_table.dead:
            raise NetworkFailure(f"the task's network sandbox {ipv4} has died")
        if ipv4 in self._sandbox_table.leaving:
            raise NetworkFailure(f"the task's network sandbox {ipv4} is being removed")
        return self._sandbox_table.leases[ipv4].network()

    async def release(self, task_arn: str) -> None:
        """Remove a task's sandbox; returns when link, container and row are gone. Idempotent.

        Raises:
            RuntimeFailure: the engine did not remove the container; call again.
            NetworkFailure: the kernel did not remove the link; call again.
            StateFailure: the row could not be removed; call again.
        """
        flight = self._claims.get(task_arn)
        if flight is not None:
            await asyncio.wait([flight])
        leaving = self._releases.get(task_arn)
        if leaving is None:
            held = self._sandbox_table.by_task.get(task_arn)
            if held is None:
                return
            leaving = self._spawn(self._remove(self._sandbox_table.leases[held]))
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
        gone = [arn for arn in self._sandbox_table.by_task if arn not in live]
        for lease in await self._leftovers.clear(self._sandbox_table.leases):
            self._sandbox_table.unclear.discard(lease.ipv4)
            self._sandbox_table.scrap[lease.ipv4] = lease
        await self._empty_scrap()
        await _settle("network not released", [(arn, self.release(arn)) for arn in gone])

    async def reassert(self) -> None:
        """Repair whatever others changed: bridge, links, rules, forwarding. Cheap if nothing was.

        ``run`` does this when the kernel reports damage, and regularly.

        Raises:
            NetworkFailure: something cannot be repaired now.
        """
        failing = await self._put_right()
        if failing:
            raise NetworkFailure(failing)

    async def _put_right(self) -> str:
        """Check everything, report what was repaired, and return what could not be."""
        await self._empty_scrap()
        began = time.monotonic()
        found, failing = await self._look(EVERYTHING)
        if found:
            self._repair_loop.tell(
                found, took_s=time.monotonic() - began, noticed="by a requested check"
            )
        return failing

    def look_again(self) -> None:
        """Request a full check soon, because something may have changed unnoticed."""
        self._repair_loop.suspect(EVERYTHING)

    def take_note_of(self, event: EngineEvent) -> None:
        """Look at everything where the container engine was away, or restarted."""
        if event.action == "relist":
            self.look_again()

    async def _look(self, parts: Part) -> RepairResult:
        if self._sandbox_table.scrap and (self._sweep is None or self._sweep.done()):
            # A hanging engine must not delay what follows.
            self._sweep = self._spawn(self._empty_scrap())
        if parts == EVERYTHING:
            for lease in await self._block(_departed, self._sandbox_table.in_use()):
                self._ended(lease.ipv4)
        found, gone = await self._host.repair(
            self._sandbox_table.in_use(), self._sandboxes.mtu, parts
        )
        if parts & Part.RULES:
            found += await self._engine_rules.look()
        lacking = [
            self._sandbox_table.leases[ipv4]
            for ipv4 in self._not_serving
            if ipv4 in self._sandbox_table.leases
        ]
        mended, failing = await self._mender.mend([*gone, *lacking])
        return RepairResult([*found, *mended], failing)

    async def remove_host_objects(self) -> None:
        """Remove warm sandboxes, bridge, table and rules, from a host that no longer needs them.

        ``run`` must have ended. A later ``start`` of another object creates everything again.

        Raises:
            NetworkFailure: tasks hold or may hold sandboxes, or something could not be removed.
        """
        if not self._started:
            raise NetworkFailure("it is not known yet which tasks hold a network; start it first")
        if len(self._leftovers):
            raise NetworkFailure(
                f"{len(self._leftovers)} objects of task networks may belong to tasks that control "
                "has not listed yet"
            )
        if self._sandbox_table.by_task or self._claims:
            raise NetworkFailure(
                f"{len(self._sandbox_table.by_task) or len(self._claims)} tasks still hold a network; stop them"
            )
        await self._warm.finish(_CLOSE_LIMIT_S)
        self._sandbox_table.scrap.update(self._sandbox_table.leases)
        for ipv4 in self._sandbox_table.leases:
            self._warm.take_out(ipv4)
        await self._empty_scrap()
        if self._sandbox_table.scrap:
            raise NetworkFailure(
                f"{len(self._sandbox_table.scrap)} sandboxes could not be removed; try again"
            )
        await self._host.remove()

    async def close(self) -> None:
        """End threads and sockets; sandboxes, bridge and rules stay. Idempotent.

        ``run`` must have ended.
        """
        await self._warm.finish(_CLOSE_LIMIT_S)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_LIMIT_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._host_watch.close()
        self._watch.close()
        await self._lane.close()
        self._rules.ports.close()
        self._files.shutdown(wait=False, cancel_futures=True)

    async def _make(self) -> SandboxRecord:
        now = asyncio.get_running_loop().time
        while True:
            ipv4 = self._addresses.take(now())
            try:
                lease = await self._sandboxes.make(ipv4)
            except NameTaken as error:
                # Put it in quarantine like a released address, and try the next one.
                self._addresses.give_back(ipv4, now())
                _log.warning("address skipped", ipv4=ipv4, error=str(error))
            except BaseException:
                self._addresses.give_back(ipv4, now())
                raise
            else:
                self._sandbox_table.leases[ipv4] = lease
                return lease

    async def _keep(self, lease: SandboxRecord) -> None:
        try:
            await self._sandbox_table.write(lease, self._addresses.cursor)
        except StateFailure as error:
            # It works without a row, too; only a restart would have to create another one.
            _log.warning("warm sandbox not saved", ipv4=lease.ipv4, error=str(error))

    async def _remove(self, lease: SandboxRecord) -> None:
        """Remove a sandbox and its row; after a failure, everything not removed is still known."""
        self._sandbox_table.leaving.add(lease.ipv4)
        self._watch.discard(lease.ipv4)
        await self._sandboxes.remove(lease.container_id, lease.host_interface)
        await self._sandbox_table.erase(lease)
        self._addresses.give_back(lease.ipv4, asyncio.get_running_loop().time())

    async def _empty_scrap(self) -> None:
        """Remove unusable sandboxes; those that cannot be removed stay for the next time."""
        doomed, self._sandbox_table.scrap = self._sandbox_table.scrap, {}
        await _settle(
            "sandbox not removed",
            [(ipv4, self._remove_scrap(lease)) for ipv4, lease in doomed.items()],
        )

    async def _remove_scrap(self, lease: SandboxRecord) -> None:
        try:
            await self._remove(lease)
        except BaseException:
            self._sandbox_table.scrap[lease.ipv4] = lease
            raise

    def _begin_watch(self, lease: SandboxRecord) -> None:
        self._watch.add(lease.ipv4, lease.process, self._ended)

    def _ended(self, ipv4: str, reason: str = "the task's network sandbox stopped") -> None:
        """A sandbox became unusable: its pause process ended by itself, or its link is lost."""
        lease = self._sandbox_table.leases.get(ipv4)
        if lease is None or ipv4 in self._sandbox_table.leaving or ipv4 in self._sandbox_table.dead:
            return
        self._sandbox_table.dead.add(ipv4)
        if self._warm.take_out(ipv4) is not None:
            _log.warning("warm sandbox lost", ipv4=ipv4, reason=reason)
            self._sandbox_table.scrap[ipv4] = lease
            self._repair_loop.suspect(Part.PORTS)
        elif lease.task_arn:
            # Its containers keep the namespace and the link until the task has stopped.
            _log.error("network of a task lost", task=lease.task_arn, ipv4=ipv4, reason=reason)
            self._losses.put_nowait((lease.task_arn, reason))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone, and nobody handles the failure

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)


def _complain_of_leftover(what: str, error: str) -> None:
    _log.warning("leftover not removed", what=what, error=error)


def _living(rows: Collection[SandboxRecord]) -> frozenset[str]:
    """Return the addresses whose pause process is still the same. Blocks on ``/proc``."""
    return frozenset(r.ipv4 for r in rows if namespaces.identify(r.pid) == r.process)


def _departed(rows: Collection[SandboxRecord]) -> list[SandboxRecord]:
    living = _living(rows)
    return [row for row in rows if row.ipv4 not in living]


async def _settle(complaint: str, removals: list[tuple[str, Coroutine[Any, Any, None]]]) -> None:
    """Run removals in parallel; log the agent's own failures, and raise others."""
    answers = await asyncio.gather(*(removal for _, removal in removals), return_exceptions=True)
    for (what, _), answer in zip(removals, answers, strict=True):
        if isinstance(answer, AgentError):
            _log.warning(complaint, what=what, error=str(answer))
        elif isinstance(answer, BaseException):
            raise answer
