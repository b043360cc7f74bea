"""The launch of a task as a table with a bar for each phase. Pure.

Tests: ``tests/unit/cli/test_launch_text.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.cli.columns import GAP, NOTHING, Column, shortened

if TYPE_CHECKING:
    from agent.model.views import LaunchPhase, LaunchView

_NAME: Final = 26
"""Most characters of a phase and its container."""
_LEAST_BAR: Final = 8
_MOST_BAR: Final = 60
_AFTER: Final = frozenset({"report", "acknowledge"})
"""Phases after RUNNING."""


def headline(launch: LaunchView, *, ended: bool) -> str:
    """Return the launch in a sentence; ``ended`` says that the task has stopped."""
    if launch.running_s is not None:
        text = f"launched in {duration(launch.running_s)} from its order to RUNNING"
        if launch.is_whole:
            text += f", {duration(between_s(launch))} of it between phases"
    elif ended:
        text = "never RUNNING"
    else:
        text = f"launching for {duration(launch.now_s)}"
    if launch.is_whole:
        return text
    return f"{text}; the agent has restarted since its order, other phases are not known"


def between_s(launch: LaunchView) -> float:
    """Return how much of the time from order to RUNNING belongs to no phase, in seconds."""
    if launch.running_s is None:
        return 0.0
    covered = at = 0.0
    for phase in launch.phases:  # by their beginning
        if phase.began_s is None or phase.ended_s is None or phase.phase in _AFTER:
            continue
        end = min(phase.ended_s, launch.running_s)
        covered += max(0.0, end - max(phase.began_s, at))
        at = max(at, end)
    return launch.running_s - covered


def table(
    launch: LaunchView, *, ended: bool, room: int, blocks: bool
) -> tuple[list[Column], list[list[str]]]:
    """Return columns and rows, one row for each phase.

    Args:
        launch: the launch.
        ended: whether the task has stopped.
        room: how many characters fit on a line.
        blocks: whether block characters can be shown.
    """
    last_s = max(
        [launch.running_s or 0.0]
        + [phase.ended_s or phase.began_s or 0.0 for phase in launch.phases]
        + [launch.now_s if not ended and launch.running_s is None else 0.0]
    )
    cells = [
        [
            shortened(_name(phase), _NAME),
            NOTHING if phase.began_s is None else duration(phase.began_s),
            _took(phase, launch, ended=ended),
        ]
        for phase in launch.phases
    ]
    headers = ["PHASE", "BEGAN", "TOOK"]
    taken = sum(
        max(len(header), *(len(row[at]) for row in cells)) + GAP
        for at, header in enumerate(headers)
    )
    width = min(_MOST_BAR, max(_LEAST_BAR, room - taken))
    rows = [
        [*row, _bar(phase, last_s, width, is_open=not ended, marks="·█" if blocks else ".#")]
        for row, phase in zip(cells, launch.phases, strict=True)
    ]
    scale = f"0 to {duration(last_s)}"
    columns = [
        Column("PHASE", least=8),
        Column("BEGAN"),
        Column("TOOK"),
        Column(scale if len(scale) <= width else "", yields=1),
    ]
    return columns, rows


def duration(seconds: float) -> str:
    """Return a short time with three digits at most: ``0.4 ms``, ``12 ms``, ``1.23 s``, ``4 m 5 s``."""
    if seconds < 0.9995:
        thousandths = seconds * 1000
        return f"{thousandths:.1f} ms" if thousandths < 9.95 else f"{thousandths:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes} m {left} s" if minutes < 600 else f"{minutes // 60} h {minutes % 60} m"


def _name(phase: LaunchPhase) -> str:
    tries = f" ({phase.tries} tries)" if phase.tries > 1 else ""
    return f"{phase.phase} {phase.subject}".strip() + tries


def _took(phase: LaunchPhase, launch: LaunchView, *, ended: bool) -> str:
    if phase.began_s is None:
        return NOTHING
    if phase.ended_s is not None:
        return duration(phase.ended_s - phase.began_s)
    return "cut short" if ended else f"{duration(launch.now_s - phase.began_s)} so far"


def _bar(phase: LaunchPhase, last_s: float, width: int, *, is_open: bool, marks: str) -> str:
    """Return where a phase lies between the order and the last time; at least one character long."""
    if phase.began_s is None or last_s <= 0:
        return NOTHING
    empty, full = marks[0], marks[1]
    end_s = phase.ended_s if phase.ended_s is not None else (last_s if is_open else phase.began_s)
    left = min(width - 1, int(width * phase.began_s / last_s))
    right = max(left + 1, min(width, round(width * end_s / last_s)))
    return empty * left + full * (right - left)
