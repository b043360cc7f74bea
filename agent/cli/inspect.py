"""``status``, ``tasks``, ``task``, ``why``, ``logs``, ``stop``, ``version``.

They ask the agent on this host over its Unix socket, so that they work while control is away.
"""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from agent import __version__
from agent.cli import completion, render
from agent.cli.client import ANSWER_LIMIT_S, AgentClient, AgentNotRunning
from agent.config import load
from agent.errors import ConfigError
from agent.model.ids import instance_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model.metrics import TaskSample
    from agent.model.resources import Wait
    from agent.model.views import AgentView, ContainerView, ResourceView, TaskView

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_SHORT_ID = 12
"""Characters of a task's id that tables on a terminal show; commands take any beginning of it."""


def _as_json(command: _Command) -> _Command:
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return option(command)


def _socket(command: _Command) -> _Command:
    option = click.option(
        "--socket",
        "client",
        metavar="PATH",
        callback=lambda ctx, _parameter, value: AgentClient(
            value or _socket_path(),
            limit_s=completion.PATIENCE_S if ctx.resilient_parsing else ANSWER_LIMIT_S,
        ),
        help="The agent's socket. [default: ECS_AGENT_SOCKET, else /run/ecs-agent/agent.sock]",
    )
    return option(command)


def _task_id(command: _Command) -> _Command:
    argument = click.argument("task_id", metavar="TASK", shell_complete=completion.task_ids)
    return argument(command)


def _socket_path() -> str:
    try:
        return str(load(os.environ).socket_path)
    except ConfigError:
        # Looking at a running agent must work while its settings are being edited.
        return os.environ.get("ECS_AGENT_SOCKET") or "/run/ecs-agent/agent.sock"


@click.command()
@_as_json
@_socket
def status(client: AgentClient, *, as_json: bool) -> None:
    """Show how the agent is doing."""
    view = client.agent()
    if as_json:
        render.as_json(view)
        return
    render.facts(_status_facts(view, time.time()))
    for trouble in view.degraded:
        click.echo(click.style(f"! {trouble}", fg="yellow"))


@click.command()
@_as_json
@_socket
def tasks(client: AgentClient, *, as_json: bool) -> None:
    """List the tasks on this host, the newest first."""
    views = sorted(client.tasks(), key=lambda view: -view.accepted_at)
    if as_json:
        render.as_json(views)
        return
    if not views:
        click.echo("no tasks")
        return
    render.table(
        ["TASK", "DEFINITION", "STATUS", "DESIRED", "ADDRESS", "CONTAINERS", "AGE", "REASON"],
        [_task_row(view, time.time()) for view in views],
        last_below=True,
    )


@click.command()
@_task_id
@_as_json
@_socket
def task(client: AgentClient, task_id: str, *, as_json: bool) -> None:
    """Show one task, given by its ARN, its id or the beginning of that."""
    view = client.task(task_id)
    if as_json:
        render.as_json(view)
        return
    render.facts(_task_facts(view, time.time()))
    click.echo()
    render.table(
        ["CONTAINER", "STATUS", "HEALTH", "EXIT", "RESTARTS", "PORTS", "IMAGE", "REASON"],
        [_container_row(container) for container in view.containers],
        last_below=True,
    )
    if view.sample is not None:
        click.echo()
        _print_sample(view.sample)
    if view.waits:
        click.echo("\nwaits for:")
        _print_waits(view, time.time())


@click.command()
@_task_id
@_as_json
@_socket
def why(client: AgentClient, task_id: str, *, as_json: bool) -> None:
    """Show why a task is as it is.

    That is: why it has stopped; or, in order, what it waits for, since when, and when it is tried
    next.
    """
    view = client.task(task_id)
    if as_json:
        shown = {"id": view.id, "arn": view.arn, "status": view.status, "desired": view.desired}
        render.as_json({**shown, "reason": _cause(view), "waits": view.waits})
        return
    about = f"{view.id} ({view.family}:{view.revision})"
    cause = f": {cause}" if (cause := _cause(view)) else ""
    wanted = "" if view.status == view.desired else f", is to be {view.desired}"
    click.echo(f"{about} is {view.status}{wanted}{cause}")
    click.echo("waits for:" if view.waits else "waits for nothing")
    _print_waits(view, time.time())


@click.command()
@_task_id
@click.option(
    "--container",
    "-c",
    default="",
    metavar="NAME",
    shell_complete=completion.container_names,
    help="Which container; needed when there are several.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on until the container stops.")
@click.option(
    "--tail", "-n", type=click.IntRange(min=0), metavar="LINES", help="Only the last so many."
)
@_as_json
@_socket
def logs(
    client: AgentClient,
    task_id: str,
    container: str,
    tail: int | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what a container wrote."""
    rest = b""
    for chunk in client.logs(task_id, container=container, tail=tail, follow=follow):
        if not as_json:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _print_json_line(line)
    if rest:
        _print_json_line(rest)


@click.command()
@_task_id
@click.option("--reason", default="Stopped by an operator on the host", help="Shown with the task.")
@_as_json
@_socket
def stop(client: AgentClient, task_id: str, reason: str, *, as_json: bool) -> None:
    """Stop a task. Returns when the agent has taken the order, not when the task has stopped."""
    view = client.task(task_id)
    client.stop(view.id, reason=reason)
    if as_json:
        render.as_json({"id": view.id, "arn": view.arn, "desired": "STOPPED", "reason": reason})
    else:
        click.echo(f"stopping {view.id}; see 'ecs-agent task {view.id}'")


@click.command()
@_as_json
@_socket
def version(client: AgentClient, *, as_json: bool) -> None:
    """Show the version of this command, and of the agent that runs, if one does."""
    try:
        running = client.agent().version
    except AgentNotRunning:
        running = ""
    except Exception as error:  # noqa: BLE001 - the version must show whatever the agent does
        running = ""
        click.echo(f"ecs-agent: {error}", err=True)
    if as_json:
        render.as_json({"version": __version__, "running": running})
        return
    click.echo(f"ecs-agent {__version__}")
    if running and running != __version__:
        click.echo(f"the agent that runs is {running}; restart it to bring it up to date")


def _status_facts(view: AgentView, now: float) -> list[tuple[str, str]]:
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
        ("Engine", f"{view.engine_version} {engine}".strip()),
        ("Tasks", f"{view.running} running, {view.pending} pending, {view.stopped} stopped"),
        *_resource_facts(view.resources),
    ]


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


def _cause(view: TaskView) -> str:
    """Return why a task stops or has stopped: its own reason, else its containers'; or nothing.

    Containers that never began only tell that the task had stopped before.
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


def _task_row(view: TaskView, now: float) -> list[str]:
    return [
        view.id[:_SHORT_ID] if render.on_terminal() else view.id,
        f"{view.family}:{view.revision}",
        view.status,
        view.desired,
        view.ipv4 or "-",
        " ".join(container.name for container in view.containers),
        render.span(now - view.accepted_at) if view.accepted_at else "-",
        _cause(view) or (view.waits[0].what if view.waits else "-"),
    ]


def _task_facts(view: TaskView, now: float) -> list[tuple[str, str]]:
    return [
        ("Task", view.arn),
        ("Definition", f"{view.family}:{view.revision}"),
        ("Status", view.status),
        ("Desired", view.desired),
        ("Network", f"{view.network_mode} {view.ipv4}".strip()),
        ("Reason", _cause(view)),
        ("Accepted", render.moment(view.accepted_at, now)),
        ("Started", render.moment(view.started_at, now)),
        ("Stopped", render.moment(view.stopped_at, now)),
    ]


def _container_row(container: ContainerView) -> list[str]:
    ports = [
        f"{b.host_port or b.host_port_range}->{b.container_port or b.container_port_range}/{b.protocol}"
        for b in container.bindings
    ]
    return [
        container.name,
        container.status,
        str(container.health.value),
        "-" if container.exit_code is None else str(container.exit_code),
        str(container.restart_count),
        " ".join(ports) or "-",
        container.image,
        container.reason or "-",
    ]


def _print_sample(sample: TaskSample) -> None:
    render.table(
        ["CONTAINER", "CPU", "MEMORY", "LIMIT", "PIDS"],
        [
            [
                item.name,
                "-" if item.cpu_percent is None else f"{item.cpu_percent:.1f} %",
                render.size(item.memory_bytes),
                render.size(item.memory_limit_bytes) if item.memory_limit_bytes else "-",
                str(item.pids),
            ]
            for item in sample.containers
        ],
    )
    if sample.network is not None:
        received, sent = render.size(sample.network.rx_bytes), render.size(sample.network.tx_bytes)
        rates = ""
        if sample.rx_bytes_per_s is not None and sample.tx_bytes_per_s is not None:
            incoming, outgoing = (
                render.size(sample.rx_bytes_per_s),
                render.size(sample.tx_bytes_per_s),
            )
            rates = f" ({incoming}/s and {outgoing}/s now)"
        click.echo(f"network: {received} received, {sent} sent{rates}")


def _print_waits(view: TaskView, now: float) -> None:
    for number, wait in enumerate(view.waits, start=1):
        where = f"container {wait.container}: " if wait.container else ""
        click.echo(f"{number:3}. {where}{wait.what}")
        click.echo(f"     since {render.moment(wait.since, now)}; {_then(view, wait, now)}")


def _then(view: TaskView, wait: Wait, now: float) -> str:
    if not wait.next_try:
        return "goes on when that changes"
    label = "over" if view.status == "STOPPED" else "next try"
    ahead = wait.next_try - now
    return f"{label} in {render.span(ahead)}" if ahead > 0 else f"{label} now"


def _print_json_line(line: bytes) -> None:
    text = line.decode("utf-8", errors="replace").removesuffix("\r")
    click.echo(msgspec.json.encode({"line": text}).decode())
