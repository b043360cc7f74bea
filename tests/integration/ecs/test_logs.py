"""``ecs-agent logs`` of a container that restarts, ordered with a shorter time between restarts than our control allows."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.backend import messages
from tests.support.fleet import COMMAND, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration

LIFE = "begun\nended\n"


def test_following_goes_on_through_a_restart(host: Host, tmp_path: Path) -> None:
    policy = {"enabled": True, "ignoredExitCodes": [], "restartAttemptPeriod": 2}
    app = messages.container(
        "app",
        host.image,
        *("sh", "-c", "echo begun; sleep 3; echo ended; exit 1"),
        restartPolicy=policy,
    )
    task = messages.task(app)
    host.backend.acs.wait_ack(host.order(task))
    host.wait(task["arn"], "RUNNING")
    path = tmp_path / "followed"
    with (
        path.open("wb") as out,
        subprocess.Popen(
            [COMMAND, "logs", task["arn"], "--follow"],
            env={**os.environ, "ECS_AGENT_SOCKET": str(host.agent.socket)},
            stdout=out,
        ) as follower,
    ):
        try:
            eventually(
                lambda: path.read_text().startswith(f"{LIFE}{LIFE}begun\n"), what="a third life"
            )
            host.stop_task(task["arn"])
            assert follower.wait(60) == 0
        finally:
            follower.send_signal(signal.SIGKILL)
    lives = path.read_text().count("begun")
    assert path.read_text().startswith(LIFE * (lives - 1) + "begun\n")
