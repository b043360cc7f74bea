"""SIGHUP against the real thing: tasks do not notice, whatever the new settings are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.integration.e2e.conftest import NETWORK, describe, pid_of, register, run
from tests.support.fleet import Fleet, eventually
from tests.support.service_manager import ServiceManager, service_manager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fleet import Agent

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 450}


class Host:
    """A fleet of one agent that has a settings file and a service manager."""

    def __init__(self, fleet: Fleet, manager: ServiceManager) -> None:
        self.fleet = fleet
        self.manager = manager
        self.file = fleet.directory / "ecs.config"
        self.agent: Agent = fleet.add_agent(**manager.variables(watchdog_s=60))
        self.agent.arguments += ["--config", str(self.file)]
        # What is in the environment cannot be reloaded.
        self._pool = self.agent.environment.pop("ECS_TASK_POOL_CIDR")
        self.write()

    def write(self, **settings: str) -> None:
        lines = {"ECS_TASK_POOL_CIDR": self._pool, **settings}
        self.file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))

    def hang_up(self) -> None:
        os.kill(self.agent.pid, signal.SIGHUP)

    def reload(self, **settings: str) -> None:
        """Reload and wait until it is over, whatever came of it."""
        self.manager.forget()
        self.write(**settings)
        self.hang_up()
        self.manager.wait_for("RELOADING=1", "READY=1", within_s=60)
        assert self.agent.is_alive(), self.agent.tail()

    def log(self) -> str:
        return self.agent.log.read_text()

    def bridge(self) -> int:
        """Return the kernel's index of the bridge: another number is another bridge."""
        return socket.if_nametoindex(self.agent.environment["ECS_TASK_BRIDGE"])

    def memory_mib(self) -> int:
        """Return what control knows of the host's memory."""
        client = self.fleet.client()
        (arn,) = client.list_container_instances()["containerInstanceArns"]
        (found,) = client.describe_container_instances(containerInstances=[arn])[
            "containerInstances"
        ]
        return next(
            int(r["integerValue"]) for r in found["registeredResources"] if r["name"] == "MEMORY"
        )


@pytest.fixture
def host(leak_check: None, tmp_path: Path) -> Iterator[Host]:
    del leak_check
    with service_manager(tmp_path) as manager:
        fleet = Fleet(tmp_path)
        made = Host(fleet, manager)
        try:
            fleet.start()
            manager.wait_for("READY=1")
            yield made
        finally:
            fleet.end()


def test_ten_tasks_notice_nothing_of_any_reload(host: Host, busybox_image: str) -> None:
    client = host.fleet.client()
    plain = register(client, busybox_image, "sleep 1000")
    own_ip = register(client, busybox_image, "sleep 1000", mode="awsvpc")
    arns = run(client, plain, count=5) + run(client, own_ip, count=5, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    containers = sorted(c for arn in arns for c in _containers(arn))
    assert len(containers) == 10
    pids, bridge = [pid_of(c) for c in containers], host.bridge()
    process, memory_mib = host.agent.pid, host.memory_mib()

    host.reload(ECS_RESERVED_MEMORY="100")
    eventually(lambda: host.memory_mib() == memory_mib - 100, what="registered anew")
    assert "ECS_RESERVED_MEMORY" in host.log()

    host.reload(ECS_RESERVED_MEMORY="lots", ECS_NO_SUCH="1")
    assert "old ones stay" in host.log()
    assert host.log().count("old ones stay") == 2, "one line per problem"

    host.reload(ECS_RESERVED_MEMORY="100")
    assert "settings reloaded: no changes" in host.log()

    host.reload(ECS_RESERVED_MEMORY="100", ECS_TASK_POOL_CIDR="127.0.0.0/24")
    assert "restoring the old ones" in host.log()
    assert "overlaps" in host.log()

    # Everything that a turn makes ends with it.
    def holds() -> tuple[int, int]:
        agent = psutil.Process(host.agent.pid)
        return agent.num_threads(), agent.num_fds()

    seen: list[tuple[int, int]] = []
    for number in range(10):
        host.reload(ECS_RESERVED_MEMORY=str(101 + number), ECS_LOGLEVEL="debug")
        host.fleet.wait_connected()
        seen.append(holds())
    early, late = seen[2:5], seen[-3:]
    assert min(t for t, _ in late) <= max(t for t, _ in early) + 3, seen
    assert min(f for _, f in late) <= max(f for _, f in early) + 3, seen

    assert "level=debug" in host.log() or '"level": "debug"' in host.log(), "the log follows"
    assert host.agent.pid == process
    assert [pid_of(c) for c in containers] == pids
    assert sorted(c for arn in arns for c in _containers(arn)) == containers
    assert host.bridge() == bridge
    assert [t["lastStatus"] for t in describe(client, *arns)] == ["RUNNING"] * 10
    eventually(lambda: host.manager.status.startswith("10 tasks running"), what="status")

    more = run(client, own_ip, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=more, WaiterConfig=FAST)


def test_a_host_policy_holds_from_a_reload_on_whatever_control_orders(
    host: Host, busybox_image: str
) -> None:
    client = host.fleet.client()
    capable = [{"linuxParameters": {"capabilities": {"add": ["SYS_ADMIN"]}}}]
    risky = register(client, busybox_image, "sleep 1000", containers=capable)
    before = run(client, risky)
    client.get_waiter("tasks_running").wait(tasks=before, WaiterConfig=FAST)
    containers = _containers(*before)
    subprocess.run(
        [
            "docker",
            "volume",
            "create",
            "--opt",
            "type=none",
            "--opt",
            "o=bind",
            "--opt",
            "device=/",
            "all-of-it",
        ],
        check=True,
        capture_output=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.toml"
        policy.write_text('images = ["*"]')
        policy.chmod(0o644)
        host.reload(ECS_HOST_POLICY_FILE=str(policy))
        host.fleet.wait_connected()
        refusal = f"host policy {policy}: rule added_capabilities: container c0 adds the capability"
        assert _stopped(client, *run(client, risky)).startswith(refusal)

        mount = [{"mountPoints": [{"sourceVolume": "all-of-it", "containerPath": "/x"}]}]
        shared = [{"name": "all-of-it", "dockerVolumeConfiguration": {"scope": "shared"}}]
        all_of_it = register(client, busybox_image, "sleep 1000", containers=mount, volumes=shared)
        assert "rule host_paths" in _stopped(client, *run(client, all_of_it))

        privileged = register(client, busybox_image, "true", containers=[{"privileged": True}])
        (failure,) = client.run_task(taskDefinition=privileged)["failures"]
        assert failure["reason"] == "ATTRIBUTE"

        data = [{"name": "all-of-it", "host": {}}]
        usual = register(
            client,
            busybox_image,
            "sleep 1000",
            "sleep 1000",
            mode="awsvpc",
            pidMode="task",
            containers=mount,
            volumes=data,
        )
        usual_arns = run(client, usual, networkConfiguration=NETWORK)
        client.get_waiter("tasks_running").wait(tasks=usual_arns, WaiterConfig=FAST)

        policy.write_text("privilegd = true")
        host.hang_up()
        eventually(lambda: "did you mean privileged?" in host.log(), what="the problem is told")
        assert "old ones stay in use" in host.log()
        assert _stopped(client, *run(client, risky)).startswith(refusal)
    subprocess.run(["docker", "volume", "rm", "all-of-it"], check=True, capture_output=True)
    assert _containers(*before) == containers
    assert describe(client, *before)[0]["lastStatus"] == "RUNNING"


def test_tasks_that_are_launched_during_reloads_run_once(host: Host, busybox_image: str) -> None:
    client = host.fleet.client()
    plain = register(client, busybox_image, "sleep 1000")
    own_ip = register(client, busybox_image, "sleep 1000", "sleep 1000", mode="awsvpc")
    wanted: list[str] = []
    for number in range(4):
        wanted += run(client, plain, count=2)
        wanted += run(client, own_ip, networkConfiguration=NETWORK)
        host.reload(ECS_RESERVED_MEMORY=str(number + 1))
    host.write(ECS_RESERVED_MEMORY="0")
    for _ in range(3):  # however often somebody presses the button
        host.hang_up()
    client.get_waiter("tasks_running").wait(tasks=wanted, WaiterConfig=FAST)
    for task in describe(client, *wanted):
        ids = {container["runtimeId"] for container in task["containers"]}
        assert all(pid_of(container) for container in ids)
    expected = sum(len(t["containers"]) for t in describe(client, *wanted))
    labelled = [c for arn in wanted for c in _containers(arn)]
    assert len(labelled) == expected


def test_leaving_wins_over_a_reload_under_way(host: Host) -> None:
    host.write(ECS_RESERVED_MEMORY="7")
    host.hang_up()
    assert host.agent.stop() == 0


def _containers(task_arn: str) -> list[str]:
    """Return all containers of a task, whatever their state."""
    done = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=com.amazonaws.ecs.task-arn={task_arn}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def _stopped(client: Any, task_arn: str) -> str:
    """Return why a task has stopped: its own reason, and those of its containers."""
    client.get_waiter("tasks_stopped").wait(tasks=[task_arn], WaiterConfig=FAST)
    (task,) = describe(client, task_arn)
    return str(task["stoppedReason"]) + "".join(c.get("reason", "") for c in task["containers"])
