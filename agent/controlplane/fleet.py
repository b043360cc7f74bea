"""The instances of a cluster as the scheduler sees them, read so that a placement can be committed.

``read`` takes the guards (``/placement/<instance>``) before anything else. Whoever places tasks
compares, in the transaction that makes them, the guard and the instance's record with what was
read here: a task that another call placed in between, or an instance that was drained, makes the
transaction fail and the placement start again from a fresh reading.

Reads the store, writes nothing. Raises what the store raises.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct, field

from agent.controlplane import access, records
from agent.controlplane.records import InstanceRecord
from agent.controlplane.scheduler.instance import Instance
from agent.controlplane.store.contract import Compare, KeyValue, Put
from agent.model.resources import Needs

if TYPE_CHECKING:
    from agent.controlplane.store.contract import Store


class _Booking(Struct, frozen=True, rename="camel"):
    """The few fields of a ``TaskRecord`` that placement looks at; the rest is not even decoded."""

    instance_id: str = ""
    last_status: str = "PENDING"
    desired_status: str = "RUNNING"
    group: str = ""
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True, slots=True)
class Host:
    """One instance, with what a transaction must find unchanged to place on it."""

    record: InstanceRecord
    instance: Instance
    compares: tuple[Compare, Compare]

    def guard(self) -> Put:
        """Return the operation that tells other schedulers that something was placed here."""
        return Put(records.placement_key(self.record.id), b"")


async def read(store: Store, cluster: str) -> dict[str, Host]:
    """Return the ACTIVE and DRAINING instances of the cluster of that name, by their ARN."""
    guards = {
        records.last_element(kv.key): kv.mod_revision
        for kv in (await store.range(records.PLACEMENT)).items
    }
    alive = {records.last_element(kv.key) for kv in (await store.range(records.ALIVE)).items}
    bookings = defaultdict[str, list[_Booking]](list)
    async for _, booking in access.scan(store, _Booking, records.tasks_prefix(cluster)):
        if booking.instance_id and booking.last_status != "STOPPED":
            bookings[booking.instance_id].append(booking)
    hosts = {}
    async for kv, record in access.scan(store, InstanceRecord, records.instances_prefix(cluster)):
        if record.status != "INACTIVE":
            instance = _instance(record, bookings[record.id], connected=record.id in alive)
            compares = _compares(kv, record.id, guards.get(record.id, 0))
            hosts[record.arn] = Host(record, instance, compares)
    return hosts


def _compares(kv: KeyValue, instance_id: str, guard: int) -> tuple[Compare, Compare]:
    return (
        Compare(kv.key, "mod_revision", "=", kv.mod_revision),
        Compare(records.placement_key(instance_id), "mod_revision", "=", guard),
    )


def _instance(record: InstanceRecord, bookings: list[_Booking], *, connected: bool) -> Instance:
    resources = record.resources
    needs = [booking.needs for booking in bookings]
    taken = frozenset[str]().union(*(n.gpus for n in needs))
    groups = defaultdict[str, int](int)
    for booking in bookings:
        if booking.desired_status != "STOPPED":
            groups[booking.group] += 1
    return Instance(
        arn=record.arn,
        cpu_units=resources.cpu_units - sum(n.cpu_units for n in needs),
        memory_mib=resources.memory_mib - sum(n.memory_mib for n in needs),
        tcp_ports=resources.reserved_tcp.union(*(n.tcp_ports for n in needs)),
        udp_ports=resources.reserved_udp.union(*(n.udp_ports for n in needs)),
        gpus=tuple(gpu.uuid for gpu in resources.gpus if gpu.uuid not in taken),
        attributes={name: value or "" for name, value in record.attribute_values.items()},
        task_groups=dict(groups),
        running_tasks=sum(1 for booking in bookings if booking.last_status == "RUNNING"),
        agent_connected=connected,
        agent_version=record.agent_version,
        hostname=resources.hostname,
        registered_at=record.registered_at,
        active=record.status == "ACTIVE",
    )
