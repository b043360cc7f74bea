"""Where traffic is to be when a deployment ends badly, and in random histories.

Whole deployments are in ``api/ecs/test_traffic_shift.py``.
"""

from __future__ import annotations

from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.access import Found
from agent.controlplane.loadbalancing import naming
from agent.controlplane.loadbalancing.balancer_records import (
    ActionRecord,
    ListenerRecord,
    RuleRecord,
    WeightedGroup,
)
from agent.controlplane.services import traffic_shift
from agent.controlplane.services.balancing import Balanced
from agent.controlplane.services.record import Lifecycle
from agent.controlplane.services.step import step
from agent.controlplane.store.contract import KeyValue
from tests.unit.controlplane.services.conftest import World, deployment, service
from tests.unit.controlplane.services.test_histories import (
    EXAMPLES,
    SEEDED,
    SEEDS,
    Watched,
    history_of,
    least_healthy,
    live,
)

if TYPE_CHECKING:
    from agent.controlplane.services.observed import Observed, SeenTask
    from agent.controlplane.services.plan import Plan
    from agent.controlplane.services.record import ServiceRecord

LISTENER = "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener/app/web/1/2"
RULE = naming.rule_arn(LISTENER, "3")
BALANCER = {
    "targetGroupArn": "one",
    "advancedConfiguration": {"alternateTargetGroupArn": "other", "productionListenerRule": RULE},
}


def listener(one: int, other: int, third: int | None = None) -> Found[ListenerRecord]:
    weights = {"one": one, "other": other} | ({} if third is None else {"third": third})
    groups = [WeightedGroup(target_group_arn=arn, weight=n) for arn, n in weights.items()]
    rule = RuleRecord(id="3", action=ActionRecord(kind="forward", groups=groups))
    record = ListenerRecord(
        id="2",
        arn=LISTENER,
        load_balancer="web",
        load_balancer_arn="arn",
        protocol="HTTP",
        port=80,
        rules=[rule],
    )
    return Found(KeyValue(naming.listener_key_of(LISTENER), b"", 1, 7, 1), record)


def baking(*, rollback: bool, failed: int = 3) -> World:
    """A service whose new tasks have all traffic, and have failed so often."""
    blue = deployment(1, load_balancers=[BALANCER], was_completed=True, rollout_state="COMPLETED")
    green = deployment(
        2,
        load_balancers=[BALANCER],
        target_groups=["other"],
        failed_tasks=failed,
        lifecycle=Lifecycle(stage="BAKE_TIME", since=0, bake_s=1e12),
    )
    breaker = {"enable": True, "rollback": rollback}
    world = World(service(2, breaker=breaker, deployments=[blue]))
    world.settle()
    world.run()
    world.pass_time(41)
    world.record = replace(world.record, deployments=[green, *world.record.deployments])
    return world


def plan(world: World, known: Found[ListenerRecord]) -> Plan:
    seen = replace_fields(world.seen, balanced=Balanced(listeners={RULE: known}))
    return step(world.record, seen, world.now)


def weights(made: Plan) -> dict[str, int]:
    (shift,) = made.shifts
    assert shift.revision == 7
    return {
        group.target_group_arn: group.weight for group in shift.listener.default_rule.action.groups
    }


def test_the_circuit_breaker_gives_traffic_back_before_it_stops_a_task() -> None:
    world = baking(rollback=True)
    made = plan(world, listener(0, 100))
    assert made.service.primary.id == "ecs-svc/1"
    assert weights(made) == {"one": 100, "other": 0}
    assert not made.stops


def test_without_rollback_traffic_stays_where_it_is() -> None:
    made = plan(baking(rollback=False), listener(0, 100))
    assert made.service.primary.rollout_state == "FAILED"
    assert not made.shifts


def test_other_groups_of_a_rule_are_kept_without_traffic() -> None:
    made = plan(baking(rollback=True), listener(0, 50, 50))
    assert weights(made) == {"one": 100, "other": 0, "third": 0}


def test_nothing_is_changed_while_a_deployment_bakes() -> None:
    assert not plan(baking(rollback=True, failed=0), listener(50, 50)).shifts


class Shifted(Watched):
    """Holds that no task is stopped that the traffic still needs."""

    def __init__(self, desired: int, stages: Lifecycle, **fields: Any) -> None:
        first = deployment(1, load_balancers=[BALANCER])
        super().__init__(service(desired, deployments=[first], **fields))
        self.stages = stages
        self.listener = listener(1, 0)

    @property
    def seen(self) -> Observed:
        balanced = Balanced(listeners={RULE: self.listener})
        return replace_fields(super().seen, balanced=balanced)

    def update(self, number: int, **fields: Any) -> None:
        super().update(number, **fields)
        first, *others = self.record.deployments
        new = replace(first, load_balancers=[BALANCER])
        self.record = replace(self.record, deployments=[new, *others])
        groups = traffic_shift.groups_of_new(self.record)
        new = replace(new, target_groups=groups)
        self.record = replace(self.record, deployments=[new, *others])

    def act(self, plan: Plan) -> None:
        before, least = self._needed(self.record), least_healthy(plan.service)
        super().act(plan)
        for shift in plan.shifts:
            kv = self.listener.kv
            assert shift.revision == kv.mod_revision
            changed = replace(kv, mod_revision=kv.mod_revision + 1)
            self.listener = Found(changed, shift.listener)
        left = [task for task in before if self.tasks[task.id].is_wanted]
        if plan.service.status == "ACTIVE":
            assert len(left) >= min(len(before), least), "tasks are stopped that have the traffic"

    def _hold_minimum(self, record: ServiceRecord, stopped: set[str]) -> None:
        """Nothing: ``act`` holds it of the tasks that have traffic, and others count for nothing."""

    def _needed(self, record: ServiceRecord) -> list[SeenTask]:
        """Return the healthy tasks of the target groups that have traffic."""
        weights = self.listener.record.default_rule.action.groups
        serving = {group.target_group_arn for group in weights if group.weight}
        of = {
            one.id
            for one in record.deployments
            if one.used_balancers[0]["targetGroupArn"] in serving
        }
        return [
            task
            for task in self.wanted()
            if task.started_by in of and not self._is_lost(task) and self._is_healthy(task)
        ]


@settings(
    max_examples=max(1, EXAMPLES // 3),
    deadline=None,
    phases=SEEDED,
    suppress_health_check=list(HealthCheck),
)
@given(
    desired=st.integers(1, 5),
    breaker=st.sampled_from([{}, {"enable": True, "rollback": True}]),
    steps=st.sampled_from([[], [10.0, 100.0], [40.0, 80.0, 100.0]]),
    seed=SEEDS,
    length=st.integers(15, 60),
)
def test_traffic_is_never_where_tasks_are_stopped(
    desired: int, breaker: dict[str, Any], steps: list[float], seed: int, length: int
) -> None:
    stages = Lifecycle(stage="RECONCILE_SERVICE", since=0, bake_s=300, steps=steps, step_bake_s=60)
    world = Shifted(desired, stages, breaker=breaker)
    world.steady()
    live(world, history_of(seed, length))
    (primary,) = world.record.deployments
    (serving,) = [
        group.target_group_arn
        for group in world.listener.record.default_rule.action.groups
        if group.weight
    ]
    assert primary.used_balancers[0]["targetGroupArn"] == serving
