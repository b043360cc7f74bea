"""``ecs-agent logs`` of real containers: several at once, and of a driver that keeps nothing."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.e2e.conftest import register, run
from tests.support.fleet import COMMAND, eventually, fleet

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}
SLOW = "for i in 1 2 3; do echo {0}$i; sleep 0.4; done; sleep 1000"

UNREADABLE = {
    "logDriver": "fluentd",
    "options": {
        "fluentd-address": "127.0.0.1:9",
        "fluentd-async": "true",
        "cache-disabled": "true",
    },
}


def test_logs_of_several_containers_and_of_none(
    leak_check: None, tmp_path: Path, busybox_image: str
) -> None:
    del leak_check
    drivers = '["json-file","fluentd"]'
    with fleet(tmp_path, ECS_AVAILABLE_LOGGING_DRIVERS=drivers) as made:
        client, (agent,) = made.client(), made.agents
        long = f"head -c 40000 /dev/zero | tr '\\0' x; echo; {SLOW.format('b')}"
        definition = register(
            client,
            busybox_image,
            SLOW.format("a"),
            long,
            "sleep 1000",
            family="several",
            containers=[{}, {}, {"logConfiguration": UNREADABLE}],
        )
        arns = run(client, definition)
        client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
        eventually(lambda: "b3" in agent.cli("logs", "several", "-c", "c1"), what="all lines")
        eventually(lambda: "a3" in agent.cli("logs", "several", "-c", "c0"), what="all lines")
        done = subprocess.run(
            [COMMAND, "logs", "several", "-t"],
            env={**os.environ, "ECS_AGENT_SOCKET": str(agent.socket)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        lines = [line.split(" ", 3) for line in done.stdout.splitlines()]
        assert sorted(line[0] for line in lines) == ["c0"] * 3 + ["c1"] * 4
        assert [line[2] for line in lines] == sorted(line[2] for line in lines)
        assert [line[3] for line in lines if line[0] == "c1"] == ["x" * 40000, "b1", "b2", "b3"]
        assert done.stderr == (
            "ecs-agent: container c2: its log driver 'fluentd' cannot be read back; "
            "its output goes to address 127.0.0.1:9\n"
        )
        assert agent.cli("logs", "several", "-n", "1", "-c", "c0") == "a3\n"
        assert agent.cli("logs", "several", "--since", "0s", "-c", "c0") == ""
