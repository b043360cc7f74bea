from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.engine import observe
from agent.engine.live import LiveState
from agent.model.payload import RestartPolicy
from agent.model.status import ContainerStatus, Health
from agent.runtime.protocol import ContainerState
from tests.support.tasks import NOW, container, new_record, put

if TYPE_CHECKING:
    from agent.model.task import AgentContainer, AgentTask

CREATED = ContainerStatus.CREATED
RUNNING = ContainerStatus.RUNNING
STOPPED = ContainerStatus.STOPPED


def seen(status: str, **fields: Any) -> ContainerState:
    running = status in ("running", "paused", "restarting")
    return ContainerState(id="id-a", name="a", running=running, status=status, **fields)


def one(known: ContainerStatus, **fields: Any) -> tuple[AgentTask, AgentContainer]:
    record = new_record(container("a", **fields))
    put(record, "a", known)
    return record, record.containers["a"]


def test_a_container_that_runs_is_running_whatever_its_flags_say() -> None:
    record, a = one(CREATED)
    live = LiveState()
    state = seen("running", pid=7, oom_killed=True, error="x", started_at=NOW - 5)
    observe.state(record, a, state, live, NOW)
    assert (a.known, a.started_at, a.reason) == (RUNNING, NOW - 5, "")
    assert live.pids == {"a": 7}


@pytest.mark.parametrize("status", ["exited", "dead"])
def test_an_exit_is_written_down_once(status: str) -> None:
    record, a = one(RUNNING)
    live = LiveState(pids={"a": 7})
    observe.state(record, a, seen(status, exit_code=3, finished_at=NOW + 1), live, NOW + 2)
    assert (a.known, a.desired, a.exit_code, a.finished_at) == (STOPPED, STOPPED, 3, NOW + 1)
    assert live.pids == {}
    observe.state(record, a, seen(status, exit_code=9, finished_at=NOW + 8), live, NOW + 9)
    assert (a.exit_code, a.finished_at) == (3, NOW + 1)


def test_out_of_memory_is_the_reason() -> None:
    record, a = one(RUNNING)
    observe.state(record, a, seen("exited", exit_code=137, oom_killed=True), LiveState(), NOW)
    assert a.oom_killed
    assert a.reason == "OutOfMemoryError: Container killed due to memory usage"


def test_a_container_that_stops_because_another_ran_out_of_memory_is_no_victim() -> None:
    """With cgroup version 1, the engine marks all containers of a task that shares a limit."""
    for desired, reason in (
        (STOPPED, ""),
        (RUNNING, "OutOfMemoryError: Container killed due to memory usage"),
    ):
        record = new_record(container("a"), memory=128)
        put(record, "a", RUNNING)
        a = record.containers["a"]
        a.desired = desired
        observe.state(record, a, seen("exited", exit_code=137, oom_killed=True), LiveState(), NOW)
        assert (a.known, a.reason, a.oom_killed) == (STOPPED, reason, bool(reason))


def test_the_engines_own_error_is_the_reason() -> None:
    record, a = one(RUNNING)
    observe.state(record, a, seen("exited", exit_code=127, error="no such file"), LiveState(), NOW)
    assert a.reason == "DockerStateError: no such file"


def test_a_container_that_never_ran_is_created() -> None:
    record, a = one(ContainerStatus.PULLED)
    observe.state(record, a, seen("created", exit_code=0, created_at=NOW - 1), LiveState(), NOW)
    assert (a.known, a.runtime_id, a.created_at, a.started_at) == (CREATED, "id-a", NOW - 1, 0.0)


def test_an_exit_that_was_missed_still_counts_as_a_start() -> None:
    record, a = one(CREATED)
    observe.state(record, a, seen("exited", exit_code=0, started_at=NOW - 9), LiveState(), NOW)
    assert (a.known, a.started_at) == (STOPPED, NOW - 9)


def test_a_container_started_by_hand_after_its_end_stays_stopped() -> None:
    record, a = one(STOPPED)
    observe.state(record, a, seen("running", started_at=NOW), LiveState(), NOW)
    assert a.known is STOPPED


def test_health_changes_move_their_time() -> None:
    _, a = one(RUNNING)
    observe.health(a, Health.HEALTHY, NOW)
    observe.health(a, Health.HEALTHY, NOW + 5)
    assert a.health_since == NOW
    observe.health(a, Health.UNHEALTHY, NOW + 6)
    assert a.health_since == NOW + 6


POLICY = RestartPolicy(enabled=True, ignored_exit_codes=[3], restart_attempt_period=60)


@pytest.mark.parametrize(
    ("policy", "exit_code", "fields", "after_s", "restarts"),
    [
        (POLICY, 1, {}, 60.0, True),
        (POLICY, 0, {}, 60.0, True),
        (POLICY, 1, {}, 59.9, False),
        (POLICY, 3, {}, 600.0, False),
        (POLICY, None, {}, 600.0, False),
        (POLICY, 1, {"desired": STOPPED}, 600.0, False),
        (POLICY, 1, {"last_restart_at": NOW + 580}, 600.0, False),
        (POLICY, 1, {"last_restart_at": NOW + 540}, 600.0, True),
        (RestartPolicy(), 1, {}, 600.0, False),
        (None, 1, {}, 600.0, False),
    ],
)
def test_restart_policy(
    policy: RestartPolicy | None,
    exit_code: int | None,
    fields: dict[str, Any],
    after_s: float,
    restarts: bool,
) -> None:
    record = new_record(container("a", restart_policy=policy))
    put(record, "a", RUNNING, **fields)
    a = record.containers["a"]
    live = LiveState()
    observe.state(record, a, seen("exited", exit_code=exit_code), live, NOW + after_s)
    assert (a.known is RUNNING) is restarts
    assert ("a" in live.restarting) is restarts
    assert a.restart_count == int(restarts)
    if restarts:
        assert (a.last_restart_at, a.exit_code) == (NOW + after_s, None)
        observe.state(record, a, seen("exited", exit_code=exit_code), live, NOW + after_s)
        assert a.restart_count == 1, "the same exit seen twice"
        observe.running(a, live, NOW + after_s + 1)
        assert live.restarting == set()
        assert a.started_at == NOW


def test_vanished_needs_to_have_been_there() -> None:
    for known, reason in ((ContainerStatus.PULLED, ""), (CREATED, "ContainerVanishedError")):
        _, a = one(known)
        observe.vanished(a, LiveState(), NOW)
        assert a.reason.startswith(reason)
        assert (a.known is STOPPED) is bool(reason)


def test_a_restart_that_a_crash_forgot_is_still_decided() -> None:
    record = new_record(container("a", restart_policy=POLICY))
    put(record, "a", RUNNING)
    a = record.containers["a"]
    ended = seen("exited", exit_code=1, started_at=NOW, finished_at=NOW + 100)
    observe.state(record, a, ended, LiveState(), NOW + 100)
    after_crash = LiveState()
    observe.state(record, a, ended, after_crash, NOW + 101)
    assert after_crash.restarting == {"a"}
    assert (a.known, a.restart_count, a.last_restart_at) == (RUNNING, 1, NOW + 100)
    again = seen("exited", exit_code=1, started_at=NOW + 102, finished_at=NOW + 103)
    observe.state(record, a, again, LiveState(), NOW + 104)
    assert a.known is STOPPED, "it has run since, and not for long enough"


def test_a_restart_that_a_crash_forgot_is_not_carried_out_once_it_is_to_stop() -> None:
    record = new_record(container("a", restart_policy=POLICY))
    put(record, "a", RUNNING, desired=STOPPED, restarted_exit_at=NOW + 100)
    live = LiveState()
    ended = seen("exited", exit_code=1, started_at=NOW, finished_at=NOW + 100)
    observe.state(record, record.containers["a"], ended, live, NOW + 101)
    assert live.restarting == set()
    assert record.containers["a"].known is STOPPED


@pytest.mark.parametrize("by_s", [-36_000.0, 36_000.0])
def test_a_clock_that_is_set_changes_no_attempt_period(by_s: float) -> None:
    record = new_record(container("a", restart_policy=POLICY))
    put(record, "a", RUNNING)
    live = LiveState()
    live.mark([NOW], NOW)
    live.clock_was_set(by_s)
    observe.state(
        record, record.containers["a"], seen("exited", exit_code=1), live, NOW + by_s + 59
    )
    assert record.containers["a"].known is STOPPED
    put(record, "a", RUNNING, desired=RUNNING)
    observe.state(
        record, record.containers["a"], seen("exited", exit_code=1), live, NOW + by_s + 60
    )
    assert live.restarting == {"a"}
