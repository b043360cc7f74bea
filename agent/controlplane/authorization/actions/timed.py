"""Permissions of EventBridge, EventBridge Scheduler and Application Auto Scaling. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.authorization.actions.ecs import run_later
from agent.controlplane.authorization.actions.rows import (
    Also,
    Asked,
    Passed,
    Resource,
    Resources,
    Row,
    Run,
    given,
    named,
)
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Mapping


def _schedule(asked: Asked) -> list[Resource]:
    group = asked.members.get("GroupName", "default")
    return [asked.names.schedule(group, asked.members["Name"])]


def _schedules(asked: Asked) -> list[Resource]:
    return [asked.names.schedule(asked.members.get("GroupName", "*"), "*")]


def _target_role(asked: Asked) -> list[Passed]:
    role = (asked.members.get("Target") or {}).get("RoleArn")
    return [Passed(role, "scheduler.amazonaws.com")] if role else []


def _target_roles(asked: Asked) -> list[Passed]:
    targets = asked.members.get("Targets", ())
    roles = dict.fromkeys(one["RoleArn"] for one in targets if one.get("RoleArn"))
    return [Passed(role, "events.amazonaws.com") for role in roles]


def _runs(asked: Asked) -> list[Also]:
    """Return what targets need that run tasks; nobody assumes their roles here, so who puts them must be allowed."""
    return [run_later(asked, cluster, run.definition) for cluster, run in _tasks(asked)]


def _definitions(asked: Asked) -> list[Run]:
    return [run for _, run in _tasks(asked)]


def _tasks(asked: Asked) -> list[tuple[str, Run]]:
    """Return the cluster and the run of each target that runs tasks."""
    members = asked.members
    targets = [*members.get("Targets", ()), *([members["Target"]] if "Target" in members else [])]
    return [
        (
            one.get("Arn", ""),
            Run(parameters.get("TaskDefinitionArn", ""), _overrides(one.get("Input"))),
        )
        for one in targets
        if (parameters := one.get("EcsParameters"))
    ]


def _overrides(text: str | None) -> Mapping[str, Any]:
    """Return the overrides that the input of a target is; none if it is none, which is refused afterwards."""
    try:
        found = msgspec.json.decode(text) if text else {}
    except BAD_JSON:
        return {}
    return found if isinstance(found, dict) else {}


def _rule_role(asked: Asked) -> list[Passed]:
    role = asked.members.get("RoleArn")
    return [Passed(role, "events.amazonaws.com")] if role else []


_group: Final = named("scheduler", "schedule-group/", "Name")
_OF_SCHEDULER: Final[Mapping[str, Resources]] = {
    "CreateScheduleGroup": _group,
    "DeleteSchedule": _schedule,
    "DeleteScheduleGroup": _group,
    "GetSchedule": _schedule,
    "GetScheduleGroup": _group,
    "ListScheduleGroups": given(),
    "ListSchedules": _schedules,
    "ListTagsForResource": given("ResourceArn"),
    "TagResource": given("ResourceArn"),
    "UntagResource": given("ResourceArn"),
}
SCHEDULER: Final[Mapping[str, Row]] = {
    **{name: Row(f"scheduler:{name}", found) for name, found in _OF_SCHEDULER.items()},
    **{
        name: Row(
            f"scheduler:{name}", _schedule, passes=_target_role, also=_runs, runs=_definitions
        )
        for name in ("CreateSchedule", "UpdateSchedule")
    },
}

_rule: Final = named("events", "rule/", "Name")
_of_rule: Final = named("events", "rule/", "Rule")
_OF_EVENTS: Final[Mapping[str, Resources]] = {
    "DeleteRule": _rule,
    "DescribeRule": _rule,
    "DisableRule": _rule,
    "EnableRule": _rule,
    "ListRules": given(),
    "ListTagsForResource": given("ResourceARN"),
    "ListTargetsByRule": _of_rule,
    "RemoveTargets": _of_rule,
    "TagResource": given("ResourceARN"),
    "UntagResource": given("ResourceARN"),
}
EVENTS: Final[Mapping[str, Row]] = {
    **{name: Row(f"events:{name}", found) for name, found in _OF_EVENTS.items()},
    "PutRule": Row("events:PutRule", _rule, passes=_rule_role),
    "PutTargets": Row(
        "events:PutTargets", _of_rule, passes=_target_roles, also=_runs, runs=_definitions
    ),
}

_SCALING: Final = "application-autoscaling"
AUTOSCALING: Final[Mapping[str, Row]] = {
    **{
        name: Row(f"{_SCALING}:{name}")
        for name in (
            "DeleteScalingPolicy",
            "DeleteScheduledAction",
            "DeregisterScalableTarget",
            "DescribeScalableTargets",
            "DescribeScalingActivities",
            "DescribeScalingPolicies",
            "DescribeScheduledActions",
            "PutScalingPolicy",
            "PutScheduledAction",
            "RegisterScalableTarget",
        )
    },
    **{
        name: Row(f"{_SCALING}:{name}", given("ResourceARN"))
        for name in ("ListTagsForResource", "TagResource", "UntagResource")
    },
}
