"""All commands but ``run``: a click group that imports the module of a command only when needed.

Every error becomes one line on standard error and a stable exit code (``agent.errors.ExitCode``).
"""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import click
from click.shell_completion import CompletionItem

from agent import __version__
from agent.cli import output
from agent.cli.client import CliError
from agent.errors import AgentError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Entry(NamedTuple):
    place: str
    """``module:function``."""
    help: str
    also: tuple[str, ...] = ()
    """Other names of the command; lists of commands do not show them."""


_COMMANDS = {
    "standalone": _Entry(
        "agent.cli.standalone:standalone", "Run a control endpoint and an agent on this host."
    ),
    "run": _Entry("agent.cli.run_command:run_command", "Run the agent."),
    "control": _Entry("agent.cli.control:control", "Run a control endpoint."),
    "ingress": _Entry(
        "agent.cli.ingress:ingress",
        "Carry the requests of load balancers on this host, with HAProxy.",
    ),
    "env": _Entry("agent.cli.env:env", "Print what the AWS tools need to command this control."),
    "secret": _Entry(
        "agent.cli.secret:secret", "Store secrets in this control, for sites without AWS."
    ),
    "user": _Entry(
        "agent.cli.user:user", "Give people and programs keys of this control, with policies."
    ),
    "events": _Entry(
        "agent.cli.events:events", "Show what happens to tasks, hosts and services of this control."
    ),
    "audit": _Entry(
        "agent.cli.audit:audit", "Show who changed what through the APIs of this control."
    ),
    "join": _Entry("agent.cli.join:join", "Make this host a member of a fleet."),
    "doctor": _Entry("agent.cli.doctor:doctor", "Check this host and say what to fix."),
    "policy": _Entry("agent.cli.policy:policy", "Show and try this host's own policy."),
    "status": _Entry("agent.cli.inspect:status", "Show the state of the agent."),
    "tasks": _Entry(
        "agent.cli.inspect:tasks", "List the tasks on this host (also ps, ls).", ("ps", "ls")
    ),
    "task": _Entry("agent.cli.inspect:task", "Show one task."),
    "top": _Entry("agent.cli.top:top", "Show what the host and its containers use, live."),
    "why": _Entry("agent.cli.inspect:why", "Show why a task has stopped, or what it waits for."),
    "network": _Entry("agent.cli.network:network", "Show and check the networks of tasks."),
    "logs": _Entry("agent.cli.logs:logs", "Show the output of containers."),
    "exec": _Entry("agent.cli.exec:exec_", "Run a command in a container."),
    "stop": _Entry("agent.cli.inspect:stop", "Stop a task."),
    "drain": _Entry("agent.cli.drain:drain", "Have this host take no new tasks."),
    "undrain": _Entry("agent.cli.drain:undrain", "Have this host take tasks again."),
    "healthcheck": _Entry(
        "agent.cli.healthcheck_command:healthcheck_command", "Tell whether the agent answers."
    ),
    "version": _Entry("agent.cli.inspect:version", "Show the version."),
    "help": _Entry("agent.cli.app:help_command", "Show the help of a command."),
}
_OUTPUT_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Commands handle errors of files that they write themselves, so these come from standard output."""
_ALSO = {other: name for name, entry in _COMMANDS.items() for other in entry.also}


class _Commands(click.Group):
    """Looks up commands in the tables above; lists them without loading them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(_ALSO.get(cmd_name, cmd_name))
        if entry is None:
            return None
        module, _, name = entry.place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table is ours
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = {**_COMMANDS, **_ALSO}
        unknown = args and not args[0].startswith("-") and args[0] not in known
        if unknown and not ctx.resilient_parsing:  # completion must print no message
            near = difflib.get_close_matches(args[0].lower(), known, n=1, cutoff=0.6)
            mend = f"; did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"there is no command '{args[0]}'{mend}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        options = click.Command.shell_complete(self, ctx, incomplete)
        return options + [
            CompletionItem(name, help=entry.help)
            for name, entry in _COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="ecs-agent", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context) -> None:
    """Run Amazon ECS tasks on hosts of your own.

    Start with `ecs-agent standalone`: it runs a control endpoint and an agent on this host. Then run
    `eval $(ecs-agent env)`, and use aws, boto3 or Terraform as usual.

    Exit codes: 0 success, 1 failure, 2 bad command line, 5 failure that a retry cannot fix.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    elif os.environ.get("FORCE_COLOR"):
        ctx.color = True
    if ctx.invoked_subcommand is None:
        output.lines(ctx.get_help())


@click.command()
@click.argument("command", required=False, metavar="[COMMAND]")
@click.pass_context
def help_command(ctx: click.Context, command: str | None) -> None:
    """Show the help of a command, or the list of commands."""
    top = ctx.find_root()
    if command is None:
        output.lines(top.get_help())
        return
    name, found, _ = group.resolve_command(top, [command])
    if found is not None:  # always, because resolve_command raises for an unknown name
        output.lines(click.Context(found, info_name=name, parent=top).get_help())


def summary(command: str) -> str:
    """Return the one-line description of a command, as in the list of commands."""
    return _COMMANDS[command].help


def main(arguments: Sequence[str]) -> int:
    """Run one of the click commands and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names given by others may have characters that the terminal cannot encode.
            stream.reconfigure(errors="replace")
    try:
        result = group.main(list(arguments), prog_name="ecs-agent", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.Abort:
        return 130  # as shells report Ctrl-C
    except click.ClickException as error:
        return _usage(error, arguments)
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.SUCCESS
    except AgentError as error:
        return _failed(error)
    except OSError as error:
        if error.errno not in _OUTPUT_IS_FULL:
            raise
        _drop_stdout()
        return _failed(CliError(f"the output cannot be written: {error.strerror}"))
    return result if isinstance(result, int) else ExitCode.SUCCESS


def _usage(error: click.ClickException, arguments: Sequence[str]) -> int:
    context = getattr(error, "ctx", None)
    known = arguments and arguments[0] in {*_COMMANDS, *_ALSO}
    path = f"ecs-agent {arguments[0]}" if known else "ecs-agent"
    if context is not None:
        path = context.command_path
    output.line(f"ecs-agent: {error.format_message()}", err=True)
    output.line(f"Try '{path} --help'.", err=True)
    return ExitCode.USAGE


def _failed(error: AgentError) -> int:
    if isinstance(error, CliError):
        output.line(f"ecs-agent: {error}", err=True)
        return error.exit_code
    for line in str(error).split("\n"):  # one line per problem of the settings
        output.line(f"ecs-agent: {line}", err=True)
    return ExitCode.TERMINAL if error.terminal else ExitCode.ERROR


def _drop_stdout() -> None:
    """Keep the interpreter from printing an error when it flushes into a closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
