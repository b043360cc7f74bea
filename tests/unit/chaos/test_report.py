"""What a run prints, and with which code it ends."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.chaos import __main__ as command
from tests.chaos import plan
from tests.chaos.oracle import LOSS, Violation
from tests.chaos.report import Report

if TYPE_CHECKING:
    from tests.chaos.run import Options


def clean() -> Report:
    faults = dict.fromkeys(plan.KINDS, 1234)
    return Report(7, 30.0, ["long poll", "ACS"], faults=faults, boundaries={"link made": 3})


def broken() -> dict[str, Report]:
    lost, left, exited = clean(), clean(), clean()
    lost.violations.append(Violation(LOSS, "o1", "never ran"))
    left.leftovers["links"] = ["veth1"]
    exited.trouble.append("control ended by itself")
    return {"never ran": lost, "veth1": left, "control ended by itself": exited}


def test_a_clean_run_fits_a_terminal_and_tells_every_kind() -> None:
    text = clean().as_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    for kind in plan.KINDS:
        assert kind[:28] in text
    assert "SEED" not in text


@pytest.mark.parametrize(("told", "report"), broken().items())
def test_whatever_is_wrong_is_told_with_the_way_to_repeat_it(told: str, report: Report) -> None:
    assert not report.is_clean
    assert told in report.as_text()
    assert "make chaos SEED=7 MINUTES=30" in report.as_text()
    assert report.as_json()["isClean"] is False


def ended(
    monkeypatch: pytest.MonkeyPatch, report: Report, *words: str
) -> tuple[int, list[Options]]:
    given: list[Options] = []

    def run(options: Options) -> Report:
        given.append(options)
        return report

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["chaos", *words])
    return command.main(), given


def test_the_exit_code_tells_whether_all_was_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (options,) = ended(monkeypatch, clean(), "--json", "--only", "agent killed")
    assert code == 0
    assert list(options.kinds) == ["agent killed"]
    assert json.loads(capsys.readouterr().out)["losses"] == 0
    assert ended(monkeypatch, broken()["veth1"])[0] == 1


@pytest.mark.parametrize("words", [["--only", "rain"], ["--wires", "tin"], ["--clock"]])
def test_what_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that shares its clock is not stepped."""
    monkeypatch.setenv("OWN_HOST", "1")
    with pytest.raises(SystemExit) as caught:
        ended(monkeypatch, clean(), *words)
    assert caught.value.code == 2
    assert words[-1].strip("-") in capsys.readouterr().err
