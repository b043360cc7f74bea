"""Tasks that wait for a host: those of a capacity provider with managed scaling for which there is no room.

As on Amazon ECS they are PROVISIONING, have no container instance and are placed as soon as a host has room
(``host_scaling``). Their number is what makes hosts be added. Each keeps what its placement needs, so that nothing
but its record has to be read for it.

Source of the limit: Amazon ECS service quotas, "Tasks in the PROVISIONING state per cluster".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import WaitingRecord
from agent.controlplane.scheduler.instance import TaskNeeds
from agent.controlplane.tasks import launch, providers
from agent.controlplane.tasks.capacity import FARGATE_PROVIDERS
from agent.controlplane.tasks.providers import CapacityProviderRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.controlplane.names import Names
    from agent.controlplane.records import TaskRecord
    from agent.controlplane.scheduler.fleet import Fleet, FleetHost
    from agent.controlplane.scheduler.placement import Placed
    from agent.controlplane.store.contract import Store
    from agent.controlplane.tasks.launch import TaskRequest

OF_CLUSTER_LIMIT: Final = 500
"""How many tasks of a cluster may wait."""
LIMIT_REACHED: Final = "The tasks provisioning capacity limit was exceeded."


def unplaced(wanted: Iterable[str] | None, placed: Iterable[Placed]) -> list[str]:
    """Return the capacity provider of each copy that was not placed; ``wanted`` has those of all copies."""
    left = Counter(wanted or ())
    left.subtract(one.provider for one in placed)
    return list(left.elements())


@dataclass(frozen=True, slots=True)
class MayWait:
    """Which copies of an order may wait for a host."""

    providers: frozenset[str]
    """The capacity providers of the order that have managed scaling."""
    fleet: Fleet
    names: Names

    @classmethod
    async def of(cls, store: Store, fleet: Fleet, names: Names, order: TaskRequest) -> MayWait:
        """Return it for an order; raises ``StoreFailure``."""
        named = {share.provider for share in order.capacity.strategy} - FARGATE_PROVIDERS
        keys = [providers.key_of(name) for name in named]
        found = await access.find_many(store, CapacityProviderRecord, keys)
        scaled = frozenset(one.record.name for one in found.values() if one.record.is_scaled)
        return cls(scaled, fleet, names)

    def any_of(self, wanted: Iterable[str] | None) -> bool:
        """Return whether a copy may wait, by the capacity providers of all copies."""
        return not self.providers.isdisjoint(wanted or ())

    def new_tasks(
        self,
        order: TaskRequest,
        needs: TaskNeeds,
        missing: Iterable[str],
        *,
        placement: Mapping[str, Any],
        now: float,
    ) -> list[TaskRecord]:
        """Return the tasks that wait for a host, as far as the limit of the cluster allows.

        Call it after the fleet was read for the cluster.

        Args:
            order: what each copy is.
            needs: of each copy.
            missing: the capacity provider of each copy that was not placed.
            placement: has ``placementConstraints`` and ``placementStrategy``, besides those of the definition.
            now: Unix seconds.
        """
        room = max(0, OF_CLUSTER_LIMIT - len(self.fleet.unplaced(order.cluster)))
        rules = _rules(order, needs, placement)
        taken = [provider for provider in missing if provider in self.providers][:room]
        return [
            replace(
                launch.new_task(order, needs, provider=provider, names=self.names, now=now),
                waiting=rules,
            )
            for provider in taken
        ]


def _rules(order: TaskRequest, needs: TaskNeeds, placement: Mapping[str, Any]) -> WaitingRecord:
    own = order.definition.definition.get("placementConstraints", ())
    return WaitingRecord(
        cpu_units=needs.cpu_units,
        memory_mib=needs.memory_mib,
        tcp_ports=needs.tcp_ports,
        udp_ports=needs.udp_ports,
        gpus=dict(needs.gpus),
        all_gpus=needs.all_gpus,
        gpu_shares=dict(needs.gpu_shares),
        attributes=dict(needs.attributes),
        constraints=[*own, *placement.get("placementConstraints", ())],
        strategies=list(placement.get("placementStrategy", ())),
    )


def needs_of(task: TaskRecord) -> TaskNeeds:
    """Return what a waiting task needs of its host."""
    waiting = task.waiting or WaitingRecord()
    return TaskNeeds(
        cpu_units=waiting.cpu_units,
        memory_mib=waiting.memory_mib,
        tcp_ports=waiting.tcp_ports,
        udp_ports=waiting.udp_ports,
        gpus=waiting.gpus,
        all_gpus=waiting.all_gpus,
        gpu_shares=waiting.gpu_shares,
        attributes=waiting.attributes,
        group=task.group,
    )


def placed(task: TaskRecord, chosen: Placed, host: FleetHost, *, names: Names) -> TaskRecord:
    """Return a waiting task as it is on the host that was chosen for it."""
    there = launch.on_host(task, needs_of(task), chosen, host, names=names)
    return replace(there, version=task.version + 1)


def alike(tasks: Sequence[TaskRecord]) -> list[list[TaskRecord]]:
    """Return waiting tasks in groups that are placed by the same rules, each in order of creation."""
    groups: dict[bytes, list[TaskRecord]] = {}
    for task in sorted(tasks, key=lambda each: (each.created_at, each.id)):
        rule = (task.group, task.capacity_provider, task.waiting)
        groups.setdefault(records.encode(rule), []).append(task)
    return list(groups.values())
