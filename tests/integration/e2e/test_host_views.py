"""What a host shows of itself: launch traces, ``top``, introspection and health, of real processes."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support.fleet import COMMAND, Fleet, eventually, fleet, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
BUSY = "while :; do :; done"


class Scene:
    """One host with a busy task in ``awsvpc`` mode and a quiet one in ``bridge`` mode."""

    def __init__(self, made: Fleet, image: str, port: int) -> None:
        client = made.client()
        busy = register(client, image, BUSY, "sleep 1000", mode="awsvpc", family="busy")
        quiet = register(
            client,
            image,
            "sleep 1000",
            mode="bridge",
            family="quiet",
            containers=[{"portMappings": [{"containerPort": 8080}]}],
        )
        (self.busy,) = run(client, busy, networkConfiguration=NETWORK)
        (self.quiet,) = run(client, quiet)
        self.fleet = made
        self.agent = made.agents[0]
        self.client = client
        self.url = f"http://127.0.0.1:{port}"
        self.environ = {
            "ECS_INTROSPECTION_PORT": str(port),
            "ECS_AGENT_HEALTHCHECK_HOST": "127.0.0.1",
        }
        eventually(
            lambda: all(
                t["lastStatus"] == "RUNNING" for t in describe(client, self.busy, self.quiet)
            ),
            what="both tasks run",
        )

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and body of a call to the introspection endpoint."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def launch(self, arn: str) -> dict[str, Any]:
        """Return the launch trace of a task, once control has acknowledged it."""

        def whole() -> dict[str, Any]:
            launch: dict[str, Any] = self.agent.json("task", arn)["launch"]
            done = {p["phase"] for p in launch["phases"] if p["endedS"] is not None}
            return launch if "acknowledge" in done else {}

        found: dict[str, Any] = eventually(whole, what="the launch is acknowledged")
        return found

    def healthcheck(self) -> int:
        """Return the exit code of ``ecs-agent healthcheck``."""
        return subprocess.run(
            [str(COMMAND), "healthcheck"],
            env={"PATH": os.environ["PATH"], **self.environ},
            timeout=60,
            check=False,
        ).returncode


@pytest.fixture(scope="module")
def scene(busybox_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    port = free_port()
    with fleet(
        tmp_path_factory.mktemp("fleet"),
        ECS_INTROSPECTION_PORT=str(port),
        ECS_POLLING_METRICS_WAIT_DURATION="10s",
    ) as made:
        yield Scene(made, busybox_image, port)


@pytest.mark.parametrize("which", ["busy", "quiet"])
def test_a_trace_adds_up_to_the_time_from_order_to_running(scene: Scene, which: str) -> None:
    arn = getattr(scene, which)
    view = scene.agent.json("task", arn)
    launch = scene.launch(arn)
    phases = launch["phases"]
    names = [f"{p['phase']} {p['subject']}".strip() for p in phases]
    containers = [container["name"] for container in view["containers"]]
    wanted = ["store", "admit", "report", "acknowledge"]
    wanted += [f"{step} {c}" for step in ("pull", "create", "start") for c in containers]
    assert set(wanted) <= set(names), names
    assert ("network" in names) == (which == "busy")
    running_s = launch["runningS"]
    # By the record, whose times are of another clock: from the order to RUNNING.
    assert running_s == pytest.approx(view["startedAt"] - view["acceptedAt"], abs=0.05)
    # The phases leave next to nothing of it out.
    covered = at = 0.0
    for phase in phases:
        if phase["phase"] in ("report", "acknowledge"):
            continue
        end = min(phase["endedS"], running_s)
        covered += max(0.0, end - max(phase["beganS"], at))
        at = max(at, end)
    assert covered == pytest.approx(running_s, rel=0.15, abs=0.1)
    # And what the engine says of its containers lies within it.
    for container in view["containers"]:
        start = next(
            p for p in phases if (p["phase"], p["subject"]) == ("start", container["name"])
        )
        inspected = subprocess.run(
            ["docker", "inspect", "-f", "{{.State.StartedAt}}", container["runtimeId"]],
            capture_output=True,
            text=True,
            check=True,
        )
        moment = datetime.fromisoformat(inspected.stdout.strip()[:26] + "+00:00").timestamp()
        since_order = moment - launch["orderedAt"]
        assert start["beganS"] - 0.05 <= since_order <= start["endedS"] + 0.05


def test_the_trace_is_a_table_with_bars(scene: Scene) -> None:
    shown = scene.agent.cli("task", scene.busy)
    assert "launched in " in shown
    assert "█" in next(line for line in shown.splitlines() if line.startswith("start c0"))


def test_top_shows_who_is_busy(scene: Scene) -> None:
    def busy() -> Any:
        (line,) = scene.agent.cli("top", "--once", "--json").splitlines()
        first = json.loads(line)["containers"][0]
        return json.loads(line) if first["cpuPercent"] and first["cpuPercent"] > 5 else None

    shown = eventually(busy, what="the busy container is measured")
    first = shown["containers"][0]
    assert (first["family"], first["container"]) == ("busy", "c0")
    assert first["receiveBytesPerS"] is not None  # an address of its own
    assert {c["family"] for c in shown["containers"]} == {"busy", "quiet"}
    assert shown["host"]["memoryTotalBytes"] > 0
    assert shown["tasksRunning"] == 2
    text = scene.agent.cli("top", "--once", "--sort", "name", "--filter", "quiet")
    assert len([line for line in text.splitlines() if " c0 " in line]) == 1


def test_top_shows_the_fleet_by_what_control_was_told(scene: Scene) -> None:
    words = ("top", "--fleet", "--data-dir", str(scene.fleet.directory / "control"))

    def told() -> Any:
        (line,) = scene.agent.cli(*words, "--once", "--json").splitlines()
        shown = json.loads(line)
        return shown if all(task["memoryBytes"] for task in shown["tasks"]) else None

    shown = eventually(told, within_s=90.0, what="the agent has told control its figures")
    (host,) = shown["hosts"]
    assert (host["connected"], host["tasksRunning"], host["tasksPending"]) == (True, 2, 0)
    assert host["cpuUnits"] > 0
    assert host["memoryUsedBytes"] < host["memoryTotalBytes"]
    busy, quiet = shown["tasks"]  # sorted by CPU
    assert (busy["family"], quiet["family"]) == ("busy", "quiet")
    assert busy["cpuUnits"] > quiet["cpuUnits"]
    assert busy["receiveBytesPerS"] is not None
    assert {busy["instanceId"], quiet["instanceId"]} == {host["id"]}
    text = scene.agent.cli(*words, "--filter", "quiet")
    assert "cluster default   hosts: 1 of 1 connected" in text
    assert "quiet:1" in text
    assert "busy:1" not in text
    refused = scene.agent.cli(*words, "--cluster", "nowhere", check=False)
    assert refused == ""


def test_introspection_of_an_agent_that_runs(scene: Scene) -> None:
    status, metadata = scene.get("/v1/metadata")
    assert status == 200
    assert metadata["ContainerInstanceArn"].startswith("arn:aws:ecs:")
    _, listed = scene.get("/v1/tasks")
    assert {task["Arn"] for task in listed["Tasks"]} == {scene.busy, scene.quiet}
    status, task = scene.get(f"/v1/tasks?taskarn={scene.quiet}")
    (container,) = task["Containers"]
    assert (status, task["KnownStatus"], task["Family"]) == (200, "RUNNING", "quiet")
    inspected = json.loads(
        subprocess.run(
            ["docker", "inspect", container["DockerId"]], capture_output=True, text=True, check=True
        ).stdout
    )[0]
    assert container["ImageID"] == inspected["Image"]
    assert f"/{container['DockerName']}" == inspected["Name"]
    bound = inspected["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
    assert container["Ports"] == [
        {"ContainerPort": 8080, "Protocol": "tcp", "HostPort": int(bound)}
    ]
    assert scene.get(f"/v1/tasks?dockerid={container['DockerId'][:12]}") == (200, task)
    assert scene.get("/v1/tasks?dockerid=000000000000")[0] == 404


def test_health_and_a_restart(scene: Scene) -> None:
    """The last one of the module: after it, the launch is known from the record alone."""
    assert scene.healthcheck() == 0
    before = scene.launch(scene.busy)
    scene.agent.stop()
    assert scene.healthcheck() == 1
    scene.agent.start()
    eventually(lambda: scene.healthcheck() == 0, what="the agent answers again")
    eventually(
        lambda: scene.agent.json("task", scene.busy)["status"] == "RUNNING",
        what="it is known again",
    )
    launch = scene.agent.json("task", scene.busy)["launch"]
    assert launch["isWhole"] is False
    assert launch["runningS"] == pytest.approx(before["runningS"], abs=0.05)
    assert {p["phase"] for p in launch["phases"]} <= {"admit", "pull"}
    assert all(p["beganS"] is None for p in launch["phases"] if p["phase"] == "admit")
    assert "the agent has restarted since" in scene.agent.cli("task", scene.busy)
