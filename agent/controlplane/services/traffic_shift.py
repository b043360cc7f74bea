"""Which target groups the listener rules of a service forward to while it is rolled out. Pure.

A load balancer with ``advancedConfiguration`` has two target groups. The tasks of a deployment are targets of one of
them, those of the deployment that it replaces of the other one, and they change places with each deployment. Traffic
is shifted by the weights of the rules, which are written with the record of the service in one transaction:

- TEST_TRAFFIC_SHIFT gives the test rule to the new tasks, PRODUCTION_TRAFFIC_SHIFT the production rule, all at once
  or step by step.
- A rollback, and a deployment that begins before another one is over, give both back to the old tasks before
  any of the others is stopped.

At all other times the rules are whoever's who changes them: an operator may show a page of his own.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from agent.controlplane.loadbalancing import forwarding
from agent.controlplane.loadbalancing.balancer_records import FORWARD, ActionRecord, WeightedGroup
from agent.controlplane.services import rollout
from agent.controlplane.services.record import FAILED, IN_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.loadbalancing.balancer_records import ListenerRecord, RuleRecord
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord

    Listeners = Mapping[str, Found[ListenerRecord]]
    """By the ARNs of their rules."""

_GROUPS_MOST = 5
"""Of one rule."""


class Goal(NamedTuple):
    """How a rule is to forward."""

    rule: str
    to: str
    """ARN of the target group that gets ``percent``."""
    rest: str
    """ARN of the one that gets the others."""
    percent: float


@dataclass(frozen=True, slots=True)
class Shift:
    """A listener whose rules get other weights."""

    key: str
    revision: int
    """Of the listener as it was planned from."""
    listener: ListenerRecord
    goals: tuple[Goal, ...]
    """What changes."""
    added: frozenset[str]
    """ARNs of the target groups that it did not name before."""


@dataclass(frozen=True, slots=True)
class Shifts:
    """What there is to do about rules."""

    changes: tuple[Shift, ...] = ()
    problem: str = ""
    """Why one of the rules cannot be changed, for an event."""

    @property
    def is_done(self) -> bool:
        """Whether the traffic is where it should be now."""
        return not self.changes and not self.problem


def rules_of(service: ServiceRecord) -> set[str]:
    """Return the ARNs of the rules that the primary deployment may change."""
    return {
        arn
        for balancer in (service.primary.load_balancers if service.deployments else ())
        for arn in _rules(balancer.get("advancedConfiguration") or {})
    }


def groups_of_new(service: ServiceRecord) -> list[str]:
    """Return the target groups of a primary deployment that is new, one for each of its load balancers.

    With stages, the other one than that of the tasks that serve; if it is rolling, the same.
    """
    new, blue = service.primary, rollout.rollback_target(service)
    before = blue or next(iter(service.deployments[1:]), None)
    taken = {each["targetGroupArn"] for each in before.used_balancers} if before else set()
    is_beside = blue is not None and new.lifecycle is not None
    chosen = []
    for balancer in new.load_balancers:
        first, second = pair(balancer)
        serving = next((arn for arn in (first, second) if arn in taken), None)
        if serving is None:
            chosen.append(first)
        elif is_beside:
            chosen.append(second if serving == first else first)
        else:
            chosen.append(serving)
    return chosen


def idle(service: ServiceRecord) -> frozenset[str]:
    """Return the ids of the deployments whose tasks get no traffic: others must not be stopped because of them.

    They are known once the traffic of the primary deployment is where its own tasks are; while two deployments
    have all their tasks, each of them keeps enough by itself.
    """
    primary = service.primary
    blue = rollout.rollback_target(service)
    known = primary.lifecycle
    is_staged = known is not None and known.stage != "CLEAN_UP"
    if primary.rollout_state == FAILED or (
        primary.rollout_state == IN_PROGRESS and is_staged and blue is not None
    ):
        return frozenset()
    pairs = zip(primary.load_balancers, primary.used_balancers, strict=True)
    rests = {
        arn
        for balancer, used in pairs
        if balancer.get("advancedConfiguration")
        for arn in pair(balancer)
        if arn != used["targetGroupArn"]
    }
    others = service.deployments[1:]
    return frozenset(one.id for one in others if any(_uses(one, arn) for arn in rests))


def decide(service: ServiceRecord, listeners: Listeners) -> Shifts:
    """Return what to change so that traffic is where the primary deployment wants it now."""
    found: dict[str, ListenerRecord] = {}
    before: dict[str, Found[ListenerRecord]] = {}
    goals: dict[str, list[Goal]] = {}
    problem = ""
    for goal in _goals(service):
        known = listeners.get(goal.rule)
        listener = found.get(known.kv.key, known.record) if known is not None else None
        rule = forwarding.find_rule(listener, goal.rule) if listener is not None else None
        if known is None or listener is None or rule is None:
            problem = f"(rule {goal.rule}) does not exist any more"
        elif rule.action.kind != FORWARD:
            problem = f"(rule {goal.rule}) does not forward to target groups"
        elif not _is_met(rule, goal):
            found[known.kv.key] = forwarding.with_rule(listener, _with_weights(rule, goal))
            before[known.kv.key] = known
            goals.setdefault(known.kv.key, []).append(goal)
    return Shifts(
        tuple(
            Shift(
                key,
                before[key].kv.mod_revision,
                listener,
                tuple(goals[key]),
                frozenset(
                    forwarding.groups_of(listener) - forwarding.groups_of(before[key].record)
                ),
            )
            for key, listener in found.items()
        ),
        problem,
    )


def _goals(service: ServiceRecord) -> Iterator[Goal]:
    primary = service.primary
    if service.is_external or primary.rollout_state != IN_PROGRESS:
        return
    known = primary.lifecycle
    blue = rollout.rollback_target(service)
    for balancer, used in zip(primary.load_balancers, primary.used_balancers, strict=True):
        advanced = balancer.get("advancedConfiguration") or {}
        if not advanced:
            continue
        to, (first, second) = used["targetGroupArn"], pair(balancer)
        rest = second if to == first else first
        stage = known.stage if known is not None else ""
        test = advanced.get("testListenerRule") or ""
        if known is None or stage == "RECONCILE_SERVICE":
            if not _are_elsewhere(service, rest):
                continue
            is_beside = known is not None and blue is not None and _uses(blue, rest)
            serving, other = (rest, to) if is_beside else (to, rest)
            yield from (Goal(rule, serving, other, 100.0) for rule in _rules(advanced))
        elif stage == "TEST_TRAFFIC_SHIFT" and test:
            yield Goal(test, to, rest, 100.0)
        elif stage == "PRODUCTION_TRAFFIC_SHIFT":
            yield Goal(advanced["productionListenerRule"], to, rest, known.percent)


def _are_elsewhere(service: ServiceRecord, group: str) -> bool:
    """Return whether another deployment has its tasks in a target group."""
    return any(_uses(one, group) for one in service.deployments[1:])


def _uses(one: DeploymentRecord, group: str) -> bool:
    return any(each["targetGroupArn"] == group for each in one.used_balancers)


def _rules(advanced: Mapping[str, str]) -> list[str]:
    named = (advanced.get(name) for name in ("productionListenerRule", "testListenerRule"))
    return [arn for arn in named if arn]


def pair(balancer: Mapping[str, object]) -> tuple[str, str]:
    """Return both target groups; twice the same one without an alternate one."""
    first = str(balancer.get("targetGroupArn") or "")
    advanced = balancer.get("advancedConfiguration") or {}
    other = advanced.get("alternateTargetGroupArn") if isinstance(advanced, dict) else None
    return first, str(other or first)


def _is_met(rule: RuleRecord, goal: Goal) -> bool:
    weights = {each.target_group_arn: each.weight for each in rule.action.groups}
    total = sum(weights.values())
    if not total:
        return False
    wanted = {goal.to: goal.percent, goal.rest: 100.0 - goal.percent}
    return all(
        Fraction(100 * weight, total) == Fraction(f"{wanted.get(arn, 0.0):.1f}")
        for arn, weight in {goal.to: 0, **weights}.items()
    )


def _with_weights(rule: RuleRecord, goal: Goal) -> RuleRecord:
    """Return the rule as the goal has it; other target groups that it names get nothing."""
    scale = 1 if goal.percent == int(goal.percent) else 10
    to = round(goal.percent * scale)
    weights = {goal.to: to, goal.rest: 100 * scale - to}
    known = [each.target_group_arn for each in rule.action.groups]
    kept = [arn for arn in known if arn not in weights][: _GROUPS_MOST - len(weights)]
    ordered = [arn for arn in known if arn in weights or arn in kept]
    ordered += [arn for arn in weights if arn not in ordered]
    groups = [WeightedGroup(target_group_arn=arn, weight=weights.get(arn, 0)) for arn in ordered]
    return replace(rule, action=ActionRecord(kind=FORWARD, groups=groups))
