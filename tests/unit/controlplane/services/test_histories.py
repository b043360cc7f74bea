"""Random histories of a service: percentages are kept, every history converges.

Hypothesis chooses what operators, tasks and hosts do, and in which order; the scheduler steps in between.
A restart of control is not a case of its own: a step only knows the record and what is observed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.services.observed import SeenTask, Wanted
from agent.controlplane.services.plan import Why
from agent.controlplane.services.record import COMPLETED, FAILED
from agent.controlplane.tasks.changes import ESSENTIAL_EXITED, FAILED_TO_START
from tests.unit.controlplane.services.conftest import World, service

if TYPE_CHECKING:
    from agent.controlplane.services.plan import Plan

EXAMPLES = int(os.environ.get("ECS_TEST_SERVICE_HISTORIES", "150"))
PERCENTAGES = [(100, 200), (50, 100), (0, 100), (0, 200), (50, 200), (100, 150), (75, 125)]
BREAKERS = [{}, {"enable": True, "rollback": True}, {"enable": True, "rollback": False}]
ACTIONS = (
    *("scale", "update", "force", "run", "run", "run all", "run all", "fail to start", "exit"),
    *("unhealthy", "healthy", "end stopping", "lose", "find", "drain", "undrain", "full", "room"),
    *("second", "minute", "hour", "protect"),
)


class Watched(World):
    """Holds the promises of the scheduler at each of its acts."""

    def act(self, plan: Plan) -> None:
        before = self._sorted()
        stopped = {stop.task.id for stop in plan.stops}
        for stop in plan.stops:
            if stop.why is Why.SCALING and not self.record.is_daemon:
                assert stop.task.protected_until <= self.now, "a protected task is stopped"
        super().act(plan)
        if self.record.status != "ACTIVE":
            return
        healthy = len(before.healthy)
        left = len(before.healthy - stopped)
        assert left >= min(healthy, self.record.least_healthy), "too few healthy tasks are left"

    def launch(self, plan: Plan) -> None:
        started = self.started
        super().launch(plan)
        if self.started > started and not self.record.is_daemon:
            assert self._sorted().present <= self.record.most_running, "too many tasks"
        if self.record.is_daemon:
            places = [task.instance_id for task in self.wanted()]
            assert len(places) == len(set(places)), "two daemons on one host"

    def _sorted(self) -> Wanted:
        return Wanted.of(self.record, self.seen, self.now)

    def do(self, action: str, choice: int) -> None:
        """Do one thing that operators, tasks or hosts do."""
        host = f"host-{choice % 3}"
        match action:
            case "scale" if not self.record.is_daemon:
                self.record = replace(self.record, desired_count=choice % 7)
            case "update" | "force":
                self.update(self.number)
                self.number += 1
            case "run all":
                self.run()
            case "end stopping":
                self.end_stopping()
            case "second" | "minute" | "hour":
                self.pass_time({"second": 1, "minute": 60, "hour": 3600}[action])
            case "lose" | "find" | "drain" | "undrain" | "full" | "room":
                self._to_a_host(action, host)
            case _:
                self._to_a_task(action, choice)

    def _to_a_host(self, action: str, host: str) -> None:
        match action:
            case "lose":
                self.lose(host)
            case "find":
                self.find(host)
            case "drain":
                self.drain(host)
            case "undrain":
                self.hosts[host] = replace_host(self, host)
            case _:
                self.has_room = action == "room"

    def _to_a_task(self, action: str, choice: int) -> None:
        tasks = [t for t in self.tasks.values() if t.last_status != "STOPPED"]
        if not tasks:
            return
        task: SeenTask = tasks[choice % len(tasks)]
        match action:
            case "run" if task.last_status == "PENDING":
                self.run(task)
            case "fail to start" if task.last_status == "PENDING":
                self.end(task, code=FAILED_TO_START)
            case "exit" if task.last_status == "RUNNING":
                self.end(task, code=ESSENTIAL_EXITED)
            case "protect":
                self.change(task, protected_until=self.now + 300)
            case "unhealthy" | "healthy" if self.check and task.last_status == "RUNNING":
                self.change(task, health_status=action.upper())

    number = 2


def replace_host(world: World, host: str) -> Any:
    known = world.hosts[host]
    return type(known)(host, True, known.lost_since, takes_daemon=True)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    desired=st.integers(0, 6),
    percentages=st.sampled_from(PERCENTAGES),
    breaker=st.sampled_from(BREAKERS),
    check=st.booleans(),
    is_daemon=st.booleans(),
    history=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20)), max_size=40),
)
def test_every_history_keeps_its_promises_and_converges(
    desired: int,
    percentages: tuple[int, int],
    breaker: dict[str, Any],
    check: bool,
    is_daemon: bool,
    history: list[tuple[str, int]],
) -> None:
    least, most = percentages
    if is_daemon:
        record = service(0, least=0, most=100, breaker=breaker, scheduling="DAEMON")
    else:
        record = service(desired, least=least, most=most, breaker=breaker)
    world = Watched(record, check=check)
    world.settle()
    for action, choice in history:
        world.do(action, choice)
        world.settle()
    converge(world)


def converge(world: Watched) -> None:
    """Let everything go well from now on, and hold that the service becomes what it should be."""
    world.has_room = True
    for host in list(world.hosts):
        world.find(host)
        world.hosts[host] = replace_host(world, host)
    for _ in range(60):
        world.end_stopping()
        world.run()
        for task in world.wanted(last_status="RUNNING") if world.check else ():
            world.change(task, health_status="HEALTHY")
        world.pass_time(60)
        if world.record.primary.throttle.until > world.now:
            world.pass_time(world.record.primary.throttle.until - world.now)
    primary = world.record.primary
    own = world.wanted(started_by=primary.id)
    if primary.rollout_state == FAILED:
        return
    if "blocked" in world.record.notices:
        assert world.record.most_running == world.record.least_healthy
        return
    assert primary.rollout_state == COMPLETED
    assert world.record.deployments == [primary]
    assert len(own) == len(world.wanted()) == world.record.desired_count
    assert not own or primary.throttle.level == 0
