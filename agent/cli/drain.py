"""``ecs-agent drain`` and ``undrain``: whether this host takes new tasks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import render
from agent.cli.inspect import json_option, socket_option
from agent.cli.status_text import drain_state
from agent.config.values import parse_duration_s
from agent.errors import ExitCode

if TYPE_CHECKING:
    from agent.cli.client import AgentClient
    from agent.model.views import AgentView

LOOK_EVERY_S: Final = 1.0


class _Duration(click.ParamType[float]):
    """A duration in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return parse_duration_s(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


@click.command()
@click.option(
    "--deadline",
    "deadline_s",
    type=_Duration(),
    metavar="DURATION",
    help="Stop the tasks that are left after this time, for example 30m.",
)
@click.option("--stop-tasks", is_flag=True, help="Stop the tasks now.")
@click.option(
    "--wait", is_flag=True, help="Return when no task is left. Ctrl-C ends only the waiting."
)
@json_option
@socket_option
@click.pass_context
def drain(
    ctx: click.Context,
    client: AgentClient,
    deadline_s: float | None,
    *,
    stop_tasks: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Have this host take no new tasks, for example before maintenance.

    Sets the container instance to DRAINING at control, at once or as soon as control answers. Control
    then replaces the tasks of services on other hosts. Other tasks keep running, unless --stop-tasks or
    --deadline is given; repeat the command to change that. The drain survives restarts and reboots, and
    ends with `ecs-agent undrain`.
    """
    if stop_tasks and deadline_s is not None:
        raise click.UsageError("give either --deadline or --stop-tasks", ctx)
    deadline = 0.0
    if stop_tasks or deadline_s is not None:
        deadline = time.time() + (deadline_s or 0.0)
    view = client.drain(wanted=True, deadline=deadline)
    while wait and view.running + view.pending:
        time.sleep(LOOK_EVERY_S)
        view = client.agent()
        if not view.drain.wanted:
            render.sentence("somebody has ended the drain")
            return ExitCode.ERROR
    _show(view, as_json=as_json)
    return ExitCode.SUCCESS


@click.command()
@json_option
@socket_option
def undrain(client: AgentClient, *, as_json: bool) -> None:
    """Have this host take tasks again after `ecs-agent drain`."""
    _show(client.drain(wanted=False), as_json=as_json)


def _show(view: AgentView, *, as_json: bool) -> None:
    if as_json:
        render.as_json(view.drain)
        return
    state = drain_state(view.drain, view.running + view.pending, time.time())
    what = "draining" if view.drain.wanted else "taking tasks again"
    render.sentence(f"{what} {state}".strip() if view.drain.wanted else what)
