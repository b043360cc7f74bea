"""A thousand simulated hosts and up to a thousand services with ten running tasks each, over a real store.

Hosts are written as a registration leaves them. Everything else is control's own code: the calls of the API, the loop
of services, and what applies the reports of agents. Time is simulated.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access, records
from agent.controlplane.agents import reports
from agent.controlplane.api.ecs import operations
from agent.controlplane.names import new_id
from agent.controlplane.parts import Parts
from agent.controlplane.records import AliveRecord, AttributeRecord, InstanceRecord, TaskRecord
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.services.observed import HEALTHY_AFTER_S
from agent.controlplane.services.view import ServiceKey
from agent.controlplane.store.contract import Put
from agent.model.resources import HostResources
from tests.support.control_endpoint import CAPABILITIES, a_report, definition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.controlplane.services.observed import SeenTask
    from agent.controlplane.store.sqlite import SqliteStore

CLUSTER: Final = "default"
HOSTS: Final = 1000
RACK_HOSTS: Final = 10
"""Ten services share the ten hosts of a rack, however many services there are: a host has ten tasks."""
TASKS: Final = 10
LEASE_S: Final = 3600.0
"""Nobody renews the leases while services are made and changed."""
_BATCH: Final = 40


class World:
    """The hosts and services of one store, and the loop that keeps the services."""

    def __init__(self, store: SqliteStore, start: float) -> None:
        self.now = start
        self.parts = Parts(store=store, clock=lambda: self.now)
        self.loop = ServiceLoop(self.parts)
        self.services: list[str] = []
        self.leases: dict[str, int] = {}
        """By instance id, in the order of the racks."""
        self._hosts: dict[str, InstanceRecord] = {}
        self._handlers = operations.handlers()

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Make one call of the ECS API, without HTTP."""
        return await self._handlers[operation](self.parts, request)

    async def begin(self, hosts: int = HOSTS) -> None:
        """Make the cluster, the task definition and the hosts."""
        await self.call("CreateCluster")
        await self.call("RegisterTaskDefinition", **definition())
        made = [self._host(number) for number in range(hosts)]
        store = self.parts.store
        for part in batched(made, _BATCH):
            leases = await asyncio.gather(*(store.grant_lease(LEASE_S) for _ in part))
            puts = []
            for host, lease in zip(part, leases, strict=True):
                self.leases[host.id], self._hosts[host.id] = lease, host
                puts += [
                    Put(records.registration_key(host.client_token), host.arn.encode()),
                    Put(records.instance_key(CLUSTER, host.id), records.encode(host)),
                    alive(host.id, lease),
                ]
            await store.txn([], puts)

    def _host(self, number: int) -> InstanceRecord:
        id_ = new_id()
        values = dict.fromkeys(CAPABILITIES) | {
            "ecs.os-type": "linux",
            "ecs.availability-zone": f"zone-{number % 3}",
            "rack": f"{number // RACK_HOSTS}",
        }
        return InstanceRecord(
            id=id_,
            arn=self.parts.names.instance(CLUSTER, id_),
            cluster=CLUSTER,
            client_token=f"token-{number}",
            resources=HostResources(cpu_units=65_536, memory_mib=65_536, hostname=f"host-{number}"),
            attributes={name: AttributeRecord(value=value) for name, value in values.items()},
            registered_at=self.now,
        )

    async def grow(self, services: int) -> None:
        """Create services until there are so many, and bring their tasks to RUNNING and into a steady state."""
        new = [f"shop-{number}" for number in range(len(self.services), services)]
        for part in batched(new, _BATCH):
            await asyncio.gather(*(self._create(name) for name in part))
        await self.loop.settle()
        self.services += new
        await self.report([task for name in new for task in self.tasks(name)], "RUNNING")
        await self.steady()

    async def _create(self, name: str) -> None:
        number = int(name.rpartition("-")[2])
        rack = f"attribute:rack == {number // RACK_HOSTS}"
        await self.call(
            "CreateService",
            serviceName=name,
            taskDefinition="web",
            desiredCount=TASKS,
            placementConstraints=[{"type": "memberOf", "expression": rack}],
        )

    async def steady(self) -> None:
        """Let the tasks that run become healthy, and the loop come to rest."""
        await self.loop.settle()
        self.now += HEALTHY_AFTER_S + 1
        await self.loop.settle()
        # What changed until now is not to be taken in by the next placement.
        await self.parts.fleet.read(CLUSTER)

    def tasks(self, service: str) -> list[SeenTask]:
        """Return the tasks of a service, oldest first, as the loop saw them last."""
        found = self.parts.services.tasks(ServiceKey(CLUSTER, service))
        return sorted(found, key=lambda task: (task.created_at, task.id))

    async def report(self, tasks: Iterable[SeenTask], status: str) -> None:
        """Report a status of tasks, one batch for each host and all hosts side by side, as agents do."""
        by_host = itertools.groupby(
            sorted(tasks, key=lambda t: t.instance_id), key=lambda t: t.instance_id
        )
        async with asyncio.TaskGroup() as group:
            for host, its in by_host:
                batch = [a_report(self.parts.names.task(CLUSTER, t.id), status) for t in its]
                group.create_task(reports.apply(self.parts, self._hosts[host], list(batch)))

    async def obey(self, services: Iterable[str]) -> None:
        """Report what the agents would of the tasks of some services that are told to start or to stop."""
        await self.parts.services.read()
        tasks = [task for name in services for task in self.tasks(name)]
        await self.report([t for t in tasks if t.is_wanted and not t.is_running], "RUNNING")
        told = [t for t in tasks if not t.is_wanted and t.last_status != "STOPPED"]
        await self.report([t for t in told if t.instance_id in self.leases], "STOPPED")

    async def lose(self, instance_id: str) -> None:
        """End the lease of a host, as if its agent were silent."""
        await self.parts.store.revoke_lease(self.leases.pop(instance_id))

    async def find(self, instance_id: str) -> None:
        """Let the agent of a lost host call again."""
        lease = await self.parts.store.grant_lease(LEASE_S)
        await self.parts.store.txn([], [alive(instance_id, lease)])
        self.leases[instance_id] = lease

    async def is_whole(self) -> bool:
        """Tell whether each service has exactly the tasks that it should, and all of them run."""
        counts = dict.fromkeys(self.services, 0)
        async for _, task in access.scan(self.parts.store, TaskRecord, records.TASKS):
            if task.last_status == "RUNNING" and task.desired_status == "RUNNING":
                counts[task.group.removeprefix("service:")] += 1
        return set(counts.values()) == {TASKS}


def alive(instance_id: str, lease: int) -> Put:
    """Return what marks a host as connected."""
    return Put(records.alive_key(instance_id), records.encode(AliveRecord(generation=1)), lease)


def batched(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield parts of at most so many items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
