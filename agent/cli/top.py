"""``ecs-agent top``: what the host and its containers use, or a whole fleet, live."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import click
from msgspec.structs import replace

from agent.cli import completion, output, render, top_fleet, top_text
from agent.cli.control_calls import ControlApi
from agent.cli.inspect import socket_option
from agent.cli.top_fleet import FleetSource
from agent.cli.top_rows import BY_NAME, SORT_KEYS, Rounds, chosen
from agent.cli.top_text import Line, Sight
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.cli.client import AgentClient
    from agent.cli.top_rows import Round, Row
    from agent.model.fleet_views import FleetView

_USUAL_S: Final = 2.0
_FLEET_S: Final = 10.0
"""Agents tell control their figures every 20 s."""
_SECOND_LOOK_S: Final = 1.0
"""Rates need two rounds."""
_KEYS: Final = {
    "c": "cpu",
    "m": "memory",
    "n": "network",
    "i": "io",
    "p": "pids",
    "r": "restarts",
    "u": "uptime",
    "a": BY_NAME,
}
_SORTS: Final = (*SORT_KEYS, BY_NAME)
_FLEET_SORTS: Final = (*top_fleet.SORTS, BY_NAME)
_FLEET_KEYS: Final = {key: sort for key, sort in _KEYS.items() if sort in _FLEET_SORTS}
_QUIT: Final = "qQ"


class _Seconds(click.ParamType[float]):
    """Time between two rounds."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(str(value).removesuffix("s"))
        except ValueError:
            seconds = 0.0
        if not 1 <= seconds <= 3600:  # nan is refused, too
            self.fail(
                f"{value!r} is not between 1 and 3600 seconds; use, for example, 5", param, ctx
            )
        return seconds


@click.command()
@click.option(
    "--sort",
    "-s",
    type=click.Choice(_SORTS, case_sensitive=False),
    default="cpu",
    show_default=True,
    help="Sort by this, largest first; name sorts by family and container.",
)
@click.option(
    "--filter",
    "-f",
    "words",
    default="",
    metavar="TEXT",
    shell_complete=completion.task_ids,
    help="Only containers whose name or family contains TEXT, or whose task id begins with it.",
)
@click.option(
    "--interval",
    "-i",
    "every_s",
    type=_Seconds(),
    metavar="SECONDS",
    help="Time between two rounds, at least 1. [default: 2; 10 with --fleet]",
)
@click.option(
    "--fleet",
    is_flag=True,
    help="Show all hosts and tasks of a cluster, on the host of its control.",
)
@click.option(
    "--cluster", metavar="NAME", help="The cluster to show with --fleet. [default: default]"
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="With --fleet: data directory of control. [default: the one of standalone or of the service]",
)
@click.option("--once", is_flag=True, help="Print the values of one second and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print each round as a line of JSON.")
@socket_option
@click.pass_context
def top(
    ctx: click.Context,
    client: AgentClient,
    sort: str,
    words: str,
    every_s: float | None,
    cluster: str | None,
    data_dir: Path | None,
    *,
    fleet: bool,
    once: bool,
    as_json: bool,
) -> int:
    """Show what the host and its containers use, and keep it up to date.

    Keys: q quits; c, m, n, i, p, r, u and a sort by CPU, memory, network, disk, processes, restarts,
    uptime and name. Without a terminal it prints one table and exits, unless --json is given.

    CPU is in percent of one core. Containers of a task in awsvpc mode share its network: each shows the
    traffic of the whole task. An unknown value is "-".

    With --fleet it shows the hosts and tasks of a cluster, as the control endpoint on this host knows them.
    Agents report to control every 20 s; values older than two minutes are not shown.

    Examples: `ecs-agent top --sort memory`, `ecs-agent top --filter web --interval 5`,
    `ecs-agent top --once --json`, `sudo ecs-agent top --fleet --cluster prod`.
    """
    for name, value in (("--cluster", cluster), ("--data-dir", data_dir)):
        if value is not None and not fleet:
            raise click.UsageError(f"{name} is for --fleet; add it, or leave {name} out", ctx)
    shown: _Shown
    if fleet:
        if sort not in _FLEET_SORTS:
            text = f"control has no values to sort by {sort}; use {', '.join(_FLEET_SORTS)}"
            raise click.UsageError(text, ctx)
        api = ControlApi.find(data_dir)
        shown = _FleetShown(
            FleetSource(api, cluster or "default", every_s or _FLEET_S), sort, words
        )
    else:
        shown = _HostShown(client, every_s or _USUAL_S, sort, words)
    if not as_json and not once and render.on_terminal():
        from agent.cli.top_screen import LiveScreen  # noqa: PLC0415 - loads rich, only for a terminal

        LiveScreen[Any](shown.next, shown.draw, shown.press).run()
        return ExitCode.SUCCESS
    with contextlib.suppress(KeyboardInterrupt):
        if once or not as_json:
            _print(shown, shown.one(), as_json=as_json)
        else:
            while True:
                _print(shown, shown.next(), as_json=True)
    return ExitCode.SUCCESS


class _Shown(Protocol):
    """What is shown: one host, or a fleet."""

    def next(self) -> Any:
        """Wait for the next figures and return them."""

    def one(self) -> Any:
        """Return figures with everything that can be known at once."""

    def json(self, figures: Any) -> Any:
        """Return the figures as JSON shows them."""

    def draw(self, figures: Any, trouble: str, width: int, height: int) -> Sequence[Line]:
        """Return the lines of a terminal."""

    def plain(self, figures: Any, width: int) -> Sequence[Line]:
        """Return the lines of a pipe."""

    def press(self, key: str) -> bool:
        """Take a key; return False if it ends the screen."""


class _HostShown:
    """This host and its containers."""

    def __init__(self, client: AgentClient, every_s: float, sort: str, words: str) -> None:
        self._source = _Source(client, every_s)
        self._sort = sort
        self._words = words

    def next(self) -> Round:
        return self._source.next()

    def one(self) -> Round:
        return self._source.second()

    def json(self, figures: Round) -> Round:
        return replace(figures, containers=self._rows(figures))

    def plain(self, figures: Round, width: int) -> Sequence[Line]:
        return self._lines(figures, Sight(width, 0, self._sort, self._words))

    def draw(self, figures: Round, trouble: str, width: int, height: int) -> Sequence[Line]:
        sight = Sight(width, height - 1, self._sort, self._words, trouble)
        return [*self._lines(figures, sight), _foot(self._sort, _KEYS, width)]

    def press(self, key: str) -> bool:
        self._sort = _KEYS.get(key, self._sort)
        return key not in _QUIT

    def _rows(self, figures: Round) -> list[Row]:
        return chosen(figures.containers, sort=self._sort, words=self._words)

    def _lines(self, figures: Round, sight: Sight) -> Sequence[Line]:
        return top_text.screen(figures, self._rows(figures), sight)


class _FleetShown:
    """The hosts and tasks of a cluster."""

    def __init__(self, source: FleetSource, sort: str, words: str) -> None:
        self._source = source
        self._sort = sort
        self._words = words

    def next(self) -> FleetView:
        return self._source.next()

    def one(self) -> FleetView:
        return self._source.next()

    def json(self, figures: FleetView) -> FleetView:
        return top_fleet.chosen(figures, sort=self._sort, words=self._words)

    def plain(self, figures: FleetView, width: int) -> Sequence[Line]:
        sight = Sight(width, 0, self._sort, self._words)
        return top_fleet.screen(self.json(figures), len(figures.tasks), sight)

    def draw(self, figures: FleetView, trouble: str, width: int, height: int) -> Sequence[Line]:
        sight = Sight(width, height - 1, self._sort, self._words, trouble)
        lines = top_fleet.screen(self.json(figures), len(figures.tasks), sight)
        return [*lines, _foot(self._sort, _FLEET_KEYS, width)]

    def press(self, key: str) -> bool:
        self._sort = _FLEET_KEYS.get(key, self._sort)
        return key not in _QUIT


class _Source:
    """The agent's rounds, each as soon as it is there."""

    def __init__(self, client: AgentClient, every_s: float) -> None:
        self._client = client
        self._every_s = every_s
        self._rounds = Rounds()
        self._after: float | None = None

    def next(self, every_s: float = 0.0) -> Round:
        """Wait for the next round."""
        while True:
            view = self._client.usage(after=self._after, every_s=every_s or self._every_s)
            if view.at is None or view.at == self._after:
                continue  # held as long as the agent holds a call: ask again
            self._after = view.at
            taken = self._rounds.take(view)
            if taken is not None:
                return taken

    def second(self) -> Round:
        """Return the second round, which has rates."""
        self.next(_SECOND_LOOK_S)
        return self.next(_SECOND_LOOK_S)


def _print(shown: _Shown, figures: Any, *, as_json: bool) -> None:
    if as_json:
        output.json(shown.json(figures), indent=0)
        return
    width = render.width() if render.on_terminal() else top_text.UNLIMITED
    for line in shown.plain(figures, width):
        output.line(line.text)


def _foot(sort: str, keys: Mapping[str, str], width: int) -> Line:
    return Line(top_text.fitted(top_text.keys(sort, keys), width), top_text.DIM)
