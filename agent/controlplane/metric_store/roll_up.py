"""What one minute of usage is for each scope. Pure.

A task is one value of its service, family and cluster: the mean of its minute, with the extremes of its
samples. Utilization is what is used by what is reserved or registered, as Amazon ECS has it: of a service,
by the task definitions of its tasks; of a cluster, by its ACTIVE and DRAINING instances.

Source: Amazon ECS developer guide, "service utilization metrics", "cluster utilization metrics", "cluster
reservation metrics".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from agent.controlplane.metric_store import catalogue, scopes
from agent.model import statistics
from agent.model.resources import MIB
from agent.model.statistics import StatisticSet
from agent.model.usage import HostUsage, TaskUsage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.metric_store.catalogue import Metric
    from agent.controlplane.metric_store.scopes import Scope

Row = dict[int, StatisticSet]
"""The points of one scope in one minute, by the numbers of their metrics."""
_WAITING: Final = frozenset({"PROVISIONING", "PENDING", "ACTIVATING"})


class TaskFacts(Struct, frozen=True, kw_only=True):
    """What control knows of a task."""

    arn: str
    id: str
    cluster: str
    family: str
    service: str
    """Empty for a task of no service."""
    instance_id: str
    last_status: str
    cpu_units: int
    """Reserved; 0 if its definition reserves none."""
    memory_mib: int
    """Reserved: the soft limits, where the definition has some."""


class HostFacts(Struct, frozen=True, kw_only=True):
    """What control knows of an ACTIVE or DRAINING container instance."""

    id: str
    cluster: str
    ec2_instance_id: str
    cpu_units: int
    """Registered."""
    memory_mib: int
    cpu_reserved: int
    """By the tasks that were placed on it."""
    memory_reserved: int
    running_tasks: int


class Facts(Struct, frozen=True, kw_only=True):
    """What the figures of one minute are of."""

    tasks: Sequence[TaskFacts] = ()
    """Also tasks that stopped lately."""
    hosts: Sequence[HostFacts] = ()
    reservations: Mapping[tuple[str, str], float] = {}
    """Of capacity providers with managed scaling, by cluster and name; per cent."""


class HostMinute(Struct):
    """What one agent told in one minute."""

    host: HostUsage | None = None
    tasks: dict[str, TaskUsage] = field(default_factory=dict)
    """By ARN."""


def roll_up(told: Mapping[str, HostMinute], facts: Facts) -> dict[Scope, Row]:
    """Return the points of every scope that has some.

    Args:
        told: by the id of the instance whose agent told it.
        facts: of the same moment; usage of what is not in them is dropped.
    """
    rows: defaultdict[Scope, Row] = defaultdict(dict)
    for task in facts.tasks:
        _add_status(rows, task)
        minute = told.get(task.instance_id)
        usage = None if minute is None else minute.tasks.get(task.arn)
        if usage is not None:
            _add_task(rows, task, usage)
    for host in facts.hosts:
        minute = told.get(host.id)
        _add_host(rows, host, None if minute is None else minute.host)
    for (cluster, provider), percent in facts.reservations.items():
        _put_number(
            rows[scopes.provider(cluster, provider)], catalogue.CAPACITY_RESERVATION, percent
        )
    _add_cluster_shares(rows, facts.hosts)
    _end_services(rows)
    return {scope: row for scope, row in rows.items() if row}


def _add_task(rows: defaultdict[Scope, Row], task: TaskFacts, usage: TaskUsage) -> None:
    cpu, memory = usage.cpu_units, usage.memory_bytes
    memory_mib = None if memory is None else memory.times(1 / MIB)
    row: Row = {}
    _put(row, catalogue.CPU_UTILIZED, cpu)
    _put(row, catalogue.MEMORY_UTILIZED, memory_mib)
    _put(row, catalogue.NETWORK_RX, usage.rx_bytes_per_s)
    _put(row, catalogue.NETWORK_TX, usage.tx_bytes_per_s)
    _put_number(row, catalogue.STORAGE_READ, usage.read_bytes)
    _put_number(row, catalogue.STORAGE_WRITE, usage.written_bytes)
    if cpu is not None and task.cpu_units:
        _put_number(row, catalogue.CPU_RESERVED, task.cpu_units)
    if memory is not None and task.memory_mib:
        _put_number(row, catalogue.MEMORY_RESERVED, task.memory_mib)
    for scope in _groups(task):
        _merge(rows[scope], row)
    rows[scopes.task(task.cluster, task.id, task.family)] = row
    if task.service:
        of_service = rows[scopes.service(task.cluster, task.service)]
        _add_share(of_service, catalogue.CPU_UTILIZATION, cpu, task.cpu_units)
        _add_share(of_service, catalogue.MEMORY_UTILIZATION, memory_mib, task.memory_mib)


def _groups(task: TaskFacts) -> Iterable[Scope]:
    yield scopes.cluster(task.cluster)
    yield scopes.family(task.cluster, task.family)
    if task.service:
        yield scopes.service(task.cluster, task.service)


def _add_share(row: Row, metric: Metric, used: StatisticSet | None, reserved: int) -> None:
    """Add one task's utilization to its service's, weighted by what the task reserves.

    With tasks of one size this is the mean over the tasks; with others, as during a deployment, it is
    what they use together by what they reserve together.
    """
    if used is None or not reserved:
        return
    share = used.times(100 / reserved)
    weighted = StatisticSet(share.min, share.max, share.average * reserved, reserved)
    known = row.get(metric.number)
    row[metric.number] = weighted if known is None else known.plus(weighted)


def _add_status(rows: defaultdict[Scope, Row], task: TaskFacts) -> None:
    if task.last_status == "STOPPED":
        return
    where = [scopes.cluster(task.cluster)]
    if task.service:
        where.append(scopes.service(task.cluster, task.service))
    for scope in where:
        _count(rows[scope], catalogue.RUNNING_TASKS, task.last_status == "RUNNING")
        _count(rows[scope], catalogue.PENDING_TASKS, task.last_status in _WAITING)
    _count(rows[where[0]], catalogue.TASKS, task.last_status == "RUNNING")


def _add_host(rows: defaultdict[Scope, Row], host: HostFacts, usage: HostUsage | None) -> None:
    cluster = rows[scopes.cluster(host.cluster)]
    _count(cluster, catalogue.INSTANCES, yes=True)
    for metric in (catalogue.RUNNING_TASKS, catalogue.PENDING_TASKS, catalogue.TASKS):
        _count(cluster, metric, yes=False)
    row: Row = {}
    if usage is not None:
        _put_share(row, catalogue.INSTANCE_CPU_UTILIZATION, usage.cpu_units, host.cpu_units)
        total, disk = usage.memory_total_bytes, usage.disk_total_bytes
        _put_share(row, catalogue.INSTANCE_MEMORY_UTILIZATION, usage.memory_used_bytes, total)
        _put_share(row, catalogue.INSTANCE_FILESYSTEM, usage.disk_used_bytes, disk)
        cpu, memory = statistics.one(host.cpu_reserved), statistics.one(host.memory_reserved)
        _put_share(row, catalogue.INSTANCE_CPU_RESERVED, cpu, host.cpu_units)
        _put_share(row, catalogue.INSTANCE_MEMORY_RESERVED, memory, host.memory_mib)
        _put_number(row, catalogue.INSTANCE_TASKS, host.running_tasks)
    _merge(cluster, row)
    rows[scopes.instance(host.cluster, host.id, host.ec2_instance_id)] = row


def _add_cluster_shares(rows: defaultdict[Scope, Row], hosts: Sequence[HostFacts]) -> None:
    """Add the reservation and utilization of clusters: of all members together, one value each."""
    clusters: defaultdict[str, list[HostFacts]] = defaultdict(list)
    for host in hosts:
        clusters[host.cluster].append(host)
    for name, members in clusters.items():
        row = rows[scopes.cluster(name)]
        cpu, memory = sum(h.cpu_units for h in members), sum(h.memory_mib for h in members)
        reserved = statistics.one(sum(h.cpu_reserved for h in members))
        _put_share(row, catalogue.CPU_RESERVATION, reserved, cpu)
        reserved = statistics.one(sum(h.memory_reserved for h in members))
        _put_share(row, catalogue.MEMORY_RESERVATION, reserved, memory)
        _put_share(row, catalogue.CPU_UTILIZATION, _sum(row, catalogue.CPU_UTILIZED), cpu)
        _put_share(row, catalogue.MEMORY_UTILIZATION, _sum(row, catalogue.MEMORY_UTILIZED), memory)


def _end_services(rows: Mapping[Scope, Row]) -> None:
    """Give the utilization of services one value for each task, in place of the weights."""
    for scope, row in rows.items():
        if scope.kind is scopes.Kind.SERVICE:
            _unweight(row, catalogue.CPU_UTILIZATION, _number_of(row, catalogue.CPU_RESERVED))
            _unweight(row, catalogue.MEMORY_UTILIZATION, _number_of(row, catalogue.MEMORY_RESERVED))


def _unweight(row: Row, metric: Metric, tasks: int) -> None:
    share = row.get(metric.number)
    if share is not None:
        row[metric.number] = StatisticSet(share.min, share.max, share.average * tasks, tasks)


def _number_of(row: Row, metric: Metric) -> int:
    found = row.get(metric.number)
    return 1 if found is None else found.count


def _sum(row: Row, metric: Metric) -> StatisticSet | None:
    found = row.get(metric.number)
    return None if found is None else statistics.one(found.sum)


def _merge(row: Row, other: Row) -> None:
    for number, values in other.items():
        known = row.get(number)
        row[number] = values if known is None else known.plus(values)


def _count(row: Row, metric: Metric, yes: bool) -> None:
    """Count one more, or zero, so that what does not occur is shown as 0."""
    known = row.get(metric.number)
    row[metric.number] = statistics.one(float(yes) + (0.0 if known is None else known.sum))


def _put(row: Row, metric: Metric, values: StatisticSet | None) -> None:
    if values is not None:
        row[metric.number] = values.as_one()


def _put_number(row: Row, metric: Metric, value: float | None) -> None:
    if value is not None:
        row[metric.number] = statistics.one(float(value))


def _put_share(row: Row, metric: Metric, used: StatisticSet | None, whole: float | None) -> None:
    _put(row, metric, used.times(100 / whole) if used is not None and whole else None)
