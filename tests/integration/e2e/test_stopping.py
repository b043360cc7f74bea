"""What DescribeTasks shows of a task that is on its way down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, register, run
from tests.support.fleet import LONG_POLL, eventually

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}
STUBBORN = "trap : TERM; while :; do sleep 0.1; done"
"""Ends by SIGKILL alone, once its stop time is over."""


def test_a_task_is_wanted_stopped_as_soon_as_its_essential_container_has_ended(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    definition = register(
        client,
        busybox_image,
        "sleep 3; exit 7",
        STUBBORN,
        containers=[{}, {"essential": False, "stopTimeout": 8}],
    )
    (arn,) = run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)

    def exited() -> Any:
        task = describe(client, arn)[0]
        return task if task["containers"][0].get("exitCode") == 7 else None

    task = eventually(exited, what="the exit is reported")
    assert [c["lastStatus"] for c in task["containers"]] == ["STOPPED", "RUNNING"]
    assert (task["lastStatus"], task["desiredStatus"]) == ("RUNNING", "STOPPED")
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["stoppingAt"] >= task["startedAt"]
    assert "stoppedAt" not in task
    assert client.list_tasks()["taskArns"] == []
    assert client.list_tasks(desiredStatus="STOPPED")["taskArns"] == [arn]

    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    ended = describe(client, arn)[0]
    assert (ended["stopCode"], ended["stoppingAt"]) == (task["stopCode"], task["stoppingAt"])
    assert (ended["stoppedAt"] - ended["stoppingAt"]).total_seconds() > 6


def test_a_task_that_an_operator_of_the_host_stops_is_wanted_stopped_at_once(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    definition = register(client, busybox_image, STUBBORN, containers=[{"stopTimeout": 8}])
    (arn,) = run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    shared_host.agents[0].cli("stop", arn.rpartition("/")[2], "--reason", "disk is on fire")
    if shared_host.wire == LONG_POLL:  # the other wire has no word for it before a container ends
        task = eventually(
            lambda: (t := describe(client, arn)[0])["desiredStatus"] == "STOPPED" and t,
            within_s=5,
            what="the stop is told",
        )
        assert task["lastStatus"] == "RUNNING"
        assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "disk is on fire")
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    assert describe(client, arn)[0]["stoppedReason"] == "disk is on fire"
