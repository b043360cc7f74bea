from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.config import Settings
from agent.doctor.checks import control
from agent.doctor.checks.control import Contact
from agent.doctor.findings import Level
from agent.model.wire import Hello
from agent.upstream.hello import HelloResult
from tests.support.findings import only

JOINED = Settings(control_endpoint="https://control.example:6820", cluster="prod")
HELLO = Hello(control_id="c", version="0.1.0", clusters=["prod"], takes_cluster=True)
ANSWERED = Contact(addresses=("192.0.2.1",), meeting=HelloResult(HELLO, 0.0), with_token=True)


def changed(**changes: Any) -> Contact:
    return msgspec.structs.replace(ANSWERED, **changes)


@pytest.mark.parametrize(
    ("contact", "level", "word"),
    [
        (ANSWERED, "ok", ""),
        (changed(took_s=2.0), "warning", "closer"),
        (changed(meeting=HelloResult(HELLO, 60.0)), "warning", "set-ntp"),
        (changed(meeting=HelloResult(HELLO, -7200.0)), "error", "set-ntp"),
        (
            changed(meeting=HelloResult(msgspec.structs.replace(HELLO, takes_cluster=False), None)),
            "error",
            "create-cluster --cluster-name prod",
        ),
        (changed(addresses=("10.207.0.9",)), "error", "ECS_TASK_POOL_CIDR"),
        (Contact(name_trouble="Name or service not known"), "error", "getent hosts control"),
        (changed(meeting=None, trouble="x: no process listens; start control"), "error", "start"),
        (changed(meeting=None, trouble="x", refused=True), "error", "ecs-agent join"),
        (changed(meeting=None, token_unread="/etc/ecs/token"), "warning", "as root"),
    ],
)
def test_control(contact: Contact, level: str, word: str) -> None:
    finding = only(control.judge(JOINED, contact), Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_a_token_on_an_open_way() -> None:
    plain = Settings(control_endpoint="http://control.example:6820")
    assert "plain HTTP" in only(control.judge(plain, ANSWERED), Level.WARNING).seen
