"""The agent as a service: installed, enabled, running, and the state that it reports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from agent import __version__
from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.doctor.host import AgentFacts, HostFacts
    from agent.model.views import AgentView

UNIT = "ecs-agent.service"
_PROPERTIES = (
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "NRestarts",
    "WatchdogUSec",
    "MainPID",
)
_TERMINAL = "5"
_REPAIRS_WITHIN_S = 3600.0
_LOG = "journalctl -u ecs-agent -n 50 --no-pager"
_MANY_RESTARTS = 3
_LATE_S = 60.0


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """What systemd and the agent say."""

    systemd: bool = False
    unit: dict[str, str] = {}
    """Properties of the unit, as ``systemctl show`` names them."""
    trouble: str = ""
    """Why systemd did not answer."""


async def check(host: HostFacts) -> list[Finding]:
    """Ask systemd about the unit and the agent about itself."""
    systemd = await reading.blocking((host.root / "run/systemd/system").is_dir)
    unit: dict[str, str] = {}
    trouble = ""
    if systemd:
        wanted = f"--property={','.join(_PROPERTIES)}"
        answer = await reading.program("systemctl", "show", UNIT, wanted)
        unit = properties(answer.out)
        trouble = "" if unit else answer.trouble or "systemd says nothing"
    return judge(
        Service(systemd=systemd, unit=unit, trouble=trouble),
        await host.agent(),
        configured=bool(host.settings.control_endpoint) and not host.problems,
        now=time.time(),
    )


def properties(text: str) -> dict[str, str]:
    """Return the properties of ``systemctl show``. Pure."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value for name, _, value in pairs}


def judge(service: Service, agent: AgentFacts, *, configured: bool, now: float) -> list[Finding]:
    """Return the verdict on the service and its agent. Pure.

    Args:
        service: what systemd says.
        agent: what the agent says.
        configured: the settings are valid and name a control endpoint.
        now: Unix time.
    """
    verdict = FindingList("service")
    if service.trouble:
        verdict.unknown(
            "whether the agent's service runs",
            service.trouble,
            "ask systemd manually",
            f"systemctl status {UNIT}",
        )
    elif service.systemd:
        _judge_unit(verdict, service.unit, runs=agent.view is not None, configured=configured)
    elif agent.view is None:
        verdict.ok("systemd does not run here; something else must keep the agent running")
    if agent.view is not None:
        _judge_view(verdict, agent.view, now)
    elif agent.forbidden:
        verdict.warn(f"the state of the agent is not known: {agent.trouble}", "run it as root")
    elif agent.pid:
        verdict.error(
            f"the agent (process {agent.pid}) listens but does not answer: {agent.trouble}",
            "look at its log; the watchdog restarts a service that hangs",
            _LOG,
        )
    elif service.unit.get("ActiveState") == "active":
        verdict.error(
            f"the service is active, but {agent.trouble}",
            "set ECS_AGENT_SOCKET here to the same value as for the service",
            f"systemctl cat {UNIT}",
        )
    elif not service.systemd and configured:
        verdict.warn(f"the agent does not run ({agent.trouble})", "start it", "ecs-agent run")
    return verdict.findings


def _judge_unit(
    verdict: FindingList, unit: Mapping[str, str], *, runs: bool, configured: bool
) -> None:
    if unit.get("LoadState", "not-found") == "not-found":
        tell = "the unit is not installed: nothing starts the agent at boot"
        verdict.warn(tell, "install the package, which contains it", "systemctl status ecs-agent")
        return
    state, result = unit.get("ActiveState", ""), unit.get("Result", "")
    _judge_state(verdict, unit, state, result, configured=configured)
    if unit.get("UnitFileState") not in {"enabled", "enabled-runtime", "static"}:
        tell = "the service is not enabled: it does not start after a reboot"
        mend, command = "enable it", "systemctl enable ecs-agent"
        if not configured:
            mend, command = "join, which enables it", "ecs-agent join URL --token TOKEN"
        verdict.warn(tell, mend, command)
    restarts = int(unit.get("NRestarts") or 0)
    if restarts >= _MANY_RESTARTS:
        verdict.warn(f"systemd has restarted it {restarts} times", "find out why it ended", _LOG)
    if runs and unit.get("WatchdogUSec", "0") in {"0", "infinity"}:
        verdict.warn(
            "the unit has no watchdog: an agent that hangs is not restarted",
            "remove WatchdogSec= from your drop-in",
            f"systemctl cat {UNIT}",
        )


def _judge_state(
    verdict: FindingList, unit: Mapping[str, str], state: str, result: str, *, configured: bool
) -> None:
    if state == "active":
        verdict.ok(f"the service is active ({unit.get('SubState', '')})")
    elif state == "failed" and unit.get("ExecMainStatus") == _TERMINAL:
        verdict.error(
            "the service ended with exit code 5: a restart does not help until the cause is fixed",
            "read the cause in its last log lines, fix it, and start the service",
            _LOG,
        )
    elif state == "failed":
        why = "its watchdog found it hanging" if result == "watchdog" else f"{result or 'unknown'}"
        verdict.error(f"the service failed ({why})", "look at its log, then start it", _LOG)
    elif state in {"activating", "reloading", "deactivating"}:
        verdict.warn(
            f"the service is {state}", "find out what it waits for", "systemctl status ecs-agent"
        )
    elif configured:
        verdict.warn("the service is not started", "start it", "systemctl enable --now ecs-agent")
    else:
        verdict.ok("the service is installed; it waits for this host to join")


def _up(view: AgentView, now: float) -> str:
    minutes = int(now - view.started_at) // 60 if view.started_at else 0
    if minutes < 1:
        return ""
    return f", up {minutes // 60} h {minutes % 60} min" if minutes >= 60 else f", up {minutes} min"


def _judge_view(verdict: FindingList, view: AgentView, now: float) -> None:
    verdict.ok(
        f"the agent {view.version} answers{_up(view, now)}: {view.running} running, {view.pending} pending and "
        f"{view.stopped} stopped tasks"
    )
    if view.version != __version__:
        verdict.warn(
            f"the running agent is {view.version}, but {__version__} is installed",
            "restart it; tasks keep running",
            "systemctl restart ecs-agent",
        )
    for trouble in view.degraded:
        seen, _, mend = trouble.rpartition("; ")
        mend, tell = (mend, seen) if seen else ("look at its log", mend)
        verdict.warn(f"the agent says: {tell}", mend)
    repairs = [repair for repair in view.repairs if now - repair.at < _REPAIRS_WITHIN_S]
    if repairs:
        times = "once" if len(repairs) == 1 else f"{len(repairs)} times"
        verdict.warn(
            f"somebody changed what the agent needs {times} within an hour, and it was put right; "
            f"last: {repairs[-1].found}",
            "find out which program or person does it; the log tells when",
            _LOG,
        )
    if not view.control_connected:
        since_s = now - view.control_since if view.control_since else 0.0
        verdict.warn(
            f"the agent has had no connection to control for {since_s:.0f} s "
            f"({view.control_error or 'it is connecting'}); {view.unsent_changes} changes are kept "
            "and sent later",
            "see the findings about control",
        )
    elif view.unsent_changes and now - view.control_since > _LATE_S:
        verdict.warn(
            f"{view.unsent_changes} changes are not sent although control is connected",
            "look for control's answers in the log",
            _LOG,
        )
