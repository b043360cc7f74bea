"""Prometheus text (exposition format 0.0.4) of the agent, its host and its tasks.

Pure: views and samples in, text out. The tables list all metrics with type and help text; a metric
without a value is omitted from the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from agent.model.status import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from agent.model.metrics import ContainerSample, HostSample, LinkCounters, MetricsBatch
    from agent.model.views import AgentView, ContainerView, TaskView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Source = TypeVar("_Source")
_Labels = dict[str, str]


class ProcessFigures(Struct, frozen=True, kw_only=True):
    """Metrics of the agent's own process."""

    cpu_s: float = 0.0
    resident_bytes: int = 0
    open_files: int = 0
    loop_lag_s: float = 0.0
    """How late the event loop was at the last timer of the sampler."""
    round_s: float = 0.0
    """How long the last sampling round took."""


def render(
    agent: AgentView,
    tasks: Sequence[TaskView],
    batch: MetricsBatch | None,
    process: ProcessFigures,
) -> str:
    """Return the whole page.

    Args:
        agent: the current state of the agent.
        tasks: its tasks; samples of other tasks are omitted.
        batch: the newest samples; None before the first round or if metrics are off.
        process: metrics of the agent's own process.
    """
    known = {task.arn: task for task in tasks}
    samples = [task for task in batch.tasks if task.task_arn in known] if batch else []
    lines = [
        *_infos(agent),
        *_table(_AGENT, [({}, agent)]),
        *_table(_PROCESS, [({}, process)]),
        *_table(_HOST, [({}, batch.host)] if batch else []),
        *_table(
            _SAMPLED,
            [
                (_task_labels(known[task.task_arn]) | {"container": container.name}, container)
                for task in samples
                for container in task.containers
            ],
        ),
        *_table(
            _VIEWED,
            [
                (_task_labels(task) | {"container": container.name}, container)
                for task in tasks
                if task.status == "RUNNING"
                for container in task.containers
            ],
        ),
        *_table(
            _COUNTED,
            [
                (_task_labels(known[task.task_arn]), task.network)
                for task in samples
                if task.network is not None
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _infos(agent: AgentView) -> Iterator[str]:
    """Yield metrics that carry information in labels."""
    build = {"version": agent.version, "engine_version": agent.engine_version}
    place = {
        "cluster": agent.cluster,
        "container_instance": agent.instance_arn,
        "status": agent.instance_status,
    }
    counts = {"PENDING": agent.pending, "RUNNING": agent.running, "STOPPED": agent.stopped}
    by_resource = [({"resource": view.name}, view) for view in agent.resources]
    yield from _family(
        "ecs_agent_build_info", "gauge", "Versions of agent and engine; always 1.", [(build, 1)]
    )
    yield from _family(
        "ecs_agent_instance_info", "gauge", "Where the host is registered; always 1.", [(place, 1)]
    )
    yield from _family(
        "ecs_agent_tasks",
        "gauge",
        "Tasks that the agent holds.",
        [({"status": status}, count) for status, count in counts.items()],
    )
    yield from _family(
        "ecs_host_resource_total",
        "gauge",
        "What the host offers to tasks: CPU units, MiB, ports, GPUs.",
        [(labels, view.total) for labels, view in by_resource],
    )
    yield from _family(
        "ecs_host_resource_used",
        "gauge",
        "What tasks have reserved of it.",
        [(labels, view.used) for labels, view in by_resource],
    )


def _table(
    table: Sequence[tuple[str, str, str, Callable[[_Source], float | None]]],
    sources: Sequence[tuple[_Labels, _Source]],
) -> Iterator[str]:
    for name, kind, what, value_of in table:
        values = ((labels, value_of(source)) for labels, source in sources)
        yield from _family(name, kind, what, values)


def _family(
    name: str, kind: str, what: str, values: Iterable[tuple[_Labels, float | None]]
) -> Iterator[str]:
    lines = [
        f"{name}{_braces(labels)} {_number(value)}" for labels, value in values if value is not None
    ]
    if lines:
        yield f"# HELP {name} {what}"
        yield f"# TYPE {name} {kind}"
        yield from lines


def _braces(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{escape(text)}"' for name, text in labels.items()) + "}"


def escape(text: str) -> str:
    """Return a label value escaped for use between quotes."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _task_labels(task: TaskView) -> _Labels:
    return {"task": task.id, "family": task.family, "revision": task.revision}


_AGENT: list[tuple[str, str, str, Callable[[AgentView], float | None]]] = [
    (
        "ecs_agent_control_connected",
        "gauge",
        "1 while the control endpoint answers.",
        lambda agent: agent.control_connected,
    ),
    (
        "ecs_agent_engine_up",
        "gauge",
        "1 while the container engine answers.",
        lambda agent: agent.engine_connected,
    ),
    (
        "ecs_agent_unsent_changes",
        "gauge",
        "State changes that control has not acknowledged yet.",
        lambda agent: agent.unsent_changes,
    ),
    (
        "ecs_agent_logs_waiting_bytes",
        "gauge",
        "Logs of containers that wait for control, compressed on the disk.",
        lambda agent: agent.logs.waiting_bytes,
    ),
    (
        "ecs_agent_logs_lost_events_total",
        "counter",
        "Log events of containers that were lost: dropped, refused or damaged.",
        lambda agent: sum(loss.events for loss in agent.logs.lost),
    ),
    (
        "ecs_agent_degraded",
        "gauge",
        "Number of things that do not work now.",
        lambda agent: len(agent.degraded),
    ),
    (
        "process_start_time_seconds",
        "gauge",
        "When the agent started, in Unix seconds.",
        lambda agent: agent.started_at,
    ),
]

_PROCESS: list[tuple[str, str, str, Callable[[ProcessFigures], float | None]]] = [
    (
        "ecs_agent_event_loop_lag_seconds",
        "gauge",
        "How late the event loop was at the last timer of the sampler.",
        lambda process: process.loop_lag_s,
    ),
    (
        "ecs_agent_sample_duration_seconds",
        "gauge",
        "How long the last sampling round took.",
        lambda process: process.round_s,
    ),
    (
        "process_cpu_seconds_total",
        "counter",
        "CPU time of the agent.",
        lambda process: process.cpu_s,
    ),
    (
        "process_resident_memory_bytes",
        "gauge",
        "Memory of the agent.",
        lambda process: process.resident_bytes,
    ),
    (
        "process_open_fds",
        "gauge",
        "Open files of the agent.",
        lambda process: process.open_files,
    ),
]

_HOST: list[tuple[str, str, str, Callable[[HostSample], float | None]]] = [
    (
        "ecs_host_cpu_cores_used",
        "gauge",
        "Busy cores of the host.",
        lambda host: None if host.cpu_percent is None else round(host.cpu_percent / 100, 6),
    ),
    (
        "ecs_host_memory_used_bytes",
        "gauge",
        "Memory of the host in use.",
        lambda host: host.memory_used_bytes,
    ),
    (
        "ecs_host_memory_total_bytes",
        "gauge",
        "Memory of the host.",
        lambda host: host.memory_total_bytes,
    ),
    ("ecs_host_load1", "gauge", "Load average of one minute.", lambda host: host.load_1m),
    (
        "ecs_host_disk_used_bytes",
        "gauge",
        "Used space of the disk with the agent's data.",
        lambda host: host.disk_used_bytes,
    ),
    (
        "ecs_host_disk_total_bytes",
        "gauge",
        "Size of the disk with the agent's data.",
        lambda host: host.disk_total_bytes,
    ),
]

_SAMPLED: list[tuple[str, str, str, Callable[[ContainerSample], float | None]]] = [
    (
        "ecs_task_container_cpu_seconds_total",
        "counter",
        "CPU time of a container.",
        lambda sample: None if sample.cpu_ns is None else sample.cpu_ns / 1e9,
    ),
    (
        "ecs_task_container_memory_bytes",
        "gauge",
        "Memory of a container without the page cache.",
        lambda sample: sample.memory_bytes,
    ),
    (
        "ecs_task_container_memory_limit_bytes",
        "gauge",
        "Memory limit of a container; absent if there is none.",
        lambda sample: sample.memory_limit_bytes,
    ),
    (
        "ecs_task_container_pids",
        "gauge",
        "Processes and threads of a container.",
        lambda sample: sample.pids,
    ),
    (
        "ecs_task_container_read_bytes_total",
        "counter",
        "Bytes that a container read from disks.",
        lambda sample: sample.io_read_bytes,
    ),
    (
        "ecs_task_container_written_bytes_total",
        "counter",
        "Bytes that a container wrote to disks.",
        lambda sample: sample.io_write_bytes,
    ),
]

_VIEWED: list[tuple[str, str, str, Callable[[ContainerView], float | None]]] = [
    (
        "ecs_task_container_restarts_total",
        "counter",
        "Restarts of a container by its restart policy.",
        lambda view: view.restart_count,
    ),
    (
        "ecs_task_container_healthy",
        "gauge",
        "1 healthy, 0 unhealthy; absent while unknown.",
        lambda view: None if view.health is Health.UNKNOWN else view.health is Health.HEALTHY,
    ),
]

_COUNTED: list[tuple[str, str, str, Callable[[LinkCounters], float | None]]] = [
    (
        "ecs_task_network_receive_bytes_total",
        "counter",
        "Bytes that a task received.",
        lambda counters: counters.rx_bytes,
    ),
    (
        "ecs_task_network_receive_packets_total",
        "counter",
        "Packets that a task received.",
        lambda counters: counters.rx_packets,
    ),
    (
        "ecs_task_network_receive_errors_total",
        "counter",
        "Receive errors of a task.",
        lambda counters: counters.rx_errors,
    ),
    (
        "ecs_task_network_receive_dropped_total",
        "counter",
        "Incoming packets of a task that were dropped.",
        lambda counters: counters.rx_dropped,
    ),
    (
        "ecs_task_network_transmit_bytes_total",
        "counter",
        "Bytes that a task sent.",
        lambda counters: counters.tx_bytes,
    ),
    (
        "ecs_task_network_transmit_packets_total",
        "counter",
        "Packets that a task sent.",
        lambda counters: counters.tx_packets,
    ),
    (
        "ecs_task_network_transmit_errors_total",
        "counter",
        "Send errors of a task.",
        lambda counters: counters.tx_errors,
    ),
    (
        "ecs_task_network_transmit_dropped_total",
        "counter",
        "Outgoing packets of a task that were dropped.",
        lambda counters: counters.tx_dropped,
    ),
]
