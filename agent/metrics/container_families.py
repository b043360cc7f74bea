"""The metrics of containers and tasks. Pure.

Where cAdvisor has a metric, it has cAdvisor's name and meaning here, so that dashboards made for cAdvisor show
tasks too; the others begin with ``ecs_task_``. All series of a container have the same labels: ``id``, ``name`` and
``image`` as with cAdvisor, and ``task``, ``family``, ``revision`` and ``container``. What else is known of a task is
in ``ecs_task_info``, so that a page grows with the containers that run and with nothing else.

Source of names: cAdvisor 0.52, ``docs/storage/prometheus.md`` and ``metrics/prometheus.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.exposition import Family, Labels
from agent.model.metrics import network_of
from agent.model.status import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.exposition import Kind
    from agent.model.metrics import (
        ContainerSample,
        LinkCounters,
        MetricsBatch,
        Pressure,
        TaskSample,
    )
    from agent.model.views import ContainerView, TaskView


class _Row(NamedTuple):
    """One container that was sampled."""

    labels: Labels
    sample: ContainerSample
    view: ContainerView


class _Link(NamedTuple):
    """One network interface, under the labels of a container or, if all of them share it, of its task."""

    labels: Labels
    counters: LinkCounters


def of_tasks(
    cluster: str, tasks: Sequence[TaskView], batch: MetricsBatch | None
) -> Iterator[Family]:
    """Yield the metrics of all tasks that have not stopped.

    Args:
        cluster: name of the cluster.
        tasks: those that the agent holds; samples of others are left out.
        batch: the newest samples; None if there are none.
    """
    live = [task for task in tasks if task.status != "STOPPED"]
    yield _info(cluster, live)
    known = {task.arn: task for task in live}
    samples = [task for task in batch.tasks if task.task_arn in known] if batch else []
    rows = [row for sample in samples for row in _rows(known[sample.task_arn], sample)]
    yield Family(
        "container_last_seen",
        "gauge",
        "When a container was last sampled, in Unix seconds.",
        [(row.labels, batch.at) for row in rows] if batch else [],
    )
    for name, kind, text, value_of in _SAMPLED:
        yield _family(name, kind, text, rows, value_of)
    yield from _cpu(rows)
    yield from _pressure(rows)
    yield from _gpus(rows)
    links = [link for sample in samples for link in _links(known[sample.task_arn], sample)]
    for name, text, count_of in _COUNTED:
        series = [(link.labels, count_of(link.counters)) for link in links]
        yield Family(name, "counter", text, series)
    yield from _viewed(live)


def _info(cluster: str, tasks: Sequence[TaskView]) -> Family:
    return Family(
        "ecs_task_info",
        "gauge",
        "What a task is; always 1. Join it by the label task.",
        [
            (
                Labels(
                    {
                        "task": task.id,
                        "task_arn": task.arn,
                        "cluster": cluster,
                        "family": task.family,
                        "revision": task.revision,
                        "network_mode": task.network_mode,
                    }
                ),
                1,
            )
            for task in tasks
        ],
    )


def _of_task(task: TaskView) -> dict[str, str]:
    return {"task": task.id, "family": task.family, "revision": task.revision}


def _of_container(task: TaskView, view: ContainerView) -> Labels:
    return Labels(
        {
            "id": f"/docker/{view.runtime_id}",
            "name": view.engine_name.lstrip("/"),
            "image": view.image,
            **_of_task(task),
            "container": view.name,
        }
    )


def _rows(task: TaskView, sample: TaskSample) -> Iterator[_Row]:
    views = {view.name: view for view in task.containers}
    for one in sample.containers:
        view = views.get(one.name)
        if view is not None and view.runtime_id == one.runtime_id:
            yield _Row(_of_container(task, view), one, view)


def _links(task: TaskView, sample: TaskSample) -> Iterator[_Link]:
    """Yield the interfaces of a task, each once.

    With several containers in one network they cannot be told apart: then the labels are those of the task, and
    ``container`` is empty.
    """
    rows = list(_rows(task, sample))
    own = [(row, network) for row in rows if (network := network_of(sample, row.sample))]
    if len(rows) == 1 or any(row.sample.network for row in rows):
        for row, network in own:
            for name, counters in network.links.items():
                yield _Link(row.labels.plus(interface=name), counters)
        return
    name = f"{task.family}-{task.revision}-{task.id}"
    shared = Labels(
        {"id": f"/ecs/{task.id}", "name": name, "image": "", **_of_task(task), "container": ""}
    )
    for interface, counters in sample.links.items():
        yield _Link(shared.plus(interface=interface), counters)


def _family(
    name: str,
    kind: Kind,
    text: str,
    rows: Sequence[_Row],
    value_of: Callable[[_Row], float | None],
) -> Family:
    series = [(row.labels, value) for row in rows if (value := value_of(row)) is not None]
    return Family(name, kind, text, series)


def _cpu(rows: Sequence[_Row]) -> Iterator[Family]:
    series = [
        (row.labels.plus(cpu="total"), ns / 1e9)
        for row in rows
        if (ns := row.sample.cpu_ns) is not None
    ]
    text = "CPU time of a container."
    yield Family("container_cpu_usage_seconds_total", "counter", text, series)


def _pressure(rows: Sequence[_Row]) -> Iterator[Family]:
    for resource in ("cpu", "memory", "io"):
        found: list[tuple[Labels, Pressure]] = [
            (row.labels, pressure)
            for row in rows
            if (pressure := getattr(row.sample, f"{resource}_pressure")) is not None
        ]
        yield Family(
            f"container_pressure_{resource}_waiting_seconds_total",
            "counter",
            f"Time in which a process of the container waited for {resource}.",
            [(labels, pressure.some.total_us / 1e6) for labels, pressure in found],
        )
        yield Family(
            f"container_pressure_{resource}_stalled_seconds_total",
            "counter",
            f"Time in which all processes of the container waited for {resource}.",
            [
                (labels, pressure.full.total_us / 1e6)
                for labels, pressure in found
                if pressure.full is not None
            ],
        )


def _gpus(rows: Sequence[_Row]) -> Iterator[Family]:
    uses = [(row.labels.plus(acc_id=gpu.uuid), gpu) for row in rows for gpu in row.sample.gpus]
    yield Family(
        "container_accelerator_memory_used_bytes",
        "gauge",
        "Memory of a GPU that a container uses.",
        [(labels, gpu.memory_bytes) for labels, gpu in uses if gpu.memory_bytes is not None],
    )
    yield Family(
        "container_accelerator_duty_cycle",
        "gauge",
        "Share of time in which a container computed on a GPU, from 0 to 100.",
        [
            (labels, gpu.utilization_percent)
            for labels, gpu in uses
            if gpu.utilization_percent is not None
        ],
    )


def _viewed(tasks: Sequence[TaskView]) -> Iterator[Family]:
    views = [
        (Labels({**_of_task(task), "container": view.name}), view)
        for task in tasks
        if task.status == "RUNNING"
        for view in task.containers
    ]
    yield Family(
        "ecs_task_container_restarts_total",
        "counter",
        "Restarts of a container by its restart policy.",
        [(labels, view.restart_count) for labels, view in views],
    )
    yield Family(
        "ecs_task_container_healthy",
        "gauge",
        "1 healthy, 0 unhealthy; absent while unknown.",
        [
            (labels, view.health is Health.HEALTHY)
            for labels, view in views
            if view.health is not Health.UNKNOWN
        ],
    )


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


_SAMPLED: list[tuple[str, Kind, str, Callable[[_Row], float | None]]] = [
    (
        "container_start_time_seconds",
        "gauge",
        "When a container first started, in Unix seconds.",
        lambda row: row.view.started_at or None,
    ),
    (
        "container_cpu_user_seconds_total",
        "counter",
        "CPU time of a container outside the kernel.",
        lambda row: _seconds(row.sample.cpu_user_ns),
    ),
    (
        "container_cpu_system_seconds_total",
        "counter",
        "CPU time of a container in the kernel.",
        lambda row: _seconds(row.sample.cpu_system_ns),
    ),
    (
        "container_cpu_cfs_periods_total",
        "counter",
        "Scheduling periods of a container that has a CPU limit.",
        lambda row: row.sample.cpu_periods,
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Periods in which a container had used up its CPU limit.",
        lambda row: row.sample.cpu_throttled_periods,
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "How long a container was not let run because of its CPU limit.",
        lambda row: _seconds(row.sample.cpu_throttled_ns),
    ),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Memory charged to a container, with its page cache.",
        lambda row: row.sample.memory_usage_bytes,
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Memory of a container without the page cache that is not in use.",
        lambda row: row.sample.memory_working_set_bytes,
    ),
    (
        "container_memory_rss",
        "gauge",
        "Anonymous memory of a container, in bytes.",
        lambda row: row.sample.memory_rss_bytes,
    ),
    (
        "container_memory_cache",
        "gauge",
        "Page cache of a container, in bytes.",
        lambda row: row.sample.memory_cache_bytes,
    ),
    (
        "container_memory_swap",
        "gauge",
        "Swap that a container uses, in bytes.",
        lambda row: row.sample.memory_swap_bytes,
    ),
    (
        "container_memory_max_usage_bytes",
        "gauge",
        "The largest memory usage of a container since it first started.",
        lambda row: row.sample.memory_max_usage_bytes,
    ),
    (
        "ecs_task_container_memory_bytes",
        "gauge",
        "Memory of a container as Amazon ECS counts it.",
        lambda row: row.sample.memory_bytes,
    ),
    (
        "container_spec_memory_limit_bytes",
        "gauge",
        "Memory limit of a container; 0 without one.",
        lambda row: (
            None if row.sample.memory_usage_bytes is None else row.sample.memory_limit_bytes or 0
        ),
    ),
    (
        "ecs_task_container_memory_limit_hits_total",
        "counter",
        "How often a container reached its memory limit, and memory had to be reclaimed.",
        lambda row: row.sample.memory_limit_hits,
    ),
    (
        "container_oom_events_total",
        "counter",
        "Processes of a container that the kernel killed for lack of memory.",
        lambda row: row.sample.oom_kills,
    ),
    (
        "container_threads",
        "gauge",
        "Threads of a container; a process has one at least.",
        lambda row: row.sample.pids,
    ),
    (
        "container_threads_max",
        "gauge",
        "How many threads a container may have; absent without a limit.",
        lambda row: row.sample.pids_limit,
    ),
    (
        "container_fs_reads_bytes_total",
        "counter",
        "Bytes that a container read from block devices.",
        lambda row: row.sample.io_read_bytes,
    ),
    (
        "container_fs_writes_bytes_total",
        "counter",
        "Bytes that a container wrote to block devices.",
        lambda row: row.sample.io_write_bytes,
    ),
    (
        "container_fs_reads_total",
        "counter",
        "Reads of a container from block devices.",
        lambda row: row.sample.io_reads,
    ),
    (
        "container_fs_writes_total",
        "counter",
        "Writes of a container to block devices.",
        lambda row: row.sample.io_writes,
    ),
]

_COUNTED: list[tuple[str, str, Callable[[LinkCounters], int]]] = [
    ("container_network_receive_bytes_total", "Bytes received.", lambda c: c.rx_bytes),
    ("container_network_receive_packets_total", "Packets received.", lambda c: c.rx_packets),
    ("container_network_receive_errors_total", "Errors of reception.", lambda c: c.rx_errors),
    (
        "container_network_receive_packets_dropped_total",
        "Incoming packets that were dropped.",
        lambda c: c.rx_dropped,
    ),
    ("container_network_transmit_bytes_total", "Bytes sent.", lambda c: c.tx_bytes),
    ("container_network_transmit_packets_total", "Packets sent.", lambda c: c.tx_packets),
    ("container_network_transmit_errors_total", "Errors of sending.", lambda c: c.tx_errors),
    (
        "container_network_transmit_packets_dropped_total",
        "Outgoing packets that were dropped.",
        lambda c: c.tx_dropped,
    ),
]
