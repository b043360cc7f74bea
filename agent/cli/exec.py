"""``ecs-agent exec``: its command line. ``exec_session`` carries it out."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import completion
from agent.cli.inspect import socket_option, task_argument
from agent.model.exec import ExecCommand, ExecRequest

if TYPE_CHECKING:
    from agent.cli.client import AgentClient
    from agent.model.exec import TerminalSize

_WORDS: Final = "agent.cli.exec.words"
_EXAMPLE: Final = "give the command after --, for example: ecs-agent exec web -- sh"


class _ExecCommand(click.Command):
    """Takes everything after the first ``--`` as the command for the container, unread."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_WORDS] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


class _Variable(click.ParamType[tuple[str, str]]):
    """``NAME=VALUE``."""

    name = "variable"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, text


@click.command("exec", cls=_ExecCommand, options_metavar="[OPTIONS]")
@task_argument
@click.argument("container", required=False, default="", shell_complete=completion.container_names)
@click.option("--user", "-u", default="", metavar="USER[:GROUP]", help="Run as this user.")
@click.option("--workdir", "-w", default="", metavar="PATH", help="Run in this directory.")
@click.option(
    "--env",
    "-e",
    "variables",
    type=_Variable(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an environment variable; may be repeated.",
)
@click.option(
    "--tty/--no-tty",
    "-t/-T",
    default=None,
    help="Give the command a terminal. [default: if standard input and output are terminals]",
)
@click.option(
    "--cluster",
    metavar="NAME",
    help="Run it in a task of this cluster on any host, by way of the control endpoint of this host.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of control, with --cluster. [default: the one of standalone or of the service]",
)
@socket_option
@click.pass_context
def exec_(
    ctx: click.Context,
    client: AgentClient,
    task_id: str,
    container: str,
    user: str,
    workdir: str,
    variables: tuple[tuple[str, str], ...],
    *,
    tty: bool | None,
    cluster: str | None,
    data_dir: Path | None,
) -> int:
    """Run a command in a container: ecs-agent exec TASK [CONTAINER] -- COMMAND [ARGUMENTS]...

    TASK is as for `ecs-agent task`; CONTAINER is needed if the task has several. On a terminal, the
    command gets a terminal too; otherwise its standard error stays apart from its output, and standard
    input may be a file or a pipe:

        ecs-agent exec web -- sh

        ecs-agent exec shop db -- pg_dump shop > shop.sql

    With --cluster, TASK is a task of that cluster which was run with enableExecuteCommand, on whatever host:

        sudo ecs-agent exec --cluster prod web -- sh

    The exit code is the one of the command: 127 if the container has no such program, 126 if it cannot
    be started, 128 and the number of a signal that ended it.
    """
    words = ctx.meta.get(_WORDS)
    if not words:
        raise click.UsageError(_EXAMPLE, ctx)
    has_terminal = _wants_terminal(ctx, tty=tty)
    from agent.cli import exec_session  # noqa: PLC0415 - loads aiohttp

    terminal = exec_session.terminal_size() if has_terminal else None
    if cluster is not None:
        _refuse_with_cluster(ctx, user=user, workdir=workdir, env=variables)
        return _by_control(data_dir, cluster, (task_id, container, words), terminal)
    if data_dir is not None:
        raise click.UsageError("--data-dir has no effect without --cluster; give both", ctx)
    environment = dict(variables)
    if has_terminal and (kind := os.environ.get("TERM")):
        environment = {"TERM": kind, **environment}
    request = ExecRequest(
        container=container,
        command=ExecCommand(
            words=list(words),
            user=user,
            workdir=workdir,
            environment=environment,
            terminal=terminal,
        ),
    )
    return asyncio.run(exec_session.run(client, task_id, request))


def _refuse_with_cluster(ctx: click.Context, **given: object) -> None:
    """Refuse options that ExecuteCommand has no member for."""
    for name, value in given.items():
        if value:
            text = f"--{name} cannot be used with --cluster: use env or su in the command instead"
            raise click.UsageError(text, ctx)


def _by_control(
    data_dir: Path | None,
    cluster: str,
    asked: tuple[str, str, list[str]],
    terminal: TerminalSize | None,
) -> int:
    """Run a command in a task of any host; ``asked`` is the task, its container and the command."""
    from agent.cli import exec_control  # noqa: PLC0415 - loads aiohttp
    from agent.cli.control_calls import ControlApi  # noqa: PLC0415 - not for tasks of this host

    api = ControlApi.find(data_dir)
    return asyncio.run(exec_control.run(api, exec_control.begin(api, cluster, *asked), terminal))


def _wants_terminal(ctx: click.Context, *, tty: bool | None) -> bool:
    both = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    if tty and not both:
        text = "-t needs a terminal as standard input and output; leave it out in a pipe"
        raise click.UsageError(text, ctx)
    return both if tty is None else tty
