"""Containers of one task that share processes and IPC, on a real engine; those of others see nothing."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, pid_of, register, run
from tests.support.fleet import LONG_POLL, Fleet, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 450}
TASK = {"pidMode": "task", "ipcMode": "task"}
LINGER = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"


one_wire = pytest.mark.parametrize("shared_fleet", [LONG_POLL], indirect=True)


@pytest.fixture
def host(shared_fleet: Fleet) -> Iterator[Fleet]:
    yield shared_fleet
    shared_fleet.stop_tasks()
    eventually(lambda: not holders(), what="the holders are gone")


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def running(client: Any, definition: str, **more: Any) -> str:
    (arn,) = run(client, definition, **more)

    def is_up() -> bool:
        (task,) = describe(client, arn)
        assert task["lastStatus"] != "STOPPED", (task["stoppedReason"], task["containers"])
        return bool(task["lastStatus"] == "RUNNING")

    eventually(is_up, what="the task runs")
    return arn


def containers(client: Any, arn: str) -> dict[str, str]:
    """Return the engine ids of a task's containers by their names."""
    return {c["name"]: c["runtimeId"] for c in describe(client, arn)[0]["containers"]}


def within(container: str, script: str) -> str:
    return docker("exec", container, "sh", "-c", script)


def holders() -> list[str]:
    return docker("ps", "-aq", "--no-trunc", "--filter", "label=ecs-host-agent.namespaces").split()


def how(mode: str) -> dict[str, Any]:
    return {"networkConfiguration": NETWORK} if mode == "awsvpc" else {}


@pytest.mark.parametrize("mode", ["awsvpc", "bridge", "none", "host"])
def test_containers_of_a_task_see_each_other_and_nobody_else(
    host: Fleet, busybox_image: str, mode: str
) -> None:
    client = host.client()
    definition = register(client, busybox_image, LINGER, LINGER, mode=mode, **TASK)
    one = containers(client, running(client, definition, **how(mode)))
    other = containers(client, running(client, definition, **how(mode)))

    within(one["c0"], "sleep 4242 >/dev/null 2>&1 &")
    within(one["c0"], "echo hello > /dev/shm/note")
    assert "sleep 4242" in within(one["c1"], "ps -o args")
    assert within(one["c1"], "cat /dev/shm/note") == "hello"
    assert within(one["c1"], "ps -o pid,args | head -2 | tail -1").split() == ["1", "/pause"]
    for kind in ("pid", "ipc"):
        here = {within(c, f"readlink /proc/self/ns/{kind}") for c in one.values()}
        there = {within(c, f"readlink /proc/self/ns/{kind}") for c in other.values()}
        assert len(here) == len(there) == 1
        assert here != there
    assert "sleep 4242" not in within(other["c1"], "ps -o args")
    assert within(other["c1"], "ls /dev/shm") == ""
    assert len(holders()) == (0 if mode == "awsvpc" else 2)


@one_wire
def test_message_queues_are_shared(host: Fleet, busybox_image: str) -> None:
    client = host.client()
    definition = register(client, busybox_image, LINGER, LINGER, **TASK)
    c0, c1 = containers(client, running(client, definition)).values()
    within(c0, "touch /dev/mqueue/jobs")
    assert within(c1, "ls /dev/mqueue") == "jobs"


@one_wire
def test_only_what_is_asked_for_is_shared(host: Fleet, busybox_image: str) -> None:
    client = host.client()
    arn = running(client, register(client, busybox_image, LINGER, LINGER, ipcMode="task"))
    c0, c1 = containers(client, arn).values()
    assert within(c0, "readlink /proc/self/ns/ipc") == within(c1, "readlink /proc/self/ns/ipc")
    assert within(c0, "readlink /proc/self/ns/pid") != within(c1, "readlink /proc/self/ns/pid")


@one_wire
def test_the_shared_memory_is_as_large_as_the_largest_that_is_asked_for(
    host: Fleet, busybox_image: str
) -> None:
    client = host.client()
    large = {"linuxParameters": {"sharedMemorySize": 96}}
    definition = register(
        client, busybox_image, LINGER, LINGER, mode="awsvpc", containers=[{}, large], **TASK
    )
    for container in containers(client, running(client, definition, **how("awsvpc"))).values():
        assert within(container, "df -m /dev/shm | tail -1").split()[1] == "96"
    assert len(holders()) == 1


@one_wire
def test_orphans_are_buried_and_nothing_outlives_its_container(
    host: Fleet, busybox_image: str
) -> None:
    client = host.client()
    leaver = "sleep 2000 & sh -c 'sleep 0.2 & exit 0'; sleep 1; exit 0"
    definition = register(
        client, busybox_image, leaver, LINGER, containers=[{"essential": False}, {}], **TASK
    )
    arn = running(client, definition)
    eventually(lambda: describe(client, arn)[0]["containers"][0]["lastStatus"] == "STOPPED")
    left = within(containers(client, arn)["c1"], "ps -o stat,args")
    assert "sleep 2000" not in left
    assert not [line for line in left.splitlines() if line.lstrip().startswith("Z")]


@one_wire
def test_a_container_cannot_end_what_holds_the_namespaces(host: Fleet, busybox_image: str) -> None:
    client = host.client()
    arn = running(client, register(client, busybox_image, LINGER, LINGER, **TASK))
    c0 = containers(client, arn)["c0"]
    for signal in ("TERM", "INT", "KILL", "QUIT"):
        within(c0, f"kill -{signal} 1")
    time.sleep(1)
    assert within(c0, "ps -o pid,args | grep '[/]pause'").split() == ["1", "/pause"]
    assert describe(client, arn)[0]["lastStatus"] == "RUNNING"


@one_wire
@pytest.mark.parametrize("mode", ["awsvpc", "none"])
def test_the_end_of_what_holds_them_is_the_reason_that_is_told(
    host: Fleet, busybox_image: str, mode: str
) -> None:
    client = host.client()
    definition = register(client, busybox_image, LINGER, LINGER, mode=mode, **TASK)
    arn = running(client, definition, **how(mode))
    joined = docker(
        "inspect", "-f", "{{.HostConfig.PidMode}}", containers(client, arn)["c0"]
    ).removeprefix("container:")
    docker("kill", joined)
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    reason = describe(client, arn)[0]["stoppedReason"]
    assert ("namespaces" if mode == "none" else "network sandbox") in reason
    eventually(lambda: not holders(), what="the holder is gone")


@one_wire
def test_the_holder_is_nobodys_container_and_goes_last(host: Fleet, busybox_image: str) -> None:
    client, agent = host.client(), host.agents[0]
    arn = running(client, register(client, busybox_image, LINGER, "sleep 1000", **TASK))
    (view,) = agent.json("tasks")
    assert [c["name"] for c in view["containers"]] == ["c0", "c1"]
    (holder,) = holders()
    client.stop_task(task=arn)
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    eventually(lambda: not holders(), what="the holder is gone")
    exits = {c["name"]: c.get("exitCode") for c in describe(client, arn)[0]["containers"]}
    assert exits["c0"] == 0, f"it was stopped, not killed with {holder}: {exits}"


@one_wire
@pytest.mark.parametrize("after_s", [0.05, 0.2, 0.4, 0.8])
def test_a_crash_at_any_moment_ends_in_one_holder(
    host: Fleet, busybox_image: str, after_s: float
) -> None:
    client, agent = host.client(), host.agents[0]
    (arn,) = run(client, register(client, busybox_image, LINGER, LINGER, **TASK))
    time.sleep(after_s)
    agent.kill()
    agent.start()
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    (holder,) = holders()
    for container in containers(client, arn).values():
        modes = docker(
            "inspect", "-f", "{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}", container
        )
        assert modes.split() == [f"container:{holder}"] * 2
    before = pid_of(holder)
    agent.kill()
    agent.start()
    eventually(agent.is_connected, what="the agent is back")
    assert pid_of(holder) == before
    assert describe(client, arn)[0]["lastStatus"] == "RUNNING"
