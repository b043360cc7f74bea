"""The disk of the agent's state is full for longer than the wait before clean-up."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support.fleet import eventually, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}
CLEANUP_WAIT_S = 1.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes where the agent keeps its state."""
    place = tmp_path / "agent0-data"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def one_host(leak_check: None, small_disk: Path, tmp_path: Path) -> Iterator[Fleet]:
    """One control endpoint and one agent, whose disk is small; tasks are cleaned up after 1 s."""
    del leak_check, small_disk
    with fleet(tmp_path) as made:
        yield made


def fill(disk: Path) -> Path:
    """Take all that is left of a disk; the file that is returned holds it."""
    with closing(sqlite3.connect(disk / "agent.db", timeout=30)) as database:
        # The write-ahead log is used anew when all of it is in the database: there would be room in it.
        busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(b"b" * size)
    return ballast


def engine_has(arn: str) -> list[str]:
    """Return the containers of a task, ended ones too."""
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=com.amazonaws.ecs.task-arn={arn}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def sandbox_runs(container: str) -> bool:
    """Tell whether the sandbox runs whose network a container has, ended or not."""
    mode = inspect(container, "{{.HostConfig.NetworkMode}}")
    return inspect(mode.removeprefix("container:"), "{{.State.Running}}") == "true"


def inspect(container: str, what: str) -> str:
    done = subprocess.run(
        ["docker", "inspect", "-f", what, container], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("restart", [False, True], ids=["goes on", "restarted"])
def test_a_task_that_ends_on_a_full_disk_is_reported_and_runs_once(
    one_host: Fleet, small_disk: Path, busybox_image: str, tmp_path: Path, *, restart: bool
) -> None:
    """What the agent would remove is all that tells of the end, until that is on the disk."""
    client, agent = one_host.client(), one_host.agents[0]
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "wait").touch()
    definition = register(
        client,
        busybox_image,
        "echo run >> /runs/log; while [ -e /runs/wait ]; do sleep 0.1; done; exit 5",
        mode="awsvpc",
        volumes=[{"name": "runs", "host": {"sourcePath": str(runs)}}],
        containers=[{"mountPoints": [{"sourceVolume": "runs", "containerPath": "/runs"}]}],
    )
    (arn,) = run(client, definition, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)

    ballast = fill(small_disk)
    (runs / "wait").unlink()
    eventually(lambda: agent.json("task", arn)["status"] == "STOPPED", what="the agent knows")
    time.sleep(CLEANUP_WAIT_S + 3.0)  # the clean-up is long due
    (container,) = engine_has(arn)
    assert sandbox_runs(container)
    assert describe(client, arn)[0]["lastStatus"] == "RUNNING"
    assert "disk" in agent.cli("why", arn)
    if restart:
        agent.kill()
    ballast.unlink()
    if restart:
        agent.start()

    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    (task,) = describe(client, arn)
    assert task["containers"][0]["exitCode"] == 5
    eventually(agent.has_no_tasks, what="the record is gone after the clean-up")
    assert engine_has(arn) == []
    assert (runs / "log").read_text() == "run\n", "it ran once"


def test_the_execution_stopped_when_the_engine_says_so(one_host: Fleet, busybox_image: str) -> None:
    """An agent that stalls hears of it late."""
    client, agent = one_host.client(), one_host.agents[0]
    (arn,) = run(client, register(client, busybox_image, "sleep 1000"))
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    subprocess.run(["kill", "-STOP", str(agent.pid)], check=True)
    (container,) = engine_has(arn)
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    ended = time.time()
    time.sleep(4.0)
    subprocess.run(["kill", "-CONT", str(agent.pid)], check=True)
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    (task,) = describe(client, arn)
    assert abs(task["executionStoppedAt"].timestamp() - ended) < 2.0
    assert task["stoppedAt"].timestamp() - ended > 3.0
