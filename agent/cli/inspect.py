"""``status``, ``tasks``, ``task``, ``why``, ``logs``, ``stop``, ``version``.

They ask the agent on this host over its Unix socket, so that they work while control is away.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from agent import __version__
from agent.cli import render
from agent.cli.client import AgentClient, AgentNotRunning
from agent.config import load
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model.metrics import TaskSample
    from agent.model.resources import Wait
    from agent.model.views import AgentView, ContainerView, TaskView

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def _as_json(command: _Command) -> _Command:
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return option(command)


def _socket(command: _Command) -> _Command:
    option = click.option(
        "--socket",
        "client",
        metavar="PATH",
        callback=lambda _ctx, _parameter, value: AgentClient(value or _socket_path()),
        help="The agent's socket. [default: ECS_AGENT_SOCKET, else /run/ecs-agent/agent.sock]",
    )
    return option(command)


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
    )


@click.command()
@click.argument("task_id", metavar="TASK")
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
    )
    if view.sample is not None:
        click.echo()
        _print_sample(view.sample)
    for number, wait in enumerate(view.waits, start=1):
        _print_wait(number, wait, time.time())


@click.command()
@click.argument("task_id", metavar="TASK")
@_as_json
@_socket
def why(client: AgentClient, task_id: str, *, as_json: bool) -> None:
    """Show, in order, what a task waits for, since when, and when it is tried next."""
    view = client.task(task_id)
    if as_json:
        shown = {"id": view.id, "arn": view.arn, "status": view.status, "desired": view.desired}
        render.as_json({**shown, "reason": view.reason, "waits": view.waits})
        return
    about = f"{view.id} ({view.family}:{view.revision})"
    if view.waits:
        click.echo(f"{about} is {view.status}, is to be {view.desired}, and waits for:")
        for number, wait in enumerate(view.waits, start=1):
            _print_wait(number, wait, time.time())
    elif view.reason:
        click.echo(f"{about} is {view.status} and waits for nothing: {view.reason}")
    else:
        click.echo(f"{about} is {view.status} and waits for nothing")


@click.command()
@click.argument("task_id", metavar="TASK")
@click.option(
    "--container", "-c", default="", help="Which container; needed when there are several."
)
@click.option("--follow", "-f", is_flag=True, help="Go on until the container stops.")
@click.option("--tail", "-n", type=click.IntRange(min=0), help="Only the last lines.")
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
@click.argument("task_id", metavar="TASK")
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
    link = f"connected{since}" if view.control_connected else f"not connected{since}{trouble}"
    unsent = f", {view.unsent_changes} changes to send" if view.unsent_changes else ""
    engine = view.engine_version or "engine"
    up = f", up {render.span(now - view.started_at)}" if view.started_at else ""
    return [
        ("Agent", f"{view.version}{up}"),
        ("Cluster", view.cluster),
        ("Instance", f"{view.instance_arn} {view.instance_status}".strip() or "not registered yet"),
        ("Control", f"{view.control_endpoint} {link}{unsent}".strip()),
        ("Engine", f"{engine} {'connected' if view.engine_connected else 'not connected'}"),
        ("Tasks", f"{view.running} running, {view.pending} pending, {view.stopped} stopped"),
        *((item.name, f"{item.used} of {item.total} used") for item in view.resources),
    ]


def _task_row(view: TaskView, now: float) -> list[str]:
    return [
        view.id,
        f"{view.family}:{view.revision}",
        view.status,
        view.desired,
        view.ipv4 or "-",
        " ".join(container.name for container in view.containers),
        render.span(now - view.accepted_at) if view.accepted_at else "-",
        view.reason or (view.waits[0].what if view.waits else "-"),
    ]


def _task_facts(view: TaskView, now: float) -> list[tuple[str, str]]:
    return [
        ("Task", view.arn),
        ("Definition", f"{view.family}:{view.revision}"),
        ("Status", view.status),
        ("Desired", view.desired),
        ("Network", f"{view.network_mode} {view.ipv4}".strip()),
        ("Reason", f"{view.stop_code} {view.reason}".strip()),
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


def _print_wait(number: int, wait: Wait, now: float) -> None:
    where = f"container {wait.container}: " if wait.container else ""
    click.echo(f"{number:3}. {where}{wait.what}")
    then = "when that changes"
    if wait.next_try:
        ahead = wait.next_try - now
        then = f"in {render.span(ahead)}" if ahead > 0 else "now"
    click.echo(f"     since {render.moment(wait.since, now)}; next try {then}")


def _print_json_line(line: bytes) -> None:
    text = line.decode("utf-8", errors="replace").removesuffix("\r")
    click.echo(msgspec.json.encode({"line": text}).decode())
