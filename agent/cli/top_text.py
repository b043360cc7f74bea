"""What ``ecs-agent top`` shows, as lines that fit a terminal. Pure.

Tests: ``tests/unit/cli/test_top.py``, ``tests/unit/cli/test_top_terminal.py``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from agent import escapes
from agent.cli.columns import NOTHING, Column, fit, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.cli.top_rows import HostRow, Round, Row
    from agent.model.metrics import GpuSample

COLUMNS: Final = (
    Column("TASK", beginning=8),
    Column("FAMILY", least=8, yields=1),
    Column("CONTAINER", least=9),
    Column("CPU %"),
    Column("MEM/LIMIT"),
    Column("NET IN/OUT", yields=6),
    Column("DISK R/W", yields=5),
    Column("PIDS", yields=4),
    Column("RST", yields=2, usual=lambda row: row[8] == "0"),
    Column("UP", yields=3),
)
_RIGHT: Final = frozenset({3, 4, 5, 6, 7, 8, 9})
"""Columns of figures."""
_UNITS: Final = "BKMGTP"
UNLIMITED: Final = 10_000
"""The width of a line in a pipe."""
HEAD: Final = "reverse"
DIM: Final = "dim"
BAD: Final = "red"


class Line(NamedTuple):
    """One line with one style."""

    text: str
    style: str = ""


class Sight(NamedTuple):
    """How a person looks at the figures."""

    width: int
    """Characters of a line."""
    height: int = 0
    """Lines that fit; 0 for no limit."""
    sort: str = "cpu"
    words: str = ""
    """What ``--filter`` says."""
    trouble: str = ""
    """Why there are no newer figures."""


def screen(round_: Round, rows: Sequence[Row], sight: Sight) -> list[Line]:
    """Return the host, then the rows as a table; rows that do not fit are counted."""
    head = [
        *(Line(text) for text in _host_lines(round_, sight.width)),
        *([Line(sight.trouble, BAD)] if sight.trouble else []),
        Line(""),
    ]
    cells = [row_cells(row) for row in rows]
    table = grid(COLUMNS, cells, sight.width, right=_RIGHT)
    below = []
    if not rows:
        table = []
        below = [Line(_nothing(round_, sight.words), DIM)]
    return cut([*head, *table], below, sight, what="containers")


def cut(lines: Sequence[Line], below: Sequence[Line], sight: Sight, *, what: str) -> list[Line]:
    """Return lines that fit the terminal, with a last line that counts the others."""
    kept = list(lines)
    over = len(lines) + len(below) - sight.height
    if sight.height and over > 0:
        over += 1
        kept = kept[: max(1, len(kept) - over)]
        hidden = len(lines) - len(kept)
        below = [
            *below,
            Line(f"and {hidden} more {what}; make the window larger, or --filter", DIM),
        ]
    every = [*kept, *below]
    return [Line(fitted(line.text, sight.width), line.style) for line in every]


def fitted(text: str, width: int) -> str:
    """Return a text as one line of at most so many characters."""
    safe = escapes.shown(text)
    return safe if len(safe) <= width else safe[: max(0, width - 1)] + "…"


def grid(
    columns: Sequence[Column],
    cells: Sequence[Sequence[str]],
    width: int,
    *,
    right: frozenset[int],
) -> list[Line]:
    """Return a header and one line for each row; columns that do not fit are narrowed or dropped."""
    safe = [[escapes.shown(cell) for cell in row] for row in cells]
    widths = fit(columns, safe, width)
    head = _joined([column.header for column in columns], widths, columns, right)
    return [
        Line(head.ljust(width) if width < UNLIMITED else head, HEAD),
        *(Line(_joined(row, widths, columns, right)) for row in safe),
    ]


def row_cells(row: Row) -> list[str]:
    """Return the cells of a container under ``COLUMNS``."""
    limit = f"/{size(row.memory_limit_bytes)}" if row.memory_limit_bytes is not None else ""
    memory = f"{size(row.memory_bytes)}{limit}" if row.memory_bytes is not None else NOTHING
    return [
        row.task,
        row.family,
        row.container,
        percent(row.cpu_percent),
        memory,
        pair(row.receive_bytes_per_s, row.transmit_bytes_per_s),
        pair(row.read_bytes_per_s, row.write_bytes_per_s),
        NOTHING if row.pids is None else str(row.pids),
        str(row.restarts),
        age(row.uptime_s),
    ]


def percent(figure: float | None) -> str:
    """Return a percentage without its sign."""
    if figure is None:
        return NOTHING
    return f"{figure:.1f}" if figure < 99.95 else f"{figure:.0f}"


def size(count: float | None) -> str:
    """Return a number of bytes with at most four characters: ``512B``, ``1.5K``, ``12M``."""
    if count is None:
        return NOTHING
    at = 0
    while count >= 999.5 and at < len(_UNITS) - 1:
        count /= 1024
        at += 1
    return f"{count:.1f}{_UNITS[at]}" if at and count < 9.95 else f"{count:.0f}{_UNITS[at]}"


def pair(first: float | None, second: float | None) -> str:
    """Return two rates in one cell; one ``-`` if neither is known."""
    if first is None and second is None:
        return NOTHING
    return f"{size(first)}/{size(second)}"


def age(seconds: float | None) -> str:
    """Return a time span in its largest unit: ``12s``, ``3m``, ``4h``, ``5d``."""
    if seconds is None:
        return NOTHING
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return (
                f"{seconds / length:.0f}{unit}"
                if unit == "d"
                else f"{int(seconds // length)}{unit}"
            )
    return f"{int(seconds)}s"


def keys(sort: str, known: Mapping[str, str]) -> str:
    """Return the line that says which keys do what; ``known`` has what each sorts by."""
    every = "  ".join(f"{key} {what}" for key, what in known.items())
    return f"by {sort}   q quit  sort: {every}"


def _host_lines(round_: Round, width: int) -> list[str]:
    host = round_.host
    clock = time.strftime("%H:%M:%S", time.localtime(round_.at))
    tasks = f"{round_.tasks_running} running, {round_.tasks_pending} pending"
    lines = [
        f"{host.name}   tasks: {tasks}, {len(round_.containers)} containers   {clock}",
        *_wrapped(
            [
                _cpu(host),
                _load(host),
                _part("memory", host.memory_used_bytes, host.memory_total_bytes),
                _part("disk", host.disk_used_bytes, host.disk_total_bytes),
                _traffic(host),
            ],
            width,
        ),
        *(_gpu(index, gpu) for index, gpu in enumerate(host.gpus)),
    ]
    return [line for line in lines if line]


def _wrapped(parts: Sequence[str], width: int) -> list[str]:
    """Return parts on as few lines as they fit on."""
    lines: list[str] = []
    for part in parts:
        if not part:
            continue
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f"   {part}"
        else:
            lines.append(part)
    return lines


def _cpu(host: HostRow) -> str:
    if host.cpu_percent is None:
        return ""
    of = f" of {host.cpus}00 %" if host.cpus else " %"
    return f"cpu {percent(host.cpu_percent)}{of}"


def _load(host: HostRow) -> str:
    known = [load for load in (host.load_1m, host.load_5m, host.load_15m) if load is not None]
    return "load " + " ".join(f"{load:.2f}" for load in known) if known else ""


def _part(name: str, used: int | None, whole: int | None) -> str:
    if used is None:
        return ""
    return f"{name} {size(used)} of {size(whole)}" if whole else f"{name} {size(used)}"


def _traffic(host: HostRow) -> str:
    if host.receive_bytes_per_s is None and host.transmit_bytes_per_s is None:
        return ""
    return f"network {pair(host.receive_bytes_per_s, host.transmit_bytes_per_s)} per s"


def _gpu(index: int, gpu: GpuSample) -> str:
    parts = [
        f"gpu {index} {gpu.name}".rstrip(),
        "" if gpu.utilization_percent is None else f"{percent(gpu.utilization_percent)} %",
        _part("memory", gpu.memory_used_bytes, gpu.memory_total_bytes),
        "" if gpu.temperature_celsius is None else f"{gpu.temperature_celsius:.0f} °C",
        "" if gpu.power_watts is None else f"{gpu.power_watts:.0f} W",
    ]
    return "   ".join(part for part in parts if part)


def _nothing(round_: Round, words: str) -> str:
    if words and round_.containers:
        return f"none of {len(round_.containers)} containers matches '{words}'"
    return "no container runs"


def _joined(
    cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column], right: frozenset[int]
) -> str:
    parts = []
    for at, (cell, room) in enumerate(zip(cells, widths, strict=True)):
        if not room:
            continue
        text = cell[:room] if columns[at].beginning else shortened(cell, room)
        parts.append(text.rjust(room) if at in right else text.ljust(room))
    return "  ".join(parts).rstrip()
