"""The launch of a task as a person sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.cli import launch_text
from agent.model.views import LaunchPhase, LaunchView
from tests.support.terminal import shown

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Source

WHOLE = LaunchView(
    ordered_at=1000.0,
    now_s=60.0,
    running_s=2.0,
    phases=[
        LaunchPhase(phase="store", began_s=0.0, ended_s=0.002),
        LaunchPhase(phase="admit", began_s=0.002, ended_s=0.0025),
        LaunchPhase(phase="pull", subject="web", began_s=0.5, ended_s=1.5, tries=3),
        LaunchPhase(phase="start", subject="web", began_s=1.5, ended_s=2.0),
        LaunchPhase(phase="report", began_s=2.0, ended_s=2.001),
        LaunchPhase(phase="acknowledge", began_s=2.001, ended_s=2.5),
    ],
)


def bars(view: LaunchView, *, ended: bool = False, room: int = 80) -> list[str]:
    _, rows = launch_text.table(view, ended=ended, room=room, blocks=True)
    return [row[-1] for row in rows]


def test_what_belongs_to_no_phase_is_said() -> None:
    assert launch_text.headline(WHOLE, ended=False) == (
        "launched in 2.00 s from its order to RUNNING, 498 ms of it between phases"
    )


def test_bars_lie_where_their_phases_do() -> None:
    pull, start = bars(WHOLE)[2:4]
    width = max(map(len, bars(WHOLE)))
    assert pull.count("·") == int(width * 0.5 / 2.5)
    assert start.rstrip("█").count("·") == int(width * 1.5 / 2.5)
    assert all("█" in bar for bar in bars(WHOLE))  # also the shortest can be seen


def test_what_is_not_known_is_not_zero() -> None:
    restored = LaunchView(
        ordered_at=1000.0,
        now_s=60.0,
        running_s=2.0,
        is_whole=False,
        phases=[LaunchPhase(phase="admit", ended_s=0.5)],
    )
    _, rows = launch_text.table(restored, ended=False, room=80, blocks=True)
    assert rows == [["admit", "-", "-", "-"]]
    assert "the agent has restarted since" in launch_text.headline(restored, ended=False)
    assert "between phases" not in launch_text.headline(restored, ended=False)


def test_a_launch_that_goes_on_and_one_that_was_cut_short() -> None:
    view = msgspec.structs.replace(
        WHOLE, running_s=None, phases=[LaunchPhase(phase="pull", subject="web", began_s=1.0)]
    )
    _, rows = launch_text.table(view, ended=False, room=80, blocks=True)
    assert rows[0][2] == "59.0 s so far"
    _, rows = launch_text.table(view, ended=True, room=80, blocks=False)
    assert rows[0][2] == "cut short"
    assert set(rows[0][3]) <= {".", "#"}
    assert launch_text.headline(view, ended=True) == "never RUNNING"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00004, "0.0 ms"), (0.0123, "12 ms"), (0.9996, "1.00 s"), (59.96, "60.0 s"),
        (245, "4 m 5 s"), (40000, "11 h 6 m"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert launch_text.duration(seconds) == text


async def test_a_task_is_shown_with_its_launch_in_80_columns(
    source: Source, agent_socket: str
) -> None:
    source.launches[source.tasks[0].arn] = WHOLE
    terminal = await asyncio.to_thread(shown, 80, "task", "aa11", "--socket", agent_socket)
    assert terminal.code == 0
    assert max(map(len, terminal.lines)) <= 80
    text = "\n".join(terminal.lines)
    assert "PHASE" in text
    assert "pull web (3 tries)" in text
    assert "█" in text
