"""The step of a service with task sets: random histories converge, and each task set only has its own tasks."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.services import task_sets
from agent.controlplane.services.record import COMPLETED, DRAINING, EXTERNAL, TaskSetRecord
from tests.unit.controlplane.services.conftest import World, deployment, service

ACTIONS = (
    *("create", "create", "scale", "set scale", "set scale", "delete", "run", "run", "exit"),
    *("end stopping", "lose", "find", "drain", "full", "room", "second", "minute", "hour"),
)


def a_set(number: int, percent: float) -> TaskSetRecord:
    one = deployment(number, rollout_state=COMPLETED)
    return TaskSetRecord(deployment=one, scale_percent=percent)


class Outside(World):
    """A service whose task sets a test creates, scales and deletes."""

    def __init__(self, desired: int) -> None:
        super().__init__(service(desired, deployments=[], controller=EXTERNAL))
        self.number = 0

    def settle(self, most: int = 200) -> None:
        for _ in range(most):
            plan, launches = task_sets.step(self.record, self.seen, self.now)
            if plan.service is not self.record:
                self.act(plan)
                continue
            assert (plan.events, plan.stops, plan.counted) == ((), (), ())
            before = len(self.tasks)
            for launch in launches:
                self._start(launch)
            if len(self.tasks) == before:
                return
        raise AssertionError("steps never end")

    def _start(self, launch: task_sets.Launch) -> None:
        known = set(self.tasks)
        super().launch(launch.plan)
        for name in self.tasks.keys() - known:
            self.change(self.tasks[name], started_by=launch.plan.service.primary.id)

    def plan(self) -> Any:
        return task_sets.step(self.record, self.seen, self.now)[0]

    def do(self, action: str, choice: int) -> None:
        match action:
            case "create" | "scale" | "set scale" | "delete":
                self._by_an_operator(action, choice)
            case "run":
                self.run()
            case "exit":
                tasks = [t for t in self.tasks.values() if t.last_status != "STOPPED"]
                self.end(*tasks[:1])
            case "end stopping":
                self.end_stopping()
            case "lose" | "find" | "drain":
                getattr(self, action)(f"host-{choice % 3}")
            case "full" | "room":
                self.has_room = action == "room"
            case "second" | "minute" | "hour":
                self.pass_time({"second": 1, "minute": 60, "hour": 3600}[action])

    def _by_an_operator(self, action: str, choice: int) -> None:
        sets = self.record.task_sets
        match action:
            case "create" if len(sets) < 5:
                self.number += 1
                new = a_set(self.number, 10.0 * (choice % 11))
                self.record = replace(self.record, task_sets=[*sets, new])
            case "scale":
                self.record = replace(self.record, desired_count=choice % 7)
            case "set scale" if sets:
                self._change(choice, scale_percent=float(choice * 5))
            case "delete" if sets:
                self._change(choice, status=DRAINING, scale_percent=0.0)

    def _change(self, choice: int, **fields: Any) -> None:
        sets = list(self.record.task_sets)
        number = choice % len(sets)
        if sets[number].status != DRAINING:
            sets[number] = replace(sets[number], **fields)
        self.record = replace(self.record, task_sets=sets)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    desired=st.integers(0, 6),
    history=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20)), max_size=30),
)
def test_every_history_of_task_sets_converges(desired: int, history: list[tuple[str, int]]) -> None:
    world = Outside(desired)
    world.settle()
    for action, choice in history:
        world.do(action, choice)
        world.settle()
        ids = {one.id for one in world.record.task_sets}
        assert {task.started_by for task in world.wanted()} <= ids
    world.has_room = True
    for host in list(world.hosts):
        world.hosts[host] = type(world.hosts[host])(host)
    for _ in range(10):
        world.end_stopping()
        world.run()
        world.pass_time(60)
    counted = Counter(task.started_by for task in world.wanted())
    for one in world.record.task_sets:
        assert one.status != DRAINING
        assert counted[one.id] == one.desired_count(world.record)
        assert one.is_steady(world.record)
    assert counted.total() == sum(one.desired_count(world.record) for one in world.record.task_sets)


def test_the_share_of_a_task_set_is_rounded_up() -> None:
    shares = {
        percent: a_set(1, percent).desired_count(service(10))
        for percent in (0.0, 0.1, 10.0, 10.1, 33.3, 99.9, 100.0)
    }
    assert shares == {0.0: 0, 0.1: 1, 10.0: 1, 10.1: 2, 33.3: 4, 99.9: 10, 100.0: 10}


def test_tasks_of_a_task_set_that_is_gone_are_stopped_and_counted() -> None:
    world = Outside(2)
    world.record = replace(world.record, task_sets=[a_set(1, 100.0)])
    world.settle()
    world.run()
    world.record = replace(world.record, task_sets=[])
    world.settle()
    assert world.wanted() == []
    world.end_stopping()
    world.settle()
    assert world.tasks == {}
