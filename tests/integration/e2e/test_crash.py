"""Nothing is lost and nothing healthy is touched when a process of ours crashes or is away."""

from __future__ import annotations

import random
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, pid_of, register, run
from tests.support.fleet import ACS, LONG_POLL, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 450}


def test_kill_9_of_the_agent_leaves_ten_running_tasks_as_they_are(
    shared_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    client = shared_host.client()
    agent = shared_host.agents[0]
    plain = register(client, busybox_image, "sleep 1000")
    own_ip = register(client, busybox_image, "sleep 1000", mode="awsvpc")
    dying = register(client, busybox_image, "sleep 1000; exit 3", "sleep 1000")
    arns = run(client, plain, count=5) + run(client, own_ip, count=5, networkConfiguration=NETWORK)
    victims = run(client, dying)
    client.get_waiter("tasks_running").wait(tasks=arns + victims, WaiterConfig=FAST)
    before = {a: [pid_of(c) for c in containers_of(a)] for a in arns}
    assert all(before.values())

    agent.kill()
    victim = describe(client, *victims)[0]
    first = next(c for c in victim["containers"] if c["name"] == "c0")
    subprocess.run(
        ["docker", "kill", "-s", "KILL", first["runtimeId"]], check=True, capture_output=True
    )
    agent.start()
    shared_host.wait_connected()

    client.get_waiter("tasks_stopped").wait(tasks=victims, WaiterConfig=FAST)
    ended = {c["name"]: c for c in describe(client, *victims)[0]["containers"]}
    assert ended["c0"]["exitCode"] == 137
    assert {a: [pid_of(c) for c in containers_of(a)] for a in arns} == before
    assert [t["lastStatus"] for t in describe(client, *arns)] == ["RUNNING"] * 10
    views = {t["arn"]: t["status"] for t in agent.json("tasks")}
    assert all(views[a] == "RUNNING" for a in arns)


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.3, 0.6])
def test_kill_9_in_the_middle_of_a_launch_ends_in_one_running_copy(
    shared_host: Fleet,
    busybox_image: str,
    containers_of: Callable[[str], list[str]],
    after_s: float,
) -> None:
    client = shared_host.client()
    agent = shared_host.agents[0]
    definition = register(client, busybox_image, "sleep 1000", "sleep 1000", mode="awsvpc")
    arns = run(client, definition, count=3, networkConfiguration=NETWORK)
    time.sleep(after_s)
    agent.kill()
    agent.start()
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    for arn in arns:
        assert len(containers_of(arn)) == 2, agent.tail()
        listed = subprocess.run(
            ["docker", "ps", "-aq", "--filter", f"label=com.amazonaws.ecs.task-arn={arn}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(listed.stdout.split()) == 2


AWAY_S = {LONG_POLL: 60.0, ACS: 25.0}
"""A minute by one wire is enough: what the agent keeps for control knows of no wire, and all exits are in the first 25 s."""


def test_a_minute_without_control_loses_nothing_and_restarts_nothing(
    shared_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    """Containers exit while control is away for 60 s; every change arrives in order afterwards."""
    client = shared_host.client()
    agent = shared_host.agents[0]
    steady = run(client, register(client, busybox_image, "sleep 1000"), count=3)
    short = run(
        client,
        register(
            client,
            busybox_image,
            "sleep 12; exit 5",
            "sleep 1000",
            containers=[{"essential": False}, {}],
        ),
        count=2,
    )
    late = run(
        client,
        register(
            client,
            busybox_image,
            "sleep 20",
            "exit 4",
            containers=[
                {"essential": False},
                {"dependsOn": [{"containerName": "c0", "condition": "SUCCESS"}]},
            ],
        ),
    )
    client.get_waiter("tasks_running").wait(tasks=steady + short, WaiterConfig=FAST)
    before = {a: [pid_of(c) for c in containers_of(a)] for a in steady}

    shared_host.control.stop()
    stopped_at = time.monotonic()

    def unsent() -> Any:
        return agent.json("status").get("unsentChanges", 0) >= 3

    eventually(unsent, within_s=45, what="changes wait for control")
    away_s = AWAY_S[shared_host.wire]
    time.sleep(max(0.0, away_s - (time.monotonic() - stopped_at)))
    shared_host.control.start()
    shared_host.control.ready()
    shared_host.wait_connected(within_s=60)

    client.get_waiter("tasks_stopped").wait(tasks=late, WaiterConfig=FAST)
    task = describe(client, *late)[0]
    assert {c["name"]: c["exitCode"] for c in task["containers"]} == {"c0": 0, "c1": 4}
    for arn in short:
        task = describe(client, arn)[0]
        assert task["lastStatus"] == "RUNNING"
        assert next(c for c in task["containers"] if c["name"] == "c0")["exitCode"] == 5
    assert {a: [pid_of(c) for c in containers_of(a)] for a in steady} == before
    eventually(lambda: agent.json("status").get("unsentChanges", 0) == 0, what="outbox is empty")


def test_sigterm_leaves_tasks_running_and_exits_cleanly(
    shared_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    client = shared_host.client()
    agent = shared_host.agents[0]
    arns = run(client, register(client, busybox_image, "sleep 1000"))
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    before = [pid_of(c) for c in containers_of(arns[0])]
    assert agent.stop() == 0
    assert [pid_of(c) for c in containers_of(arns[0])] == before
    agent.start()
    shared_host.wait_connected()
    client.stop_task(task=arns[0])
    client.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=FAST)


def test_kill_9_again_and_again_while_tasks_come_and_go(
    shared_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    """Whatever a crash interrupts, what was ordered is what there is in the end, once."""
    client = shared_host.client()
    agent = shared_host.agents[0]
    chance = random.Random(20261123)
    plain = register(client, busybox_image, "sleep 1000")
    own_ip = register(client, busybox_image, "sleep 1000", "sleep 1000", mode="awsvpc")
    steady = run(client, plain, count=2)
    steady += run(client, own_ip, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=steady, WaiterConfig=FAST)
    before = {a: [pid_of(c) for c in containers_of(a)] for a in steady}
    wanted: list[str] = []
    stopped: list[str] = []
    for _ in range(8):
        wanted += run(client, plain)
        wanted += run(client, own_ip, networkConfiguration=NETWORK)
        if chance.random() < 0.6:
            arn = wanted.pop(chance.randrange(len(wanted)))
            client.stop_task(task=arn)
            stopped.append(arn)
        time.sleep(chance.uniform(0.0, 1.2))
        agent.kill()
        agent.start()
    client.get_waiter("tasks_stopped").wait(tasks=stopped, WaiterConfig=FAST)
    client.get_waiter("tasks_running").wait(tasks=wanted, WaiterConfig=FAST)
    assert {a: [pid_of(c) for c in containers_of(a)] for a in steady} == before
    for arn in wanted:
        expected = len(describe(client, arn)[0]["containers"])
        assert len(containers_of(arn)) == expected
    for arn in stopped:
        assert not containers_of(arn)
