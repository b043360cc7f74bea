"""Random histories of a service: percentages are kept, every history converges.

A seed chooses what operators, tasks, hosts and control do, in which order, and how much of its work the scheduler
has done before the next thing happens. A step only knows the record and what is observed, so a control that ends
between two acts is one that has done so much and no more; what it has in memory, since when hosts are cut off, is
forgotten by ``restart``. The histories of two controls over one store are in ``test_store_histories.py``.

The promises are computed here once more, from tasks and hosts alone: a fault of the scheduler's own arithmetic must
not hide itself.

A failure shows a short history that fails. To repeat it, give the world and the history to ``live``.
"""

from __future__ import annotations

import math
import os
import random
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.services import lifecycle, rollout
from agent.controlplane.services.observed import SeenAlarm, SeenHost, SeenTask
from agent.controlplane.services.plan import Why
from agent.controlplane.services.record import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    INACTIVE,
    AlarmWatch,
    Hook,
    Lifecycle,
)
from agent.controlplane.tasks.changes import ESSENTIAL_EXITED, FAILED_TO_START, USER_INITIATED
from tests.unit.controlplane.services.conftest import World, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.controlplane.services.plan import Plan, Stop
    from agent.controlplane.services.record import ServiceRecord

    Move = tuple[str, int, int]
    """What happens, to which of those it may happen to, and how many plans are carried out after it."""

EXAMPLES = int(os.environ.get("ECS_TEST_SERVICE_HISTORIES", "150"))
"""With 3000, it takes a minute of one processor."""
SEEDED = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking: a smaller seed is not a simpler history."""
SEEDS = st.integers(0, 2**32 - 1)
PERCENTAGES = [(100, 200), (50, 100), (0, 100), (0, 200), (50, 200), (100, 150), (75, 125)]
DAEMON_PERCENTAGES = [(0, 100), (50, 100)]
BREAKERS = [{}, {"enable": True, "rollback": True}, {"enable": True, "rollback": False}]
HEALTHY_AFTER_S = 40
LOST_AFTER_S = 300
SECONDS = {"second": 1, "half a minute": 30, "minute": 60, "hour": 3600}
CHANGES = ("scale", "update", "update", "force", "configure")
COME_UP = (
    *("run", "run", "run", "run all", "end stopping", "second", "half a minute", "minute"),
    "continue",
)
TROUBLE = ("fail to start", "exit", "unhealthy", "unhealthy", "lose", "drain", "leave")
MENDING = ("healthy", "unhealthy", "find", "undrain", "join", "room", "run all", "minute", "hour")
ANYTHING = (
    *(*CHANGES, *COME_UP, *TROUBLE, *MENDING),
    *("all fail", "all exit", "protect", "full", "restart", "go back"),
    *("alarm", "alarm ok", "alarm", "alarm ok"),
)
PHASES = (
    (CHANGES, COME_UP),
    (CHANGES, (*COME_UP, *CHANGES)),
    (TROUBLE, (*TROUBLE, *COME_UP, *MENDING)),
    (("update", "force"), ("run all", "minute", "run all", "alarm", "minute", "alarm ok")),
    (CHANGES, ("all fail", "all exit", "fail to start", "run", "minute", "hour", "go back")),
    (ANYTHING, ANYTHING),
    (("run all",), ("run all", "minute", "end stopping", "healthy", "undrain", "find", "room")),
)
"""What a part of a history begins with, and what follows: most things only matter after certain others."""
HOOK = Hook(stages=["PRE_SCALE_UP", "POST_PRODUCTION_TRAFFIC_SHIFT"], timeout_s=1800)
BAKED = Lifecycle(stage=lifecycle.RECONCILE_SERVICE, since=0, bake_s=300)
PAUSED = replace(BAKED, bake_s=0, hooks=[HOOK, replace(HOOK, on_timeout="CONTINUE")])
STAGES = (None, None, BAKED, PAUSED)
"""What new deployments begin with; None for rolling ones."""
WATCHES = (None, None, AlarmWatch(names=["hot"], rolls_back=True), AlarmWatch(names=["hot"]))
"""The alarms that new deployments watch."""
ALARM = SeenAlarm(span_s=120.0)
ALL_WORK = 1000
WORK = (0, 1, 2, 5, ALL_WORK, ALL_WORK, ALL_WORK)
"""How many plans are carried out before the next thing happens."""


def history_of(seed: int, length: int) -> list[Move]:
    """Return the history of a seed; a shorter one is its beginning."""
    draw = random.Random(seed)
    history: list[Move] = []
    while len(history) < length:
        first, then = draw.choice(PHASES)
        actions = [draw.choice(first), *draw.choices(then, k=draw.randint(2, 7))]
        history += [(action, draw.randrange(21), draw.choice(WORK)) for action in actions]
    return history[:length]


def least_healthy(record: ServiceRecord) -> int:
    """Return how many healthy tasks are kept."""
    percent: int = record.deployment_configuration["minimumHealthyPercent"]
    return math.ceil(record.desired_count * percent / 100)


def most_running(record: ServiceRecord) -> int:
    """Return how many tasks there may be."""
    percent: int = record.deployment_configuration["maximumPercent"]
    return math.floor(record.desired_count * percent / 100)


class Watched(World):
    """Holds the promises of the scheduler at each of its acts."""

    number = 2

    def act(self, plan: Plan) -> None:
        stopped = {stop.task.id for stop in plan.stops}
        assert all(self.tasks[task_id].is_wanted for task_id in stopped), "a task is stopped twice"
        assert not any(self.tasks[task_id].counted for task_id in plan.counted), "counted twice"
        if plan.service.status == "ACTIVE":
            self._hold_minimum(plan.service, stopped)
            if not plan.service.is_daemon:
                self._hold_order(plan)
            self._hold_alarms(plan.service)
        super().act(plan)

    def _hold_alarms(self, record: ServiceRecord) -> None:
        """Hold that no rolling deployment is completed against its alarms."""
        old, new = self.record.primary, record.primary
        watch = old.alarms
        if watch is None or watch.already or old.lifecycle is not None:
            return
        if (old.rollout_state, new.rollout_state, old.id) == (IN_PROGRESS, COMPLETED, new.id):
            assert self.alarms, "completed without a look at its alarms"
            assert self.now >= watch.steady_at + ALARM.span_s > ALARM.span_s, "it has not baked"
            assert not self.is_firing("hot") or not self.wanted(started_by=new.id), (
                "completed in spite of an alarm"
            )

    def _hold_minimum(self, record: ServiceRecord, stopped: set[str]) -> None:
        """Hold that enough tasks are left, of the healthy ones and of all that serve."""
        least = least_healthy(record)
        serving = [task for task in self.wanted() if self._counts(record, task)]
        for what, tasks in (("healthy", filter(self._is_healthy, serving)), ("serving", serving)):
            before = [task.id for task in tasks]
            left = [task_id for task_id in before if task_id not in stopped]
            assert len(left) >= min(len(before), least), f"too few {what} tasks are left"

    def _hold_order(self, plan: Plan) -> None:
        """Hold that what takes the place of a task is there before the task is stopped."""
        for record, wanted in self._sides(plan.service):
            ids = {task.id for task in wanted}
            stops = [stop for stop in plan.stops if stop.task.id in ids]
            self._hold_order_of(record, wanted, stops)

    def _hold_order_of(
        self, record: ServiceRecord, wanted: list[SeenTask], stops: list[Stop]
    ) -> None:
        why = {kind: [stop for stop in stops if stop.why is kind] for kind in Why}
        for stop in why[Why.SCALING]:
            assert stop.task.protected_until <= self.now, "a protected task is stopped"
        healthy = [task for task in wanted if not self._is_lost(task) and self._is_healthy(task)]
        if why[Why.UNHEALTHY] and len(healthy) < record.desired_count:
            present = [task for task in wanted if not self._is_lost(task)]
            assert len(present) >= most_running(record), "stopped before its replacement is healthy"
            assert len(why[Why.UNHEALTHY]) == 1, "more than one is stopped before its replacement"
        if why[Why.LOST]:
            places = [*self._good(record), *(task for task in wanted if self._is_lost(task))]
            stopped = {stop.task.id for stop in stops}
            left = [task for task in places if task.id not in stopped]
            assert len(left) >= record.desired_count, (
                "lost tasks are stopped before others are there"
            )

    def _sides(self, record: ServiceRecord) -> Iterator[tuple[ServiceRecord, list[SeenTask]]]:
        """Yield what the arithmetic is held for: the service, or each of its deployments while both are to be."""
        blue = next((one for one in record.deployments[1:] if one.was_completed), None)
        if blue is None or not lifecycle.is_staged(record):
            yield record, self.wanted()
            return
        for one in (blue, record.primary):
            yield replace(record, deployments=[one]), self.wanted(started_by=one.id)

    def launch(self, plan: Plan) -> None:
        started, record = self.started, self.record
        super().launch(plan)
        if self.started == started:
            return
        assert record.primary.rollout_state != FAILED, "a failed deployment starts a task"
        assert self.now >= plan.deployment.throttle.until, "a task is started too early"
        if record.is_daemon:
            places = [task.instance_id for task in self.wanted()]
            assert len(places) == len(set(places)), "two daemons on one host"
        else:
            sides = {side.primary.id: (side, tasks) for side, tasks in self._sides(record)}
            side, wanted = sides[plan.deployment.id]
            present = [task for task in wanted if not self._is_lost(task)]
            assert len(present) <= most_running(side), "too many tasks"
            if (
                not plan.deployment.capacity_provider_strategy
            ):  # with one, some may be too many first
                assert len(list(self._good(side))) <= record.desired_count, "more than are needed"

    def _good(self, record: ServiceRecord) -> Iterable[SeenTask]:
        """Yield the tasks of the primary deployment that may stay."""
        for task in self.wanted(started_by=record.primary.id):
            may_stay = not self._is_lost(task) and self.hosts[task.instance_id].is_active
            if may_stay and not self._fails(task):
                yield task

    def _counts(self, record: ServiceRecord, task: SeenTask) -> bool:
        """Return whether it serves, where the service is to be."""
        if task.last_status != "RUNNING" or self._fails(task):
            return False
        if record.is_daemon:
            host = self.hosts.get(task.instance_id)
            return host is not None and host.takes_daemon
        return not self._is_lost(task)

    def _is_healthy(self, task: SeenTask) -> bool:
        if task.last_status != "RUNNING":
            return False
        if self.check:
            return task.health_status == "HEALTHY"
        return self.now >= task.ran_at + HEALTHY_AFTER_S

    def _fails(self, task: SeenTask) -> bool:
        return self.check and task.last_status == "RUNNING" and task.health_status == "UNHEALTHY"

    def _is_lost(self, task: SeenTask) -> bool:
        host = self.hosts.get(task.instance_id)
        if host is None:
            return True
        # What was never seen to run serves nobody: it is replaced at once.
        after_s = LOST_AFTER_S if task.last_status == "RUNNING" else 0
        return host.lost_since is not None and self.now >= host.lost_since + after_s

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

    def do(self, action: str, choice: int) -> None:
        """Do one thing that operators, tasks, hosts or control do."""
        match action:
            case "scale" | "update" | "force" | "configure" | "go back" | "continue":
                self._by_an_operator(action, choice)
            case "run all":
                self.run()
            case "all fail":
                self.end(*self.wanted(last_status="PENDING"), code=FAILED_TO_START)
            case "all exit":
                self.end(*self.wanted(last_status="RUNNING"), code=ESSENTIAL_EXITED)
            case "end stopping":
                self.end_stopping()
            case "second" | "half a minute" | "minute" | "hour":
                self.pass_time(SECONDS[action])
            case "restart" | "alarm" | "alarm ok" | "full" | "room":
                self._to_control(action)
            case "lose" | "find" | "drain" | "undrain" | "leave" | "join":
                self._to_a_host(action, f"host-{choice % 3}")
            case _:
                self._to_a_task(action, choice)

    def _to_control(self, action: str) -> None:
        match action:
            case "restart":
                self.restart()
            case "alarm" | "alarm ok":
                self.alarms = {"hot": ALARM._replace(is_firing=action == "alarm")}
            case "full" | "room":
                self.has_room = action == "room"

    def _by_an_operator(self, action: str, choice: int) -> None:
        match action:
            case "scale" if not self.record.is_daemon:
                self.record = replace(self.record, desired_count=choice % 7)
            case "configure" if not self.record.is_daemon:
                self.configure(*PERCENTAGES[choice % len(PERCENTAGES)])
            case "update" | "force":
                self.update(self.number)
                self.number += 1
            case "continue":
                self.go_on()
            case "go back":
                stopped = rollout.stopped(self.record, self.now)
                if stopped is not None:
                    self.record = stopped[0]

    def go_on(self) -> None:
        """Continue a deployment that waits at hooks."""
        for wait in lifecycle.waiting(self.record.primary):
            self.record = lifecycle.with_status(self.record, wait.id, lifecycle.SUCCEEDED)

    def configure(self, least: int, most: int) -> None:
        """Give the service other percentages."""
        percentages = {"minimumHealthyPercent": least, "maximumPercent": most}
        known = self.record.deployment_configuration
        self.record = replace(self.record, deployment_configuration=known | percentages)

    def restart(self) -> None:
        """Forget since when hosts are cut off, and the states of alarms, as a control does that starts."""
        self.alarms = {}
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


@settings(
    max_examples=EXAMPLES, deadline=None, phases=SEEDED, suppress_health_check=list(HealthCheck)
)
@given(
    desired=st.integers(0, 6),
    percentages=st.integers(0, 20),
    breaker=st.sampled_from(BREAKERS),
    check=st.booleans(),
    is_daemon=st.sampled_from([False, False, False, True]),
    is_steady=st.sampled_from([False, True, True]),
    stages=st.sampled_from(STAGES),
    watch=st.sampled_from(WATCHES),
    seed=SEEDS,
    length=st.integers(15, 60),
)
def test_every_history_keeps_its_promises_and_converges(
    *,
    desired: int,
    percentages: int,
    breaker: dict[str, Any],
    check: bool,
    is_daemon: bool,
    is_steady: bool,
    stages: Lifecycle | None,
    watch: AlarmWatch | None,
    seed: int,
    length: int,
) -> None:
    def live_once(history: list[Move]) -> None:
        if is_daemon:
            least, most = DAEMON_PERCENTAGES[percentages % len(DAEMON_PERCENTAGES)]
            record = service(0, least=least, most=most, breaker=breaker, scheduling="DAEMON")
        else:
            least, most = PERCENTAGES[percentages % len(PERCENTAGES)]
            record = service(desired, least=least, most=most, breaker=breaker)
        world = Watched(record, check=check)
        if is_steady:
            world.steady()
        world.stages = None if is_daemon else stages
        world.watch, world.alarms = watch, {"hot": ALARM}
        live(world, history)

    history = history_of(seed, length)
    try:
        live_once(history)
    except AssertionError:
        note(f"history = {shortened(history, live_once)}")
        raise


def live(world: Watched, history: list[Move]) -> None:
    """Let a history happen, then let everything go well, and then delete the service."""
    for action, choice, work in history:
        world.do(action, choice)
        world.work(work)
    converge(world)
    world.record = replace(world.record, status="DRAINING", desired_count=0)
    world.settle()
    assert (world.record.status, world.wanted()) == (INACTIVE, [])


def shortened(history: list[Move], live_once: Callable[[list[Move]], None]) -> list[Move]:
    """Leave out of a history that fails what is not needed for that."""
    for at in reversed(range(len(history))):
        rest = [*history[:at], *history[at + 1 :]]
        try:
            live_once(rest)
        except AssertionError:
            history = rest
    return history


def converge(world: Watched) -> None:
    """Let everything go well from now on, and hold that the service becomes what it should be.

    Two ends need an operator, and then converge too: a deployment that FAILED, and percentages without room.
    """
    world.has_room = True
    world.alarms = {"hot": ALARM}
    for host in ("host-0", "host-1", "host-2"):
        world.hosts[host] = SeenHost(host, takes_daemon=True)
    go_well(world)
    primary = world.record.primary
    if any("alarm detected" in message for message in world.events):
        event("an alarm made a deployment fail")
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
        world.go_on()
        for task in world.wanted(last_status="RUNNING") if world.check else ():
            world.change(task, health_status="HEALTHY")
        before = world.record, set(world.tasks)
        due = [*lifecycle.moments(world.record), world.record.primary.throttle.until]
        world.pass_time(max(61, max(due) - world.now))
        baking = world.record.primary.alarms
        if baking is not None and world.record.primary.rollout_state == IN_PROGRESS:
            world.pass_time(ALARM.span_s)
        protected = any(task.protected_until > world.now for task in world.wanted())
        if (world.record, set(world.tasks)) == before and not protected:
            return
