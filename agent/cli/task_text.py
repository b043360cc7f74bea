"""Texts about tasks for people: table rows, facts, and the reason of a state. Pure.

Works on the views of the operator socket; needs neither an agent nor a terminal.

Tests: ``tests/unit/cli/test_inspect.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from agent.cli import render
from agent.cli.columns import NOTHING, Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.model.resources import Wait
    from agent.model.views import ContainerView, TaskView

SHORT_ID: Final = 12
"""Characters of a task's id that usually identify it; commands accept any unique beginning."""
REASON_LINES: Final = 2
"""Maximum lines of a reason in a list of tasks; ``ecs-agent why`` shows all of it."""

TASKS: Final = (
    Column("TASK", beginning=SHORT_ID),
    Column("DEFINITION", least=12),
    Column("STATUS"),
    Column("DESIRED", yields=1, usual=lambda row: row[3] in {"RUNNING", row[2]}),
    Column("ADDRESS", yields=3),
    Column("CONTAINERS", least=12, yields=2),
    Column("AGE", yields=4),
    Column("REASON"),
)
CONTAINERS: Final = (
    Column("CONTAINER", least=12),
    Column("STATUS"),
    Column("HEALTH", yields=2, usual=lambda row: row[2] == "UNKNOWN"),
    Column("EXIT"),
    Column("RESTARTS", yields=1, usual=lambda row: row[4] == "0"),
    Column("PORTS", least=14, yields=3),
    Column("IMAGE", least=16, yields=4),
    Column("REASON"),
)
FIGURES: Final = (
    Column("CONTAINER", least=12),
    Column("CPU"),
    Column("MEMORY"),
    Column("LIMIT", yields=2),
    Column("PIDS", yields=1),
)


def newest_first(views: Iterable[TaskView]) -> list[TaskView]:
    """Return tasks newest first; tasks accepted at the same time are in reverse order of arrival."""
    return sorted(views, key=lambda view: view.accepted_at)[::-1]


def cause(view: TaskView) -> str:
    """Return why a task stops or has stopped: its own reason, else that of a container; or empty.

    Containers that never started are skipped: they only say that the task had already stopped.
    """
    if view.reason:
        return f"{view.reason} ({view.stop_code})" if view.stop_code else view.reason
    if view.desired != "STOPPED":
        return ""
    ended = sorted(view.containers, key=lambda c: (not c.essential, c.finished_at or math.inf))
    for container in ended:
        if container.reason and not container.reason.startswith("TaskStopped"):
            return f"container {container.name}: {container.reason}"
        if container.essential and container.exit_code is not None:
            return f"essential container {container.name} exited with code {container.exit_code}"
    return ""


def row(view: TaskView, now: float) -> list[str]:
    """Return the cells of a task under ``TASKS``."""
    waits = view.waits if view.status != "STOPPED" else []
    return [
        view.id,
        f"{view.family}:{view.revision}",
        view.status,
        view.desired,
        view.ipv4 or NOTHING,
        " ".join(container.name for container in view.containers) or NOTHING,
        render.span(now - view.accepted_at) if view.accepted_at else NOTHING,
        cause(view) or (waits[0].what if waits else NOTHING),
    ]


def facts(view: TaskView, now: float) -> list[tuple[str, str]]:
    """Return names and values of a task; some values may be empty."""
    return [
        ("Task", view.arn),
        ("Definition", f"{view.family}:{view.revision}"),
        ("Status", view.status),
        ("Desired", view.desired),
        ("Network", f"{view.network_mode} {view.ipv4}".strip()),
        ("Reason", cause(view)),
        ("Accepted", render.moment(view.accepted_at, now)),
        ("Started", render.moment(view.started_at, now)),
        ("Stopped", render.moment(view.stopped_at, now)),
    ]


def container_row(container: ContainerView) -> list[str]:
    """Return the cells of a container under ``CONTAINERS``."""
    ports = [
        f"{b.host_port or b.host_port_range}->{b.container_port or b.container_port_range}/{b.protocol}"
        for b in container.bindings
    ]
    return [
        container.name,
        container.status,
        str(container.health.value),
        NOTHING if container.exit_code is None else str(container.exit_code),
        str(container.restart_count),
        " ".join(ports) or NOTHING,
        container.image,
        container.reason or NOTHING,
    ]


def state(view: TaskView) -> str:
    """Return the state of a task and its reason in one sentence."""
    about = f"{view.id} ({view.family}:{view.revision})"
    told = f": {why}" if (why := cause(view)) else ""
    if view.status == "STOPPED":
        return f"{about} has stopped{told or '; the reason is unknown'}"
    wanted = "" if view.status == view.desired else f", should be {view.desired}"
    return f"{about} is {view.status}{wanted}{told}"


def waits(view: TaskView, now: float) -> list[tuple[str, str]]:
    """Return what a task waits for, in order: what, and since when and when the next try is."""
    return [(_what(wait), _when(view, wait, now)) for wait in view.waits]


def _what(wait: Wait) -> str:
    return f"container {wait.container}: {wait.what}" if wait.container else wait.what


def _when(view: TaskView, wait: Wait, now: float) -> str:
    if view.status == "STOPPED" and wait.next_try:
        return _in("due", wait.next_try - now)
    then = _in("next try", wait.next_try - now) if wait.next_try else "continues when that changes"
    return f"since {render.moment(wait.since, now)}; {then}"


def _in(what: str, ahead_s: float) -> str:
    return f"{what} in {render.span(ahead_s)}" if ahead_s > 0 else f"{what} now"
