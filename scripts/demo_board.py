"""The output of the demo: a live table on a terminal, plain lines in a pipe.

``Board`` prints sections, steps with their time, and the states of one task. It only draws;
``demo.py`` does the work.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COLOURS = {"RUNNING": "green", "STOPPED": "bright_black", "PENDING": "yellow"}


class Board:
    """Draws on standard output."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._begun = time.monotonic()

    def title(self, text: str) -> None:
        """Print the first line of a section."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def line(self, text: str) -> None:
        """Print one line, indented."""
        self._console.print(Text(f"  {text}"))

    def good(self, text: str) -> None:
        """Print something that was proved."""
        self._console.print(Text.assemble(("  ok ", "bold green"), text))

    def bad(self, text: str) -> None:
        """Print something that went wrong."""
        self._console.print(Text.assemble(("  failed ", "bold red"), text))

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something is running, and its time once it has succeeded."""
        begun = time.monotonic()
        with self.waiting(text):
            yield
        self.good(f"{text} ({time.monotonic() - begun:.2f} s)")

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show on a terminal that something is running; remove the line afterwards."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(f"{text} ..."):
            yield

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows in columns."""
        if self._console.is_terminal:
            self._console.print(_grid(headers, rows))
            return
        lines = [list(headers), *(list(row) for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self._console.print(Text(f"  {'  '.join(cells).rstrip()}"))

    @contextlib.contextmanager
    def states(self) -> Iterator[States]:
        """Show states as they change: a table that fills up, or a line for each."""
        states = States(self._console)
        if not self._console.is_terminal:
            yield states
            return
        with Live(states.grid(), console=self._console, refresh_per_second=20) as live:
            states.live = live
            yield states

    def seconds(self) -> float:
        """Return how long the board has been in use."""
        return time.monotonic() - self._begun


class States:
    """The states of a task and its containers, each with the time when it was first seen."""

    def __init__(self, console: Console) -> None:
        self.live: Live | None = None
        self._console = console
        self._begun = time.monotonic()
        self._seen: dict[str, list[tuple[str, float]]] = {}

    def put(self, who: str, state: str) -> None:
        """Note the state of a task or container; an unchanged state is ignored."""
        rows = self._seen.setdefault(who, [])
        if rows and rows[-1][0] == state:
            return
        at = time.monotonic() - self._begun
        rows.append((state, at))
        if self.live is not None:
            self.live.update(self.grid())
        else:
            self._console.print(Text(f"  {at:6.2f} s  {who:<20} {state}"))

    def grid(self) -> Table:
        """Return the table of all states so far."""
        grid = Table(box=None, pad_edge=False, show_header=False)
        grid.add_column(style="bold")
        for who, states in self._seen.items():
            text = Text()
            for state, at in states:
                text.append(f"{state} ", style=COLOURS.get(state, ""))
                text.append(f"{at:.2f} s   ", style="dim")
            grid.add_row(f"  {who}", text)
        return grid


def _grid(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for index, header in enumerate(headers):
        grid.add_column(f"  {header}" if index == 0 else header)
    for row in rows:
        grid.add_row(f"  {row[0]}", *(Text(cell) for cell in row[1:]))
    return grid
