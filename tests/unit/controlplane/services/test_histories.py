"""Random histories of a service: percentages are kept, every history converges.

Hypothesis chooses what operators, tasks, hosts and control do, in which order, and how much of its work the
scheduler has done before the next thing happens. A step only knows the record and what is observed, so a control
that ends between two acts is one that has done so much and no more; what it has in memory, since when hosts are cut
off, is forgotten by ``restart``. The histories of two controls over one store are in ``test_store_histories.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.services import rollout
from agent.controlplane.services.observed import SeenHost, SeenTask, Wanted
from agent.controlplane.services.plan import Why
from agent.controlplane.services.record import COMPLETED, FAILED, INACTIVE
from agent.controlplane.tasks.changes import ESSENTIAL_EXITED, FAILED_TO_START, USER_INITIATED
from tests.unit.controlplane.services.conftest import World, service

if TYPE_CHECKING:
    from agent.controlplane.services.plan import Plan

EXAMPLES = int(os.environ.get("ECS_TEST_SERVICE_HISTORIES", "150"))
"""With 3000, it takes a minute of one processor."""
PERCENTAGES = [(100, 200), (50, 100), (0, 100), (0, 200), (50, 200), (100, 150), (75, 125)]
BREAKERS = [{}, {"enable": True, "rollback": True}, {"enable": True, "rollback": False}]
ACTIONS = (
    *("scale", "update", "force", "run", "fail to start", "exit", "all fail", "all exit"),
    *("unhealthy", "healthy", "protect", "end stopping", "lose", "find", "drain", "undrain"),
    *("full", "room", "leave", "join", "restart", "configure", "go back", "second", "hour"),
    *("run all", "run all", "run all", "minute", "minute", "update", "scale"),
)
"""What is there more than once happens more often: without it, most of the others change nothing."""
ALL_WORK = 1000
WORK = (0, 1, 2, 5, ALL_WORK, ALL_WORK, ALL_WORK)
"""How many plans are carried out before the next thing happens."""


class Watched(World):
    """Holds the promises of the scheduler at each of its acts."""

    number = 2

    def act(self, plan: Plan) -> None:
        before = self._sorted()
        stopped = {stop.task.id for stop in plan.stops}
        assert all(self.tasks[task_id].is_wanted for task_id in stopped), "a task is stopped twice"
        assert not any(self.tasks[task_id].counted for task_id in plan.counted), "counted twice"
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

    def work(self, most: int) -> None:
        """Carry out at most so many plans."""
        if most == ALL_WORK:
            self.settle()
            return
        for _ in range(most):
            plan = self.plan()
            if plan.service is not self.record:
                self.act(plan)
            else:
                self.launch(plan)

    def _sorted(self) -> Wanted:
        return Wanted.of(self.record, self.seen, self.now)

    def do(self, action: str, choice: int) -> None:
        """Do one thing that operators, tasks, hosts or control do."""
        match action:
            case "scale" | "update" | "force" | "configure" | "go back":
                self._by_an_operator(action, choice)
            case "run all":
                self.run()
            case "all fail":
                self.end(*self.wanted(last_status="PENDING"), code=FAILED_TO_START)
            case "all exit":
                self.end(*self.wanted(last_status="RUNNING"), code=ESSENTIAL_EXITED)
            case "end stopping":
                self.end_stopping()
            case "second" | "minute" | "hour":
                self.pass_time({"second": 1, "minute": 60, "hour": 3600}[action])
            case "restart":
                self.restart()
            case "full" | "room":
                self.has_room = action == "room"
            case "lose" | "find" | "drain" | "undrain" | "leave" | "join":
                self._to_a_host(action, f"host-{choice % 3}")
            case _:
                self._to_a_task(action, choice)

    def _by_an_operator(self, action: str, choice: int) -> None:
        match action:
            case "scale" if not self.record.is_daemon:
                self.record = replace(self.record, desired_count=choice % 7)
            case "configure" if not self.record.is_daemon:
                self.configure(*PERCENTAGES[choice % len(PERCENTAGES)])
            case "update" | "force":
                self.update(self.number)
                self.number += 1
            case "go back":
                stopped = rollout.stopped(self.record, self.now)
                if stopped is not None:
                    self.record = stopped[0]

    def configure(self, least: int, most: int) -> None:
        """Give the service other percentages."""
        percentages = {"minimumHealthyPercent": least, "maximumPercent": most}
        known = self.record.deployment_configuration
        self.record = replace(self.record, deployment_configuration=known | percentages)

    def restart(self) -> None:
        """Forget since when hosts are cut off, as a control does that starts."""
        for host in self.hosts.values():
            if host.lost_since is not None:
                self.lose(host.id)

    def _to_a_host(self, action: str, host: str) -> None:
        if host not in self.hosts:
            if action == "join":
                self.hosts[host] = SeenHost(host, takes_daemon=True)
            return
        match action:
            case "lose":
                self.lose(host)
            case "find":
                self.find(host)
            case "drain":
                self.drain(host)
            case "undrain":
                self.undrain(host)
            case "leave":
                del self.hosts[host]
                on_host = [t for t in self.tasks.values() if t.instance_id == host]
                ended = [t for t in on_host if t.last_status != "STOPPED"]
                self.end(*ended, code=USER_INITIATED)

    def undrain(self, host: str) -> None:
        """Let a host have tasks again."""
        self.hosts[host] = SeenHost(host, True, self.hosts[host].lost_since, takes_daemon=True)

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


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    desired=st.integers(0, 6),
    percentages=st.sampled_from(PERCENTAGES),
    breaker=st.sampled_from(BREAKERS),
    check=st.booleans(),
    is_daemon=st.booleans(),
    is_steady=st.booleans(),
    history=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20), st.sampled_from(WORK)),
        min_size=10,  # without, most are too short to have anything happen
        max_size=40,
    ),
)
def test_every_history_keeps_its_promises_and_converges(
    desired: int,
    percentages: tuple[int, int],
    breaker: dict[str, Any],
    check: bool,
    is_daemon: bool,
    is_steady: bool,
    history: list[tuple[str, int, int]],
) -> None:
    least, most = percentages
    if is_daemon:
        record = service(0, least=0, most=100, breaker=breaker, scheduling="DAEMON")
    else:
        record = service(desired, least=least, most=most, breaker=breaker)
    world = Watched(record, check=check)
    if is_steady:
        world.steady()
    for action, choice, work in history:
        world.do(action, choice)
        world.work(work)
    converge(world)
    world.record = replace(world.record, status="DRAINING", desired_count=0)
    world.settle()
    assert (world.record.status, world.wanted()) == (INACTIVE, [])


def converge(world: Watched) -> None:
    """Let everything go well from now on, and hold that the service becomes what it should be.

    Two ends need an operator, and then converge too: a deployment that FAILED, and percentages without room.
    """
    world.has_room = True
    for host in ("host-0", "host-1", "host-2"):
        world.hosts[host] = SeenHost(host, takes_daemon=True)
    go_well(world)
    primary = world.record.primary
    if primary.rollout_state == FAILED:
        event("the deployment failed")
        started = world.started
        world.pass_time(7200)
        assert world.started == started, "a failed deployment starts nothing"
        world.update(world.number)
        go_well(world)
    if "blocked" in world.record.notices:
        event("the percentages leave no room")
        assert world.record.most_running == world.record.least_healthy
        world.configure(100, 200)
        go_well(world)
    primary = world.record.primary
    own = world.wanted(started_by=primary.id)
    assert primary.rollout_state == COMPLETED
    assert world.record.deployments == [primary]
    assert len(own) == len(world.wanted()) == world.record.desired_count
    assert not own or primary.throttle.level == 0


def go_well(world: Watched) -> None:
    """Let tasks start and become healthy, and time pass, until a minute changes nothing."""
    for _ in range(60):
        world.end_stopping()
        world.run()
        for task in world.wanted(last_status="RUNNING") if world.check else ():
            world.change(task, health_status="HEALTHY")
        before = world.record, set(world.tasks)
        world.pass_time(max(61, world.record.primary.throttle.until - world.now))
        protected = any(task.protected_until > world.now for task in world.wanted())
        if (world.record, set(world.tasks)) == before and not protected:
            return
