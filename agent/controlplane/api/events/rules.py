"""PutRule, DescribeRule, ListRules, EnableRule, DisableRule, DeleteRule."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.events import stored
from agent.controlplane.api.events.errors import ValidationException
from agent.controlplane.api.scheduler import requests
from agent.controlplane.schedules import due, expressions
from agent.controlplane.schedules.record import (
    DISABLED,
    ENABLED,
    RULES,
    ScheduleRecord,
    rule_key,
)
from agent.controlplane.store.contract import Delete, Put, as_read, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.controlplane.parts import Handlers, Parts

_NO_PATTERN: Final = "EventPattern is not supported by this control endpoint: it has rules with a ScheduleExpression alone."


async def put_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a rule, or replace all of one but its targets and tags."""
    name = stored.name(parts, request)
    if "EventPattern" in request:
        raise ValidationException(_NO_PATTERN)
    if not request.get("ScheduleExpression"):
        raise ValidationException("Parameter(s) ScheduleExpression must be specified.")
    state = request.get("State", ENABLED)
    if state not in (ENABLED, DISABLED):
        raise ValidationException(f"The State {state} is not supported by this control endpoint.")
    tags = requests.with_tags({}, requests.tags(request.get("Tags", ())), stored.WHAT)
    await asyncio.to_thread(expressions.zone, stored.ZONE)
    tries = access.ConflictRetries(rule_key(name))
    while True:
        kv = await parts.store.get(rule_key(name))
        known = None if kv is None else access.read(ScheduleRecord, kv)
        now = parts.clock()
        record = due.begun(
            ScheduleRecord(
                name=name,
                arn=parts.names.rule(name),
                expression=request["ScheduleExpression"],
                zone=stored.ZONE,
                state=state,
                description=request.get("Description", ""),
                role=request.get("RoleArn", ""),
                tags=tags if known is None else known.record.tags,
                targets=[] if known is None else known.record.targets,
                created_at=now if known is None else known.record.created_at,
                changed_at=now,
            ),
            now,
        )
        put = Put(record.key, records.encode(record))
        if (await parts.store.txn([as_read(record.key, kv)], [put])).succeeded:
            return {"RuleArn": record.arn}
        await tries.again()


async def describe_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a rule."""
    record = await stored.find(parts, stored.name(parts, request))
    return {**_shown(record), "CreatedBy": parts.names.account}


async def list_rules(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of rules by name."""
    stored.expect_bus(parts, request)
    prefix = request.get("NamePrefix", "")

    async def every(after: str | None) -> AsyncIterator[ScheduleRecord]:
        async for _, record in access.scan(parts.store, ScheduleRecord, RULES, start_after=after):
            yield record

    found, token = await requests.page(
        "ListRules",
        request,
        filters=("NamePrefix",),
        every=every,
        is_wanted=lambda record: record.name.startswith(prefix),
        size_member="Limit",
    )
    return {"Rules": [_shown(record) for record in found], "NextToken": token}


async def enable_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Have a rule run from now on; one that is enabled is left alone."""
    return await _turn(parts, request, ENABLED)


async def disable_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Have a rule run no more; what could not be started yet is not started."""
    return await _turn(parts, request, DISABLED)


async def delete_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a rule without targets; one that does not exist is not an error, as on AWS."""
    name = stored.name(parts, request)
    tries = access.ConflictRetries(rule_key(name))
    while True:
        found = await access.find(parts.store, ScheduleRecord, rule_key(name))
        if found is None:
            return {}
        if found.record.targets:
            raise ValidationException("Rule can't be deleted since it has targets.")
        if (await parts.store.txn([unchanged(found.kv)], [Delete(found.kv.key)])).succeeded:
            return {}
        await tries.again()


async def _turn(parts: Parts, request: dict[str, Any], state: str) -> dict[str, Any]:
    now = parts.clock()

    def turned(record: ScheduleRecord) -> ScheduleRecord:
        if record.state == state:
            return record
        return due.begun(replace(record, state=state, changed_at=now), now)

    name = stored.name(parts, request)
    await asyncio.to_thread(expressions.zone, stored.ZONE)
    await stored.change(parts, name, turned)
    return {}


def _shown(record: ScheduleRecord) -> dict[str, Any]:
    return {
        "Name": record.name,
        "Arn": record.arn,
        "ScheduleExpression": record.expression,
        "State": record.state,
        "Description": record.description or None,
        "RoleArn": record.role or None,
        "EventBusName": stored.BUS,
    }


HANDLERS: Handlers = {
    "PutRule": put_rule,
    "DescribeRule": describe_rule,
    "ListRules": list_rules,
    "EnableRule": enable_rule,
    "DisableRule": disable_rule,
    "DeleteRule": delete_rule,
}
