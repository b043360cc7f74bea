"""A service on three hosts behind a real proxy: nothing that is done to it, or to control, fails a request.

Every test brings the service to where it begins, asks for pages all the time, and kills control in the middle of
what it does. In the end, each wanted task has one container on one host, and there are no others.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.e2e.conftest import nothing_left, register
from tests.integration.e2e.story import FAMILY, LIMIT_S, Story, cut_off, say
from tests.support.container_record import ContainerRecord
from tests.support.fleet import Agent, Fleet, Process, eventually, free_port
from tests.support.images import LINGER
from tests.support.second_host import FIRST, SECOND, THIRD, Place, other_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
REPLACE_AFTER = "ecs-host-agent.replace-after"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROGRAM is None, reason="HAProxy is not installed"),
]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, busybox_image: str) -> Iterator[Story]:
    """Control, proxy and an agent on this host, and an agent on each of two others."""
    directory: Path = tmp_path_factory.mktemp("three-hosts")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(nothing_left(directory))
        hosts = stack.enter_context(other_hosts(directory, SECOND, THIRD))
        archive = subprocess.run(["docker", "save", busybox_image], capture_output=True, check=True)
        for place in hosts.others:
            place.sh("docker load", stdin=archive.stdout)
        places = dict(
            zip(
                ("first", "second", "third"),
                (Place(os.getpid(), has_mounts=True), *hosts.others),
                strict=True,
            )
        )
        record = stack.enter_context(ContainerRecord(directory, places).followed())
        fleet = Fleet(directory, extra={"ECS_FLEET_NETWORK": "routes"})
        port = free_port()
        fleet.control.arguments += [
            *("--agent-listen", f"{FIRST}:{port}", "--fleet-range", "10.208.0.0/22"),
        ]
        fleet.add_agent()
        for place in hosts.others:
            fleet.add_agent(ECS_CONTROL_ENDPOINT=f"http://{FIRST}:{port}").wrapper = place.wrapper
        run_dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="ing"))  # a short path
        Path(run_dir).chmod(0o711)
        ingress = Process(
            name="ingress",
            arguments=[
                *("ingress", "--control", fleet.control.url, "--listen", "127.0.0.1"),
                *("--token-file", str(directory / "control" / "agent.tokens")),
                *("--run-dir", run_dir, "--stop-within", "1"),
            ],
            directory=directory,
        )
        made = Story(fleet, hosts, busybox_image, free_port(), record, ingress)
        try:
            stack.callback(fleet.end)
            fleet.start()
            for agent in fleet.agents:
                eventually(partial(_reaches, agent, 2), what=f"{agent.name} reaches the others")
            made.balance()
            made.let_in()
            ingress.start()
            stack.callback(ingress.stop)
            eventually(partial(_listens, made.port), what="the proxy listens", shown=ingress.tail)
            say(f"three hosts, control and proxy: {time.monotonic() - began:.1f} s")
            yield made
            made.end()
        except BaseException:
            for process in (fleet.control, ingress, *fleet.agents):
                print(f"--- {process.name}\n{process.tail(80)}")  # noqa: T201
            raise


def _reaches(agent: Agent, count: int) -> bool:
    told = json.loads(agent.cli("network", "--json", check=False) or "{}")
    return sum(not peer["problem"] for peer in told.get("peers", ())) == count


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_scaled_out_and_in(story: Story) -> None:
    story.with_tasks(0)
    since_ns = time.time_ns()
    story.update(desiredCount=6)
    eventually(story.running, what="the first task runs", shown=story.shown)
    story.kill_control(f"{len(story.running())} of 6 tasks run")
    story.becomes_stable()
    story.one_container_each()
    assert sorted(story.tasks_by_host().values()) == [2, 2, 2]
    story.with_tasks(6)
    assert len(story.record.started(FAMILY, since_ns)) == 6
    with story.step("scaled in from 6 to 2") as load:
        load.become(story.version())
        story.update(desiredCount=2)
        eventually(lambda: len(story.tasks()) < 6, what="tasks are stopped", shown=story.shown)
        story.kill_control(f"{len(story.tasks())} of 6 tasks are left")
        story.becomes_stable()
        story.one_container_each()
    assert len(story.tasks()) == 2
    assert len(story.record.started(FAMILY, since_ns)) == 6, "none was started in between"


def test_rolled_out(story: Story) -> None:
    old, since_ns = story.with_tasks(3), time.time_ns()
    with story.step("rolled out") as load:
        load.become(old)
        story.update(taskDefinition=story.definition())
        new = story.versions[-1]
        load.meets(new)
        story.kill_control("the new version answers")
        load.become(new)
        story.becomes_stable()
        story.one_container_each()
        load.become(new)
    assert len(story.record.started(FAMILY, since_ns)) == 3
    assert story.record.most(FAMILY, since_ns) <= 6


def test_a_broken_version_is_rolled_back(story: Story) -> None:
    good, since_ns = story.with_tasks(3), time.time_ns()
    with story.step("a broken version, and back") as load:
        before = story.last_event()
        story.update(taskDefinition=story.definition("exit 1"))

        def has_failed() -> bool:
            return bool(story.service()["deployments"][0]["failedTasks"])

        eventually(has_failed, within_s=LIMIT_S, what="its tasks fail", shown=story.shown)
        story.kill_control(f"{story.service()['deployments'][0]['failedTasks']} tasks have failed")
        eventually(
            lambda: story.has_said("rolling back to", after=before),
            within_s=LIMIT_S,
            what="the breaker opens",
            shown=story.shown,
        )
        story.kill_control("the service is rolled back")
        story.becomes_stable()
        story.one_container_each()
        load.become(good)
    assert story.version() == good
    assert len(story.tasks()) == 3
    assert story.record.most(FAMILY, since_ns) <= 6


def test_blue_and_green(story: Story) -> None:
    blue, since_ns = story.with_tasks(3), time.time_ns()
    with story.step("blue/green") as load:
        green = story.deploy("BLUE_GREEN", bakeTimeInMinutes=0)
        eventually(partial(story.has_begun, green), what="green tasks", shown=story.shown)
        story.kill_control("green tasks are started")
        load.become(green)
        story.becomes_stable()
        story.one_container_each()
    assert len(story.record.started(FAMILY, since_ns)) == 3
    assert story.version() == green != blue


def test_blue_and_green_and_back(story: Story) -> None:
    blue, since_ns = story.with_tasks(3), time.time_ns()
    with story.step("blue/green, and back while it bakes") as load:
        green = story.deploy("BLUE_GREEN", bakeTimeInMinutes=30)
        load.become(green)
        story.kill_control("all traffic is green")
        story.roll_back()
        story.kill_control("the traffic is given back")
        load.become(blue)
        story.becomes_stable()
        story.one_container_each()
        load.become(blue)
    assert len(story.record.started(FAMILY, since_ns)) == 3
    assert story.version() == blue


def test_a_canary_and_back(story: Story) -> None:
    blue, since_ns = story.with_tasks(3), time.time_ns()
    with story.step("a canary, and back") as load:
        canary = story.deploy(
            "CANARY",
            bakeTimeInMinutes=0,
            canaryConfiguration={"canaryPercent": 50.0, "canaryBakeTimeInMinutes": 10},
        )
        load.become(blue, canary)
        story.kill_control("the canary has its part")
        load.become(blue, canary)
        story.roll_back()
        story.kill_control("the traffic is given back")
        load.become(blue)
        story.becomes_stable()
        story.one_container_each()
        load.become(blue)
    assert len(story.record.started(FAMILY, since_ns)) == 3
    assert story.version() == blue


def test_a_host_cut_off_and_back(story: Story) -> None:
    """Its tasks are replaced as each service says, and those that were replaced do not run on."""
    version = story.with_tasks(3)
    _begin_without_traffic(story, "worker", "2")
    _begin_without_traffic(story, "keeper", "never")
    lost = story.instance(2)
    there = story.tasks_by_host()[lost]
    assert there
    kept = {task["taskArn"] for task in story.running("keeper")}
    workers = {task["taskArn"] for task in story.running("worker")}
    since_ns, before = time.time_ns(), story.last_event("worker")
    with story.step("a host cut off and back") as load:
        with cut_off(story.hosts.others[1]):
            began = time.monotonic()
            _eventually_elsewhere(story, FAMILY, lost)
            say(f"  pages are served elsewhere after {time.monotonic() - began:.1f} s")
            eventually(
                lambda: not story.is_connected(lost), within_s=LIMIT_S, what="control notices"
            )
            say(f"  control has noticed after {time.monotonic() - began:.1f} s")
            eventually(
                lambda: {task["taskArn"] for task in story.tasks("worker")} - workers,
                what="a replacement",
                shown=partial(story.shown, "worker"),
            )
            story.kill_control("a task is replaced")
            _eventually_elsewhere(story, "worker", lost)
            say(f"  a worker is replaced after {time.monotonic() - began:.1f} s")
            assert story.has_said("If they still run", "worker", after=before)
            assert {task["taskArn"] for task in story.tasks("keeper")} == kept
            story.becomes_stable("worker")
            load.become(version)
        began = time.monotonic()
        eventually(lambda: story.is_connected(lost), within_s=LIMIT_S, what="the host is back")
        story.kill_control("the host is back")
        story.one_container_each()
        say(f"  one container for each task {time.monotonic() - began:.1f} s after it is back")
        for name in (FAMILY, "worker", "keeper"):
            story.becomes_stable(name)
        story.one_container_each()
        load.become(version)
    assert {task["taskArn"] for task in story.tasks("keeper")} == kept
    assert [len(story.tasks(name)) for name in (FAMILY, "worker", "keeper")] == [3, 3, 3]
    started = [len(story.record.started(name, since_ns)) for name in (FAMILY, "worker", "keeper")]
    assert started == [there, 1, 0]
    for name in ("worker", "keeper"):
        story.ecs.delete_service(service=name, force=True)


def _begin_without_traffic(story: Story, name: str, replace_after: str) -> None:
    definition = register(story.ecs, story.image, LINGER[-1], family=name)
    story.ecs.create_service(
        serviceName=name,
        taskDefinition=definition,
        desiredCount=3,
        tags=[{"key": REPLACE_AFTER, "value": replace_after}],
    )
    story.becomes_stable(name)
    assert sorted(story.tasks_by_host(name).values()) == [1, 1, 1]


def _eventually_elsewhere(story: Story, name: str, instance: str) -> None:
    def are_elsewhere() -> bool:
        running = [task["containerInstanceArn"] for task in story.running(name)]
        return len(running) == 3 and instance not in running

    shown = partial(story.shown, name)
    eventually(are_elsewhere, within_s=LIMIT_S, what=f"{name} runs elsewhere", shown=shown)


def test_a_drained_host(story: Story) -> None:
    version, since_ns = story.with_tasks(3), time.time_ns()
    drained = max((story.instance(1), story.instance(2)), key=story.tasks_by_host().__getitem__)
    moving = story.tasks_by_host()[drained]
    assert moving
    try:
        with story.step("a drained host") as load:
            _set_status(story, drained, "DRAINING")
            eventually(lambda: len(story.tasks()) > 3, what="a replacement", shown=story.shown)
            story.kill_control("a replacement is started")
            eventually(
                lambda: not story.tasks_by_host()[drained],
                within_s=LIMIT_S,
                what="the host is empty",
            )
            story.becomes_stable()
            story.one_container_each()
            load.become(version)
        assert len(story.tasks()) == 3
        assert len(story.record.started(FAMILY, since_ns)) == moving
    finally:
        _set_status(story, drained, "ACTIVE")


def _set_status(story: Story, instance: str, status: str) -> None:
    told = story.ecs.update_container_instances_state(containerInstances=[instance], status=status)
    assert not told["failures"], told
