"""What is printed about a run that was not clean is enough to find its cause, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import evidence
from tests.chaos.history import History
from tests.chaos.oracle import LOSS, Violation
from tests.chaos.report import Report

if TYPE_CHECKING:
    from pathlib import Path

TASK = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    history = History(tmp_path, is_quiet=True)
    history.note("order", order="o1", task=f"arn:aws:ecs:local:0:task/default/{TASK}")
    history.note("fault", number=1, kind="agent killed", target="agent0")
    history.note("order", order="o12", task=f"arn:aws:ecs:local:0:task/default/{OTHER}")
    history.note("not yet", told=[f"{TASK[-12:]} is PENDING"])
    history.close()
    noise = [f"task {OTHER} o1 {n}" for n in range(1000)]
    (tmp_path / "agent0.log").write_text("\n".join([f"task {TASK} is placed", *noise]))
    (tmp_path / "control.log").write_text("\n".join(f"line {n}" for n in range(1000)))
    return tmp_path


def report(**fields: object) -> Report:
    return Report(1, 5.0, ["long poll"], **fields)  # type: ignore[arg-type]


def test_an_order_shows_its_events_the_faults_meanwhile_and_its_lines_in_logs(
    directory: Path,
) -> None:
    lines = evidence.gather(directory, report(violations=[Violation(LOSS, "o1", "is PENDING")]))
    text = "\n".join(lines)
    assert "order: order o1" in text
    assert "fault: number 1, kind agent killed" in text
    assert f"task {TASK} is placed" in text
    assert OTHER not in text
    assert "line 1" not in text


def test_many_lines_are_shortened(directory: Path) -> None:
    found = evidence.gather(directory, report(violations=[Violation(LOSS, f"arn/{OTHER}", "?")]))
    assert len(found) < 50
    assert any(line.startswith(f"task {OTHER} o1 999") for line in found)


def test_what_ended_by_itself_shows_the_end_of_its_log(directory: Path) -> None:
    trouble = ["control ended by itself with exit code 1"]
    lines = evidence.gather(directory, report(trouble=trouble))
    assert lines[-1] == "line 999"
    assert "line 0" not in lines
    assert not any(TASK in line for line in lines)


def test_a_leftover_shows_what_was_told_of_it(directory: Path) -> None:
    found = report(leftovers={"control groups": [f"/sys/fs/cgroup/ecs/x/{TASK}"]})
    assert f"task {TASK} is placed" in evidence.gather(directory, found)


def test_nothing_wrong_nothing_told(directory: Path) -> None:
    assert evidence.gather(directory, report()) == []
