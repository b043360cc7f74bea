from __future__ import annotations

from pathlib import Path

from agent.config.loader import IN_VAIN
from agent.doctor.checks import settings
from agent.doctor.findings import Level
from tests.support.findings import levels, only


def test_each_problem_of_the_settings_is_one_line_with_its_mend() -> None:
    findings = settings.judge(
        problems=["ecs.config:3: ECS_X is not a known setting; did you mean ECS_Y?", "no mend"],
        warnings=[],
        files=[],
        is_root=True,
    )
    errors = [finding for finding in findings if finding.level is Level.ERROR]
    assert errors[0].seen == "ecs.config:3: ECS_X is not a known setting"
    assert errors[0].mend == "did you mean ECS_Y?"
    assert errors[1].seen == "no mend"
    assert "ignore the invalid settings" in only(findings, Level.WARNING).seen


def test_settings_without_problems_name_their_files() -> None:
    findings = settings.judge(
        problems=[], warnings=[], files=[Path("/etc/ecs/ecs.config")], is_root=True
    )
    assert findings[0].seen == "read from /etc/ecs/ecs.config"
    assert levels(settings.judge(problems=[], warnings=["w"], files=[], is_root=False)) == {
        "ok",
        "warning",
    }


def test_a_reserve_that_leaves_nothing() -> None:
    findings = settings.judge(
        problems=[], warnings=[], files=[], is_root=True, reserved_mib=4096, memory_mib=2048
    )
    assert "below 2048" in only(findings, Level.ERROR).mend


def test_settings_without_effect_are_explained() -> None:
    warning = f"{IN_VAIN}ECS_CHECKPOINT, FOO"
    findings = settings.judge(problems=[], warnings=[warning, "other"], files=[], is_root=True)
    assert (
        findings[0].mend == "leave them if they are intended: ECS_CHECKPOINT (State is always kept)"
    )
    assert findings[1].mend == "fix the line, or leave it if it is intended"
    assert (
        "fix the line"
        in settings.judge(problems=[], warnings=[f"{IN_VAIN}FOO"], files=[], is_root=True)[0].mend
    )
