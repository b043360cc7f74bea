"""Single rules of the planner; what holds for every task is in ``test_planner_properties``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.engine import failures, graph, planner
from agent.engine.live import NETWORK, LiveState, Retry, Step, StepKind
from agent.engine.planner import Plan, Policy
from agent.engine.preparations.contract import Provision
from agent.engine.restored import doubt_after_restart, existing_containers
from agent.engine.settle import settle
from agent.errors import (
    AgentError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    NetworkFailure,
    NoSuchContainer,
    PayloadError,
    StateFailure,
)
from agent.model.payload import Volume
from agent.model.resources import Wait
from agent.model.status import ContainerStatus, DesiredStatus, Health, TaskStatus
from tests.support.tasks import NOW, container, new_record, put

if TYPE_CHECKING:
    from agent.model.task import AgentTask

NONE = ContainerStatus.NONE
PULLED = ContainerStatus.PULLED
CREATED = ContainerStatus.CREATED
RUNNING = ContainerStatus.RUNNING
STOPPED = ContainerStatus.STOPPED

VOLUMES = "@volumes"
CGROUP = "@cgroup"


def look(
    record: AgentTask, live: LiveState | None = None, now: float = NOW, policy: Policy | None = None
) -> Plan:
    live = live or LiveState()
    edges = graph.graph_of(record.payload)
    settle(record, edges, live, now)
    return planner.plan(record, edges, live, now, policy or Policy(cleanup_wait_s=100))


def steps(plan: Plan) -> set[tuple[str, str]]:
    return {(str(step.kind), step.key) for step in plan.steps}


def test_nothing_starts_before_the_ledger_admits() -> None:
    record = new_record(container("a"))
    record.admitted_at = 0.0
    plan = look(record)
    assert plan.steps == ()
    assert plan.waits == (), "the ledger knows why"


def test_a_restored_task_is_looked_at_even_before_its_admission() -> None:
    record = new_record(container("a"))
    record.admitted_at = 0.0
    assert steps(look(record, LiveState(recheck={"a"}))) == {("inspect", "a")}


def test_a_container_that_exists_proves_the_admission() -> None:
    record = new_record(container("a"))
    record.admitted_at = 0.0
    put(record, "a", CREATED)
    assert steps(look(record)) == {("start", "a")}


def test_everything_that_may_start_starts_at_once() -> None:
    record = new_record(
        container("a"), container("b"), network_mode="awsvpc", volumes=[Volume(name="v")]
    )
    assert steps(look(record)) == {
        ("claim network", "@network"),
        ("prepare", "@volumes"),
        ("prepare", "@cgroup"),
        ("pull", "a"),
        ("pull", "b"),
    }


def test_dependents_wait_with_their_pull_unless_told_otherwise() -> None:
    record = new_record(container("a"), container("b", ("a", "COMPLETE")))
    live = LiveState(prepared={CGROUP: Provision()})
    plan = look(record, live)
    assert steps(plan) == {("pull", "a")}
    assert [w.what for w in plan.waits] == ["container a to reach COMPLETE"]
    upfront = Policy(pull_before_dependencies=True)
    assert steps(look(record, live, policy=upfront)) == {("pull", "a"), ("pull", "b")}
    put(record, "b", PULLED)
    assert steps(look(record, live, policy=upfront)) == {("pull", "a")}


def test_create_waits_for_the_sandbox_and_the_volumes() -> None:
    record = new_record(container("a"), network_mode="awsvpc", volumes=[Volume(name="v")])
    put(record, "a", PULLED)
    assert ("create", "a") not in steps(look(record))
    record.network_held = True
    live = LiveState(prepared={VOLUMES: Provision()})
    record.network = None
    plan = look(record, live)
    assert "a network sandbox" in [w.what for w in plan.waits]


def test_a_running_task_needs_no_volumes_after_a_restart() -> None:
    """A driver that is away then must not stop what runs."""
    record = new_record(container("a"), volumes=[Volume(name="v")])
    put(record, "a", RUNNING)
    assert look(record).steps == ()


def test_the_wait_for_a_condition_wakes_at_its_start_timeout() -> None:
    record = new_record(
        container("a", start_timeout=5, health_check_type="docker"),
        container("b", ("a", "HEALTHY"), essential=False),
    )
    put(record, "a", RUNNING)
    plan = look(record)
    assert plan.wake_at == NOW + 5
    assert plan.waits[0].next_try == NOW + 5
    look(record, now=NOW + 5)
    assert record.containers["b"].known is STOPPED
    assert record.containers["b"].exit_code == 143
    assert record.containers["b"].reason.startswith("CannotStartContainerError: dependency graph")
    assert record.desired is DesiredStatus.RUNNING


def test_a_failed_dependency_runs_through_the_chain() -> None:
    record = new_record(
        container("a", essential=False),
        container("b", ("a", "SUCCESS"), essential=False),
        container("c", ("b", "START")),
    )
    put(record, "a", STOPPED, started_at=NOW, exit_code=1)
    look(record)
    assert record.known is TaskStatus.STOPPED
    assert [c.exit_code for c in record.containers.values()] == [1, 143, 143]


def test_an_essential_exit_stops_the_task_in_order() -> None:
    record = new_record(
        container("db", essential=False), container("web", ("db", "START")), container("x")
    )
    put(record, "db", RUNNING)
    put(record, "web", RUNNING)
    put(record, "x", STOPPED, started_at=NOW, exit_code=0)
    plan = look(record)
    assert record.desired is DesiredStatus.STOPPED
    assert record.execution_stopped_at == NOW
    assert steps(plan) == {("stop", "web")}
    assert [w.what for w in plan.waits] == ["web to stop first"]
    put(record, "web", STOPPED)
    assert steps(look(record)) == {("stop", "db")}


def test_the_execution_stopped_when_the_engine_says_so_with_the_first_essential_container() -> None:
    """However late the agent hears of it, and never later than now."""
    record = new_record(container("a"), container("b"), container("c", essential=False))
    put(record, "a", STOPPED, started_at=NOW - 99, finished_at=NOW - 31, exit_code=0)
    put(record, "b", STOPPED, started_at=NOW - 99, finished_at=NOW - 60, exit_code=0)
    put(record, "c", STOPPED, started_at=NOW - 99, finished_at=NOW - 90, exit_code=0)
    look(record)
    assert record.execution_stopped_at == NOW - 60
    ahead = new_record(container("a"))
    put(ahead, "a", STOPPED, started_at=NOW - 99, finished_at=NOW + 500, exit_code=0)
    look(ahead)
    assert ahead.execution_stopped_at == NOW


def test_a_non_essential_exit_changes_nothing_else() -> None:
    record = new_record(container("a"), container("b", essential=False))
    put(record, "a", RUNNING)
    put(record, "b", STOPPED, started_at=NOW, exit_code=1)
    assert look(record).steps == ()
    assert record.known is TaskStatus.RUNNING
    assert record.desired is DesiredStatus.RUNNING
    assert record.execution_stopped_at == 0.0


def test_a_task_of_non_essentials_stops_with_the_last_one() -> None:
    record = new_record(container("a", essential=False))
    put(record, "a", STOPPED, started_at=NOW, exit_code=0)
    look(record)
    assert record.known is TaskStatus.STOPPED
    assert record.stopping_at == NOW


def test_running_is_not_reported_once_an_essential_has_stopped() -> None:
    record = new_record(container("a"), container("b"))
    put(record, "a", STOPPED, started_at=NOW, exit_code=0)
    put(record, "b", RUNNING)
    look(record)
    assert record.known is TaskStatus.NONE


def test_a_stop_before_the_pull_has_its_own_reason() -> None:
    record = new_record(container("a"))
    record.desired = DesiredStatus.STOPPED
    look(record)
    assert record.known is TaskStatus.STOPPED
    assert record.containers["a"].reason.startswith("TaskStoppedBeforePullBeginError: ")


def test_a_stop_cancels_the_pull_although_its_container_counts_as_stopped() -> None:
    record = new_record(container("a"), container("b"))
    put(record, "b", RUNNING)
    record.desired = DesiredStatus.STOPPED
    live = LiveState(inflight={"a": Step(StepKind.PULL, "a")})
    assert look(record, live).cancel == {"a"}
    put(record, "b", STOPPED)
    assert look(record, live).cancel == {"a"}
    assert record.known is TaskStatus.STOPPED


@pytest.mark.parametrize("kind", [StepKind.CREATE, StepKind.START])
def test_a_stop_waits_for_a_create_or_start_in_flight(kind: StepKind) -> None:
    record = new_record(container("a"))
    put(record, "a", CREATED)
    record.desired = DesiredStatus.STOPPED
    live = LiveState(inflight={"a": Step(kind, "a")})
    plan = look(record, live)
    assert plan.steps == ()
    assert record.containers["a"].known is CREATED
    assert plan.waits[0].what == f"the engine to {kind} it"


def test_a_stop_asks_what_became_of_a_start_that_was_never_answered() -> None:
    record = new_record(container("a"))
    put(record, "a", CREATED)
    live = LiveState(retries={"a": Retry(1, NOW + 30, NOW, "no answer")})
    record.desired = DesiredStatus.STOPPED
    assert steps(look(record, live)) == {("inspect", "a")}
    assert record.containers["a"].known is CREATED


def test_a_look_that_fails_while_a_task_stops_is_made_again_later() -> None:
    """Not at once, again and again, while the engine is away."""
    record = new_record(container("a"))
    put(record, "a", CREATED)
    retry = Retry(3, NOW + 30, NOW, "the engine does not answer")
    live = LiveState(retries={"a": retry}, recheck={"a"})
    record.desired = DesiredStatus.STOPPED
    plan = look(record, live)
    assert (plan.steps, plan.wake_at) == ((), retry.next_at)
    assert steps(look(record, live, now=NOW + 30)) == {("inspect", "a")}


def test_a_task_that_ends_before_it_ran_does_not_blame_its_lost_sandbox_later() -> None:
    record = new_record(container("a"), network_mode="awsvpc")
    put(record, "a", ContainerStatus.STOPPED)
    live, edges = LiveState(), graph.graph_of(record.payload)
    record.network_held, live.network_lost = True, "it died"
    for _ in range(2):
        settle(record, edges, live, NOW)
        assert (record.desired, record.reason) == (DesiredStatus.STOPPED, "")


def test_the_network_goes_last_and_before_the_report() -> None:
    record = new_record(container("a"), network_mode="awsvpc")
    put(record, "a", RUNNING)
    record.network_held = True
    record.desired = DesiredStatus.STOPPED
    assert steps(look(record)) == {("stop", "a")}
    put(record, "a", STOPPED)
    assert steps(look(record)) == {("release network", "@network")}
    assert not record.is_done
    plan = look(record, LiveState(release_tried=True))
    assert record.known is TaskStatus.STOPPED, "a host that cannot let go holds no report back"
    assert steps(plan) == {("release network", "@network")}


def test_a_claim_that_may_have_been_made_is_released() -> None:
    record = new_record(container("a"), network_mode="awsvpc")
    live = LiveState()
    step = Step(StepKind.CLAIM_NETWORK, NETWORK)
    for _ in range(failures.HOST_TRIES):
        failures.apply(record, live, step, NetworkFailure("no"), engine_answers=True, now=NOW)
    assert record.desired is DesiredStatus.STOPPED
    assert record.reason == "ContainerNetworkingError: no"
    assert steps(look(record, live)) == {("release network", "@network")}


def test_clean_up_waits_and_then_finishes() -> None:
    record = new_record(container("a"))
    put(record, "a", STOPPED, started_at=NOW, exit_code=0)
    plan = look(record)
    assert (plan.steps, plan.wake_at, plan.finished) == ((), NOW + 100, False)
    assert "until the clean-up" in plan.waits[0].what
    assert steps(look(record, now=NOW + 100)) == {("clean up", "@clean")}
    record.cleaned_at = NOW + 100
    assert look(record, now=NOW + 100).finished
    assert not look(record, LiveState(inflight={"a": Step(StepKind.PULL, "a")}), NOW + 100).finished


def test_clean_up_waits_for_what_is_still_being_prepared() -> None:
    record = new_record(container("a"))
    put(record, "a", STOPPED, started_at=NOW, exit_code=0)
    live = LiveState(inflight={CGROUP: Step(StepKind.PREPARE, CGROUP)})
    look(record)
    plan = look(record, live, NOW + 100)
    assert plan.steps == ()
    assert [w.what for w in plan.waits] == ["the host: make the control group of the task"]


def test_a_step_waits_for_its_next_try_and_says_so() -> None:
    record = new_record(container("a"))
    live = LiveState(
        prepared={CGROUP: Provision()}, retries={"a": Retry(3, NOW + 4, NOW - 9, "no answer")}
    )
    plan = look(record, live)
    assert (plan.steps, plan.wake_at) == ((), NOW + 4)
    assert plan.waits == (
        Wait(
            what="another try to pull after 3: no answer",
            since=NOW - 9,
            next_try=NOW + 4,
            container="a",
        ),
    )
    assert steps(look(record, live, NOW + 4)) == {("pull", "a")}


def test_what_is_in_flight_is_named_with_its_progress() -> None:
    record = new_record(container("a"), network_mode="awsvpc")
    live = LiveState(
        inflight={
            "a": Step(StepKind.PULL, "a"),
            NETWORK: Step(StepKind.CLAIM_NETWORK, NETWORK),
        },
        since={"a": NOW - 3},
        progress={"a": "40 %"},
    )
    waits = {w.what: w.since for w in look(record, live).waits}
    assert waits == {"the host: claim network": NOW, "the pull of busybox: 40 %": NOW - 3}


def test_a_restart_by_policy_goes_before_nothing_but_a_recheck() -> None:
    record = new_record(container("a"))
    put(record, "a", RUNNING)
    live = LiveState(restarting={"a"}, recheck={"a"})
    assert steps(look(record, live)) == {("inspect", "a")}
    live.recheck.clear()
    assert steps(look(record, live)) == {("start", "a")}
    record.desired = DesiredStatus.STOPPED
    assert steps(look(record, live)) == {("stop", "a")}
    assert live.restarting == set()


# -- failures ---------------------------------------------------------------------------------


def fail(
    record: AgentTask,
    kind: StepKind,
    error: AgentError,
    *,
    live: LiveState | None = None,
    answers: bool = True,
    key: str = "a",
) -> LiveState:
    live = live or LiveState()
    failures.apply(record, live, Step(kind, key), error, engine_answers=answers, now=NOW)
    return live


@pytest.mark.parametrize(
    "kind", [StepKind.PULL, StepKind.CREATE, StepKind.START, StepKind.STOP, StepKind.INSPECT]
)
@pytest.mark.parametrize(
    ("error", "answers"),
    [
        (EngineUnavailable("away"), False),
        (EngineUnavailable("away"), True),
        (EngineTimeout("slow"), False),
        (StateFailure("disk full"), True),
    ],
)
def test_without_an_answer_nothing_is_concluded(
    kind: StepKind, error: AgentError, answers: bool
) -> None:
    record = new_record(container("a"))
    put(record, "a", CREATED)
    live = LiveState()
    for _ in range(50):
        fail(record, kind, error, live=live, answers=answers)
    assert record.desired is DesiredStatus.RUNNING
    assert record.containers["a"].desired is RUNNING
    assert record.containers["a"].reason == ""
    assert live.retries["a"].attempts == 50
    assert live.retries["a"].next_at <= NOW + failures.LONGEST_RETRY_S * 1.2


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        (StepKind.PULL, PayloadError("gone", name="CannotPullContainerError"), "CannotPullCont"),
        (StepKind.CREATE, EngineRefused("bad"), "CannotCreateContainerError: bad"),
        (StepKind.START, EngineRefused("bad"), "CannotStartContainerError: bad"),
        (
            StepKind.START,
            EngineTimeout("slow", operation="started", limit_s=180.0),
            "DockerTimeoutError: Could not transition to started; timed out after waiting 3m0s",
        ),
        (
            StepKind.CREATE,
            EngineTimeout("slow", operation="created", limit_s=240.0),
            "DockerTimeoutError: Could not transition to created; timed out after waiting 4m0s",
        ),
    ],
)
def test_a_refused_step_stops_its_container(kind: StepKind, error: AgentError, reason: str) -> None:
    record = new_record(container("a"))
    live = fail(record, kind, error)
    assert record.containers["a"].desired is STOPPED
    assert record.containers["a"].reason.startswith(reason)
    assert ("a" in live.recheck) is isinstance(error, EngineTimeout)


def test_the_first_reason_stays() -> None:
    record = new_record(container("a"))
    fail(record, StepKind.START, EngineRefused("first"))
    fail(record, StepKind.START, EngineRefused("second"))
    assert record.containers["a"].reason == "CannotStartContainerError: first"


def test_a_container_that_cannot_be_stopped_counts_as_stopped_after_five_tries() -> None:
    record = new_record(container("a"))
    put(record, "a", RUNNING)
    live = LiveState()
    for _ in range(failures.STOP_TRIES - 1):
        fail(record, StepKind.STOP, EngineRefused("no exit event"), live=live)
        assert record.containers["a"].known is RUNNING
    fail(record, StepKind.STOP, EngineRefused("no exit event"), live=live)
    assert record.containers["a"].known is STOPPED
    assert record.containers["a"].reason == "CannotStopContainerError: no exit event"


def test_inspect_that_finds_nothing_means_vanished_only_for_what_was_made() -> None:
    record = new_record(container("a"), container("b"))
    put(record, "a", RUNNING)
    live = LiveState(recheck={"a", "b"})
    fail(record, StepKind.INSPECT, NoSuchContainer("a"), live=live)
    fail(record, StepKind.INSPECT, NoSuchContainer("b"), live=live, key="b")
    assert record.containers["a"].known is STOPPED
    assert record.containers["a"].reason.startswith("ContainerVanishedError: ")
    assert record.containers["b"].known is NONE
    assert live.recheck == set()


def test_a_volume_that_cannot_be_made_fails_the_task() -> None:
    record = new_record(container("a"), volumes=[Volume(name="v")])
    fail(record, StepKind.PREPARE, PayloadError("no such volume"), key=VOLUMES)
    assert record.reason == "no such volume"
    assert record.stop_code == "TaskFailedToStart"
    look(record)
    assert record.known is TaskStatus.STOPPED


@pytest.mark.parametrize("attempts", [1, 2, 3, 7, 5000])
def test_backoff_doubles_up_to_its_limit(attempts: int) -> None:
    plain = min(failures.LONGEST_RETRY_S, failures.FIRST_RETRY_S * 2.0 ** min(attempts - 1, 10))
    assert plain <= failures.backoff_s(attempts) <= plain * 1.2


# -- after a restart --------------------------------------------------------------------------


def test_after_a_restart_everything_that_may_exist_is_asked_for() -> None:
    record = new_record(container("a"), container("b"), network_mode="awsvpc")
    record.admitted_at = 0.0
    put(record, "b", STOPPED)
    live = LiveState()
    doubt_after_restart(record, live)
    assert existing_containers(record) == ["a"]
    assert live.recheck == {"a"}
    assert live.network_doubtful
    record.desired = DesiredStatus.STOPPED
    assert steps(look(record, live)) == {("inspect", "a")}


def test_health_is_kept_only_while_running() -> None:
    record = new_record(container("a", health_check_type="docker"))
    put(record, "a", RUNNING, health=Health.HEALTHY)
    look(record)
    assert record.known is TaskStatus.RUNNING


# -- a clock that is set --------------------------------------------------------------------------


@pytest.mark.parametrize("by_s", [-36_000.0, 36_000.0])
def test_a_clock_that_is_set_moves_no_start_timeout(by_s: float) -> None:
    record = new_record(
        container("a", start_timeout=60, health_check_type="docker"),
        container("b", ("a", "HEALTHY")),
    )
    put(record, "a", RUNNING)
    live = LiveState()
    look(record, live)
    live.clock_was_set(by_s)
    assert look(record, live, NOW + by_s + 59).wake_at == NOW + by_s + 60
    assert record.containers["b"].desired is RUNNING
    look(record, live, NOW + by_s + 60)
    assert "start timeout" in record.containers["b"].reason
    assert record.containers["a"].started_at == NOW, "what was recorded stays"


@pytest.mark.parametrize("by_s", [-36_000.0, 36_000.0])
def test_a_clock_that_is_set_moves_neither_clean_up_nor_retry(by_s: float) -> None:
    record = new_record(container("a"))
    put(record, "a", STOPPED)
    live = LiveState(retries={"@clean": Retry(1, NOW + 110, NOW, "engine away")})
    look(record, live)
    assert record.known is TaskStatus.STOPPED
    live.clock_was_set(by_s)
    now = NOW + by_s
    assert look(record, live, now + 99).wake_at == now + 100
    assert look(record, live, now + 101).wake_at == now + 110
    assert steps(look(record, live, now + 110)) == {("clean up", "@clean")}


def test_a_time_recorded_in_the_future_counts_from_now() -> None:
    """The clock was set back while the agent did not run."""
    record = new_record(container("a"))
    put(record, "a", STOPPED, finished_at=NOW)
    look(record)
    restored = LiveState()
    long_ago = NOW - 36_000
    assert look(record, restored, long_ago).wake_at == long_ago + 100
    assert steps(look(record, restored, long_ago + 100)) == {("clean up", "@clean")}
