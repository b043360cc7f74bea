"""How an agent is shown in text: its connections, drain, logs, repairs and reserved resources. Pure.

Tests: ``tests/unit/cli/test_inspect.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli import render
from agent.model.ids import instance_id

if TYPE_CHECKING:
    from agent.model.views import AgentView, DrainView, LogsView, RepairView, ResourceView

REPAIRS_WITHIN_S = 3600.0
_REPAIRS_SHOWN = 3


def facts(view: AgentView, now: float) -> list[tuple[str, str]]:
    """Return what is shown of an agent, line by line."""
    since = f" for {render.span(now - view.control_since)}" if view.control_since else ""
    trouble = f": {view.control_error}" if view.control_error else ""
    changes = "1 change" if view.unsent_changes == 1 else f"{view.unsent_changes} changes"
    unsent = f", {changes} to send" if view.unsent_changes else ""
    link = (
        f"connected{since}{unsent}"
        if view.control_connected
        else f"not connected{since}{unsent}{trouble}{_next_try(view, now)}"
    )
    instance = instance_id(view.instance_arn) if view.instance_arn else ""
    engine = "connected" if view.engine_connected else "not connected"
    up = f", up {render.span(now - view.started_at)}" if view.started_at else ""
    return [
        ("Agent", f"{view.version}{up}"),
        ("Cluster", view.cluster),
        ("Instance", f"{instance} {view.instance_status}".strip() or "not registered yet"),
        ("Control", f"{view.control_endpoint} {link}".strip()),
        ("Drain", drain_state(view.drain, view.running + view.pending, now)),
        ("Engine", f"{view.engine_version} {engine}".strip()),
        ("Tasks", f"{view.running} running, {view.pending} pending, {view.stopped} stopped"),
        ("Host policy", view.host_policy),
        ("Logs", _logs(view.logs, now)),
        *_resource_facts(view.resources),
    ]


def drain_state(drain: DrainView, tasks: int, now: float) -> str:
    """Return how a drain stands; nothing where none is wanted and control knows it."""
    untold = (
        f"; control could not be told yet: {drain.trouble}"
        if drain.trouble
        else ("" if drain.told else "; control is not told yet")
    )
    if not drain.wanted:
        return f"ended{untold}" if untold else ""
    left = "no task left" if not tasks else f"{tasks} {'task' if tasks == 1 else 'tasks'} left"
    if tasks and drain.deadline:
        ahead_s = drain.deadline - now
        left += f", to be stopped in {render.span(ahead_s)}" if ahead_s > 0 else ", being stopped"
    return f"for {render.span(now - drain.since)}, {left}{untold}"


def _logs(logs: LogsView, now: float) -> str:
    """Return what waits for control and what is lost; nothing where there is neither."""
    lost = sum(loss.events for loss in logs.lost)
    parts = []
    if logs.waiting_events:
        parts.append(
            f"{logs.waiting_events} events ({render.size(logs.waiting_bytes)}) to deliver, the oldest "
            f"{render.span(now - logs.oldest_at)} old"
        )
    if lost:
        last = max(loss.at for loss in logs.lost)
        parts.append(f"{lost} events lost, the last one {render.span(now - last)} ago")
    return "; ".join(parts)


def repair_lines(repairs: list[RepairView], now: float) -> list[str]:
    """Return the repairs of the last hour, newest first."""
    recent = [repair for repair in reversed(repairs) if now - repair.at < REPAIRS_WITHIN_S]
    lines = [
        f"repaired {render.span(now - repair.at)} ago: {repair.found}"
        for repair in recent[:_REPAIRS_SHOWN]
    ]
    more = len(recent) - len(lines)
    return [*lines, *([f"and {more} more repairs in the last hour; see the log"] if more else [])]


def _next_try(view: AgentView, now: float) -> str:
    left_s = view.control_next_try - now
    return f"; next try in {render.span(left_s)}" if left_s >= 1 else ""


def _resource_facts(resources: list[ResourceView]) -> list[tuple[str, str]]:
    found = {item.name: item for item in resources}
    facts = [
        (name, f"{item.used} of {item.total} {unit}reserved")
        for key, name, unit in (
            ("CPU", "CPU", "units "),
            ("MEMORY", "Memory", "MiB "),
            ("GPU", "GPUs", ""),
        )
        if (item := found.get(key)) and item.total
    ]
    ports = [
        f"{found[key].used} {protocol}"
        for key, protocol in (("PORTS_TCP", "TCP"), ("PORTS_UDP", "UDP"))
        if key in found
    ]
    return [*facts, *([("Ports", f"{' and '.join(ports)} reserved")] if ports else [])]
