"""Layout of command output: fitted to a terminal, with colours; complete and aligned in a pipe.

Much of the text comes from others: names, reasons, messages of registries. It is printed through
``output``, so that it reaches a terminal only as plain text.

Tests: ``tests/unit/cli/test_inspect.py``, ``tests/unit/cli/test_terminal.py``.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

from agent import escapes
from agent.cli import output
from agent.cli.columns import ELLIPSIS, GAP, NOTHING, fit, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.cli.columns import Column

COLOURS = {
    "RUNNING": "green",
    "STOPPED": "bright_black",
    "PENDING": "yellow",
    "HEALTHY": "green",
    "UNHEALTHY": "red",
}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_BLANKS = re.compile(r"(?:\r\n|[ \t\n])+")


def as_json(value: Any) -> None:
    """Print a value as indented JSON with the field names of the operator socket."""
    output.json(value)


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return output.on_terminal()


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    *,
    last_below: bool = False,
    most_below: int = 0,
) -> None:
    """Print rows in columns, separated by two spaces; with colours on a terminal.

    A terminal gets one line per row; on a narrow one, columns are narrowed (``columns.fit``). A pipe
    gets everything, one row per line; cells never contain two spaces in a row, so that programs can
    split lines there.

    Args:
        columns: their headers, and how they may be narrowed.
        rows: one cell per column; "-" for an empty cell.
        last_below: on a terminal, print the last cell, which may be a sentence, not as a column but
            as a paragraph below its row, wrapped to the width.
        most_below: maximum number of lines of that paragraph; 0: no limit.
    """
    lines = [[one_line(cell) for cell in row] for row in rows]
    headers = [column.header for column in columns]
    if not on_terminal():
        whole = fit(columns, lines, sys.maxsize)
        for line in [headers, *lines]:
            _print_row(line, whole)
        return
    shown = columns[: len(columns) - last_below]
    widths = fit(shown, lines, width())
    _print_row(headers, widths, bold=True)
    for line in lines:
        _print_row(line, widths, [column.beginning for column in shown])
        if last_below and line[-1] != NOTHING:
            for part in folded(line[-1], indent="  ", most=most_below):
                output.line(output.styled(part, dim=True))


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair per line; pairs without a value are left out.

    A terminal gets long values wrapped; words without spaces, such as ARNs, are never split.
    """
    shown = [(name, one_line(value)) for name, value in pairs if value]
    margin = max((len(name) for name, _ in shown), default=0) + 2
    for name, value in shown:
        first, *rest = folded(value, indent=" " * margin) if on_terminal() else [value]
        begin = output.styled(name.ljust(margin), bold=True)
        output.line(output.joined([begin, paint(first.strip())]))
        for line in rest:
            output.line(line)


def sentence(
    text: str, *, indent: str = "", mark: str = "", colour: str | None = None, dim: bool = False
) -> None:
    """Print an indented sentence, wrapped on a terminal; ``mark`` replaces the first indent."""
    line = f"{indent}{one_line(text)}"
    lines = folded(one_line(text), indent=indent) if on_terminal() else [line]
    begin = mark or indent
    for part in lines:
        shown = part[len(indent) :]
        output.line(output.joined([begin, output.styled(shown, fg=colour, dim=dim)]))
        begin = indent


def folded(text: str, *, indent: str, most: int = 0) -> list[str]:
    """Return a text wrapped to the terminal; if it is cut, the last line ends with an ellipsis."""
    room = max(20, width())
    lines = textwrap.wrap(
        text,
        room,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if most and len(lines) > most:
        last = lines[most - 1]
        return [*lines[: most - 1], f"{last[: room - 1 - len(ELLIPSIS)]} {ELLIPSIS}"]
    return lines or [""]


def width() -> int:
    """Return the width of the terminal in characters."""
    return shutil.get_terminal_size().columns


def one_line(text: str) -> str:
    """Return a text as one line: line breaks become spaces, other control characters escapes."""
    return escapes.shown(_BLANKS.sub(" ", text).strip(" "))


def paint(text: str) -> output.Styled:
    """Colour a text by its first word if that is a status; no colours in a pipe."""
    colour = COLOURS.get(text.partition(" ")[0])
    return output.styled(text, fg=colour)


def moment(at: float, now: float | None = None) -> str:
    """Return a Unix time as local time with its age; empty for 0."""
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
    """Return a number of bytes in the largest unit that keeps it at 1 or more."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def _print_row(
    cells: Sequence[str],
    widths: Sequence[int],
    beginnings: Sequence[int] = (),
    *,
    bold: bool = False,
) -> None:
    parts = []
    shown = [at for at, room in enumerate(widths) if room]
    for at in shown:
        cell, room = cells[at], widths[at]
        cut = cell[:room] if any(beginnings[at : at + 1]) else shortened(cell, room)
        padded = cut if at == shown[-1] else cut.ljust(room)
        colour = COLOURS.get(cell) if on_terminal() else None
        parts.append(output.styled(padded, fg=colour, bold=bold))
    output.line(output.Styled(output.joined(parts, " " * GAP).rstrip()))
