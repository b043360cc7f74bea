"""CreateSchedule, GetSchedule, UpdateSchedule, DeleteSchedule, ListSchedules."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.scheduler import deletions, groups, requests
from agent.controlplane.api.scheduler.errors import (
    ConflictException,
    ResourceNotFoundException,
    ValidationException,
)
from agent.controlplane.schedules import due, expressions, targets
from agent.controlplane.schedules.record import (
    DEFAULT_GROUP,
    ENABLED,
    SCHEDULES,
    ScheduleRecord,
    group_key,
    schedule_key,
)
from agent.controlplane.store.contract import Delete, Put, absent, present, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.store.contract import Compare

_WINDOW_MOST: Final = 1440


async def create_schedule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a schedule; a call that is repeated with its token changes nothing."""
    record = await _record(parts, request)
    group = await groups.find(parts, record.group)
    conditions: list[Compare] = [absent(record.key)]
    if group.name != DEFAULT_GROUP:
        conditions.append(present(group_key(group.name)))
    now = parts.clock()
    made = replace(due.begun(record, now), created_at=now, changed_at=now)
    if (await parts.store.txn(conditions, [Put(made.key, records.encode(made))])).succeeded:
        return {"ScheduleArn": made.arn}
    known = await access.find(parts.store, ScheduleRecord, made.key)
    if known is None:
        raise ResourceNotFoundException(f"Schedule group {group.name} does not exist.")
    same = (known.record.client_token, known.record.fingerprint)
    if not made.client_token or same != (made.client_token, made.fingerprint):
        raise ConflictException(f"Schedule {made.name} already exists.")
    return {"ScheduleArn": made.arn}


async def update_schedule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Replace a schedule as a whole: what the call does not name gets its default, as on AWS.

    A call that is repeated with its token changes nothing: what is left of a run goes on.
    """
    record = await _record(parts, request)
    tries = access.ConflictRetries(record.key)
    while True:
        known = await _find(parts, record.group, record.name)
        if record.client_token and known.record.update_token == record.client_token:
            if known.record.update_fingerprint != record.fingerprint:
                raise ConflictException("The ClientToken was used for another UpdateSchedule call.")
            return {"ScheduleArn": record.arn}
        now = parts.clock()
        changed = replace(
            due.begun(record, now),
            client_token=known.record.client_token,
            fingerprint=known.record.fingerprint,
            update_token=record.client_token,
            update_fingerprint=record.fingerprint,
            created_at=known.record.created_at,
            changed_at=now,
            last_due=known.record.last_due,
        )
        put = Put(record.key, records.encode(changed))
        if (await parts.store.txn([unchanged(known.kv)], [put])).succeeded:
            return {"ScheduleArn": record.arn}
        await tries.again()


async def get_schedule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a schedule."""
    name, group = requests.name(request, "Name"), _group(request)
    record = (await _find(parts, group, name)).record
    window: dict[str, Any] = {"Mode": "OFF"}
    if record.window_s:
        window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": int(record.window_s // 60)}
    return {
        "Arn": record.arn,
        "GroupName": record.group,
        "Name": record.name,
        "ScheduleExpression": record.expression,
        "ScheduleExpressionTimezone": record.zone,
        "StartDate": record.start or None,
        "EndDate": record.end or None,
        "Description": record.description or None,
        "State": record.state,
        "Target": record.targets[0].shown,
        "FlexibleTimeWindow": window,
        "ActionAfterCompletion": "DELETE" if record.deletes_itself else "NONE",
        "CreationDate": record.created_at,
        "LastModificationDate": record.changed_at,
    }


async def delete_schedule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a schedule; what runs, runs on. A call that is repeated with its token changes nothing."""
    name, group = requests.name(request, "Name"), _group(request)
    arn, token = parts.names.schedule(group, name), requests.client_token(request)
    if not await deletions.was_done(parts, arn, token):
        known = await _find(parts, group, name)
        then = [Delete(known.kv.key), *deletions.noted(parts, arn, token)]
        await parts.store.txn([], then)
    return {}


async def list_schedules(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of schedules, of one group or of all."""
    prefix, state = request.get("NamePrefix", ""), request.get("State")
    under = SCHEDULES
    if "GroupName" in request:
        under = schedule_key((await groups.find(parts, _group(request))).name, "")

    async def every(after: str | None) -> AsyncIterator[ScheduleRecord]:
        async for _, record in access.scan(parts.store, ScheduleRecord, under, start_after=after):
            yield record

    found, token = await requests.page(
        "ListSchedules",
        request,
        filters=("GroupName", "NamePrefix", "State"),
        every=every,
        is_wanted=lambda record: record.name.startswith(prefix) and state in (None, record.state),
    )
    shown = [
        {
            "Arn": record.arn,
            "Name": record.name,
            "GroupName": record.group,
            "State": record.state,
            "CreationDate": record.created_at,
            "LastModificationDate": record.changed_at,
            "Target": {"Arn": record.targets[0].shown["Arn"]},
        }
        for record in found
    ]
    return {"Schedules": shown, "NextToken": token}


def _group(request: dict[str, Any]) -> str:
    return requests.name({"GroupName": request.get("GroupName", DEFAULT_GROUP)}, "GroupName")


async def _find(parts: Parts, group: str, name: str) -> Found[ScheduleRecord]:
    found = await access.find(parts.store, ScheduleRecord, schedule_key(group, name))
    if found is None:
        raise ResourceNotFoundException(f"Schedule {name} does not exist.")
    return found


async def _record(parts: Parts, request: dict[str, Any]) -> ScheduleRecord:
    """Return what a request describes, without the times at which it is due; raises ``ApiError``."""
    name, group = requests.name(request, "Name"), _group(request)
    if "KmsKeyArn" in request:
        raise ValidationException("KmsKeyArn is not supported by this control endpoint.")
    # Times of runs are whole seconds; so are those of AWS.
    start, end = math.ceil(request.get("StartDate", 0)), math.ceil(request.get("EndDate", 0))
    if end and end <= max(start, parts.clock()):
        raise ValidationException("The EndDate must be later than the StartDate and than now.")
    where = request.get("ScheduleExpressionTimezone", "UTC")
    await asyncio.to_thread(expressions.zone, where)
    return ScheduleRecord(
        name=name,
        arn=parts.names.schedule(group, name),
        group=group,
        expression=request["ScheduleExpression"],
        zone=where,
        state=request.get("State", ENABLED),
        description=request.get("Description", ""),
        targets=[await targets.read(parts, request["Target"])],
        start=float(start),
        end=float(end),
        window_s=_window_s(request["FlexibleTimeWindow"]),
        deletes_itself=request.get("ActionAfterCompletion") == "DELETE",
        client_token=requests.client_token(request),
        fingerprint=requests.fingerprint(request),
    )


def _window_s(given: dict[str, Any]) -> float:
    minutes = given.get("MaximumWindowInMinutes")
    if given["Mode"] == "OFF":
        if minutes is not None:
            raise ValidationException("MaximumWindowInMinutes must not be given with the mode OFF.")
        return 0.0
    if minutes is None or not 1 <= minutes <= _WINDOW_MOST:
        raise ValidationException(
            f"MaximumWindowInMinutes must be between 1 and {_WINDOW_MOST} with the mode FLEXIBLE."
        )
    return 60.0 * float(minutes)


HANDLERS: Handlers = {
    "CreateSchedule": create_schedule,
    "UpdateSchedule": update_schedule,
    "GetSchedule": get_schedule,
    "DeleteSchedule": delete_schedule,
    "ListSchedules": list_schedules,
}
