"""Tasks with addresses of their own that come and go by the dozen, while the agent is killed twice.

``ECS_TEST_CHURN_TASKS=500`` asks for more of them.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support import fleet, images

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

TASKS = int(os.environ.get("ECS_TEST_CHURN_TASKS", "40"))
WAVE = 10
"""Tasks in one order; two waves are on the host at a time, one that comes and one that goes."""


@pytest.mark.timeout(120 + 4 * TASKS)
def test_no_address_is_held_twice_and_nothing_is_left(
    leak_check: None, tmp_path: Path, busybox_image: str
) -> None:
    del leak_check
    waves = TASKS // WAVE
    killed_in = {waves // 3, 2 * waves // 3}
    seen: list[str] = []
    with fleet.fleet(
        tmp_path,
        ECS_IMAGE_PULL_BEHAVIOR="prefer-cached",
        ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="1s",
    ) as made:
        client, agent = made.client(), made.agents[0]
        definition = register(client, busybox_image, images.LINGER[2], mode="awsvpc")
        before: list[str] = []
        for number in range(waves):
            wave = run(client, definition, count=WAVE, networkConfiguration=NETWORK)
            if number in killed_in:
                agent.kill()
                agent.start()
            states = fleet.eventually(
                partial(_settled, client, wave, "RUNNING"),
                within_s=120,
                what="all tasks of the wave run",
            )
            still = [t for t in describe(client, *before) if t["lastStatus"] != "STOPPED"]
            held = [_address(task) for task in (*states, *still)]
            assert len(held) == len(set(held)), f"an address is held twice: {sorted(held)}"
            seen += [_address(task) for task in states]
            for arn in wave:
                client.stop_task(task=arn)
            before = wave
        fleet.eventually(
            partial(_settled, client, before, "STOPPED"), within_s=120, what="all tasks stop"
        )
    assert len(seen) == waves * WAVE


def _settled(client: Any, arns: list[str], status: str) -> list[dict[str, Any]]:
    """Return the tasks if all of them have reached a status, else an empty list."""
    tasks = describe(client, *arns)
    for task in tasks:
        assert task["lastStatus"] != "STOPPED" or status == "STOPPED", task.get("stoppedReason")
    return tasks if all(task["lastStatus"] == status for task in tasks) else []


def _address(task: dict[str, Any]) -> str:
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    return str(details["privateIPv4Address"])
