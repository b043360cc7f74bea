"""Limits of a task as a whole, on a real kernel: what its containers use together, and what is left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, nothing_left, register, run
from tests.support.fleet import Fleet, eventually, fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from tests.support.fleet import Agent

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 450}
ROOT = Path("/sys/fs/cgroup")
BURN = "while :; do :; done"
MEASURED_S = 4.0


@pytest.fixture(scope="module", autouse=True)
def version_1() -> None:
    if not (ROOT / "memory").is_dir():
        pytest.skip("for hosts with cgroup version 1; tests/vm has the others")


@pytest.fixture(scope="module")
def shared(sdk: docker.APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    del sdk
    directory = tmp_path_factory.mktemp("limits")
    with (
        nothing_left(directory),
        fleet(directory, ECS_POLLING_METRICS_WAIT_DURATION="1s") as made,
    ):
        yield made


@pytest.fixture
def host(shared: Fleet) -> Iterator[Fleet]:
    """A host without a task, the same one for the tests from its first one on: they come last."""
    yield shared
    shared.stop_tasks()


def running(client: Any, definition: str) -> str:
    (arn,) = run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    return arn


def group_of(arn: str, controller: str = "memory") -> Path:
    """Return the control group of a task, of whichever agent of this machine it is."""
    task_id = arn.rsplit("/", 1)[-1]
    (found,) = (ROOT / controller / "ecs").glob(f"*/{task_id}")
    return found


def used_cores(group: Path) -> float:
    """Return how many cores a group uses, measured over some seconds."""
    usage = group / "cpuacct.usage"
    began, before_ns = time.monotonic(), int(usage.read_text())
    time.sleep(MEASURED_S)
    return (int(usage.read_text()) - before_ns) / 1e9 / (time.monotonic() - began)


def test_two_containers_of_a_task_burn_an_eighth_of_a_core_together(
    one_host: Fleet, busybox_image: str
) -> None:
    client = one_host.client()
    definition = register(client, busybox_image, BURN, BURN, cpu="128", memory="64")
    required = client.describe_task_definition(taskDefinition=definition)["taskDefinition"]
    names = [each["name"] for each in required["requiresAttributes"]]
    assert "ecs.capability.task-cpu-mem-limit" in names
    arn = running(client, definition)
    # Without a limit they would use two cores; on a busy machine they do not get all that they may use.
    assert 0.08 < used_cores(group_of(arn, "cpuacct")) < 0.145


def test_a_task_has_no_more_processes_than_it_may(
    leak_check: None, tmp_path: Path, busybox_image: str
) -> None:
    del leak_check
    with fleet(tmp_path, ECS_TASK_PIDS_LIMIT="40") as made:
        client = made.client()
        fork = "(while sleep 1000 & do :; done); exec sleep 1000"
        # The engine's own processes count while a container starts.
        after = {"dependsOn": [{"containerName": "c1", "condition": "START"}]}
        arn = running(
            client, register(client, busybox_image, fork, "sleep 1000", containers=[after, {}])
        )
        current = group_of(arn, "pids") / "pids.current"
        # The shell that could not start one more has ended.
        eventually(lambda: int(current.read_text()) >= 39, what="as many as there may be")
        time.sleep(1)
        assert 39 <= int(current.read_text()) <= 40
        assert describe(client, arn)[0]["lastStatus"] == "RUNNING"


def with_task_limits(tmp_path: Path, value: str, **more: str) -> tuple[Fleet, Agent]:
    made = Fleet(tmp_path, extra={"ECS_ENABLE_TASK_CPU_MEM_LIMIT": value, **more})
    return made, made.add_agent()


def test_a_host_where_limits_are_off_gets_no_task_that_needs_them(
    leak_check: None, tmp_path: Path, busybox_image: str
) -> None:
    del leak_check
    made, agent = with_task_limits(tmp_path, "false")
    try:
        made.start()
        client = made.client()
        sized = register(client, busybox_image, "sleep 1000", cpu="128", memory="64")
        answer = client.run_task(taskDefinition=sized)
        assert not answer["tasks"]
        assert "ATTRIBUTE" in answer["failures"][0]["reason"]
        arn = running(client, register(client, busybox_image, "sleep 1000"))
        assert not list(ROOT.glob(f"*/ecs/*/{arn.rsplit('/', 1)[-1]}"))
        assert agent.json("status").get("degraded", []) == []
    finally:
        made.end()


def test_who_insists_on_limits_gets_no_agent_without_them(tmp_path: Path) -> None:
    made, agent = with_task_limits(tmp_path, "true", ECS_CGROUP_PATH=str(tmp_path))
    try:
        made.control.start()
        made.control.ready()
        agent.start()
        assert agent.popen is not None
        assert agent.popen.wait(60) == 5
        assert "there are no control groups at" in agent.log.read_text()
    finally:
        made.end()


def test_who_does_not_is_told(leak_check: None, tmp_path: Path, busybox_image: str) -> None:
    del leak_check
    with fleet(tmp_path, ECS_CGROUP_PATH=str(tmp_path)) as made:
        client, agent = made.client(), made.agents[0]
        (problem,) = agent.json("status")["degraded"]
        assert problem.startswith("tasks are not limited as a whole: there are no control groups")
        arn = running(client, register(client, busybox_image, "sleep 1000"))
        assert describe(client, arn)[0]["lastStatus"] == "RUNNING"


def test_a_container_that_takes_the_memory_of_its_task_is_killed_with_the_reason(
    host: Fleet, busybox_image: str
) -> None:
    client = host.client()
    # Neither exceeds its own limit, but both together exceed that of the task.
    definition = register(
        client,
        busybox_image,
        "dd if=/dev/zero bs=24M count=1 | sleep 1000",
        "sleep 2; exec dd if=/dev/zero of=/dev/null bs=115M count=1",
        cpu="512",
        memory="128",
        containers=[{"memory": 32}, {"memory": 128}],
    )
    (arn,) = run(client, definition)
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    (task,) = describe(client, arn)
    quiet, eater = sorted(task["containers"], key=lambda c: c["name"])
    assert eater["exitCode"] == 137
    assert eater["reason"] == "OutOfMemoryError: Container killed due to memory usage"
    assert "reason" not in quiet, "it only stopped because the other one was killed"


def test_every_task_has_a_group_and_its_figures_are_found_there(
    host: Fleet, busybox_image: str
) -> None:
    client, agent = host.client(), host.agents[0]
    arn = running(client, register(client, busybox_image, "sleep 1000", "sleep 1000"))
    group = group_of(arn)
    containers = describe(client, arn)[0]["containers"]
    assert {p.name for p in group.iterdir() if p.is_dir()} == {c["runtimeId"] for c in containers}
    assert (group_of(arn, "cpu") / "cpu.shares").read_text().strip() == "20"

    def sampled() -> Any:
        view = next(t for t in agent.json("tasks") if t["arn"] == arn)
        found = (view.get("sample") or {}).get("containers", [])
        return len(found) == 2 and all(each["memoryBytes"] for each in found)

    eventually(sampled, what="figures of both containers")


@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.25, 0.6])
def test_a_crash_at_any_moment_leaves_limited_tasks_and_no_groups(
    host: Fleet, busybox_image: str, after_s: float
) -> None:
    client, agent = host.client(), host.agents[0]
    definition = register(client, busybox_image, "sleep 1000", "sleep 1000", cpu="128", memory="96")
    arns = run(client, definition, count=2)
    time.sleep(after_s)
    agent.kill()
    agent.start()
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    for arn in arns:
        group = group_of(arn)
        assert (group / "memory.limit_in_bytes").read_text().strip() == str(96 << 20)
        ids = {c["runtimeId"] for c in describe(client, arn)[0]["containers"]}
        assert {p.name for p in group.iterdir() if p.is_dir()} == ids
    host.stop_tasks()
    for arn in arns:
        assert not list(ROOT.glob(f"*/ecs/*/{arn.rsplit('/', 1)[-1]}"))


def test_groups_of_tasks_that_ended_while_the_agent_was_away_are_removed(
    host: Fleet, busybox_image: str
) -> None:
    client, agent = host.client(), host.agents[0]
    arn = running(client, register(client, busybox_image, "sleep 1000"))
    left_over = group_of(arn).with_name("0123456789abcdef0123456789abcdef")
    agent.kill()
    left_over.mkdir()
    agent.start()
    host.wait_connected()
    eventually(lambda: not left_over.exists(), what="the left-over is gone")
    assert group_of(arn).is_dir()


def test_a_task_of_more_memory_than_itself_is_refused_by_name(
    host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    """Control refuses it at registration; Amazon's may send it by an override."""
    client = host.client()
    with pytest.raises(client.exceptions.ClientException, match="greater than the memory"):
        register(client, busybox_image, "true", memory="16", containers=[{"memory": 32}])
