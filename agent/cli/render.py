"""How commands show things: tables and colours on a terminal, plain aligned text in a pipe."""

from __future__ import annotations

import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLOURS = {
    "RUNNING": "green",
    "STOPPED": "bright_black",
    "PENDING": "yellow",
    "HEALTHY": "green",
    "UNHEALTHY": "red",
}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def as_json(value: Any) -> None:
    """Print a value as indented JSON with the field names of the operator socket."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def on_terminal() -> bool:
    """Return whether a person reads along."""
    return sys.stdout.isatty()


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, last_below: bool = False
) -> None:
    """Print rows in columns with two blanks between them; colours on a terminal.

    Args:
        headers: the first line.
        rows: one cell per header; "-" where there is nothing.
        last_below: on a terminal the last cell, which may be a sentence, is not a column but a
            paragraph below its row, folded to the width.
    """
    lines = [list(row) for row in rows]
    if not on_terminal():
        _plain_table([list(headers), *lines])
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms that a pipe need not pay
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    columns = len(headers) - last_below
    widths = _widths([list(headers), *lines])[:columns]
    for number, line in enumerate([list(headers), *lines]):
        row = Text(style="" if number else "bold")
        for cell, width in zip(line, widths, strict=False):
            row.append(cell.ljust(width + 2), style=COLOURS.get(cell, ""))
        row.rstrip()
        console.print(row, soft_wrap=True)
        if number and columns < len(line) and line[-1] != "-":
            for part in textwrap.wrap(line[-1], max(20, console.width - 2)):
                console.print(Text(f"  {part}", style="dim"), soft_wrap=True)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {paint(value)}")


def paint(text: str) -> str:
    """Colour a text by its first word, where it is a status; pipes get no colour from click."""
    colour = COLOURS.get(text.partition(" ")[0])
    return click.style(text, fg=colour) if colour else text


def moment(at: float, now: float | None = None) -> str:
    """Return a Unix time as local clock time with its age; empty for 0."""
    if not at:
        return ""
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    return f"{clock} ({span((time.time() if now is None else now) - at)} ago)"


def span(seconds: float) -> str:
    """Return a time span in its two largest units: ``3 d 4 h``, ``12 s``."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def size(count: float) -> str:
    """Return a number of bytes in the largest unit that keeps it above 1."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def _plain_table(lines: list[list[str]]) -> None:
    widths = _widths(lines)
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _widths(lines: list[list[str]]) -> list[int]:
    return [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
