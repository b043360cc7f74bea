"""Networks of awsvpc tasks: what the daemon asks of them.

``assembly`` makes the parts, ``task_claims`` gives sandboxes to tasks. The rows in the store decide
who has what; containers and links are matched against them at the start. Everything stays in place
when the process ends: tasks keep running, and the next process takes over.

Tests: ``tests/integration/network/test_life.py``, ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from agent.errors import NetworkFailure
from agent.model.figures import SandboxFigures
from agent.network import assembly
from agent.network.assembly import CLOSE_LIMIT_S
from agent.network.background import settle
from agent.network.host.kernel_messages import EVERYTHING, Part
from agent.network.sandboxes import survey as surveys
from agent.network.task_claims import TaskClaims

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from agent.model.fleet import FleetUpdate
    from agent.model.payload import AliasPort
    from agent.model.security_groups import GroupUpdates
    from agent.model.task import TaskNetwork
    from agent.model.views import RepairView
    from agent.network.assembly import NetworkParts
    from agent.network.sandboxes.recovery import Holder
    from agent.network.settings import NetworkSettings
    from agent.runtime.protocol import ContainerEngine, EngineEvent
    from agent.state.store import StateStore

_log = structlog.get_logger(__name__)


class TaskNetworks:
    """Gives sandboxes to tasks and takes them back. Open it with ``TaskNetworks.open``.

    Belongs to one event loop. Any number of tasks may call ``claim``, ``release`` and ``reconcile``
    at once, whether or not ``run`` is running.
    """

    def __init__(self, parts: NetworkParts) -> None:
        """Take the parts that ``open`` made."""
        self.inspection = parts.inspection
        """Shows and checks the networks on order."""
        self.filters_tasks = parts.filters_tasks
        """Whether this host can enforce security groups; tasks that name one fail otherwise."""
        self._is_told_of_groups = parts.is_told_of_groups
        self._table = parts.table
        self._host = parts.host
        self._groups = parts.groups
        self._lifecycle = parts.lifecycle
        self._upkeep = parts.upkeep
        self._leftovers = parts.leftovers
        self._suspicions = parts.suspicions
        self._fleet = parts.fleet
        self._files = parts.files
        self._closing = parts.closing
        self._has_groups = False
        """Whether control has said to this process what groups allow."""
        self._claims = TaskClaims(
            table=parts.table,
            addresses=parts.addresses,
            host=parts.host,
            lifecycle=parts.lifecycle,
            enis=parts.enis,
        )

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
        return cls(
            await assembly.assemble(
                settings,
                store=store,
                engine=engine,
                image=image,
                load_image=load_image,
                holders=holders or {},
                is_told_of_groups=is_told_of_groups,
            )
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

    def task_at(self, ipv4: str) -> str:
        """Return the ARN of the task that holds an address; empty if none does."""
        record = self._table.records.get(ipv4)
        return record.task_arn if record is not None else ""

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

    def on_rules_checked(self, call: Callable[[], None]) -> None:
        """Have somebody called when rules of this host may have changed, and regularly, while ``run`` runs."""
        self._upkeep.rules_checked = call

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

    def has_ipv6_tasks(self) -> bool:
        """Return whether a task has an IPv6 address, which keeps the pools from being changed."""
        return any(
            row.task_arn and row.ipv6 and ipv4 not in self._table.dead
            for ipv4, row in self._table.records.items()
        )

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
        self,
        task_arn: str,
        attachment_id: str,
        security_groups: Collection[str] = (),
        address: str = "",
    ) -> TaskNetwork:
        """Return a task's network; durable before it returns, and the same for the same task.

        The rules of its security groups count before it returns. With a warm sandbox this costs one
        commit; otherwise one is created at once. A cancelled call may still have claimed: ``release``
        undoes it.

        Args:
            task_arn: the task.
            attachment_id: name of its interface as operators see it.
            security_groups: ids of its groups.
            address: the IPv4 or IPv6 address that it asks for; empty for any.

        Raises:
            NetworkFailure: no address is free, or not the one that is asked for; the kernel refused;
                or the task's sandbox died.
            RuntimeFailure: the engine could not create a sandbox.
            StateFailure: the claim could not be saved; nothing is claimed.
        """
        groups = self._enforceable(security_groups)
        return await self._claims.claim(task_arn, attachment_id, groups, address)

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
        return await self._claims.claim_eni(task_arn, attachment_id, interfaces)

    async def lead_alias_ports(self, network: TaskNetwork, ports: Sequence[AliasPort]) -> None:
        """Have ports of aliases lead to ports of a task, in its sandbox. Repeatable.

        Raises:
            NetworkFailure: the sandbox has ended, or the kernel refused.
        """
        from agent.network import alias_ports  # noqa: PLC0415 - only what is used

        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._files, alias_ports.lead, network, ports)

    async def release(self, task_arn: str) -> None:
        """Remove a task's sandbox; returns when link, container and row are gone. Idempotent.

        Raises:
            RuntimeFailure: the engine did not remove the container; call again.
            NetworkFailure: the kernel did not remove the link; call again.
            StateFailure: the row could not be removed; call again.
        """
        await self._claims.release(task_arn)

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
        left = await self._lifecycle.remove_unclaimed(CLOSE_LIMIT_S)
        if left:
            raise NetworkFailure(f"{left} sandboxes could not be removed; try again")
        if self._fleet is not None:
            await self._fleet.remove()
        await self._host.remove()

    async def close(self) -> None:
        """End threads and sockets; sandboxes, bridge and rules stay. Idempotent.

        ``run`` must have ended.
        """
        await self._lifecycle.warm.finish(CLOSE_LIMIT_S)
        await self._claims.finish(CLOSE_LIMIT_S)
        await self._closing.aclose()
