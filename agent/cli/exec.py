"""``ecs-agent exec``: its command line. ``exec_session`` carries it out."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import completion
from agent.cli.inspect import socket_option, task_argument
from agent.model.exec import ExecCommand, ExecRequest

if TYPE_CHECKING:
    from agent.cli.client import AgentClient

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
) -> int:
    """Run a command in a container: ecs-agent exec TASK [CONTAINER] -- COMMAND [ARGUMENTS]...

    TASK is as for `ecs-agent task`; CONTAINER is needed if the task has several. On a terminal, the
    command gets a terminal too; otherwise its standard error stays apart from its output, and standard
    input may be a file or a pipe:

        ecs-agent exec web -- sh

        ecs-agent exec shop db -- pg_dump shop > shop.sql

    The exit code is the one of the command: 127 if the container has no such program, 126 if it cannot
    be started, 128 and the number of a signal that ended it.
    """
    words = ctx.meta.get(_WORDS)
    if not words:
        raise click.UsageError(_EXAMPLE, ctx)
    has_terminal = _wants_terminal(ctx, tty=tty)
    from agent.cli import exec_session  # noqa: PLC0415 - loads aiohttp

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
            terminal=exec_session.terminal_size() if has_terminal else None,
        ),
    )
    return asyncio.run(exec_session.run(client, task_id, request))


def _wants_terminal(ctx: click.Context, *, tty: bool | None) -> bool:
    both = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    if tty and not both:
        text = "-t needs a terminal as standard input and output; leave it out in a pipe"
        raise click.UsageError(text, ctx)
    return both if tty is None else tty
