"""The container engine is upgraded or crashes under a running agent: no container notices."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support.fleet import Fleet, eventually
from tests.support.images import LINGER
from tests.support.private_engine import PrivateEngine
from tests.support.shop import Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 450}


@pytest.fixture
def private_engine() -> Iterator[PrivateEngine]:
    """An engine with live-restore that the test may stop."""
    directory = Path(tempfile.mkdtemp(prefix="ecs-"))  # short: sockets below it have long names
    made = PrivateEngine(directory)
    made.start()
    yield made
    made.end()
    shutil.rmtree(directory)


def pids(engine: PrivateEngine, *runtime_ids: str) -> list[str]:
    done = subprocess.run(
        ["docker", "-H", engine.host, "inspect", "-f", "{{.State.Pid}}", *runtime_ids],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.fixture
def mortal_engine() -> Iterator[PrivateEngine]:
    """An engine whose stop stops all of its containers."""
    directory = Path(tempfile.mkdtemp(prefix="ecs-"))
    made = PrivateEngine(directory, live_restore=False)
    made.start()
    yield made
    made.end()
    shutil.rmtree(directory)


def test_without_live_restore_a_task_that_has_started_nothing_takes_a_fresh_sandbox(
    mortal_engine: PrivateEngine, tmp_path: Path
) -> None:
    """One waits for its image; one runs, and cannot go on."""
    image = mortal_engine.busybox()
    fleet = Fleet(tmp_path)
    agent = fleet.add_agent(DOCKER_HOST=mortal_engine.host)
    shop = Shop()
    try:
        fleet.start()
        client = fleet.client()
        own_ip = register(client, image, LINGER[2], mode="awsvpc")
        running = run(client, own_ip, networkConfiguration=NETWORK)
        client.get_waiter("tasks_running").wait(tasks=running, WaiterConfig=FAST)
        shop.hang(on=True)
        definition = client.register_task_definition(
            family="pulls",
            networkMode="awsvpc",
            containerDefinitions=[{"name": "c0", "image": shop.name, "memory": 32}],
        )["taskDefinition"]["taskDefinitionArn"]
        waiting = run(client, definition, networkConfiguration=NETWORK)
        eventually(lambda: "pull" in agent.cli("why", waiting[0]), what="it pulls")
        before = eventually(lambda: agent.json("task", waiting[0])["ipv4"], what="its address")

        mortal_engine.stop()
        mortal_engine.start()
        shop.hang(on=False)

        client.get_waiter("tasks_stopped").wait(tasks=running, WaiterConfig=FAST)
        client.get_waiter("tasks_running").wait(tasks=waiting, WaiterConfig=FAST)
        address = agent.json("task", waiting[0])["ipv4"]
        assert address != before, "a sandbox of its own, not the one that died"
        assert (
            subprocess.run(["busybox", "ping", "-c1", "-W2", address], check=False).returncode == 0
        )
        fleet.stop_tasks()
    except BaseException:
        print(agent.tail(80))  # noqa: T201 - for the failure's report
        raise
    finally:
        shop.close()
        agent.stop()
        fleet.control.stop()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_tasks_outlive_their_engine(
    private_engine: PrivateEngine, tmp_path: Path, end: str
) -> None:
    image = private_engine.busybox()
    fleet = Fleet(tmp_path)
    agent = fleet.add_agent(DOCKER_HOST=private_engine.host)
    try:
        fleet.start()
        client = fleet.client()
        steady = run(client, register(client, image, "sleep 1000"), count=2)
        steady += run(
            client,
            register(client, image, "sleep 1000", mode="awsvpc"),
            count=2,
            networkConfiguration=NETWORK,
        )
        dying = run(client, register(client, image, "sleep 1000"))
        client.get_waiter("tasks_running").wait(tasks=steady + dying, WaiterConfig=FAST)
        ids = [t["containers"][0]["runtimeId"] for t in describe(client, *steady)]
        victim = describe(client, *dying)[0]["containers"][0]["runtimeId"]
        before = pids(private_engine, *ids)
        victim_pid = pids(private_engine, victim)[0]

        getattr(private_engine, end)()
        subprocess.run(["kill", "-9", victim_pid], check=True)
        eventually(
            lambda: any("does not answer" in d for d in agent.json("status").get("degraded", [])),
            within_s=40,
            what="the agent sees that its engine is away",
        )
        assert all(t["status"] == "RUNNING" for t in agent.json("tasks"))
        time.sleep(2)
        private_engine.start()

        client.get_waiter("tasks_stopped").wait(tasks=dying, WaiterConfig=FAST)
        assert describe(client, *dying)[0]["containers"][0]["exitCode"] == 137
        assert pids(private_engine, *ids) == before
        assert [t["lastStatus"] for t in describe(client, *steady)] == ["RUNNING"] * 4
        eventually(lambda: not agent.json("status").get("degraded"), what="all is well again")
        more = run(client, register(client, image, "sleep 1000"))
        client.get_waiter("tasks_running").wait(tasks=more, WaiterConfig=FAST)
        fleet.stop_tasks()
    except BaseException:
        print(agent.tail(60))  # noqa: T201 - for the failure's report
        raise
    finally:
        agent.stop()
        fleet.control.stop()


HELD_RUNTIME = """#!/bin/sh
# Starts containers, but not while it is told to wait.
for word; do
  if [ "$word" = start ]; then
    while [ -e {here}/hold ]; do for id; do :; done; : >"{here}/waits-$id"; sleep 0.05; done
  fi
done
exec runc "$@"
"""


@pytest.fixture
def held_engine() -> Iterator[PrivateEngine]:
    """An engine whose containers do not start while there is a file ``hold`` in its directory."""
    directory = Path(tempfile.mkdtemp(prefix="ecs-"))
    program = directory / "held-runc"
    program.write_text(HELD_RUNTIME.format(here=directory))
    program.chmod(0o755)
    made = PrivateEngine(
        directory, more=(f"--add-runtime=held={program}", "--default-runtime=held")
    )
    made.start()
    yield made
    made.end()
    shutil.rmtree(directory)


def processes_of(runtime_id: str) -> list[int]:
    """Return the processes in the control groups of a container."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if runtime_id in (entry / "cgroup").read_text():
                found.append(int(entry.name))
    return found


def containers_of(engine: PrivateEngine, task: str) -> list[str]:
    label = f"label=com.amazonaws.ecs.task-arn={task}"
    words = ["docker", "-H", engine.host, "ps", "-aq", "--no-trunc", "--filter", label]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def test_an_engine_that_died_while_it_started_a_container_starts_it_once_more(
    held_engine: PrivateEngine, tmp_path: Path
) -> None:
    """What it had made of it is still there, and unknown to it: it ends before there is another one."""
    image = held_engine.busybox()
    hold = held_engine.directory / "hold"
    fleet = Fleet(tmp_path)
    agent = fleet.add_agent(DOCKER_HOST=held_engine.host)
    try:
        fleet.start()
        client = fleet.client()
        container = {"name": "c0", "image": image, "memory": 32, "command": ["sleep", "1000"]}
        definition = client.register_task_definition(
            family="held", networkMode="none", containerDefinitions=[container]
        )["taskDefinition"]["taskDefinitionArn"]
        hold.touch()
        tasks = run(client, definition)
        (before,) = eventually(lambda: containers_of(held_engine, tasks[0]), what="a container")
        waits = held_engine.directory / f"waits-{before}"
        eventually(waits.exists, what="it is being started")
        held_engine.kill()
        hold.unlink()
        assert processes_of(before), "it waits without its engine"
        held_engine.start()

        client.get_waiter("tasks_running").wait(tasks=tasks, WaiterConfig=FAST)
        there = containers_of(held_engine, tasks[0])
        assert len(there) == 1
        assert before not in there
        assert not processes_of(before)
        fleet.stop_tasks()
    except BaseException:
        print(agent.tail(80))  # noqa: T201 - for the failure's report
        raise
    finally:
        agent.stop()
        fleet.control.stop()
