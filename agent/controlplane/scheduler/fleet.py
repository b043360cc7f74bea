"""The instances of a cluster as the scheduler sees them, read so that a placement can be committed.

The transaction that creates tasks compares the instance's guard (``/placement/<instance>``) and its
record with what was read here. If another call placed a task in between, or the instance was drained,
the transaction fails and the placement starts again with a new view. So a view may be old and still
never overbooks.

Reads the store, writes nothing. Raises what the store raises.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from agent.controlplane import access, records
from agent.controlplane.records import InstanceRecord
from agent.controlplane.scheduler.instance import Instance
from agent.controlplane.scheduler.pool import Pool
from agent.controlplane.store.contract import Compare, Event, KeyValue, Put
from agent.controlplane.store.following import Follower
from agent.model.resources import Needs, room_to_share

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Mapping, Sequence, Set

    from agent.controlplane.access import Found
    from agent.controlplane.scheduler.instance import TaskNeeds
    from agent.controlplane.scheduler.placement import Constraint, PlacementOutcome, Strategy
    from agent.controlplane.store.contract import Store

LENT = "ecs-host-agent.fargate-all-clusters"
"""Ours, an attribute: a host that has it runs FARGATE tasks of all clusters, not only of its own."""
_AT_ONCE = 100
"""How many hosts are updated before other work on the event loop gets a turn."""


class _Booking(Struct, frozen=True, rename="camel"):
    """The fields of a ``TaskRecord`` that placement needs; others are not decoded."""

    instance_id: str = ""
    last_status: str = "PENDING"
    desired_status: str = "RUNNING"
    group: str = ""
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True, slots=True)
class FleetHost:
    """One instance, with the conditions for a transaction that places on it."""

    record: InstanceRecord
    instance: Instance
    compares: tuple[Compare, Compare]
    bookings: tuple[_Booking, ...] = dataclasses.field(default=(), compare=False)
    """The tasks that use it, in no order."""

    def guard(self) -> Put:
        """Return the operation that shows other schedulers that something was placed here."""
        return Put(records.placement_key(self.record.id), b"")


class Chosen(NamedTuple):
    """The result of a placement."""

    outcome: PlacementOutcome
    hosts: dict[str, FleetHost]
    """The instances that were chosen, by ARN, as they were then: with the conditions to commit it."""


class Places:
    """Where tasks of one cluster may be placed; choosing takes as long for many instances as for few."""

    def __init__(self, pool: Pool, host_of: Callable[[str], FleetHost]) -> None:
        """Take what is needed.

        Args:
            pool: the instances.
            host_of: returns one of them by its ARN.
        """
        self.pool = pool
        self._host_of = host_of

    def choose(
        self,
        needs: TaskNeeds,
        count: int,
        *,
        constraints: Sequence[Constraint] = (),
        strategies: Sequence[Strategy] = (),
        providers: Sequence[str] | None = None,
        rng: random.Random,
    ) -> Chosen:
        """Choose an instance for each of ``count`` copies: see ``Pool.place``.

        Raises:
            PlacementError: no instance is ACTIVE.
        """
        outcome = self.pool.place(
            needs,
            count,
            constraints=constraints,
            strategies=strategies,
            providers=providers,
            rng=rng,
        )
        arns = {one.instance_arn for one in outcome.placed}
        return Chosen(outcome, {arn: self._host_of(arn) for arn in arns})


class Fleet:
    """The instances of all clusters, kept in memory and updated by each ``read``.

    Everything is loaded once and then followed with one watch, so that the cost of a read depends on
    what has changed, not on the size of the fleet. For one event loop; reads take turns.
    """

    def __init__(self, store: Store) -> None:
        self._turn = asyncio.Lock()
        self._unplaced: Mapping[str, set[str]] = {}
        self._follower = Follower(
            store,
            (records.PLACEMENT, records.ALIVE, records.INSTANCES, records.TASKS),
            _Instances,
        )

    async def read(self, cluster: str) -> dict[str, FleetHost]:
        """Return the ACTIVE and DRAINING instances of the named cluster, by ARN; takes longer if there are more.

        Includes everything that was committed before the call.
        """
        async with self._turn:
            return (await self._renewed()).of_cluster(cluster)

    async def places(self, cluster: str, *, borrows: bool = False) -> Places:
        """Return where tasks of the named cluster may be placed.

        Includes everything that was committed before the call. It goes on changing with later calls.

        Args:
            cluster: its name.
            borrows: also on instances of other clusters that are lent (``LENT``).
        """
        async with self._turn:
            return (await self._renewed()).places(cluster, borrows=borrows)

    async def _renewed(self) -> _Instances:
        instances = await self._follower.read()
        number = 0
        while instances.renew_one():
            number += 1
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._unplaced = instances.unplaced
        return instances

    def unplaced(self, cluster: str) -> Set[str]:
        """Return the keys of the tasks that have no host yet, as they were at the last ``read``."""
        return self._unplaced.get(cluster, frozenset())


class _Instances:
    """What is known of instances, from the keys that were seen so far."""

    def __init__(self) -> None:
        self._records: dict[str, Found[InstanceRecord]] = {}
        """By instance id, like the next two."""
        self._guards: dict[str, int] = {}
        self._alive: set[str] = set()
        self._bookings = defaultdict[str, dict[str, _Booking]](dict)
        """By instance id and task key."""
        self._placed: dict[str, str] = {}
        """Task key to instance id."""
        self.unplaced = defaultdict[str, set[str]](set)
        """Keys of the tasks that have no host yet, by cluster name."""
        self._hosts = defaultdict[str, dict[str, FleetHost]](dict)
        """By cluster name and instance ARN."""
        self._lent: dict[str, FleetHost] = {}
        """Those of all clusters that are lent, by ARN."""
        self._pools: dict[str, Pool] = {}
        """The instances of each cluster, by its name."""
        self._borrowing: dict[str, Pool] = {}
        """The same and all that are lent, for clusters that borrow."""
        self._stale: set[str] = set()
        """Ids of the instances whose host must be rebuilt."""

    def of_cluster(self, cluster: str) -> dict[str, FleetHost]:
        """Return the instances of a cluster by ARN, as they were rebuilt last."""
        return dict(self._hosts[cluster])

    def places(self, cluster: str, *, borrows: bool) -> Places:
        """Return the same to place tasks on; ``borrows`` also has those that are lent to all clusters."""
        if not borrows:
            pool = self._pools.get(cluster) or Pool()
            return Places(pool, self._hosts[cluster].__getitem__)
        found = self._borrowing.get(cluster)
        if found is None:
            found = self._borrowing[cluster] = Pool()
            for host in [*self._lent.values(), *self._hosts[cluster].values()]:
                found.put(host.instance)
        return Places(found, lambda arn: self._hosts[cluster].get(arn) or self._lent[arn])

    def renew_one(self) -> bool:
        """Rebuild one instance that has changed; False if none has."""
        if not self._stale:
            return False
        self._renew(self._stale.pop())
        return True

    def apply(self, event: Event) -> None:
        """Take note of one key."""
        kv, there = event.kv, event.type == "put"
        name = records.last_element(kv.key)
        if kv.key.startswith(records.TASKS):
            self._apply_task(kv, there=there)
        elif kv.key.startswith(records.INSTANCES):
            found = access.read(InstanceRecord, kv) if there else None
            if found is not None:
                self._records[name] = found
            self._stale.add(name)
            if found is None and (gone := self._records.pop(name, None)) is not None:
                self._forget(gone.record)
        elif kv.key.startswith(records.PLACEMENT):
            self._guards[name] = kv.mod_revision
            if not there:
                del self._guards[name]
            self._stale.add(name)
        elif kv.key.startswith(records.ALIVE):
            (self._alive.add if there else self._alive.discard)(name)
            self._stale.add(name)

    def _apply_task(self, kv: KeyValue, *, there: bool) -> None:
        found = access.read(_Booking, kv) if there else None
        booking = found.record if found and found.record.last_status != "STOPPED" else None
        before, now = self._placed.get(kv.key, ""), booking.instance_id if booking else ""
        if booking is not None and not now:
            self.unplaced[kv.key.split("/")[2]].add(kv.key)
        elif self.unplaced:
            self.unplaced[kv.key.split("/")[2]].discard(kv.key)
        if before and self._bookings[before][kv.key] == booking:
            return
        if before:
            del self._placed[kv.key], self._bookings[before][kv.key]
            self._stale.add(before)
        if booking is not None and now:
            self._placed[kv.key] = now
            self._bookings[now][kv.key] = booking
            self._stale.add(now)

    def _renew(self, instance_id: str) -> None:
        found = self._records.get(instance_id)
        if found is None:
            return
        kv, record = found
        if record.status == "INACTIVE":
            self._forget(record)
            return
        bookings = list(self._bookings[instance_id].values())
        instance = _instance(record, bookings, connected=instance_id in self._alive)
        compares = _compares(kv, instance_id, self._guards.get(instance_id, 0))
        host = FleetHost(record, instance, compares, tuple(bookings))
        was_lent = self._lent.pop(record.arn, None) is not None
        self._hosts[record.cluster][record.arn] = host
        self._pools.setdefault(record.cluster, Pool()).put(instance)
        if LENT in record.attributes:
            self._lent[record.arn] = host
        for cluster, pool in self._borrowing.items():
            if cluster == record.cluster or LENT in record.attributes:
                pool.put(instance)
            elif was_lent:
                pool.discard(record.arn)

    def _forget(self, record: InstanceRecord) -> None:
        """Take out an instance that is gone."""
        self._hosts[record.cluster].pop(record.arn, None)
        was_lent = self._lent.pop(record.arn, None) is not None
        if record.cluster in self._pools:
            self._pools[record.cluster].discard(record.arn)
        for cluster, pool in self._borrowing.items():
            if was_lent or cluster == record.cluster:
                pool.discard(record.arn)


def instance_with(host: FleetHost, groups: Collection[str]) -> Instance:
    """Return a host as if only its tasks of some groups were on it."""
    kept = [booking for booking in host.bookings if booking.group in groups]
    return _instance(host.record, kept, connected=True)


def empty_instance(record: InstanceRecord) -> Instance:
    """Return a host as if it were connected and without tasks."""
    return _instance(record, [], connected=True)


def _compares(kv: KeyValue, instance_id: str, guard: int) -> tuple[Compare, Compare]:
    return (
        Compare(kv.key, "mod_revision", "=", kv.mod_revision),
        Compare(records.placement_key(instance_id), "mod_revision", "=", guard),
    )


def _instance(record: InstanceRecord, bookings: list[_Booking], *, connected: bool) -> Instance:
    resources = record.resources
    needs = [booking.needs for booking in bookings]
    taken = frozenset[str]().union(*(n.gpus | n.gpu_shares.keys() for n in needs))
    rooms = {gpu.uuid: room_to_share(gpu, needs) for gpu in resources.gpus}
    groups = defaultdict[str, int](int)
    present = defaultdict[str, int](int)
    for booking in bookings:
        present[booking.group] += 1
        if booking.desired_status != "STOPPED":
            groups[booking.group] += 1
    return Instance(
        arn=record.arn,
        cpu_units=resources.cpu_units - sum(n.cpu_units for n in needs),
        memory_mib=resources.memory_mib - sum(n.memory_mib for n in needs),
        tcp_ports=resources.reserved_tcp.union(*(n.tcp_ports for n in needs)),
        udp_ports=resources.reserved_udp.union(*(n.udp_ports for n in needs)),
        gpus=tuple(gpu.uuid for gpu in resources.gpus if gpu.uuid not in taken),
        gpus_total=len(resources.gpus),
        gpu_rooms={gpu: room for gpu, room in rooms.items() if room is not None},
        attributes={name: value or "" for name, value in record.attribute_values.items()},
        task_groups=dict(groups),
        present_groups=dict(present),
        running_tasks=sum(1 for booking in bookings if booking.last_status == "RUNNING"),
        agent_connected=connected,
        agent_version=record.agent_version,
        ec2_instance_id=record.shown_ec2_id,
        hostname=resources.hostname,
        registered_at=record.registered_at,
        active=record.status == "ACTIVE",
    )
