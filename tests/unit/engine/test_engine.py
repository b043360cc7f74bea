"""Life of tasks on one host: the real engine, runners and store, a container engine in memory."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.engine import failures
from agent.engine.container_body import engine_name
from agent.errors import EngineRefused, EngineTimeout, EngineUnavailable, StateFailure
from agent.model.payload import EngineConfig, PortMapping, RestartPolicy, Volume
from agent.model.status import ContainerStatus, Health
from agent.model.task import NetworkBinding
from agent.model.wire import Assignment
from tests.support.memory_engine import Fault
from tests.support.task_host import CONTROL, TaskHost, assignment
from tests.support.tasks import ARN, container, payload

if TYPE_CHECKING:
    from agent.model.changes import TaskChange

OTHER = ARN[:-4] + "beef"
QUESTIONS = {"list", "inspect", "ping"}
"""What may be asked of the engine while nothing is to change."""
HEALTHCHECK = EngineConfig(config='{"Healthcheck": {"Test": ["CMD", "true"]}}')


def shape(change: TaskChange) -> tuple[str, dict[str, str]]:
    return change.status, {c.container_name: c.status for c in change.containers}


# -- the ordinary life --------------------------------------------------------------------------


async def test_a_launch_is_reported_once_per_change(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    (last,) = await host.deliver()
    assert shape(last) == ("RUNNING", {"a": "RUNNING"})
    assert last.containers[0].image_digest == "sha256:busybox"
    assert last.pull_started_at <= last.pull_stopped_at <= last.started_at
    assert last.containers[0].runtime_id == host.runtime.box("a").id
    assert last.attachments[0].status == "ATTACHED"
    assert last.containers[0].network_interfaces[0].private_ipv4_address == "10.0.0.2"
    await asyncio.sleep(0.05)
    assert await host.unsent() == []
    assert [host.runtime.count(o) for o in ("create", "start", "stop")] == [1, 1, 0]


async def test_the_digest_of_a_container_that_starts_slowly_is_reported_before(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.engine.runner.LAZY_SAVE_S", 0.05)
    host.runtime.fault("start", Fault(delay_s=0.5))
    await host.order(container("a"))
    await host.until(lambda: host.store.outbox.size)
    (first,) = await host.deliver()
    assert shape(first) == ("PENDING", {"a": "PENDING"})
    assert first.containers[0].image_digest == "sha256:busybox"
    await host.until_known("RUNNING")


async def test_steps_do_not_wait_for_the_disk(host: TaskHost) -> None:
    await host.order(container("a"), container("b", ("a", "START")))
    await host.until_known("RUNNING")
    host.store.slow_s = 0.3
    began = time.monotonic()
    host.runtime.exit("a", 1)
    await host.until(lambda: host.runtime.running() == set())
    assert time.monotonic() - began < 0.3


async def test_a_stop_runs_in_order_and_gives_everything_back(host: TaskHost) -> None:
    await host.order(
        container("db", stop_timeout=7, essential=False),
        container("web", ("db", "START")),
        network_mode="awsvpc",
        cpu=1.0,
    )
    await host.until_known("RUNNING")
    await host.stop()
    await host.until_known("STOPPED")
    stops = [c for o, c in host.runtime.calls if o == "stop"]
    assert stops == ["web", "db"]
    assert host.runtime.stop_timeouts == {"web": 30, "db": 7}
    last = (await host.deliver())[-1]
    assert (last.status, last.reason, last.stop_code) == ("STOPPED", "enough", "UserInitiated")
    assert [c.exit_code for c in last.containers] == [143, 143]
    assert last.stopping_at <= last.execution_stopped_at <= last.stopped_at
    assert last.attachments[0].status == "DELETED"
    assert host.networks.held == set()
    assert host.ledger.used()[0].used == 0
    assert host.runtime.running() == set()


async def test_an_essential_exit_stops_the_rest(host: TaskHost) -> None:
    await host.order(container("a"), container("b", essential=False))
    await host.until_known("RUNNING")
    host.runtime.exit("a", 3)
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert {c.container_name: c.exit_code for c in last.containers} == {"a": 3, "b": 143}
    assert last.reason == ""
    assert host.runtime.running() == set()


async def test_a_non_essential_exit_is_reported_and_changes_nothing(host: TaskHost) -> None:
    await host.order(container("a"), container("b", essential=False))
    await host.until_known("RUNNING")
    host.runtime.exit("b", 1)
    await host.until(lambda: host.container("b").exit_code == 1)
    await host.until_known("RUNNING")
    assert shape((await host.deliver())[-1]) == ("RUNNING", {"a": "RUNNING", "b": "STOPPED"})
    assert host.runtime.running() == {"a"}


async def test_out_of_memory(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    host.runtime.exit("a", 137, oom=True)
    await host.until_known("STOPPED")
    (last,) = (await host.deliver())[-1].containers
    assert last.exit_code == 137
    assert last.reason == "OutOfMemoryError: Container killed due to memory usage"


async def test_a_container_that_ends_at_once_is_seen_to_have_run(host: TaskHost) -> None:
    host.runtime.exits_at_once["a"] = 0
    await host.order(container("a"))
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert last.containers[0].exit_code == 0
    assert last.execution_stopped_at


async def test_a_chain_of_dependencies(host: TaskHost) -> None:
    host.runtime.exits_at_once["init"] = 0
    await host.order(
        container("init", essential=False),
        container(
            "db",
            ("init", "SUCCESS"),
            health_check_type="docker",
            docker_config=HEALTHCHECK,
        ),
        container("web", ("db", "HEALTHY")),
    )
    await host.until(lambda: host.runtime.running() == {"db"})
    await host.until(lambda: any("HEALTHY" in w.what for w in host.engine.views()[0].waits))
    assert host.runtime.count("pull") == 2
    host.runtime.judge("db", Health.HEALTHY)
    await host.until_known("RUNNING")
    starts = [c for o, c in host.runtime.calls if o == "start"]
    assert starts == ["init", "db", "web"]
    assert host.container("db").health is Health.HEALTHY


async def test_a_verdict_during_a_slow_start_is_not_lost(host: TaskHost) -> None:
    """The first health check may pass before the engine has answered the start."""
    host.runtime.fault("start", Fault(delay_s=0.2, container="db"))
    await host.order(
        container("db", health_check_type="docker", docker_config=HEALTHCHECK),
        container("web", ("db", "HEALTHY")),
    )
    await host.until(lambda: host.runtime.running() == {"db"})
    host.runtime.judge("db", Health.HEALTHY)
    await host.until_known("RUNNING")


async def test_a_verdict_that_was_missed_is_found_by_the_comparison(host: TaskHost) -> None:
    await host.order(
        container("db", health_check_type="docker", docker_config=HEALTHCHECK),
        container("web", ("db", "HEALTHY")),
    )
    await host.until(lambda: host.runtime.running() == {"db"})
    host.runtime.box("db").health = Health.HEALTHY
    host.runtime.relist()
    await host.until_known("RUNNING")


async def test_the_restart_policy_starts_the_same_container_again(host: TaskHost) -> None:
    policy = RestartPolicy(enabled=True, ignored_exit_codes=[3])
    await host.order(container("a", restart_policy=policy))
    await host.until_known("RUNNING")
    first = host.runtime.box("a").id
    host.runtime.exit("a", 1)
    await host.until(lambda: host.runtime.count("start") == 2 and host.runtime.running())
    await host.until(lambda: not host.engine._runners[ARN].live.restarting)
    assert host.runtime.box("a").id == first
    host.runtime.exit("a", 3)
    await host.until_known("STOPPED")
    changes = await host.deliver()
    assert {c.status for c in changes[:-1]} <= {"PENDING", "RUNNING"}
    assert (changes[-1].containers[0].restart_count, changes[-1].containers[0].exit_code) == (1, 3)


async def test_dynamic_ports_are_shown_and_given_back(host: TaskHost) -> None:
    ports = [PortMapping(container_port=80), PortMapping(container_port_range="90-91")]
    await host.order(container("a", port_mappings=ports), network_mode="bridge")
    await host.until_known("RUNNING")
    shown = (await host.deliver())[-1].containers[0].network_bindings
    assert shown == [
        NetworkBinding(container_port=80, host_port=40_000),
        NetworkBinding(container_port_range="90-91", host_port_range="40001-40002"),
    ]
    await host.until(lambda: [t.network_pid for t in host.engine.targets()] != [0])
    assert host.ports.held == {40_000, 40_001, 40_002}
    await host.stop()
    await host.until_known("STOPPED")
    assert host.ports.held == set()


async def test_a_port_published_twice_gets_two_host_ports(host: TaskHost) -> None:
    ports = [PortMapping(container_port=80), PortMapping(container_port=80)]
    await host.order(container("a", port_mappings=ports), network_mode="bridge")
    await host.until_known("RUNNING")
    shown = (await host.deliver())[-1].containers[0].network_bindings
    assert [b.host_port for b in shown] == [40_000, 40_001]
    assert host.ports.held == {40_000, 40_001}


async def test_views_and_targets(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    (view,) = host.engine.views()
    assert (view.arn, view.status, view.ipv4) == (ARN, "RUNNING", "10.0.0.2")
    (target,) = host.engine.targets()
    assert (target.name, target.network_pid) == ("a", 4242)
    assert host.engine.known_tasks() == [ARN]
    await host.stop()
    await host.until_known("STOPPED")
    assert list(host.engine.targets()) == []


async def test_an_operator_stops_a_task(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.engine.stop_task(ARN, "maintenance")
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].reason == "maintenance"
    with pytest.raises(KeyError):
        await host.engine.stop_task("ghost", "x")


# -- what cannot be run ---------------------------------------------------------------------------


async def test_an_unknown_image(host: TaskHost) -> None:
    await host.order(container("a", image="ghost"), container("b"))
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert last.containers[0].reason == ("CannotPullContainerError: manifest for ghost not found")
    assert host.runtime.running() == set()


async def test_a_start_that_is_refused(host: TaskHost) -> None:
    host.runtime.fault("start", Fault(EngineRefused("exec: not found"), container="a"))
    await host.order(container("a"), container("b"))
    await host.until_known("STOPPED")
    reasons = {c.container_name: c.reason for c in (await host.deliver())[-1].containers}
    assert reasons["a"] == "CannotStartContainerError: exec: not found"
    assert host.runtime.running() == set()


async def test_a_task_that_can_never_run_is_stopped_untouched(host: TaskHost) -> None:
    await host.order(container("a", cpu=99_999))
    await host.until_known("STOPPED")
    await host.order(container("a", ("b", "START")), arn=OTHER)
    await host.until_known("STOPPED", OTHER)
    big, broken = (c for c in await host.deliver() if c.status == "STOPPED")
    assert "99999 CPU units" in big.reason
    assert broken.reason == f"Task dependencies cannot be resolved, taskArn: {OTHER}"
    assert {big.stop_code, broken.stop_code} == {"TaskFailedToStart"}
    assert {o for o, _ in host.runtime.calls} <= QUESTIONS


async def test_a_payload_that_cannot_be_read_is_reported_and_harms_no_other(
    host: TaskHost,
) -> None:
    bad = Assignment(task_arn=OTHER, desired_status="RUNNING", payload=msgspec.Raw(b'{"arn": 1}'))
    await host.send(bad, assignment(container("a")))
    await host.send(bad)
    await host.until_known("RUNNING")
    (refused,) = (c for c in await host.deliver() if c.task_arn == OTHER)
    assert refused.status == "STOPPED"
    assert refused.reason.startswith("UnrecogniedTaskError: Error loading task - ")
    assert host.engine.known_tasks() == [ARN]


async def test_a_reason_is_never_longer_than_the_wire_allows(host: TaskHost) -> None:
    ports = [PortMapping(container_port_range="9" * 5000)]
    await host.order(container("a", port_mappings=ports), container("b" * 3000, links=["x" * 3000]))
    await host.until_known("STOPPED")
    assert len((await host.deliver())[-1].reason) <= 1024


# -- waiting ----------------------------------------------------------------------------------------


async def test_a_task_waits_for_room_and_says_so(host: TaskHost) -> None:
    await host.order(container("a", cpu=4000))
    await host.until_known("RUNNING")
    await host.order(container("a2", cpu=4000), arn=OTHER)
    view = next(v for v in host.engine.views() if v.arn == OTHER)
    assert "4000 CPU units; 96 of 4096 are free" in view.waits[0].what
    assert view.waits[0].since == pytest.approx(time.time(), abs=5)
    await host.stop()
    await host.until_known("RUNNING", OTHER)
    assert next(v for v in host.engine.views() if v.arn == OTHER).waits == []


async def test_what_a_queued_task_waits_for_is_told_as_it_is_now(host: TaskHost) -> None:
    small = OTHER + "2"
    await host.order(container("a", cpu=3000))
    await host.order(container("small", cpu=500), arn=small)
    await host.order(container("big", cpu=4000), arn=OTHER)
    await host.until_known("RUNNING", small)
    (wait,) = next(v for v in host.engine.views() if v.arn == OTHER).waits
    assert "596 of 4096 are free" in wait.what
    await host.stop(small)
    await host.until_known("STOPPED", small)
    (wait,) = next(v for v in host.engine.views() if v.arn == OTHER).waits
    assert "1096 of 4096 are free" in wait.what


async def test_a_waiting_task_can_be_stopped(host: TaskHost) -> None:
    await host.order(container("a", cpu=4000))
    await host.until_known("RUNNING")
    await host.order(container("a2", cpu=4000), arn=OTHER)
    await host.stop(OTHER)
    await host.until_known("STOPPED", OTHER)
    await host.order(container("a3", cpu=90), arn=OTHER + "2")
    await host.until_known("RUNNING", OTHER + "2")


# -- an engine in trouble ------------------------------------------------------------------------------


async def test_a_hung_engine_fails_nothing_and_recovers(host: TaskHost) -> None:
    await host.order(container("a"), container("b", ("a", "START")))
    await host.until(lambda: host.runtime.running() == {"a", "b"})
    host.runtime.hung = True
    await host.order(container("c"), arn=OTHER)
    host.runtime.exit("b", 5)
    host.runtime.relist()
    await host.until(lambda: "another try" in str(host.engine._runners[OTHER].waits))
    await asyncio.sleep(0.3)
    assert host.record(OTHER).known.wire() == "PENDING"
    assert not host.engine.engine_up
    host.runtime.hung = False
    await host.until_known("RUNNING", OTHER)
    await host.until_known("STOPPED")
    assert host.container("b").exit_code == 5
    assert host.container("b").reason == ""


@pytest.mark.parametrize("operation", ["create", "start", "stop", "inspect", "pull"])
@pytest.mark.parametrize("done", [False, True])
async def test_one_lost_answer_harms_nothing(host: TaskHost, operation: str, done: bool) -> None:
    error = EngineUnavailable("connection reset", operation=operation)
    host.runtime.fault(operation, Fault(error, done=done, times=3))
    await host.order(container("a"), network_mode="bridge")
    await host.until_known("RUNNING")
    await host.stop()
    await host.until_known("STOPPED")
    assert len(host.runtime.boxes) == 1
    assert host.runtime.running() == set()
    (last,) = (await host.deliver())[-1].containers
    assert (last.exit_code, last.reason) == (143, "")


@pytest.mark.parametrize("done", [False, True])
async def test_a_start_that_times_out_on_a_sound_engine_fails_its_container(
    host: TaskHost, done: bool
) -> None:
    error = EngineTimeout("slow", operation="started", limit_s=180.0)
    host.runtime.fault("start", Fault(error, done=done))
    await host.order(container("a"))
    await host.until_known("STOPPED")
    (last,) = (await host.deliver())[-1].containers
    assert last.reason == (
        "DockerTimeoutError: Could not transition to started; timed out after waiting 3m0s"
    )
    assert host.runtime.running() == set()


async def test_a_stop_while_a_start_is_unanswered_leaves_nothing_running(host: TaskHost) -> None:
    host.runtime.fault("start", Fault(EngineUnavailable("reset"), done=True))
    host.runtime.fault("start", Fault(EngineUnavailable("reset"), times=1000))
    await host.order(container("a"))
    await host.until(lambda: host.runtime.running() == {"a"})
    await host.stop()
    await host.until_known("STOPPED")
    assert host.runtime.running() == set()


async def test_a_container_that_survives_its_stops_is_given_up_after_some(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    host.runtime.deaf.add("a")
    await host.stop()
    await host.until_known("STOPPED")
    assert host.runtime.count("stop") == failures.STOP_TRIES
    (last,) = (await host.deliver())[-1].containers
    assert last.reason == (
        "CannotStopContainerError: the engine says that it stopped the container, "
        "which runs nevertheless"
    )


@pytest.mark.parametrize("hours", [-10, 10])
async def test_a_clock_that_is_set_holds_nothing_up(
    hasty_host: TaskHost, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    host = hasty_host
    monkeypatch.setattr(failures, "FIRST_RETRY_S", 0.5)
    monkeypatch.setattr(failures, "LONGEST_RETRY_S", 0.5)
    host.runtime.fault("pull", Fault(EngineUnavailable("reset")))
    await host.order(container("a"))
    await host.until(lambda: host.engine._runners[ARN].live.retries)
    host.clock_off_s = hours * 3600.0
    await asyncio.sleep(0.05)
    assert host.runtime.count("pull") == 1
    await host.until_known("RUNNING")
    await host.stop()
    await host.until_known("STOPPED")
    await host.until(lambda: host.engine._runners[ARN].finished)
    last = (await host.deliver())[-1]
    assert last.stopped_at == pytest.approx(time.time() + hours * 3600, abs=20)


async def test_a_stop_during_a_slow_pull_ends_it(host: TaskHost) -> None:
    host.runtime.fault("pull", Fault(delay_s=60.0))
    await host.order(container("a"))
    await host.until(lambda: host.runtime.count("pull"))
    await host.stop()
    await host.until_known("STOPPED")
    await host.until(lambda: not host.engine._runners[ARN].live.inflight)
    assert host.runtime.count("create") == 0


async def test_a_stop_during_the_ping_after_a_failed_pull_ends_it(hasty_host: TaskHost) -> None:
    host = hasty_host
    host.runtime.fault("pull", Fault(EngineUnavailable("reset")))
    host.runtime.fault("ping", Fault(delay_s=60.0))
    await host.order(container("a"))
    await host.until(lambda: host.runtime.count("ping"))
    await host.stop()
    await host.until(lambda: host.engine._runners[ARN].finished)


async def test_a_container_that_vanishes(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    host.runtime.vanish("a")
    await host.until_known("STOPPED")
    (last,) = (await host.deliver())[-1].containers
    assert last.reason == "ContainerVanishedError: No container matching saved ID found"
    assert last.exit_code is None


async def test_what_was_missed_is_found_by_the_comparison(host: TaskHost) -> None:
    await host.order(container("a"), container("b", essential=False))
    await host.until_known("RUNNING")
    host.runtime.vanish("b", quietly=True)
    host.runtime.relist()
    await host.until(lambda: host.container("b").known is ContainerStatus.STOPPED)
    assert host.container("b").reason.startswith("ContainerVanishedError")


async def test_a_comparison_that_fails_is_done_again_soon(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.engine.watcher.COMPARE_RETRY_S", 0.05)
    await host.order(container("a"), container("b", essential=False))
    await host.until_known("RUNNING")
    host.runtime.vanish("b", quietly=True)
    host.runtime.fault("list", Fault(EngineUnavailable("reset")))
    host.runtime.relist()
    await host.until(lambda: host.container("b").known is ContainerStatus.STOPPED)


async def test_a_network_that_cannot_be_made_fails_the_task(host: TaskHost) -> None:
    host.networks.failures = 99
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert last.reason == "ContainerNetworkingError: no address is free"
    assert host.networks.released == [ARN]


async def test_a_network_that_was_lost_stops_its_task(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    host.engine.network_lost(ARN)
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].reason.startswith("ContainerNetworkingError: ")
    assert host.networks.held == set()


# -- other lives ----------------------------------------------------------------------------------


async def test_a_restart_touches_nothing_that_runs(host: TaskHost) -> None:
    await host.order(container("a"), container("b", ("a", "START")), network_mode="awsvpc")
    await host.until_known("RUNNING")
    await host.deliver()
    pids = {box.pid for box in host.runtime.boxes.values()}
    await host.crash()
    host.runtime.calls.clear()
    await host.start()
    await host.until(lambda: host.runtime.count("inspect") == 2)
    await asyncio.sleep(0.1)
    assert {o for o, _ in host.runtime.calls} <= QUESTIONS
    assert {box.pid for box in host.runtime.boxes.values()} == pids
    assert host.record().known.wire() == "RUNNING"
    assert await host.unsent() == []
    assert host.networks.released == []
    await host.stop()
    await host.until_known("STOPPED")


async def test_a_task_that_died_meanwhile_is_reported_with_its_exit_code(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.crash()
    host.runtime.exit("a", 42)
    await host.start()
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].containers[0].exit_code == 42


@pytest.mark.parametrize("operation", ["create", "start"])
async def test_a_crash_in_the_middle_of_a_launch_makes_no_second_copy(
    host: TaskHost, operation: str
) -> None:
    host.runtime.fault(operation, Fault(delay_s=60.0))
    ports = [PortMapping(container_port=80)]
    await host.order(container("a", port_mappings=ports), network_mode="bridge")
    await host.until(lambda: host.runtime.count(operation))
    await host.crash()
    await host.start()
    await host.until_known("RUNNING")
    assert len(host.runtime.boxes) == 1
    (last,) = (await host.deliver())[-1].containers
    assert last.runtime_id == host.runtime.box("a").id
    assert last.network_bindings == [NetworkBinding(container_port=80, host_port=40_000)]


async def test_a_crash_between_a_restart_and_its_start_loses_neither(host: TaskHost) -> None:
    policy = RestartPolicy(enabled=True, restart_attempt_period=1)
    await host.order(container("a", restart_policy=policy))
    await host.until_known("RUNNING")
    await asyncio.sleep(1.01)
    host.runtime.fault("start", Fault(EngineUnavailable("reset"), times=1000))
    host.runtime.exit("a", 1)
    await host.until(lambda: host.container("a").restart_count)
    await host.engine._runners[ARN].saved()
    await host.crash()
    host.runtime.clear_faults()
    await host.start()
    await host.until(lambda: host.runtime.running() == {"a"})
    assert host.record().known.wire() == "RUNNING"
    assert host.container("a").restart_count == 1


async def test_tasks_of_one_id_in_two_clusters_are_two_tasks(host: TaskHost) -> None:
    twin = ARN.replace("task/default", "task/other")
    for arn in (ARN, twin):
        await host.order(container("a"), arn=arn)
        await host.until_known("RUNNING", arn)
    await host.crash()
    await host.start()
    assert sorted(host.engine.known_tasks()) == sorted([ARN, twin])
    await host.stop(twin)
    await host.until_known("STOPPED", twin)
    assert len(host.runtime.running()) == 1


async def test_a_stop_right_after_a_crash_in_a_launch_leaves_nothing(host: TaskHost) -> None:
    """Neither the admission nor the container nor the network had been saved."""
    host.runtime.fault("start", Fault(delay_s=60.0))
    await host.order(container("a"), network_mode="awsvpc")
    await host.until(lambda: host.runtime.running() == {"a"})
    await host.crash()
    host.runtime.hung = True
    await host.start()
    stopping = asyncio.create_task(host.stop())
    await asyncio.sleep(0.1)
    host.runtime.hung = False
    await stopping
    await host.until_known("STOPPED")
    assert host.runtime.running() == set()
    assert host.networks.held == set()


async def test_a_restored_task_holds_its_resources(host: TaskHost) -> None:
    await host.order(container("a", cpu=4000))
    await host.until_known("RUNNING")
    await host.crash()
    await host.start()
    assert host.ledger.used()[0].used == 4000


async def test_ports_of_a_stopped_task_are_not_given_back_twice(host: TaskHost) -> None:
    ports = [PortMapping(container_port=80)]
    for arn in (ARN, OTHER):
        await host.order(container("a", port_mappings=ports), arn=arn, network_mode="bridge")
        await host.until_known("RUNNING", arn)
        if arn == ARN:
            await host.stop()
            await host.until_known("STOPPED")
    assert host.record().host_ports == host.record(OTHER).host_ports
    await host.crash()
    await host.start()
    await host.until(lambda: host.runtime.count("inspect"))
    await asyncio.sleep(0.05)
    assert host.ports.held == {40_000}


async def test_a_volume_driver_that_is_away_does_not_stop_what_runs(host: TaskHost) -> None:
    await host.order(container("a"), volumes=[Volume(name="v")])
    await host.until_known("RUNNING")
    await host.crash()
    host.runtime.fault("create volume", Fault(EngineRefused("no plugin"), times=99))
    await host.start()
    await host.until(lambda: host.runtime.count("inspect"))
    await asyncio.sleep(0.05)
    assert host.record().known.wire() == "RUNNING"
    assert host.runtime.running() == {"a"}


# -- control and its word ---------------------------------------------------------------------------


async def test_what_control_no_longer_lists_is_stopped(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.order(container("b"), arn=OTHER)
    await host.until_known("RUNNING")
    await host.until_known("RUNNING", OTHER)
    await host.send(assignment(container("a")), full=True, control_id="control-2")
    await host.send(assignment(container("a")), full=False)
    assert host.record(OTHER).desired == "RUNNING"
    await host.send(assignment(container("a")), full=True)
    await host.until_known("STOPPED", OTHER)
    assert host.runtime.running() == {"a"}
    assert host.record().origin == CONTROL


async def test_leftovers_go_only_once_control_has_said_what_it_wants(host: TaskHost) -> None:
    """An agent that lost its records must not kill what control may still want."""
    await host.order(container("a"))
    await host.order(container("b"), arn=OTHER)
    await host.until_known("RUNNING")
    await host.until_known("RUNNING", OTHER)
    await host.crash()
    for file in host.path.parent.glob(host.path.name + "*"):
        file.unlink()
    await host.start()
    host.runtime.relist()
    await asyncio.sleep(0.1)
    assert host.runtime.running() == {"a", "b"}
    before = host.runtime.box("a").id
    await host.send(assignment(container("a")), full=True)
    await host.until_known("RUNNING")
    await host.until(lambda: len(host.runtime.boxes) == 1)
    assert host.runtime.box("a").id == before
    assert host.runtime.running() == {"a"}


async def test_containers_of_others_are_left_alone(host: TaskHost) -> None:
    await host.runtime.create_container("theirs", {"Image": "busybox"})
    labels = {
        "com.amazonaws.ecs.task-arn": "x",
        "com.amazonaws.ecs.container-name": "y",
        "ecs-host-agent.owner": "another agent",
    }
    await host.runtime.create_container("other", {"Image": "busybox", "Labels": labels})
    await host.send(full=True)
    host.runtime.relist()
    await asyncio.sleep(0.1)
    assert len(host.runtime.boxes) == 2


async def test_a_name_that_somebody_else_took(host: TaskHost) -> None:
    name = engine_name(payload(container("a")), "a")
    await host.runtime.create_container(name, {"Image": "busybox"})
    await host.order(container("a"))
    await host.until_known("STOPPED")
    reason = host.container("a").reason
    assert reason.startswith("CannotCreateContainerError: the container name ")
    assert reason.endswith("is taken by a container of somebody else")
    assert [box.name for box in host.runtime.boxes.values()] == [name]


# -- the end ------------------------------------------------------------------------------------------


async def test_clean_up_waits(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.stop()
    await host.until_known("STOPPED")
    await host.deliver()
    await asyncio.sleep(0.05)
    assert len(host.runtime.boxes) == 1
    (wait,) = host.engine.views()[0].waits
    assert "clean-up wait" in wait.what


async def test_a_record_is_forgotten_only_when_its_end_is_acknowledged(
    hasty_host: TaskHost,
) -> None:
    host = hasty_host
    await host.order(container("a"), volumes=[Volume(name="v")])
    await host.until_known("RUNNING")
    assert len(host.runtime.volumes) == 1
    await host.stop()
    await host.until(lambda: host.engine._runners[ARN].finished)
    assert host.runtime.boxes == {}
    assert host.runtime.volumes == {}
    await asyncio.sleep(0.05)
    assert host.engine.known_tasks() == [ARN]
    await host.order(container("a"))
    assert host.runtime.boxes == {}, "an old order started it a second time"
    await host.deliver()
    await host.until(lambda: host.engine.known_tasks() == [])
    await host.order(container("a"))
    await host.stop()
    await asyncio.sleep(0.05)
    assert host.runtime.boxes == {}
    assert await host.unsent() == []
    await host.crash()
    await host.start()
    assert host.engine.known_tasks() == []


async def test_a_cleaned_task_is_forgotten_after_a_restart_too(hasty_host: TaskHost) -> None:
    host = hasty_host
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.stop()
    await host.until(lambda: host.engine._runners[ARN].finished)
    await host.crash()
    await host.start()
    assert host.engine.known_tasks() == [ARN]
    await host.deliver()
    await host.until(lambda: host.engine.known_tasks() == [])


async def test_orders_for_a_finished_task_return(hasty_host: TaskHost) -> None:
    host = hasty_host
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await asyncio.gather(*(host.stop() for _ in range(50)))
    await host.until(lambda: host.engine._runners[ARN].finished)
    await host.stop()


# -- a full disk ------------------------------------------------------------------------------------


async def test_a_store_that_fails_for_a_while_loses_nothing(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.deliver()
    host.store.broken = True
    host.runtime.exit("a", 9)
    await host.until(lambda: host.container("a").exit_code == 9)
    await asyncio.sleep(0.1)
    assert await host.unsent() == []
    host.store.broken = False
    await host.until_known("STOPPED")
    (last,) = await host.deliver()
    assert (last.status, last.containers[0].exit_code) == ("STOPPED", 9)


async def test_an_order_that_cannot_be_saved_is_refused_whole_and_can_be_sent_again(
    host: TaskHost,
) -> None:
    bad = Assignment(task_arn=OTHER, desired_status="RUNNING", payload=msgspec.Raw(b"{}"))
    await host.order(container("z"), arn=OTHER + "2")
    await host.until_known("RUNNING", OTHER + "2")
    stop = Assignment(task_arn=OTHER + "2", desired_status="STOPPED", stopped_reason="r")
    host.store.broken = True
    with pytest.raises(StateFailure):
        await host.send(assignment(container("a")), bad, stop)
    assert ARN not in host.engine.known_tasks()
    host.store.broken = False
    await host.send(assignment(container("a")), bad, stop)
    await host.until_known("RUNNING")
    await host.until_known("STOPPED", OTHER + "2")
    assert OTHER in {c.task_arn for c in await host.deliver()}


async def test_a_stop_that_cannot_be_saved_is_carried_out_and_asked_for_again(
    host: TaskHost,
) -> None:
    """On a full disk, stops may be what frees it."""
    await host.order(container("a"))
    await host.order(container("b"), arn=OTHER)
    await host.until(lambda: host.runtime.running() == {"a", "b"})
    host.store.broken = True
    for arn in (ARN, OTHER):
        with pytest.raises(StateFailure):
            await host.stop(arn)
    await host.until(lambda: host.runtime.running() == set())
    with pytest.raises(StateFailure):
        await host.engine.stop_task(ARN, "again")
    host.store.broken = False
    await host.stop(ARN)
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].reason == "enough"


async def test_ports_that_cannot_be_saved_are_not_used(host: TaskHost) -> None:
    ports = [PortMapping(container_port=80)]
    host.runtime.fault("pull", Fault(delay_s=0.1))
    await host.order(container("a", port_mappings=ports), network_mode="bridge")
    host.store.broken = True
    await host.until(lambda: "disk full" in str(host.engine._runners[ARN].waits))
    assert host.runtime.count("create") == 0
    host.store.broken = False
    await host.until_known("RUNNING")
    assert host.ports.held == {p for held in host.record().host_ports.values() for p in held}


async def test_a_report_that_was_never_saved_goes_out_with_the_last_flush(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.deliver()
    host.store.broken = True
    host.runtime.exit("a", 9)
    await host.until(lambda: host.record().known.wire() == "STOPPED")
    await asyncio.sleep(0.02)
    host.store.broken = False
    host.engine._runners[ARN]._save_not_before = float("inf")
    await host.leave()
    await host.start()
    (last,) = await host.deliver()
    assert (last.status, last.containers[0].exit_code) == ("STOPPED", 9)


async def test_a_full_disk_at_the_end_of_a_task_does_not_end_the_agent(
    hasty_host: TaskHost,
) -> None:
    host = hasty_host
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.stop()
    await host.until(lambda: host.engine._runners[ARN].finished)
    rows = await host.store.outbox.peek(1000)
    host.store.outbox.settle([seq for seq, _ in rows])
    host.store.broken = True
    host.engine._forgetting._look.set()
    await asyncio.sleep(0.02)
    host.store.broken = False
    await host.until(lambda: host.engine.known_tasks() == [])
