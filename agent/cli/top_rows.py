"""Figures of ``ecs-agent top``: what one round of samples says, and the rates since the one before.

Pure, except that ``Rounds`` remembers the last round. A figure that is not known is None, never 0.

Tests: ``tests/unit/cli/test_top.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, field
from msgspec.structs import replace

from agent.model.metrics import GpuSample, LinkCounters, network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.model.metrics import ContainerSample, HostSample, TaskSample
    from agent.model.views import ContainerUsage, TaskUsage, UsageView


class _Json(Struct, frozen=True, kw_only=True, rename="camel"):
    """Every field is always written, so that scripts can rely on it."""


class Row(_Json, frozen=True):
    """One container that runs."""

    task: str
    """The id of its task."""
    task_arn: str
    family: str
    revision: str
    container: str
    health: str
    cpu_percent: float | None = None
    """100 is one whole core."""
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    """None without a limit."""
    receive_bytes_per_s: float | None = None
    """Of the whole task where its containers share one network; None in ``host`` and ``none`` mode."""
    transmit_bytes_per_s: float | None = None
    read_bytes_per_s: float | None = None
    """From block devices."""
    write_bytes_per_s: float | None = None
    pids: int | None = None
    restarts: int = 0
    uptime_s: float | None = None


class HostRow(_Json, frozen=True):
    """The whole host."""

    name: str
    cpus: int | None = None
    cpu_percent: float | None = None
    """100 is one whole core."""
    load_1m: float | None = None
    load_5m: float | None = None
    load_15m: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    disk_used_bytes: int | None = None
    disk_total_bytes: int | None = None
    receive_bytes_per_s: float | None = None
    """Of physical links."""
    transmit_bytes_per_s: float | None = None
    gpus: tuple[GpuSample, ...] = ()


class Round(_Json, frozen=True):
    """One round, as ``--json`` prints it."""

    at: float
    """Unix time."""
    host: HostRow
    tasks_running: int = 0
    tasks_pending: int = 0
    containers: list[Row] = field(default_factory=list)


SORT_KEYS: Final[dict[str, Callable[[Row], float | None]]] = {
    "cpu": lambda row: row.cpu_percent,
    "memory": lambda row: row.memory_bytes,
    "network": lambda row: total(row.receive_bytes_per_s, row.transmit_bytes_per_s),
    "io": lambda row: total(row.read_bytes_per_s, row.write_bytes_per_s),
    "pids": lambda row: row.pids,
    "restarts": lambda row: row.restarts,
    "uptime": lambda row: row.uptime_s,
}
"""Figures to sort by, largest first; ``name`` sorts by family and container."""
BY_NAME: Final = "name"


class Rounds:
    """Turns the agent's rounds into figures."""

    def __init__(self) -> None:
        """Begin without a round before."""
        self._before: _Counters | None = None

    def take(self, view: UsageView) -> Round | None:
        """Return the figures of a round; None before the agent has taken the first."""
        if view.at is None or view.host is None:
            return None
        now = _Counters.of(view, view.at, view.host)
        before, self._before = self._before, now
        if before is not None and before.at >= now.at:
            before = None
        rates = _Rates(before, now)
        statuses = [task.status for task in view.tasks]
        return Round(
            at=view.at,
            host=_host(view.host_name, view.host, rates),
            tasks_running=statuses.count("RUNNING"),
            tasks_pending=statuses.count("PENDING"),
            containers=[row for task in view.tasks for row in _rows(task, view.at, rates)],
        )


def chosen(rows: Iterable[Row], *, sort: str, words: str = "") -> list[Row]:
    """Return the rows that a filter lets through, in order.

    Args:
        rows: all rows.
        sort: one of ``SORT_KEYS``, or ``name``. Rows without the figure come last.
        words: part of a family, a container's name, or the beginning of a task's id.
    """
    wanted = words.lower()
    found = [
        row
        for row in rows
        if wanted in f"{row.family}:{row.revision}".lower()
        or wanted in row.container.lower()
        or row.task.startswith(wanted)
    ]
    found.sort(key=lambda row: (row.family, row.container, row.task))
    if sort != BY_NAME:
        figure = SORT_KEYS[sort]
        found.sort(key=lambda row: _descending(figure(row)))
    return found


def total(first: float | None, second: float | None) -> float | None:
    """Return the sum of what is known; None if nothing is."""
    known = [one for one in (first, second) if one is not None]
    return sum(known) if known else None


def _descending(figure: float | None) -> float:
    return 1.0 if figure is None else -figure


class _Counters(Struct, frozen=True):
    """What the next round is compared with."""

    at: float
    links: dict[str, LinkCounters]
    io: dict[str, tuple[int | None, int | None]]
    """Bytes read and written, by the engine's id of a container."""

    @classmethod
    def of(cls, view: UsageView, at: float, host: HostSample) -> _Counters:
        """Return the counters of a round."""
        samples = [one for task in view.tasks if task.sample for one in task.sample.containers]
        io = {one.runtime_id: (one.io_read_bytes, one.io_write_bytes) for one in samples}
        return cls(at, host.links, io)


class _Rates:
    """Rates between two rounds."""

    def __init__(self, before: _Counters | None, now: _Counters) -> None:
        self._before = before
        self._now = now

    def io(self, runtime_id: str) -> tuple[float | None, float | None]:
        """Return bytes per second that a container read and wrote."""
        before = self._before.io.get(runtime_id) if self._before else None
        now = self._now.io.get(runtime_id)
        if before is None or now is None:
            return None, None
        return self._rate(before[0], now[0]), self._rate(before[1], now[1])

    def links(self) -> tuple[float | None, float | None]:
        """Return bytes per second that all physical links received and sent.

        A link that appeared since counts from the next round on.
        """
        if self._before is None:
            return None, None
        pairs = [
            (self._before.links[name], counters)
            for name, counters in self._now.links.items()
            if name in self._before.links
        ]
        received = [self._rate(before.rx_bytes, now.rx_bytes) for before, now in pairs]
        sent = [self._rate(before.tx_bytes, now.tx_bytes) for before, now in pairs]
        return _sum(received), _sum(sent)

    def _rate(self, before: int | None, now: int | None) -> float | None:
        """Return a rate; None for a counter that began anew."""
        if self._before is None or before is None or now is None or now < before:
            return None
        return round((now - before) / (self._now.at - self._before.at), 1)


def _sum(rates: list[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _host(name: str, host: HostSample, rates: _Rates) -> HostRow:
    received, sent = rates.links()
    return HostRow(
        name=name,
        cpus=host.cpus,
        cpu_percent=host.cpu_percent,
        load_1m=host.load_1m,
        load_5m=host.load_5m,
        load_15m=host.load_15m,
        memory_used_bytes=host.memory_used_bytes,
        memory_total_bytes=host.memory_total_bytes,
        disk_used_bytes=host.disk_used_bytes,
        disk_total_bytes=host.disk_total_bytes,
        receive_bytes_per_s=received,
        transmit_bytes_per_s=sent,
        gpus=host.gpus,
    )


def _rows(task: TaskUsage, at: float, rates: _Rates) -> Iterable[Row]:
    """Yield the containers of a task that run."""
    samples = {one.name: one for one in task.sample.containers} if task.sample else {}
    for container in task.containers:
        if container.status == "RUNNING":
            yield _row(task, container, samples.get(container.name), at, rates)


def _row(
    task: TaskUsage,
    container: ContainerUsage,
    sample: ContainerSample | None,
    at: float,
    rates: _Rates,
) -> Row:
    row = Row(
        task=task.id,
        task_arn=task.arn,
        family=task.family,
        revision=task.revision,
        container=container.name,
        health=container.health.value,
        restarts=container.restart_count,
        uptime_s=max(0.0, round(at - container.started_at, 1)) if container.started_at else None,
    )
    if sample is None or task.sample is None:
        return row
    return _measured(row, task.sample, sample, rates)


def _measured(row: Row, task: TaskSample, sample: ContainerSample, rates: _Rates) -> Row:
    network = network_of(task, sample)
    read, written = rates.io(sample.runtime_id)
    return replace(
        row,
        cpu_percent=sample.cpu_percent,
        memory_bytes=sample.memory_bytes,
        memory_limit_bytes=sample.memory_limit_bytes,
        receive_bytes_per_s=network.rx_bytes_per_s if network else None,
        transmit_bytes_per_s=network.tx_bytes_per_s if network else None,
        read_bytes_per_s=read,
        write_bytes_per_s=written,
        pids=sample.pids,
    )
