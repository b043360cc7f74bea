"""Alarms on figures of a service: PutMetricAlarm, DescribeAlarms, SetAlarmState, DeleteAlarms, and their tags.

They start step scaling, and make deployments fail that watch them.

The state that DescribeAlarms shows is that of the last minute that is closed (``scaling.alarm``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api import name_pages, tag_lists
from agent.controlplane.api.cloudwatch import dimensions
from agent.controlplane.api.cloudwatch.alarm_rules import read
from agent.controlplane.api.cloudwatch.errors import (
    InvalidFormatFault,
    InvalidNextToken,
    InvalidParameterValueException,
    LimitExceededFault,
    ResourceNotFound,
    ResourceNotFoundException,
)
from agent.controlplane.front.pages import InvalidToken
from agent.controlplane.scaling import alarm_states
from agent.controlplane.scaling.alarm import ALARMS, AlarmRecord, Evaluated, State
from agent.controlplane.scaling.figures import Figures
from agent.controlplane.store.contract import Delete, Put, as_read
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agent.controlplane.parts import Handlers, Parts

ALARMS_MOST: Final = 1000
DESCRIBE_MOST: Final = 100
_ARN: Final = re.compile(r"arn:[a-z-]+:cloudwatch:[a-z0-9-]+:[0-9]{12}:alarm:(.+)", re.DOTALL)


async def put_metric_alarm(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make an alarm, or replace the one of that name; tags are only taken for a new one, as on AWS."""
    alarm = read(request, parts.clock())
    tries = access.ConflictRetries(f"alarm {alarm.name}")
    while True:
        known = await access.find(parts.store, AlarmRecord, alarm.key)
        if known is None and len([one async for one in _every(parts, "")]) >= ALARMS_MOST:
            raise LimitExceededFault(f"There are {ALARMS_MOST} alarms, which is as many as can be.")
        tags = alarm.tags if known is None else known.record.tags
        put = Put(alarm.key, records.encode(replace(alarm, tags=tags)))
        if (
            await parts.store.txn([as_read(alarm.key, known.kv if known else None)], [put])
        ).succeeded:
            return {}
        await tries.again()


async def delete_alarms(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete alarms by name; if one is missing, none is deleted."""
    keys = [f"{ALARMS}{name}" for name in dict.fromkeys(request["AlarmNames"])]
    if len(keys) > DESCRIBE_MOST:
        raise InvalidParameterValueException(
            f"The parameter AlarmNames can have at most {DESCRIBE_MOST} items."
        )
    known = await parts.store.get_many(keys)
    missing = [key for key in keys if key not in known]
    if missing:
        raise ResourceNotFound(f"There is no alarm {missing[0].removeprefix(ALARMS)[:255]}")
    await parts.store.txn([], [Delete(key) for key in keys])
    return {}


async def describe_alarms(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe alarms by name, in pages, with their state at this time."""
    for member in ("ChildrenOfAlarmName", "ParentsOfAlarmName"):
        if member in request:
            raise InvalidParameterValueException(
                f"The parameter {member} is not supported: there are no composite alarms here."
            )
    size = request.get("MaxRecords", 50)
    if not 1 <= size <= DESCRIBE_MOST:
        raise InvalidParameterValueException(f"MaxRecords must be between 1 and {DESCRIBE_MOST}.")
    if "MetricAlarm" not in request.get("AlarmTypes", ["MetricAlarm"]):
        return {"MetricAlarms": [], "CompositeAlarms": []}
    state = request.get("StateValue")
    states: dict[str, Evaluated] = {}

    async def every(after: str) -> AsyncIterator[AlarmRecord]:
        named = [one async for one in _every(parts, after) if _is_named(one, request)]
        if state is not None:
            states.update(await _states(parts, named))
        for one in named:
            yield one

    try:
        found, token = await name_pages.page(
            "DescribeAlarms",
            request,
            filters=("AlarmNames", "AlarmNamePrefix", "ActionPrefix", "StateValue"),
            size=size,
            every=every,
            is_wanted=lambda one: state is None or states[one.name].state.value == state,
            place=lambda one: one.name,
        )
    except InvalidToken:
        raise InvalidNextToken("The parameter NextToken is not valid.") from None
    if state is None:
        states = await _states(parts, found)
    shown = [_shown(parts, one, states[one.name]) for one in found]
    return {"MetricAlarms": shown, "CompositeAlarms": [], "NextToken": token}


async def set_alarm_state(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Give an alarm a state until the next minute is closed, so that it does once what that state does.

    Step scaling needs a figure for it: the last of ``recentDatapoints`` in ``StateReasonData``, as on AWS.
    """
    value = _last_point(request.get("StateReasonData") or "{}")
    until = alarm_states.open_minute(parts.clock())
    name = request["AlarmName"]
    changed = await access.change(
        parts.store,
        AlarmRecord,
        f"{ALARMS}{name}",
        lambda old: replace(
            old,
            set_state=request["StateValue"],
            set_reason=request["StateReason"],
            set_value=value,
            set_until=until,
        ),
    )
    if changed is None:
        raise ResourceNotFound(f"There is no alarm {name}")
    return {}


def _last_point(text: str) -> float | None:
    try:
        data = msgspec.json.decode(text)
    except BAD_JSON:
        raise InvalidFormatFault("StateReasonData is not valid JSON.") from None
    points = data.get("recentDatapoints") if isinstance(data, dict) else None
    last = points[-1] if isinstance(points, list) and points else None
    return float(last) if isinstance(last, int | float) and not isinstance(last, bool) else None


def _is_named(alarm: AlarmRecord, request: Mapping[str, Any]) -> bool:
    """Return whether DescribeAlarms asks for an alarm, whatever its state is."""
    names, action = request.get("AlarmNames"), request.get("ActionPrefix", "")
    return (
        (not names or alarm.name in names)
        and alarm.name.startswith(request.get("AlarmNamePrefix", ""))
        and (not action or any(arn.startswith(action) for arn in alarm.actions))
    )


async def _every(parts: Parts, after: str) -> AsyncIterator[AlarmRecord]:
    start = f"{ALARMS}{after}" if after else None
    async for _, one in access.scan(parts.store, AlarmRecord, ALARMS, start_after=start):
        yield one


async def _states(parts: Parts, alarms: Sequence[AlarmRecord]) -> dict[str, Evaluated]:
    """Return the states of alarms by name; reads each minute once for all of them."""
    if parts.metrics is None:
        return {one.name: Evaluated(State.UNKNOWN) for one in alarms}
    minute = alarm_states.closed_minute(parts.clock())
    return await alarm_states.states(Figures(parts.metrics), alarms, minute)


def _shown(parts: Parts, alarm: AlarmRecord, state: Evaluated) -> dict[str, Any]:
    named = {dimensions.CLUSTER: alarm.cluster, dimensions.SERVICE: alarm.service}
    return {
        "AlarmName": alarm.name,
        "AlarmArn": parts.names.alarm(alarm.name),
        "AlarmDescription": alarm.description or None,
        "AlarmConfigurationUpdatedTimestamp": alarm.updated_at,
        "ActionsEnabled": alarm.is_enabled,
        "OKActions": [],
        "AlarmActions": alarm.actions,
        "InsufficientDataActions": [],
        "StateValue": state.state.value,
        "StateReason": state.explained(alarm),
        "MetricName": alarm.metric,
        "Namespace": alarm.namespace,
        "Statistic": alarm.statistic,
        "Dimensions": dimensions.shown(named),
        "Period": alarm.period_s,
        "Unit": alarm.unit or None,
        "EvaluationPeriods": alarm.periods,
        "DatapointsToAlarm": alarm.datapoints,
        "Threshold": alarm.threshold,
        "ComparisonOperator": alarm.comparison,
        "TreatMissingData": alarm.treat_missing,
    }


async def list_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the tags of an alarm."""
    found = await access.find(parts.store, AlarmRecord, _key(request["ResourceARN"]))
    if found is None:
        raise _missing(request["ResourceARN"])
    return {"Tags": tag_lists.shown(found.record.tags)}


async def tag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set tags of an alarm."""
    given = request["Tags"]
    await _change_tags(
        parts,
        request,
        lambda old: tag_lists.merged(old, given, invalid=InvalidParameterValueException),
    )
    return {}


async def untag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags of an alarm."""
    gone = frozenset(request["TagKeys"])
    await _change_tags(parts, request, lambda old: tag_lists.without(old, gone))
    return {}


async def _change_tags(
    parts: Parts,
    request: Mapping[str, Any],
    decide: Callable[[Mapping[str, str]], dict[str, str]],
) -> None:
    arn = request["ResourceARN"]
    changed = await access.change(
        parts.store, AlarmRecord, _key(arn), lambda old: replace(old, tags=decide(old.tags))
    )
    if changed is None:
        raise _missing(arn)


def _key(arn: str) -> str:
    match = _ARN.fullmatch(arn)
    if match is None:
        raise _missing(arn)
    return f"{ALARMS}{match[1]}"


def _missing(arn: str) -> ResourceNotFoundException:
    return ResourceNotFoundException(f"There is no alarm {arn[:255]}")


HANDLERS: Handlers = {
    "PutMetricAlarm": put_metric_alarm,
    "DeleteAlarms": delete_alarms,
    "DescribeAlarms": describe_alarms,
    "SetAlarmState": set_alarm_state,
    "ListTagsForResource": list_tags,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
}
