"""``ecs-agent top``: what the host and its containers use, live."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import output, render, top_text
from agent.cli.inspect import socket_option
from agent.cli.top_rows import BY_NAME, SORT_KEYS, Round, Rounds, chosen
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.cli.client import AgentClient
    from agent.cli.top_rows import Row

_USUAL_S: Final = 2.0
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
    help="Only containers whose name or family contains TEXT, or whose task id begins with it.",
)
@click.option(
    "--interval",
    "-i",
    "every_s",
    type=_Seconds(),
    default=_USUAL_S,
    show_default=True,
    metavar="SECONDS",
    help="Time between two rounds, at least 1.",
)
@click.option("--once", is_flag=True, help="Print the figures of one second and end.")
@click.option("--json", "as_json", is_flag=True, help="Print each round as a line of JSON.")
@socket_option
def top(
    client: AgentClient, sort: str, words: str, every_s: float, *, once: bool, as_json: bool
) -> int:
    """Show what the host and its containers use, and keep it up to date.

    Keys: q quits; c, m, n, i, p, r, u and a sort by CPU, memory, network, disk, processes, restarts,
    uptime and name. Without a terminal it prints one round, unless --json is given.

    CPU is in percent of one core. Containers of a task in awsvpc mode share its network: each shows the
    traffic of the whole task. A figure that is not known is shown as "-".

    Examples: `ecs-agent top --sort memory`, `ecs-agent top --filter web --interval 5`,
    `ecs-agent top --once --json`.
    """
    source = _Source(client, every_s)
    if not as_json and not once and render.on_terminal():
        _live(source, sort.lower(), words)
        return ExitCode.SUCCESS
    rounds = [source.second()] if once or not as_json else source.all()
    with contextlib.suppress(KeyboardInterrupt):
        for round_ in rounds:
            rows = chosen(round_.containers, sort=sort.lower(), words=words)
            _print(round_, rows, as_json=as_json, sort=sort, words=words)
    return ExitCode.SUCCESS


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

    def all(self) -> Iterator[Round]:
        """Yield rounds without end."""
        while True:
            yield self.next()


def _print(round_: Round, rows: Sequence[Row], *, as_json: bool, sort: str, words: str) -> None:
    if as_json:
        output.json(
            Round(
                at=round_.at,
                host=round_.host,
                tasks_running=round_.tasks_running,
                tasks_pending=round_.tasks_pending,
                containers=list(rows),
            ),
            indent=0,
        )
        return
    sight = top_text.Sight(width=_width(), sort=sort, words=words)
    for line in top_text.screen(round_, rows, sight):
        output.line(line.text)


def _width() -> int:
    """Return the width of the terminal; a pipe gets everything."""
    return render.width() if render.on_terminal() else top_text.UNLIMITED


def _live(source: _Source, sort: str, words: str) -> None:
    from agent.cli.top_screen import LiveScreen  # noqa: PLC0415 - loads rich, only for a terminal

    chosen_sort = [sort]

    def draw(round_: Round, trouble: str, width: int, height: int) -> Sequence[top_text.Line]:
        rows = chosen(round_.containers, sort=chosen_sort[0], words=words)
        sight = top_text.Sight(width, height - 1, chosen_sort[0], words, trouble)
        foot = top_text.Line(top_text.fitted(top_text.keys(chosen_sort[0]), width), top_text.DIM)
        return [*top_text.screen(round_, rows, sight), foot]

    def press(key: str) -> bool:
        chosen_sort[0] = _KEYS.get(key, chosen_sort[0])
        return key not in "qQ"

    LiveScreen(source.next, draw, press).run()
