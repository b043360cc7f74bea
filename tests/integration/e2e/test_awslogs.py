"""Lines of containers with the log driver ``awslogs``: through the engine and the agent to control.

What must not happen: that a line is lost or comes twice that the driver was told is taken, and that a
container does not start or does not write because of its logs.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli.client import CliError
from tests.integration.e2e.conftest import describe, nothing_left, register, run
from tests.support.fleet import Fleet, eventually
from tests.support.service_manager import ServiceManager, service_manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from tests.support.fleet import Agent

pytestmark = pytest.mark.integration

GROUP = "/ecs/web"


class Site:
    """A control endpoint, an agent that a service manager looks after, and what control has of logs."""

    def __init__(self, fleet: Fleet, manager: ServiceManager) -> None:
        self.fleet = fleet
        self.manager = manager
        self.agent: Agent = fleet.agents[0]

    @property
    def ecs(self) -> Any:
        return self.fleet.client()

    @property
    def logs(self) -> Any:
        return self.fleet.client("logs")

    def events(
        self, stream: str, group: str = GROUP, *, after: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return everything that control has of a stream.

        With ``after``, only what has come since the call before that had the same one.
        """
        client = self.logs
        found: list[dict[str, Any]] = []
        token = {} if after is None else after
        with contextlib.suppress(client.exceptions.ResourceNotFoundException):
            while True:
                page = client.get_log_events(
                    logGroupName=group, logStreamName=stream, startFromHead=True, **token
                )
                found += page["events"]
                if page["nextForwardToken"] == token.get("nextToken"):
                    return found
                token["nextToken"] = page["nextForwardToken"]
        return found

    def lines(self, stream: str, group: str = GROUP) -> list[str]:
        return [event["message"] for event in self.events(stream, group)]

    def restart_agent(self, *, by_kill: bool, away_s: float = 0.0) -> None:
        """End the agent and start it anew, as its service manager does."""
        if by_kill:
            self.agent.kill()
        else:
            self.agent.stop()
        time.sleep(away_s)
        self.manager.messages()
        self.agent.sockets = dict(self.manager.held)
        self.agent.start()


@pytest.fixture(scope="module")
def shared(sdk: docker.APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    del sdk
    directory = tmp_path_factory.mktemp("awslogs")
    fleet = Fleet(directory)
    with nothing_left(directory), service_manager(directory) as manager:
        fleet.add_agent(**manager.variables())
        made = Site(fleet, manager)
        try:
            fleet.start()
            made.logs.create_log_group(logGroupName=GROUP)
            yield made
        except BaseException:
            for process in (fleet.control, made.agent):
                sys.stderr.write(f"--- {process.name}\n{process.tail()}\n")
            raise
        finally:
            fleet.end()


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """The same one for all tests, without a task."""
    yield shared
    if not shared.fleet.control.is_alive():
        shared.fleet.control.start()
        shared.fleet.control.ready()
        shared.fleet.wait_connected()
    shared.fleet.stop_tasks()


def logging(*, group: str = GROUP, **options: str) -> dict[str, Any]:
    return {
        "cpu": 128,  # of a busy host, a container with few units gets next to nothing
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {"awslogs-group": group, "awslogs-stream-prefix": "p", **options},
        },
    }


def counting(count: int, *, every_s: float = 0.0) -> str:
    """Return a command that writes numbered lines."""
    wait = f"; sleep {every_s}" if every_s else ""
    return f"i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)){wait}; done"


def numbered(count: int) -> list[str]:
    return [f"line {n}" for n in range(count)]


def started(site: Site, image: str, command: str, **options: str) -> tuple[str, str]:
    """Run a task that logs; return its ARN and its stream."""
    definition = register(site.ecs, image, command, containers=[logging(**options)])
    (arn,) = run(site.ecs, definition)
    return arn, stream_of(arn)


def stream_of(arn: str) -> str:
    """Return the stream of a task's first container."""
    return f"p/c0/{arn.rsplit('/', 1)[-1]}"


def wait_lines(site: Site, stream: str, count: int, *, within_s: float = 60.0) -> None:
    """Return once a stream has so many lines; what has been read is not read again."""
    read: dict[str, str] = {}
    found = 0

    def are_there() -> bool:
        nonlocal found
        found += len(site.events(stream, after=read))
        return found >= count

    eventually(are_there, within_s=within_s, what=f"{count} lines of {stream}", shown=lambda: found)


def wait_for_status(site: Site, arn: str, status: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        (task,) = describe(site.ecs, arn)
        return task if task["lastStatus"] == status else None

    found: dict[str, Any] = eventually(reached, what=f"{arn} is {status}")
    return found


def test_lines_arrive_in_order_under_the_names_that_ecs_gives(
    site: Site, busybox_image: str
) -> None:
    before = time.time()
    definition = register(
        site.ecs,
        busybox_image,
        counting(20_000),
        f"{counting(10)}; sleep 600",
        containers=[
            {**logging(), "essential": False},
            logging(group="/made/by/driver", **{"awslogs-create-group": "true"}),
        ],
    )
    (arn,) = run(site.ecs, definition)
    task = arn.rsplit("/", 1)[-1]
    wait_lines(site, f"p/c0/{task}", 20_000)
    eventually(lambda: len(site.lines(f"p/c1/{task}", "/made/by/driver")) >= 10, what="lines of c1")
    events = site.events(f"p/c0/{task}")
    assert [event["message"] for event in events] == numbered(20_000)
    assert site.lines(f"p/c1/{task}", "/made/by/driver") == numbered(10)
    assert before - 60 < events[0]["timestamp"] / 1000 < time.time() + 60
    status = site.agent.json("status")
    assert not status["degraded"]
    assert status["logs"]["waitingEvents"] == 0


def test_a_group_that_does_not_exist_ends_the_task_as_on_ecs(
    site: Site, busybox_image: str
) -> None:
    arn, _ = started(site, busybox_image, "sleep 600", group="/not/there")
    task = wait_for_status(site, arn, "STOPPED")
    reason = task["containers"][0]["reason"]
    assert reason.startswith("CannotStartContainerError"), reason
    assert "failed to create Cloudwatch log stream" in reason
    assert "ResourceNotFoundException: The specified log group does not exist." in reason
    assert task["stopCode"] == "TaskFailedToStart"


def test_while_control_is_away_containers_start_and_write_and_nothing_is_lost(
    site: Site, busybox_image: str
) -> None:
    """The agent is killed in the meantime, and restarts a container by its own decision, for which it needs nobody."""
    policy = {"restartPolicy": {"enabled": True, "restartAttemptPeriod": 60}}
    writing = register(site.ecs, busybox_image, counting(400, every_s=0.05), containers=[logging()])
    ending = register(
        site.ecs, busybox_image, "echo begun; sleep 65; echo ended; exit 1",
        containers=[{**logging(), **policy}],
    )  # fmt: skip
    (restarted,) = run(site.ecs, ending)
    writers = run(site.ecs, writing, count=2)
    for arn in (restarted, *writers):
        wait_for_status(site, arn, "RUNNING")
    site.fleet.control.kill()
    eventually(lambda: site.agent.json("status")["logs"]["waitingEvents"], what="logs wait")
    shown = site.agent.cli("status")
    assert "events" in shown
    assert "to deliver" in shown
    site.restart_agent(by_kill=True)

    def has_restarted() -> bool:
        """By when the others have ended, and have written all they had to."""
        with contextlib.suppress(CliError):  # the agent is starting
            for task in site.agent.json("tasks"):
                if task["arn"] == restarted:
                    return bool(task["containers"][0]["restartCount"])
        return False

    eventually(has_restarted, within_s=120, what="the container was restarted")
    site.fleet.control.start()
    site.fleet.control.ready()
    for stream in map(stream_of, writers):
        wait_lines(site, stream, 400, within_s=180)
        assert site.lines(stream) == numbered(400)
    lives = stream_of(restarted)
    eventually(lambda: site.lines(lives)[:3] == ["begun", "ended", "begun"], what="all its lines")
    assert not site.agent.json("status")["logs"]["lost"]


@pytest.mark.parametrize("by_kill", [True, False], ids=["kill", "restart"])
def test_a_restart_of_the_agent_loses_nothing_and_doubles_nothing(
    site: Site, busybox_image: str, by_kill: bool
) -> None:
    """The service manager holds the socket: the driver waits in its queue."""
    arn, stream = started(site, busybox_image, f"{counting(300, every_s=0.1)}; sleep 600")
    wait_for_status(site, arn, "RUNNING")
    for _ in range(3):
        time.sleep(4)
        site.restart_agent(by_kill=by_kill, away_s=6)  # the driver writes every 5 s
    wait_lines(site, stream, 300, within_s=170)  # each is a process, slow to start on a busy host
    assert site.lines(stream) == numbered(300)


def test_a_container_in_the_hosts_network_writes_nobodys_logs(
    site: Site, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    arn, stream = started(site, busybox_image, "echo mine; sleep 600")
    eventually(lambda: site.lines(stream) == ["mine"], what="its line")
    forged = json.dumps(
        {
            "logGroupName": GROUP,
            "logStreamName": stream,
            "logEvents": [{"timestamp": int(time.time() * 1000), "message": "forged"}],
        }
    )
    call = (
        f"wget -O - --header 'X-Amz-Target: Logs_20140328.PutLogEvents' --post-data '{forged}' "
        "http://127.0.0.1:51681/; "
        "wget -O - http://169.254.170.2/v2/credentials/awslogs"
    )
    definition = register(
        site.ecs, busybox_image, f"({call}) 2>&1; sleep 600", mode="host",
        containers=[{"logConfiguration": {"logDriver": "json-file"}}],
    )  # fmt: skip
    (attacker,) = run(site.ecs, definition)
    wait_for_status(site, attacker, "RUNNING")
    said = eventually(
        lambda: (out := site.agent.cli("logs", attacker)).count("HTTP/1.1 4") >= 2 and out,
        what="both answers",
    )
    assert "403" in said
    assert "400" in said
    assert site.lines(stream) == ["mine"]
    assert containers_of(arn)


def test_nothing_of_the_keys_is_in_logs_or_state(
    site: Site, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    arn, stream = started(site, busybox_image, "echo mine; sleep 600")
    eventually(lambda: site.lines(stream) == ["mine"], what="its line")
    (container,) = containers_of(arn)
    shown = subprocess.run(
        ["docker", "inspect", "-f", "{{json .HostConfig.LogConfig.Config}}", container],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert '"awslogs-endpoint":"http://127.0.0.1:51681"' in shown
    credentials_id = shown.partition("/v2/credentials/")[2].partition('"')[0]
    secret = credentials_id.rpartition(".")[2]
    assert len(secret) == 64
    assert secret not in site.agent.log.read_text()
    assert secret not in site.fleet.control.log.read_text()
    answer = subprocess.run(
        ["curl", "-s", "-m", "5", f"http://169.254.170.2/v2/credentials/{credentials_id}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "SecretAccessKey" in answer, "what the engine is given, and nobody else who has no id"


def test_a_loud_container_is_not_slowed_down(site: Site, busybox_image: str) -> None:
    """A hundred thousand lines go through as fast as the driver takes them, all of them."""
    line = "x" * 100
    command = f"yes {line} | head -n 100000; sleep 600"
    _, stream = started(site, busybox_image, command)
    began = time.monotonic()
    wait_lines(site, stream, 100_000, within_s=120)
    assert len(site.events(stream)) == 100_000
    assert time.monotonic() - began < 120
