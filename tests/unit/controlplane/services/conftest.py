"""A world for the pure step: a service, hosts and tasks that do what a test says, and a clock."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane.services.acts import reason
from agent.controlplane.services.observed import (
    Observed,
    SeenAlarm,
    SeenAlarms,
    SeenContainer,
    SeenHost,
    SeenTask,
)
from agent.controlplane.services.record import (
    AlarmWatch,
    DeploymentRecord,
    Lifecycle,
    ServiceRecord,
)
from agent.controlplane.services.step import step
from agent.controlplane.tasks import changes as task_changes

if TYPE_CHECKING:
    from agent.controlplane.services.plan import Plan

START = 1_700_000_000.0


def deployment(number: int, **fields: Any) -> DeploymentRecord:
    """Deployment ``ecs-svc/<number>`` of revision ``number``."""
    values: dict[str, Any] = {
        "id": f"ecs-svc/{number}",
        "task_definition_arn": f"web:{number}",
        "created_at": START,
    }
    return DeploymentRecord(**(values | fields))


def service(
    desired: int, *, least: int = 100, most: int = 200, breaker: Any = None, **fields: Any
) -> ServiceRecord:
    """A service with one new deployment."""
    values: dict[str, Any] = {
        "name": "web",
        "arn": "arn",
        "cluster": "default",
        "desired_count": desired,
        "deployments": [deployment(1)],
        "deployment_configuration": {
            "minimumHealthyPercent": least,
            "maximumPercent": most,
            "deploymentCircuitBreaker": breaker or {},
        },
    }
    return ServiceRecord(**(values | fields))


class World:
    """Carries out plans at once, like a perfect executor; tasks only move when a test moves them."""

    def __init__(self, record: ServiceRecord, hosts: int = 3, *, check: bool = False) -> None:
        self.record = record
        self.now = START
        self.hosts = {f"host-{n}": SeenHost(f"host-{n}", takes_daemon=True) for n in range(hosts)}
        self.tasks: dict[str, SeenTask] = {}
        self.events: list[str] = []
        self.check = check
        self.has_room = True
        self.started = 0
        self.stages: Lifecycle | None = None
        """What new deployments begin with; None for rolling ones."""
        self.watch: AlarmWatch | None = None
        """The alarms that new deployments watch."""
        self.alarms: dict[str, SeenAlarm] = {}
        """As they are now."""
        self.looked_s_ago = 0.0
        """How old the figures of alarms are."""
        self._ids = itertools.count(1)
        self._places = itertools.count()

    @property
    def seen(self) -> Observed:
        alarms = SeenAlarms(self.now - self.looked_s_ago, dict(self.alarms))
        return Observed(dict(self.tasks), dict(self.hosts), alarms=alarms)

    def plan(self) -> Plan:
        return step(self.record, self.seen, self.now)

    def act(self, plan: Plan) -> None:
        """Carry out one plan."""
        self.record = plan.service
        self.events += plan.events
        for task_id in plan.counted:
            self.tasks[task_id] = replace(self.tasks[task_id], counted=True)
        for stop in plan.stops:
            self.tasks[stop.task.id] = replace(
                self.tasks[stop.task.id],
                desired_status="STOPPED",
                stop_code="ServiceSchedulerInitiated",
                stopped_reason=reason(self.record, stop),
            )
        self.tasks = {i: t for i, t in self.tasks.items() if not t.counted}

    def launch(self, plan: Plan) -> None:
        """Start what a plan wants to start."""
        active = [host.id for host in self.hosts.values() if self.may_place(host)]
        places = plan.hosts or tuple(
            active[next(self._places) % len(active)] for _ in range(plan.start if active else 0)
        )
        for place in places:
            task_id = f"task-{next(self._ids):04d}"
            self.started += 1
            self.tasks[task_id] = SeenTask(
                id=task_id,
                group=self.record.group,
                started_by=plan.deployment.id,
                instance_id=place,
                containers=[SeenContainer(health_check=self.check)],
                created_at=self.now,
            )

    def may_place(self, host: SeenHost) -> bool:
        return self.has_room and host.is_active and host.lost_since is None

    def settle(self, most: int = 200) -> None:
        """Step until nothing is left to do now."""
        for _ in range(most):
            plan = self.plan()
            if plan.service is not self.record:
                self.act(plan)
                continue
            assert not plan.events
            assert not plan.stops
            assert not plan.counted
            before = len(self.tasks)
            self.launch(plan)
            if len(self.tasks) == before:
                return
        raise AssertionError("steps never end")

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with a step whenever one is due."""
        end = self.now + seconds
        while True:
            due = self.plan().wake_at
            if due is None or due > end:
                break
            assert due > self.now
            self.now = due
            self.settle()
        self.now = end
        self.settle()

    def wanted(self, **fields: Any) -> list[SeenTask]:
        """The tasks that are not being stopped and have these fields."""
        return [
            task
            for task in self.tasks.values()
            if task.is_wanted and all(getattr(task, n) == v for n, v in fields.items())
        ]

    def change(self, task: SeenTask, **fields: Any) -> None:
        self.tasks[task.id] = replace(self.tasks[task.id], **fields)

    def run(self, *tasks: SeenTask, health: str = "HEALTHY") -> None:
        """Report tasks as RUNNING, those with a check as healthy."""
        for task in tasks or self.wanted(last_status="PENDING"):
            self.change(
                task,
                last_status="RUNNING",
                ran_at=task.ran_at or self.now,
                health_status=health if self.check else "UNKNOWN",
            )

    def end(self, *tasks: SeenTask, code: str = task_changes.ESSENTIAL_EXITED) -> None:
        """Report tasks as STOPPED."""
        for task in tasks:
            self.change(
                task,
                last_status="STOPPED",
                desired_status="STOPPED",
                settled_at=self.now,
                stop_code=task.stop_code or code,
            )

    def end_stopping(self) -> None:
        """Report every task that was ordered to stop as STOPPED."""
        self.end(
            *[t for t in self.tasks.values() if not t.is_wanted and t.last_status != "STOPPED"]
        )

    def steady(self) -> None:
        """Start everything, let it become healthy, and settle."""
        self.settle()
        self.run()
        self.pass_time(41)
        self.end_stopping()
        self.settle()

    def update(self, number: int, **fields: Any) -> None:
        """Begin a deployment, as UpdateService does."""
        stages = replace(self.stages, since=self.now) if self.stages else None
        watch = self.watch
        if watch is not None:
            already = [name for name in watch.names if self.is_firing(name)]
            watch = replace(watch, since=self.now - self.looked_s_ago, already=already)
        new = deployment(number, created_at=self.now, lifecycle=stages, alarms=watch)
        self.record = replace(self.record, deployments=[new, *self.record.deployments], **fields)

    def is_firing(self, alarm: str) -> bool:
        return alarm in self.alarms and self.alarms[alarm].is_firing

    def lose(self, host: str) -> None:
        self.hosts[host] = SeenHost(host, self.hosts[host].is_active, self.now, takes_daemon=True)

    def find(self, host: str) -> None:
        self.hosts[host] = SeenHost(host, self.hosts[host].is_active, takes_daemon=True)

    def drain(self, host: str) -> None:
        self.hosts[host] = SeenHost(host, False, self.hosts[host].lost_since)


@pytest.fixture
def world() -> World:
    """A REPLICA service of 4 tasks."""
    return World(service(4))
