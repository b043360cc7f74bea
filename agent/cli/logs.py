"""``ecs-agent logs``: the output of one container or of all containers of a task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import completion, output
from agent.cli.client import CliError
from agent.cli.inspect import json_option, socket_option, task_argument
from agent.cli.log_lines import TaskLogs, since_ns
from agent.errors import ExitCode

if TYPE_CHECKING:
    from agent.cli.client import AgentClient
    from agent.cli.log_lines import LogLine
    from agent.model.views import TaskView

_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta")


class _Lines(click.ParamType[int]):
    """A number of lines."""

    name = "lines"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            self.fail(f"{text!r} is not a number of lines; use, for example, 100", param, ctx)
        return int(text)


class _Since(click.ParamType[int]):
    """A time, or how long ago; in nanoseconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return since_ns(str(value), time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@task_argument
@click.option(
    "--container",
    "-c",
    "containers",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.container_names,
    help="Only this container; may be repeated. [default: all]",
)
@click.option(
    "--follow",
    "-f",
    is_flag=True,
    help="Follow the output, through restarts, until the containers have stopped.",
)
@click.option(
    "--tail",
    "-n",
    type=_Lines(),
    metavar="LINES",
    help="Show only the last LINES lines of each container.",
)
@click.option(
    "--since",
    "beginning",
    type=_Since(),
    metavar="TIME",
    help="Show only lines since then: 10m, 2d, 2026-01-31T14:00.",
)
@click.option("--timestamps", "-t", is_flag=True, help="Show the time of each line.")
@json_option
@socket_option
def logs(
    client: AgentClient,
    task_id: str,
    containers: tuple[str, ...],
    tail: int | None,
    beginning: int | None,
    *,
    follow: bool,
    timestamps: bool,
    as_json: bool,
) -> int:
    """Show the output of a task's containers, by time.

    TASK is as for `ecs-agent task`; a container name also selects that container. If there are several
    containers, each line begins with the name of its container.
    """
    since = beginning or 0
    view = client.task(task_id)
    names = _selected(view, task_id.strip(), containers)
    if len(names) == 1 and not (follow or timestamps or as_json):
        output.copy(client.logs(view.id, container=names[0], tail=tail, since_ns=since))
        return ExitCode.SUCCESS
    created = {container.name for container in view.containers if container.runtime_id}
    if not follow and not created.intersection(names):
        # Let the agent say what is missing.
        output.copy(client.logs(view.id, container=names[0]))
    printer = _Printer(names, timestamps=timestamps, as_json=as_json)
    begun = time.time_ns()
    read = TaskLogs(client, view.id, names, printer.trouble)
    there = TaskLogs(client, view.id, [n for n in names if n in created], printer.trouble)
    newest = dict.fromkeys(names, since)
    for line in there.written(tail=tail, since=since):
        printer.line(line)
        newest[line.container] = line.stamp_ns + 1
    if follow:
        if tail == 0:
            newest = {name: max(stamp, begun) for name, stamp in newest.items()}
        read.unreadable |= there.unreadable
        for line in read.following(newest):
            printer.line(line)
    unread = read.unreadable | there.unreadable
    return ExitCode.ERROR if unread.issuperset(names) else ExitCode.SUCCESS


def _selected(view: TaskView, asked: str, wanted: tuple[str, ...]) -> list[str]:
    """Return the names of the containers that are meant.

    Raises:
        CliError: the task has no such container.
    """
    names = [container.name for container in view.containers]
    wanted = wanted or ((asked,) if asked in names else ())
    for name in wanted:
        if name not in names:
            text = f"task {view.id} has no container {name!r}; it has {', '.join(names)}"
            raise CliError(text)
    return [name for name in names if name in wanted] if wanted else names


class _Printer:
    """Prints lines of these containers."""

    def __init__(self, names: list[str], *, timestamps: bool, as_json: bool) -> None:
        self._width = max(len(name) for name in names) if len(names) > 1 else 0
        self._colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
        self._timestamps = timestamps
        self._as_json = as_json

    def line(self, line: LogLine) -> None:
        """Print one line."""
        if self._as_json:
            text = line.text.decode("utf-8", errors="replace").removesuffix("\r")
            shown = {"container": line.container, "time": line.time, "line": text}
            output.json(shown, indent=0)
            return
        prefix = f"{line.container:{self._width}} | " if self._width else ""
        moment = f"{line.time} " if self._timestamps and line.time else ""
        output.container_line(
            output.joined((output.styled(prefix, fg=self._colours[line.container]), moment)),
            line.text,
            is_whole=line.is_whole or bool(self._width),
        )

    def trouble(self, container: str, text: str) -> None:
        """Say why the log of a container cannot be read."""
        output.line(f"ecs-agent: container {container}: {text}", err=True)
