"""Where traffic is to be when a deployment ends badly; whole deployments are in ``api/ecs/test_traffic_shift.py``."""

from __future__ import annotations

from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.access import Found
from agent.controlplane.loadbalancing import naming
from agent.controlplane.loadbalancing.balancer_records import (
    ActionRecord,
    ListenerRecord,
    RuleRecord,
    WeightedGroup,
)
from agent.controlplane.services.balancing import Balanced
from agent.controlplane.services.record import Lifecycle
from agent.controlplane.services.step import step
from agent.controlplane.store.contract import KeyValue
from tests.unit.controlplane.services.conftest import World, deployment, service

if TYPE_CHECKING:
    from agent.controlplane.services.plan import Plan

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
