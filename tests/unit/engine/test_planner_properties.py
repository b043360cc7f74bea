"""What must hold for every task, whatever the host does: random tasks in a random world.

``Simulation.turn`` checks on the way that nothing starts before its conditions are met, that containers stop in the
reverse order, and that no status goes back. ``ECS_TEST_TIMES`` multiplies the number of tasks.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.engine import graph
from agent.engine.live import StepKind
from agent.engine.planner import Policy
from agent.errors import PayloadError
from agent.model.payload import (
    Container,
    Dependency,
    RestartPolicy,
    TaskPayload,
    Volume,
    VolumeFrom,
)
from agent.model.status import Condition, ContainerStatus, DesiredStatus, Health, TaskStatus
from tests.support.tasks import ARN
from tests.unit.engine.simulation import FAILURES, Simulation

CONDITIONS = [Condition.START, Condition.COMPLETE, Condition.SUCCESS, Condition.HEALTHY]
TIMES = int(os.environ.get("ECS_TEST_TIMES", "1"))
BOUND = 400
"""Turns after which a task that is to stop must be gone, with every step succeeding."""


@st.composite
def payloads(draw: st.DrawFn) -> TaskPayload:
    """Valid tasks: containers depend only on those before them, in any way there is."""
    names = [f"c{i}" for i in range(draw(st.integers(1, 6)))]
    containers: list[Container] = []
    for index, name in enumerate(names):
        earlier = st.sampled_from(names[:index]) if index else st.nothing()
        some = st.lists(earlier, max_size=2, unique=True) if index else st.just([])
        waits = [
            Dependency(container_name=target, condition=draw(st.sampled_from(CONDITIONS)))
            for target in draw(some)
        ]
        policy = RestartPolicy(
            enabled=True, ignored_exit_codes=[3], restart_attempt_period=draw(st.integers(0, 60))
        )
        containers.append(
            Container(
                name=name,
                image="busybox",
                essential=draw(st.booleans()),
                depends_on=waits,
                links=draw(some),
                volumes_from=[VolumeFrom(source_container=n) for n in draw(some)],
                health_check_type="docker",
                start_timeout=draw(st.sampled_from([0, 0, 5, 60])),
                restart_policy=draw(st.sampled_from([None, None, policy])),
            )
        )
    return TaskPayload(
        arn=ARN,
        family="f",
        version="1",
        containers=draw(st.permutations(containers)),
        volumes=draw(st.sampled_from([[], [Volume(name="v")]])),
        network_mode=draw(st.sampled_from(["bridge", "host", "none", "awsvpc"])),
    )


def something_happens(draw: st.DrawFn, sim: Simulation, *, friendly: bool) -> None:
    """One random event; the host's own steps are the likeliest."""
    keys = sorted(sim.live.inflight)
    running = sorted(name for name, real in sim.world.containers.items() if real.running)
    choices: list[str] = ["time", "admit"]
    choices += ["complete"] * 6 if keys else []
    choices += ["exit", "judge"] if running else []
    if not friendly:
        choices += ["crash", "stop", "save"]
        choices += ["fail"] * 3 if keys else []
        choices += ["vanish"] if sim.world.containers else []
        choices += ["lose network"] if sim.world.network and not sim.world.sandbox_dead else []
        choices += ["start by hand"] if sim.startable() else []
    simple = {
        "admit": sim.admit,
        "save": sim.save,
        "stop": sim.order_stop,
        "lose network": sim.lose_network,
    }
    match draw(st.sampled_from(choices)):
        case "time":
            sim.now += draw(st.sampled_from([0.1, 1.0, 40.0]))
        case "complete":
            sim.complete(draw(st.sampled_from(keys)))
        case "fail":
            sim.fail(
                draw(st.sampled_from(keys)),
                draw(st.sampled_from(sorted(FAILURES))),
                done=draw(st.booleans()),
                answers=draw(st.booleans()),
            )
        case "crash":
            sim.crash(torn=draw(st.booleans()))
        case "exit":
            sim.exit(draw(st.sampled_from(running)), draw(st.sampled_from([0, 0, 1, 3])))
        case "judge":
            sim.judge(draw(st.sampled_from(running)), draw(st.sampled_from(list(Health))))
        case "vanish":
            sim.vanish(draw(st.sampled_from(sorted(sim.world.containers))))
        case "start by hand":
            sim.start_by_hand(draw(st.sampled_from(sim.startable())))
        case other:
            simple[other]()
    sim.turn()


def run_down(sim: Simulation) -> None:
    """Let everything succeed until nothing is left; a plan that stands still fails."""
    for _ in range(BOUND):
        if sim.plan.finished:
            return
        if sim.live.inflight:
            sim.complete(min(sim.live.inflight))
        else:
            assert sim.plan.wake_at is not None, f"nothing to do, nothing to wait for: {sim.record}"
            sim.now = sim.plan.wake_at
        sim.turn()
    pytest.fail(f"not finished after {BOUND} turns: {sim.record}")


@settings(max_examples=150 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_stopping_task_ends_and_leaves_nothing(data: st.DataObject) -> None:
    policy = Policy(pull_before_dependencies=data.draw(st.booleans()), cleanup_wait_s=100.0)
    sim = Simulation(data.draw(payloads()), policy)
    for _ in range(data.draw(st.integers(0, 40))):
        something_happens(data.draw, sim, friendly=False)  # type: ignore[arg-type]
    sim.order_stop()
    sim.turn()
    run_down(sim)
    record = sim.record
    assert record.known is TaskStatus.STOPPED
    assert all(c.known is ContainerStatus.STOPPED for c in record.containers.values())
    assert not sim.world.containers
    assert not sim.world.network
    assert not sim.world.prepared
    assert not record.network_held
    assert record.stopping_at
    assert record.stopped_at
    assert record.cleaned_at
    assert sim.reports.count("STOPPED") >= 1 or record.containers == {}
    assert sim.live.inflight == {}
    assert sim.live.astray == {}


def complete_all(sim: Simulation) -> None:
    """Let every step succeed, and whatever follows from it."""
    for _ in range(BOUND):
        if not sim.live.inflight:
            return
        sim.complete(min(sim.live.inflight))
        sim.turn()
    pytest.fail(f"still busy after {BOUND} turns: {sim.record}")


@settings(max_examples=50 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_started_again_after_its_end_is_stopped_once(data: st.DataObject) -> None:
    """Whatever happens meanwhile, crashes included; then it is left to whoever insists."""
    sim = Simulation(data.draw(payloads()), Policy(cleanup_wait_s=1e9))
    sim.admit()
    sim.turn()
    complete_all(sim)
    for name in data.draw(st.sets(st.sampled_from(sorted(sim.world.running()) or [""]))):
        if name:
            sim.exit(name, 3)
    sim.turn()
    complete_all(sim)
    started: dict[str, int] = {}
    for _ in range(data.draw(st.integers(1, 6))):
        for name in sim.startable():
            if data.draw(st.booleans()):
                sim.start_by_hand(name)
                started[name] = started.get(name, 0) + 1
        sim.turn()
        for key in sorted(sim.live.inflight):
            if data.draw(st.booleans()):
                sim.fail(key, data.draw(st.sampled_from(["unavailable", "timeout"])),
                         done=data.draw(st.booleans()), answers=False)  # fmt: skip
                sim.now += 60.0
        if data.draw(st.booleans()):
            sim.save()  # what has no report of its own is on the disk within a second
            sim.crash()
        sim.turn()
        complete_all(sim)
    sim.now += 60.0
    sim.turn()
    complete_all(sim)
    for name, count in started.items():
        container, real = sim.record.containers[name], sim.world.containers[name]
        assert container.stopped_again_at
        assert any(w.container == name for w in sim.plan.waits) is real.running
        assert count > 1 or not real.running


@settings(max_examples=80 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_task_on_a_friendly_host_never_stands_still_without_a_reason(data: st.DataObject) -> None:
    """Without faults it runs, has stopped, or names what it waits for."""
    sim = Simulation(data.draw(payloads()), Policy(cleanup_wait_s=100.0))
    sim.admit()
    sim.turn()
    for _ in range(data.draw(st.integers(0, 30))):
        something_happens(data.draw, sim, friendly=True)  # type: ignore[arg-type]
    for _ in range(BOUND):
        if not sim.live.inflight:
            break
        sim.complete(min(sim.live.inflight))
        sim.turn()
    record = sim.record
    if record.known < TaskStatus.RUNNING:
        assert sim.plan.waits, record
        assert all(w.container for w in sim.plan.waits), sim.plan.waits
    assert sim.world.network is record.network_held
    believed = {c.name for c in record.containers.values() if c.known is ContainerStatus.RUNNING}
    assert believed == sim.world.running()


@settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_restart_of_the_agent_starts_and_stops_nothing(data: st.DataObject) -> None:
    """A task that runs undisturbed is only looked at after a crash."""
    sim = Simulation(data.draw(payloads()), Policy(cleanup_wait_s=100.0))
    sim.admit()
    sim.turn()
    for _ in range(BOUND):
        if not sim.live.inflight:
            break
        sim.complete(min(sim.live.inflight))
        sim.turn()
    if sim.record.known is not TaskStatus.RUNNING or sim.record.desired is DesiredStatus.STOPPED:
        return
    sim.crash()
    sim.turn()
    kinds: set[StepKind] = set()
    for _ in range(BOUND):
        kinds |= {step.kind for step in sim.live.inflight.values()}
        if not sim.live.inflight:
            break
        sim.complete(min(sim.live.inflight))
        sim.turn()
    assert kinds <= {StepKind.INSPECT}
    assert sim.record.known is TaskStatus.RUNNING


def play(sim: Simulation, ends: dict[str, int | None], crash_at: int, *, torn: bool) -> int:
    """Let containers do what is written, until nothing moves; return how many events that took.

    Args:
        sim: an admitted task.
        ends: the exit code of each container, soon after its start; None for one that becomes healthy instead.
        crash_at: after this event the agent crashes; below 0 for never.
        torn: whether its last save is lost.
    """
    for events in range(BOUND):
        acted = False
        for name, real in sorted(sim.world.containers.items()):
            if real.running and ends[name] is not None:
                sim.exit(name, ends[name] or 0)
                acted = True
            elif real.running and real.health is not Health.HEALTHY:
                sim.judge(name, Health.HEALTHY)
                acted = True
        if sim.live.inflight:
            sim.complete(min(sim.live.inflight))
            acted = True
        if not acted:
            return events
        if events == crash_at:
            sim.crash(torn=torn)
            sim.admit()
        sim.turn()
    pytest.fail(f"still busy after {BOUND} events: {sim.record}")


def fate(sim: Simulation) -> tuple[Any, ...]:
    """What became of a task. How far one that ended came is a race, which a crash may decide otherwise."""
    record = sim.record
    if record.desired is DesiredStatus.STOPPED:
        return record.known, sim.world.running()
    containers = {c.name: (c.known, c.exit_code) for c in record.containers.values()}
    return record.known, sim.world.running(), containers


@settings(max_examples=100 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_crash_at_any_step_leads_to_the_same_end(data: st.DataObject) -> None:
    drawn = data.draw(payloads())
    containers = [replace(c, restart_policy=None, start_timeout=0) for c in drawn.containers]
    payload = replace(drawn, containers=containers)
    codes = st.sampled_from([None, None, 0, 3])
    ends = {c.name: None if c.essential else data.draw(codes) for c in containers}
    if data.draw(st.booleans()):
        ends[containers[0].name] = data.draw(codes)
    policy = Policy(cleanup_wait_s=1e9)

    def admitted() -> Simulation:
        sim = Simulation(payload, policy)
        sim.admit()
        sim.turn()
        return sim

    undisturbed = admitted()
    events = play(undisturbed, ends, -1, torn=False)
    for crash_at in range(events):
        sim = admitted()
        play(sim, ends, crash_at, torn=data.draw(st.booleans()))
        assert fate(sim) == fate(undisturbed), f"crash after event {crash_at}"


@given(payloads(), st.data())
def test_every_way_round_is_a_cycle(payload: TaskPayload, data: st.DataObject) -> None:
    """Closing any chain of dependencies is noticed."""
    edges: dict[str, Any] = graph.graph_of(payload)
    order = graph.start_order(edges)
    assert order is not None
    last = data.draw(st.sampled_from(order))
    chain = [last]
    while edges[chain[-1]]:
        chain.append(edges[chain[-1]][0].target)
    closed = {**edges, chain[-1]: (graph.Edge(last, Condition.START),)}
    assert graph.start_order(closed) is None
    with pytest.raises(PayloadError):
        graph.check(payload, closed)
