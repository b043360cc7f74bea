"""Which columns of a table a terminal has room for, and how wide each is. Pure.

A table gives way in this order until a row fits on one line: cells of which a beginning is enough are
cut, columns that say nothing go, names are shortened in the middle, the other columns go in the order
that the table names. What is left of the room goes to the names again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GAP: Final = 2
"""Blanks between two columns."""
ELLIPSIS: Final = "…"
NOTHING: Final = "-"
"""A cell that has nothing to say."""
_ORDINARY: Final = 24
"""Characters that most names do not pass."""
_LEAST: Final = 4
"""No column becomes narrower, however narrow the terminal is: then lines are longer than it."""


class Column(NamedTuple):
    """One column, and how it gives way on a terminal. Pipes always get all of it."""

    header: str
    least: int = 0
    """Cells longer than this many characters may be shortened in the middle down to it; 0: never."""
    beginning: int = 0
    """Cells may be cut to this many characters first of all; 0: never."""
    yields: int = 0
    """The column with the smallest number is left out first; 0: it never is."""
    usual: Callable[[Sequence[str]], bool] | None = None
    """Tells of a row whether its cell here says nothing that one would not expect; without it, a
    cell says nothing when it is ``NOTHING``."""


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the width of each column, 0 for one that is left out.

    Args:
        columns: the columns.
        rows: a cell for each of them per row.
        room: how many characters a line has.
    """
    full = [
        max(len(column.header), *(len(row[at]) for row in rows), 0)
        for at, column in enumerate(columns)
    ]
    if _line(full) <= room:
        return full
    wanted = [
        min(width, max(column.beginning, len(column.header))) if column.beginning else width
        for column, width in zip(columns, full, strict=True)
    ]
    least = [
        min(width, max(column.least, len(column.header))) if column.least else width
        for column, width in zip(columns, wanted, strict=True)
    ]
    idle, others = _order(columns, rows)
    for at in idle:
        if _line(wanted) > room:
            least[at] = wanted[at] = 0
    for at in others:
        if _line(least) > room:
            least[at] = wanted[at] = 0
    return _shared(least, wanted, room)


def shortened(text: str, width: int) -> str:
    """Return a text of at most ``width`` characters: begin and end of one that is longer."""
    if len(text) <= width:
        return text
    kept = max(width - len(ELLIPSIS), 0)
    head = (kept + 1) // 2
    return (text[:head] + ELLIPSIS + text[len(text) - (kept - head) :])[:width]


def _line(widths: Sequence[int]) -> int:
    shown = [width for width in widths if width]
    return sum(shown) + GAP * (len(shown) - 1)


def _order(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> tuple[list[int], list[int]]:
    """Return the columns that may be left out, in order: those that say nothing, and the others."""

    def is_idle(at: int) -> bool:
        usual = columns[at].usual or (lambda row: row[at] == NOTHING)
        return all(usual(row) for row in rows)

    may_go = sorted(
        (at for at, column in enumerate(columns) if column.yields),
        key=lambda at: columns[at].yields,
    )
    return [at for at in may_go if is_idle(at)], [at for at in may_go if not is_idle(at)]


def _shared(least: list[int], wanted: list[int], room: int) -> list[int]:
    """Return widths between the two that fill the room; below ``least`` where it is too small."""
    widths = list(least)
    while _line(widths) > room and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    while _line(widths) < room:
        short = [at for at, width in enumerate(widths) if width < wanted[at]]
        if not short:
            break
        # Ordinary names are whole before long ones get more, the first columns first.
        widths[min(short, key=lambda at: (max(widths[at], _ORDINARY), at))] += 1
    return widths
