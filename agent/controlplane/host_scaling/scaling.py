"""What is seen of a capacity provider's hosts, what is done about a decision, and the document for its program."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.host_scaling import decision as decisions
from agent.controlplane.host_scaling import demand
from agent.controlplane.host_scaling.decision import Decision, Limits, SeenHost
from agent.controlplane.host_scaling.demand import Alike, Demand
from agent.controlplane.host_scaling.hooks import Figures
from agent.controlplane.host_scaling.record import ScalingRecord, key_of
from agent.controlplane.instance_status import with_status
from agent.controlplane.scheduler import fleet as fleets
from agent.controlplane.scheduler import placement
from agent.controlplane.scheduler.query import QueryError
from agent.controlplane.services.record import group as group_of
from agent.controlplane.store.contract import TXN_LIMIT, Put, as_read
from agent.controlplane.tasks import waiting as waits
from agent.controlplane.tasks.retire import retire

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.controlplane.host_scaling.decision import Order
    from agent.controlplane.host_scaling.hooks import Hook, Pair
    from agent.controlplane.names import Names
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord, TaskRecord
    from agent.controlplane.scheduler.fleet import FleetHost
    from agent.controlplane.scheduler.instance import Instance
    from agent.controlplane.scheduler.placement import Constraint
    from agent.controlplane.store.contract import Compare, KeyValue, Op, Store
    from agent.controlplane.tasks.providers import CapacityProviderRecord

    ByArn = Mapping[str, FleetHost]
    Hosts = Iterable[FleetHost]

NO_PROGRAM: Final = "No program adds and removes"
_DOCUMENT_VERSION: Final = 1
_KINDS_MOST: Final = 16
"""Of hosts that are told apart when tasks are packed."""
_DRAINS_MOST: Final = TXN_LIMIT // 4
"""How many hosts one transaction sets to DRAINING."""
_REASON: Final = "Container instance was ended by managed scaling"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A capacity provider in one of its clusters."""

    pair: Pair
    kv: KeyValue | None
    """What ``known`` was read from; None if nothing is stored yet."""
    known: ScalingRecord
    hosts: Mapping[str, FleetHost]
    """Its hosts by id."""
    lost_since: Mapping[str, float]
    daemons: Collection[str]
    """The groups of the cluster's DAEMON services."""
    demand: Demand


async def see(
    parts: Parts,
    pair: Pair,
    hosts: ByArn,
    waiting: Iterable[TaskRecord],
    lost_since: Mapping[str, float],
) -> Seen:
    """Return what is seen of a capacity provider.

    Args:
        parts: the store.
        pair: which one.
        hosts: all of the cluster.
        waiting: the tasks of the cluster that wait.
        lost_since: when hosts were found to be disconnected, by id.

    Raises:
        StoreFailure: of the store.
    """
    await parts.services.read()
    daemons = {group_of(each.name) for each in parts.services.daemons(pair.cluster)}
    kv = await parts.store.get(key_of(pair))
    read = access.read(ScalingRecord, kv) if kv is not None else None
    known = read.record if read is not None else ScalingRecord()
    own = {
        host.record.id: host
        for host in hosts.values()
        if host.instance.attributes.get(placement.CAPACITY_PROVIDER) == pair.provider
    }
    tasks = [task for task in waiting if task.capacity_provider == pair.provider]
    wanted = Demand(0, 0)
    if tasks:
        wanted = demand.of(_alike(tasks), _kinds(own.values(), known.template, daemons))
    template = _template(own.values(), known.template)
    return Seen(pair, kv, replace(known, template=template), own, lost_since, daemons, wanted)


def _alike(tasks: Sequence[TaskRecord]) -> list[Alike]:
    return [
        Alike(len(group), waits.needs_of(group[0]), _constraints(group[0]))
        for group in waits.alike(tasks)
    ]


def _constraints(task: TaskRecord) -> Sequence[Constraint]:
    try:
        return placement.parse_constraints(task.waiting.constraints if task.waiting else ())
    except (placement.PlacementError, QueryError):
        return ()


def _kinds(
    hosts: Hosts, template: InstanceRecord | None, daemons: Collection[str]
) -> list[Instance]:
    """Return what hosts are like with only the tasks of daemons; those of one size in one zone count once."""
    found: dict[object, Instance] = {}
    for host in hosts:
        instance = fleets.instance_with(host, daemons)
        zone = instance.attributes.get("ecs.availability-zone")
        size = (instance.memory_mib, instance.cpu_units, instance.gpus_total, zone)
        found.setdefault(size, instance)
        if len(found) == _KINDS_MOST:
            break
    if not found and template is not None:
        return [fleets.empty_instance(template)]
    return list(found.values())


def _template(hosts: Hosts, known: InstanceRecord | None) -> InstanceRecord | None:
    """Return what a host is like, for when there is none: the old one as long as it is not another size."""
    newest = max((host.record for host in hosts), key=lambda one: one.registered_at, default=None)
    if newest is None:
        return known
    new = replace(newest, id="", arn="", client_token="", machine="", tags={}, version=1)
    if known is None or _size(known) != _size(new):
        return new
    return known


def _size(record: InstanceRecord) -> tuple[object, ...]:
    resources = record.resources
    return resources.cpu_units, resources.memory_mib, len(resources.gpus), record.attributes.keys()


def decide(seen: Seen, provider: CapacityProviderRecord, hook: Hook, now: float) -> Decision:
    """Return what is to be done about what is seen. Pure."""
    group = provider.auto_scaling_group
    scaling = group["managedScaling"]
    limits = Limits(
        hook.minimum_size,
        hook.maximum_size,
        scaling["targetCapacity"],
        scaling["minimumScalingStepSize"],
        scaling["maximumScalingStepSize"],
        scaling["instanceWarmupPeriod"],
        drains=group["managedDraining"] == "ENABLED",
    )
    hosts = [_seen_host(seen, host) for host in seen.hosts.values()]
    return decisions.decide(seen.known, limits, hosts, seen.demand.hosts, now)


def _seen_host(seen: Seen, host: FleetHost) -> SeenHost:
    groups = host.instance.present_groups
    record = host.record
    return SeenHost(
        record.id,
        tasks=sum(groups.values()),
        others=sum(count for name, count in groups.items() if name not in seen.daemons),
        is_active=record.status == "ACTIVE",
        lost_since=None if host.instance.agent_connected else seen.lost_since.get(record.id, 0.0),
        registered_at=record.registered_at,
    )


def figures(decision: Decision) -> Figures:
    """Return what is shown of a decision."""
    return Figures(decision.needed, decision.there, decision.record.desired, decision.reservation)


async def commit(store: Store, seen: Seen, decision: Decision) -> bool:
    """Store a decision and begin the removal of hosts; False if something has changed, so that nothing was done.

    Nothing is placed on a host between the decision and its removal: both compare its guard.

    Raises:
        StoreFailure: it may or may not have been done; deciding again is safe.
    """
    drain = decision.drain[:_DRAINS_MOST]
    late = set(decision.drain) - set(drain)
    kept = {id_: stage for id_, stage in decision.record.removing.items() if id_ not in late}
    record = replace(decision.record, removing=kept)
    if seen.kv is not None and records.encode(record) == seen.kv.value:
        return True
    key = key_of(seen.pair)
    compares: list[Compare] = [as_read(key, seen.kv)]
    then: list[Op] = [Put(key, records.encode(record))]
    for id_ in drain:
        host = seen.hosts[id_]
        compares += host.compares
        changed = with_status(host.record, "DRAINING")
        then.append(Put(records.instance_key(changed.cluster, changed.id), records.encode(changed)))
    return (await store.txn(compares, then, urgent=True)).succeeded and not late


async def end_told(parts: Parts, seen: Seen, done: Order | None) -> None:
    """Deregister the hosts that the program was told to end, once their agents are disconnected.

    Raises:
        StoreFailure: of the store; the same again is safe.
    """
    for id_ in done.remove if done is not None else ():
        host = seen.hosts.get(id_)
        if host is not None and id_ in seen.known.removing and not host.instance.agent_connected:
            await retire(parts.store, host.record, reason=_REASON, clock=parts.clock)


def tell(seen: Seen, decision: Decision) -> None:
    """Log what was decided."""
    about = {"cluster": seen.pair.cluster, "capacity_provider": seen.pair.provider}
    if decision.record.desired != seen.known.desired or decision.drain:
        _log.info(
            "number of hosts decided",
            **about,
            desired=decision.record.desired,
            there=decision.there,
            needed=decision.needed,
            drained=list(decision.drain),
        )
    if seen.demand.unfit:
        _log.warning(
            "tasks wait that no host of their capacity provider can take",
            **about,
            tasks=seen.demand.unfit,
        )


def no_hook(file: Path | None, provider: str) -> str:
    """Return what is in the way of a capacity provider without a program."""
    where = f"{file} names none" if file is not None else "control has no --host-hooks"
    return f"{NO_PROGRAM} the hosts of {provider}: {where}."


def document(
    names: Names, seen: Seen, provider: CapacityProviderRecord, decision: Decision
) -> bytes:
    """Return what a program is told. Pure."""
    group = provider.auto_scaling_group
    is_protected = group["managedTerminationProtection"] == "ENABLED"
    gone = set(decision.order.remove)
    hosts = sorted(seen.hosts.values(), key=lambda one: (one.record.registered_at, one.record.id))
    shown = {one.record.id: _shown(names, seen, one, is_protected) for one in hosts}
    for id_ in decision.drain:
        shown[id_]["status"] = "DRAINING"
    return msgspec.json.encode(
        {
            "version": _DOCUMENT_VERSION,
            "cluster": seen.pair.cluster,
            "capacityProvider": seen.pair.provider,
            "autoScalingGroupArn": group["autoScalingGroupArn"],
            "desiredHosts": decision.order.hosts,
            "hosts": [one for id_, one in shown.items() if id_ not in gone],
            "remove": [one for id_, one in shown.items() if id_ in gone],
        }
    )


def _shown(names: Names, seen: Seen, host: FleetHost, is_protected: bool) -> dict[str, Any]:
    record, counted = host.record, Counter(host.instance.present_groups)
    others = sum(count for name, count in counted.items() if name not in seen.daemons)
    return {
        "containerInstanceArn": names.instance(record.cluster, record.id),
        "ec2InstanceId": record.shown_ec2_id,
        "hostname": record.resources.hostname,
        "availabilityZone": host.instance.attributes.get("ecs.availability-zone", ""),
        "status": record.status,
        "agentConnected": host.instance.agent_connected,
        "tasks": sum(counted.values()),
        "protectedFromScaleIn": is_protected and others > 0,
    }
