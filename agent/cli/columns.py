"""Decides which columns of a table fit on a terminal, and how wide each is. Pure.

A table is narrowed in these steps until a row fits on one line: ids are cut to their beginning,
columns without information are dropped, names are shortened in the middle, and other columns are
dropped in the order that the table gives. Names then get back the room that is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GAP: Final = 2
"""Spaces between two columns."""
ELLIPSIS: Final = "…"
NOTHING: Final = "-"
"""An empty cell."""
_ORDINARY: Final = 24
"""Most names have at most this many characters."""
_LEAST: Final = 4
"""The smallest width of a column; on a terminal too narrow for this, lines wrap."""


class Column(NamedTuple):
    """One column, and how it may be narrowed on a terminal. In a pipe it is always complete."""

    header: str
    least: int = 0
    """Cells may be shortened in the middle down to this many characters; 0: never."""
    beginning: int = 0
    """Cells may be cut to this many characters as the first step; 0: never."""
    yields: int = 0
    """The column with the smallest number is dropped first; 0: never dropped."""
    usual: Callable[[Sequence[str]], bool] | None = None
    """Returns whether the cell of a row is as expected and so has no information; without this
    function, only ``NOTHING`` has no information."""


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the width of each column; 0 for a dropped column.

    Args:
        columns: the columns.
        rows: one cell per column in each row.
        room: how many characters fit on a line.
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
    """Return the text, shortened in the middle if it has more than ``width`` characters."""
    if len(text) <= width:
        return text
    kept = max(width - len(ELLIPSIS), 0)
    head = (kept + 1) // 2
    return (text[:head] + ELLIPSIS + text[len(text) - (kept - head) :])[:width]


def _line(widths: Sequence[int]) -> int:
    shown = [width for width in widths if width]
    return sum(shown) + GAP * (len(shown) - 1)


def _order(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> tuple[list[int], list[int]]:
    """Return the columns that may be dropped, in order: those without information, and the others."""

    def is_idle(at: int) -> bool:
        usual = columns[at].usual or (lambda row: row[at] == NOTHING)
        return all(usual(row) for row in rows)

    may_go = sorted(
        (at for at, column in enumerate(columns) if column.yields),
        key=lambda at: columns[at].yields,
    )
    return [at for at in may_go if is_idle(at)], [at for at in may_go if not is_idle(at)]


def _shared(least: list[int], wanted: list[int], room: int) -> list[int]:
    """Return widths between ``least`` and ``wanted`` that fill the room; less if it is too small."""
    widths = list(least)
    while _line(widths) > room and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    while _line(widths) < room:
        short = [at for at, width in enumerate(widths) if width < wanted[at]]
        if not short:
            break
        # Complete names of usual length before giving more room to long ones, from left to right.
        widths[min(short, key=lambda at: (max(widths[at], _ORDINARY), at))] += 1
    return widths
