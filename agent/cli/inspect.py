"""``status``, ``tasks``, ``task``, ``why``, ``stop``, ``version``.

They ask the agent on this host over its Unix socket, so they also work when control is unreachable.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent import __version__
from agent.cli import completion, launch_text, output, render, status_text, task_text
from agent.cli.client import (
    ANSWER_LIMIT_S,
    AgentClient,
    AgentNotRunning,
    CliError,
    NotAllowed,
)
from agent.config import load
from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model.metrics import TaskSample
    from agent.model.views import TaskView

VERSION_LIMIT_S = 2.0
"""How long to wait for the version of the running agent."""
_Command = TypeVar("_Command", bound="Callable[..., Any]")


def json_option(command: _Command) -> _Command:
    """Add ``--json``, which becomes the parameter ``as_json``."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return option(command)


def socket_option(command: _Command) -> _Command:
    """Add ``--socket``, which becomes the parameter ``client``."""
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


def task_argument(command: _Command) -> _Command:
    """Add ``TASK``, which becomes the parameter ``task_id``."""
    argument = click.argument("task_id", metavar="TASK", shell_complete=completion.task_ids)
    return argument(command)


def _socket_path() -> str:
    try:
        return str(load(os.environ).socket_path)
    except ConfigError:
        # These commands must work even while the settings are being edited.
        return os.environ.get("ECS_AGENT_SOCKET") or "/run/ecs-agent/agent.sock"


@click.command()
@json_option
@socket_option
def status(client: AgentClient, *, as_json: bool) -> None:
    """Show the state of the agent."""
    view = client.agent()
    if as_json:
        render.as_json(view)
        return
    render.facts(status_text.facts(view, time.time()))
    for trouble in view.degraded:
        render.sentence(trouble, indent="  ", mark="! ", colour="yellow")
    for repair in status_text.repair_lines(view.repairs, time.time()):
        render.sentence(repair, indent="  ", dim=True)


@click.command()
@json_option
@socket_option
def tasks(client: AgentClient, *, as_json: bool) -> None:
    """List the tasks on this host, newest first."""
    views = task_text.newest_first(client.tasks())
    if as_json:
        render.as_json(views)
        return
    if not views and render.on_terminal():
        output.line("no tasks")
        return
    now = time.time()
    render.table(
        task_text.TASKS,
        [task_text.row(view, now) for view in views],
        last_below=True,
        most_below=task_text.REASON_LINES,
    )


@click.command()
@task_argument
@json_option
@socket_option
def task(client: AgentClient, task_id: str, *, as_json: bool) -> None:
    """Show one task: its containers, how it was launched, and what it uses.

    TASK is a task id or its beginning, an ARN, or a name that matches only one task: a family or a
    container name. The launch is shown phase by phase, each with its beginning since the order.
    """
    view = client.task(task_id)
    if as_json:
        render.as_json(view)
        return
    render.facts(task_text.facts(view, time.time()))
    output.line()
    render.table(
        task_text.CONTAINERS,
        [task_text.container_row(container) for container in view.containers],
        last_below=True,
    )
    if view.launch is not None:
        output.line()
        _print_launch(view)
    if view.sample is not None:
        output.line()
        _print_sample(view.sample)
    if view.waits:
        output.line()
    _print_waits(view, time.time())


@click.command()
@task_argument
@json_option
@socket_option
def why(client: AgentClient, task_id: str, *, as_json: bool) -> None:
    """Show why a task has stopped, or what it waits for.

    For a task that waits, shows in order what it waits for, since when, and when the next try is.
    TASK is as for `ecs-agent task`.
    """
    view = client.task(task_id)
    if as_json:
        shown = {"id": view.id, "arn": view.arn, "status": view.status, "desired": view.desired}
        render.as_json({**shown, "reason": task_text.cause(view), "waits": view.waits})
        return
    now = time.time()
    render.sentence(task_text.state(view))
    if view.stopped_at:
        output.line(f"stopped {render.moment(view.stopped_at, now)}")
    if not view.waits and view.status != "STOPPED":
        output.line("not waiting for anything")
    _print_waits(view, now)


@click.command()
@click.argument(
    "task_id", metavar="[TASK]", required=False, default="", shell_complete=completion.task_ids
)
@click.option("--all", "all_", is_flag=True, help="Stop every task on this host.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before stopping every task.")
@click.option("--reason", default="Stopped by an operator on the host", help="Shown with the task.")
@json_option
@socket_option
@click.pass_context
def stop(
    ctx: click.Context,
    client: AgentClient,
    task_id: str,
    reason: str,
    *,
    all_: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Stop a task. Returns once the agent has accepted the request, before the task has stopped.

    TASK is as for `ecs-agent task`. With --all, stops every task on this host; control starts tasks of
    services again, here or on another host.
    """
    if all_ == bool(task_id):
        raise click.UsageError("give either TASK or --all", ctx)
    if all_:
        return _stop_all(ctx, client, reason, yes=yes, as_json=as_json)
    view = client.task(task_id)
    if view.status != "STOPPED":
        client.stop(view.id, reason=reason)
    if as_json:
        render.as_json({"id": view.id, "arn": view.arn, "desired": "STOPPED", "reason": reason})
    elif view.status == "STOPPED":
        render.sentence(f"nothing to do: {task_text.state(view)}")
    else:
        about = f"{view.id} ({view.family}:{view.revision})"
        render.sentence(f"stopping {about}; see 'ecs-agent task {view.id[: task_text.SHORT_ID]}'")
    return ExitCode.SUCCESS


def _stop_all(
    ctx: click.Context, client: AgentClient, reason: str, *, yes: bool, as_json: bool
) -> int:
    """Stop every task that has not stopped; one that fails does not keep the others from it."""
    views = [view for view in client.tasks() if view.status != "STOPPED"]
    what = "1 task" if len(views) == 1 else f"{len(views)} tasks"
    if views and not yes:
        if not output.asks():
            raise click.UsageError(f"this would stop {what}; add --yes to stop them", ctx)
        if not output.confirmed(f"stop {what} on this host?"):
            render.sentence("nothing was stopped")
            return ExitCode.ERROR
    failed = []
    for view in views:
        try:
            client.stop(view.arn, reason=reason)
        except CliError as error:
            failed.append(view)
            output.line(f"ecs-agent: {view.id}: {error}", err=True)
    stopping = [view for view in views if view not in failed]
    if as_json:
        shown = [{"id": view.id, "arn": view.arn, "desired": "STOPPED"} for view in stopping]
        render.as_json({"tasks": shown, "reason": reason})
    else:
        count = "1 task" if len(stopping) == 1 else f"{len(stopping)} tasks"
        render.sentence(f"stopping {count}; see 'ecs-agent tasks'" if views else "no tasks to stop")
    return ExitCode.ERROR if failed else ExitCode.SUCCESS


@click.command()
@json_option
@socket_option
def version(client: AgentClient, *, as_json: bool) -> None:
    """Show the version of this command, and that of a running agent if it differs.

    Only root can ask the agent; other users see only the version of the command.
    """
    try:
        running = client.within(VERSION_LIMIT_S).agent().version
    except (AgentNotRunning, NotAllowed):
        running = ""
    except Exception as error:  # noqa: BLE001 - show the version even if the agent fails
        running = ""
        output.line(f"ecs-agent: {error}", err=True)
    if as_json:
        render.as_json({"version": __version__, "running": running})
        return
    output.line(f"ecs-agent {__version__}")
    if running and running != __version__:
        output.line(f"the running agent has version {running}; restart it to update it")


def _print_waits(view: TaskView, now: float) -> None:
    waits = task_text.waits(view, now)
    if view.status == "STOPPED":
        for what, when in waits:
            render.sentence(f"{what}; {when}")
    elif waits:
        output.line("waiting for:")
        for number, (what, when) in enumerate(waits, start=1):
            render.sentence(what, indent="     ", mark=f"{number:3}. ")
            render.sentence(when, indent="     ")


def _print_launch(view: TaskView) -> None:
    if view.launch is None:
        return
    launch = view.launch
    render.sentence(launch_text.headline(launch, ended=view.status == "STOPPED"))
    if launch.phases:
        columns, rows = launch_text.table(
            launch, ended=view.status == "STOPPED", room=render.width(), blocks=output.has_blocks()
        )
        render.table(columns, rows)


def _print_sample(sample: TaskSample) -> None:
    render.table(
        task_text.FIGURES,
        [
            [
                item.name,
                "-" if item.cpu_percent is None else f"{item.cpu_percent:.1f} %",
                "-" if item.memory_bytes is None else render.size(item.memory_bytes),
                "-" if item.memory_limit_bytes is None else render.size(item.memory_limit_bytes),
                "-" if item.pids is None else str(item.pids),
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
        render.sentence(f"network: {received} received, {sent} sent{rates}")
