"""``ecs-agent top --fleet``: the hosts and tasks of a cluster, as control knows them. Pure but ``FleetSource``.

Tests: ``tests/unit/cli/test_top_fleet.py``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from agent.cli.client import CliError
from agent.cli.columns import NOTHING, Column
from agent.cli.top_rows import BY_NAME, total
from agent.cli.top_text import DIM, UNLIMITED, Line, age, cut, grid, pair, percent, size
from agent.model.fleet_views import FleetTaskView, FleetView

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.cli.control_calls import ControlApi
    from agent.cli.top_text import Sight
    from agent.model.fleet_views import FleetHostView

PATH: Final = "/control/usage"
HOSTS: Final = (
    Column("HOST", beginning=12),
    Column("STATUS"),
    Column("TASKS"),
    Column("CPU %"),
    Column("OF"),
    Column("MEMORY"),
    Column("DISK", yields=2),
    Column("RESERVED", yields=1),
    Column("AGE", yields=3),
)
TASKS: Final = (
    Column("TASK", beginning=8),
    Column("DEFINITION", least=10),
    Column("HOST", beginning=8, yields=2),
    Column("STATUS"),
    Column("CPU %"),
    Column("MEMORY"),
    Column("NET IN/OUT", yields=3),
    Column("UP", yields=1),
)
SORTS: Final[dict[str, Callable[[FleetTaskView], float | None]]] = {
    "cpu": lambda task: task.cpu_units,
    "memory": lambda task: task.memory_bytes,
    "network": lambda task: total(task.receive_bytes_per_s, task.transmit_bytes_per_s),
    "uptime": lambda task: -task.started_at if task.started_at else None,
}
"""Figures of a fleet's tasks to sort by, largest first; also ``name``."""
_HOSTS_RIGHT: Final = frozenset({2, 3, 4, 5, 6, 7, 8})
_TASKS_RIGHT: Final = frozenset({4, 5, 6, 7})


class FleetSource:
    """Asks the control endpoint of this host."""

    def __init__(self, api: ControlApi, cluster: str, every_s: float) -> None:
        """Take whom to ask about what, and how often."""
        self._api = api
        self._cluster = cluster
        self._every_s = every_s
        self._asked_at = float("-inf")

    def next(self) -> FleetView:
        """Wait until it is time, and return the newest figures; raises ``CliError``."""
        wait_s = self._asked_at + self._every_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        self._asked_at = time.monotonic()
        fields = self._api.post(PATH, {"cluster": self._cluster})
        try:
            return msgspec.convert(fields, FleetView)
        except msgspec.ValidationError as error:
            raise CliError(
                f"the control endpoint sent an answer that this command cannot read ({error}); use the "
                "ecs-agent command of its version"
            ) from None


def chosen(view: FleetView, *, sort: str, words: str) -> FleetView:
    """Return the tasks that a filter lets through, in order, and hosts by their load or name.

    Args:
        view: all of the cluster.
        sort: one of ``SORTS``, or ``name``. Tasks without the figure come last.
        words: part of a family or a service, or the beginning of a task's or a host's id.
    """
    wanted = words.lower()
    tasks = [
        task
        for task in view.tasks
        if wanted in f"{task.family}:{task.revision}".lower()
        or wanted in task.group.lower()
        or task.id.startswith(wanted)
        or (wanted and task.instance_id.startswith(wanted))
    ]
    tasks.sort(key=lambda task: (task.family, task.id))
    hosts = sorted(view.hosts, key=lambda host: host.id)
    if sort != BY_NAME:
        figure = SORTS[sort]
        tasks.sort(key=lambda task: _descending(figure(task)))
    if sort in ("cpu", "memory"):
        hosts.sort(
            key=lambda host: _descending(
                host.cpu_units if sort == "cpu" else host.memory_used_bytes
            )
        )
    return replace(view, hosts=hosts, tasks=tasks)


def screen(view: FleetView, everything: int, sight: Sight) -> list[Line]:
    """Return the hosts, then the tasks; ``everything`` is how many tasks there are without a filter."""
    running = sum(task.status == "RUNNING" for task in view.tasks)
    connected = sum(host.connected for host in view.hosts)
    clock = time.strftime("%H:%M:%S", time.localtime(view.at))
    head = [
        Line(
            f"cluster {view.cluster}   hosts: {connected} of {len(view.hosts)} connected   "
            f"tasks: {running} of {len(view.tasks)} running   {clock}"
        ),
        *([Line(sight.trouble, "red")] if sight.trouble else []),
        Line(""),
    ]
    most = max(2, (sight.height - 6) // 2) if sight.height else UNLIMITED
    hosts = grid(
        HOSTS,
        [_host_cells(host, view.at) for host in view.hosts[:most]],
        sight.width,
        right=_HOSTS_RIGHT,
    )
    if len(view.hosts) > most:
        hosts.append(Line(f"and {len(view.hosts) - most} more hosts", DIM))
    tasks = grid(
        TASKS, [_task_cells(task, view.at) for task in view.tasks], sight.width, right=_TASKS_RIGHT
    )
    below = []
    if not view.tasks:
        tasks = []
        text = f"none of {everything} tasks matches '{sight.words}'" if everything else "no tasks"
        below = [Line(text, DIM)]
    return cut([*head, *hosts, Line(""), *tasks], below, sight, what="tasks")


def _host_cells(host: FleetHostView, now: float) -> list[str]:
    status = host.status if host.connected else "AWAY"
    cpu = _share(host.cpu_reserved_units, host.cpu_total_units)
    memory = _share(host.memory_reserved_mib, host.memory_offered_mib)
    return [
        host.ec2_instance_id or host.id,
        status,
        f"{host.tasks_running}+{host.tasks_pending}"
        if host.tasks_pending
        else str(host.tasks_running),
        percent(_percent(host.cpu_units)),
        percent(_percent(host.cpu_total_units or None)),
        _used(host.memory_used_bytes, host.memory_total_bytes),
        _used(host.disk_used_bytes, host.disk_total_bytes),
        f"{cpu}/{memory}",
        age(None if host.at is None else max(0.0, now - host.at)),
    ]


def _task_cells(task: FleetTaskView, now: float) -> list[str]:
    return [
        task.id,
        f"{task.family}:{task.revision}",
        task.instance_id or NOTHING,
        task.status,
        percent(_percent(task.cpu_units)),
        size(task.memory_bytes),
        pair(task.receive_bytes_per_s, task.transmit_bytes_per_s),
        age(max(0.0, now - task.started_at) if task.started_at else None),
    ]


def _percent(units: float | None) -> float | None:
    """Return CPU units in percent of one core."""
    return None if units is None else units / 10.24


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else NOTHING


def _used(used: float | None, whole: float | None) -> str:
    if used is None:
        return NOTHING
    return f"{size(used)}/{size(whole)}" if whole else size(used)


def _descending(figure: float | None) -> float:
    return float("inf") if figure is None else -figure
