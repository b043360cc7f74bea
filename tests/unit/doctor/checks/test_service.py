from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent import __version__
from agent.doctor.checks import service
from agent.doctor.checks.service import Service
from agent.doctor.host import AgentFacts
from agent.model.views import AgentView, RepairView

if TYPE_CHECKING:
    from agent.doctor.findings import Finding

RUNS = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "ExecMainStatus": "0",
    "NRestarts": "0",
    "WatchdogUSec": "1min",
}
VIEW = AgentView(version=__version__, cluster="prod", control_connected=True, control_since=100.0)
NOT_RUNNING = AgentFacts(trouble="no process listens on /run/ecs-agent/agent.sock")


def judged(
    unit: dict[str, str] | None, agent: AgentFacts, *, configured: bool = True
) -> list[Finding]:
    found = Service(systemd=unit is not None, unit=unit or {})
    return service.judge(found, agent, configured=configured, now=1000.0)


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level.value for finding in findings}


def test_a_service_that_runs() -> None:
    assert levels(judged(RUNS, AgentFacts(view=VIEW, pid=7))) == {"ok"}


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({"ActiveState": "failed", "ExecMainStatus": "5"}, "error", "exit code 5"),
        ({"ActiveState": "failed", "Result": "watchdog"}, "error", "hanging"),
        ({"ActiveState": "failed", "Result": "oom-kill"}, "error", "oom-kill"),
        ({"ActiveState": "activating"}, "warning", "activating"),
        ({"ActiveState": "inactive"}, "warning", "not started"),
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, "warning", "not enabled"),
        ({"ActiveState": "inactive", "NRestarts": "9"}, "warning", "9 times"),
        ({"LoadState": "not-found"}, "warning", "not installed"),
    ],
)
def test_a_service_that_does_not(changes: dict[str, str], level: str, word: str) -> None:
    findings = judged({**RUNS, **changes}, NOT_RUNNING)
    assert any(word in finding.seen and finding.level == level for finding in findings)
    assert all(finding.mend for finding in findings if finding.level != "ok")


def test_a_service_that_waits_for_its_host_to_join() -> None:
    unit = {**RUNS, "ActiveState": "inactive", "UnitFileState": "disabled"}
    findings = judged(unit, NOT_RUNNING, configured=False)
    assert levels(findings) == {"ok", "warning"}
    assert "join" in findings[1].command


def test_an_active_service_with_another_socket() -> None:
    assert "ECS_AGENT_SOCKET" in judged(RUNS, NOT_RUNNING)[-1].mend


def test_an_agent_that_listens_and_does_not_answer() -> None:
    findings = judged(RUNS, AgentFacts(pid=7, trouble="no answer within 5 s"))
    assert "process 7" in findings[-1].seen
    assert levels(findings) == {"ok", "error"}


def test_an_agent_that_only_root_may_ask() -> None:
    findings = judged(RUNS, AgentFacts(trouble="only root may ask", forbidden=True))
    assert levels(findings) == {"ok", "warning"}
    assert "not known" in findings[-1].seen


def test_no_watchdog() -> None:
    findings = judged({**RUNS, "WatchdogUSec": "0"}, AgentFacts(view=VIEW, pid=7))
    assert "watchdog" in next(f.seen for f in findings if f.level == "warning")


def test_no_systemd() -> None:
    assert levels(judged(None, AgentFacts(view=VIEW, pid=7))) == {"ok"}
    assert levels(judged(None, NOT_RUNNING)) == {"ok", "warning"}
    assert levels(judged(None, NOT_RUNNING, configured=False)) == {"ok"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"version": "0.0.9"}, "0.0.9"),
        ({"degraded": ["the disk is full; make room"]}, "the disk is full"),
        ({"control_connected": False, "control_error": "refused"}, "refused"),
        (
            {
                "repairs": [
                    RepairView(at=-9e9, found="x"),
                    RepairView(at=999.0, found="bridge gone"),
                ]
            },
            "needs once within an hour, and it was put right; last: bridge gone",
        ),
        ({"unsent_changes": 3}, "3 changes are not sent"),
    ],
)
def test_what_the_agent_says_of_itself(changes: dict[str, Any], word: str) -> None:
    view = msgspec.structs.replace(VIEW, **changes)
    findings = judged(RUNS, AgentFacts(view=view, pid=7))
    (finding,) = [f for f in findings if f.level == "warning"]
    assert word in finding.seen
    assert finding.mend


def test_properties_of_a_unit() -> None:
    text = "LoadState=loaded\nStatusText=a=b\n\nResult=\n"
    assert service.properties(text) == {"LoadState": "loaded", "StatusText": "a=b", "Result": ""}


def test_a_systemd_that_says_nothing() -> None:
    found = Service(systemd=True, trouble="Failed to connect to bus")
    findings = service.judge(found, NOT_RUNNING, configured=True, now=1000.0)
    assert levels(findings) == {"warning"}
    assert "Failed to connect to bus" in findings[0].seen
