"""A container engine, a clock, a network or a disk in trouble."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from agent.engine import failures
from agent.errors import EngineTimeout, EngineUnavailable, StateFailure
from agent.model.payload import PortMapping
from agent.model.status import ContainerStatus
from agent.model.wire import Assignment
from tests.support.memory_engine import Fault
from tests.support.task_host import TaskHost, assignment
from tests.support.tasks import ARN, container

OTHER = ARN[:-4] + "beef"


# -- an engine in trouble -------------------------------------------------------------------------


async def test_a_hung_engine_fails_nothing_and_recovers(host: TaskHost) -> None:
    await host.order(container("a"), container("b", ("a", "START")))
    await host.until(lambda: host.runtime.running() == {"a", "b"})
    host.runtime.hung = True
    await host.order(container("c"), arn=OTHER)
    host.runtime.exit("b", 5)
    host.runtime.relist()
    await host.until(lambda: "another try" in str(host.engine._runners[OTHER].waits))
    await host.until(lambda: not host.engine.engine_up)
    await asyncio.sleep(0.3)
    assert host.record(OTHER).known.wire() == "PENDING"
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
        "CannotStopContainerError: the engine reported the container as stopped, but it is running"
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
    assert set(host.networks.released) == {ARN}


async def test_a_network_that_was_lost_stops_its_task(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    host.engine.network_lost(ARN, "the task's network sandbox stopped")
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].reason.startswith("ContainerNetworkingError: ")
    assert host.networks.held == set()


# -- a full disk ----------------------------------------------------------------------------------


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
    assert ARN not in host.engine.tasks.known_tasks()
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


async def test_nothing_of_a_task_is_removed_before_its_end_is_saved(hasty_host: TaskHost) -> None:
    host = hasty_host
    await host.order(container("a"), network_mode="awsvpc", cpu=1.0)
    await host.until_known("RUNNING")
    await host.deliver()
    host.store.broken = True
    host.runtime.exit("a", 9)
    await host.until(lambda: host.record().known.wire() == "STOPPED")
    assert host.ledger.used()[0].used == 0, "what it held is free"
    await asyncio.sleep(0.2)  # several tries to save
    assert host.runtime.count("remove") == 0
    assert host.networks.released == []
    assert ARN in host.engine.tasks.known_tasks()
    (wait,) = [w for w in host.engine._runners[ARN].waits if "disk full" in w.what]
    assert wait.next_try
    host.store.broken = False
    await host.until(lambda: host.runtime.count("remove") == 1 and host.networks.released)
    last = (await host.deliver())[-1]
    assert (last.status, last.containers[0].exit_code) == ("STOPPED", 9)
    await host.until(lambda: host.engine.tasks.known_tasks() == [])


async def test_a_task_that_ended_on_a_full_disk_is_not_run_again_after_a_restart(
    hasty_host: TaskHost,
) -> None:
    """All that the disk knows is the order."""
    host = hasty_host
    host.runtime.fault("pull", Fault(delay_s=0.1))
    host.runtime.exits_at_once["a"] = 7
    await host.order(container("a"), network_mode="awsvpc")
    host.store.broken = True
    await host.until(lambda: host.record().known.wire() == "STOPPED")
    await asyncio.sleep(0.1)
    await host.crash()
    await host.start()
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert (last.status, last.containers[0].exit_code) == ("STOPPED", 7)
    await host.until(lambda: host.engine.tasks.known_tasks() == [])
    assert host.runtime.count("start") == 1
    assert host.networks.held == set()


async def test_a_save_that_succeeds_has_the_others_tried_at_once(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.engine.record_saver.SAVE_RETRY_S", 60.0)
    monkeypatch.setattr("agent.engine.record_saver.LONGEST_SAVE_RETRY_S", 60.0)
    await host.order(container("a"))
    await host.until_known("RUNNING")
    host.store.broken = True
    host.runtime.exit("a", 9)
    await host.until(lambda: host.engine._runners[ARN]._saving.wait is not None)
    host.store.broken = False
    await host.order(container("b"), arn=OTHER)
    await host.until_known("STOPPED")
    await host.until(lambda: host.engine._runners[ARN]._saving.is_saved)
    assert "STOPPED" in {c.status for c in await host.deliver() if c.task_arn == ARN}


async def test_a_report_that_was_never_saved_goes_out_with_the_last_flush(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.deliver()
    host.store.broken = True
    host.runtime.exit("a", 9)
    await host.until(lambda: host.record().known.wire() == "STOPPED")
    await asyncio.sleep(0.02)
    host.store.broken = False
    host.engine._runners[ARN]._saving._not_before = float("inf")
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
    await host.until(lambda: host.engine.tasks.known_tasks() == [])
