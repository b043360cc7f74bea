"""Tasks that a host still has, but that were assigned to another instance than it is now.

A host that could not be recognized registers as a new instance, and its old tasks keep running. The
host reports them, and control answers for each task: it now belongs to this instance, or it is not
wanted and the agent stops it, or it is left alone. A task only moves to a host that got it, which the
ARNs of the containers in the payload prove, and never away from a connected agent. None is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.agents import report_rules, reports
from agent.controlplane.names import parse_arn
from agent.controlplane.records import AssignRecord, TaskRecord
from agent.controlplane.scheduler.fleet import LENT
from agent.controlplane.store.contract import Delete, Put, absent, present, unchanged
from agent.errors import BAD_JSON, PayloadError
from agent.model import payload as payload_model
from agent.model.wire import ELSEWHERE, ChangeAnswer, ChangesAnswer

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.history import History
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord
    from agent.model.wire import Held, HeldTask

_ID_SHOWN = 256

_log = structlog.get_logger(__name__)


async def take(
    parts: Parts, history: History, instance: InstanceRecord, told: Held
) -> ChangesAnswer:
    """Decide about each reported task and answer; safe to repeat.

    Raises:
        StoreFailure: a part may not have been done; repeating the call is safe.
    """
    # A task that the store may have lost could still be wanted.
    forgets = instance.history not in ("", history.current)
    answers = [await _take(parts, instance, task, forgets=forgets) for task in told.tasks]
    return ChangesAnswer(results=answers)


async def _take(
    parts: Parts, instance: InstanceRecord, told: HeldTask, *, forgets: bool
) -> ChangeAnswer:
    change = told.change
    try:
        report_rules.check(change)
    except ValueError as error:
        return _answer(told, ELSEWHERE, str(error)[:300])
    found = await _find(parts, change.task_arn)
    unwanted = _unwanted(found.record if found is not None else None)
    if found is None or unwanted:
        return _answer(told, ELSEWHERE if found is None and forgets else "rejected", unwanted)
    if found.record.instance_id != instance.id:
        moved = await _move(parts, instance, found, told)
        if not moved:
            return _answer(told, ELSEWHERE, f"the task belongs to {found.record.instance_arn}")
        _log.warning(
            "task continues on the instance that has it",
            task=change.task_arn,
            instance=instance.arn,
            was=found.record.instance_arn,
        )
    if len(told.payload) > 2:
        return (await reports.apply(parts, instance, [change])).results[0]
    return _answer(told, "ok", "")


def _unwanted(task: TaskRecord | None) -> str:
    """Return why a task is not wanted; empty if it is. Pure."""
    if task is None:
        return "control does not know this task"
    if task.last_status == "STOPPED":
        return "the task has stopped"
    # A task that should stop is stopped by its order, if it belongs to this instance.
    return ""


async def _find(parts: Parts, arn: str) -> Found[TaskRecord] | None:
    parsed = parse_arn(arn)
    if parsed is None or parsed.kind != "task" or len(parsed.path) != 2:
        return None
    found = await access.find(parts.store, TaskRecord, records.task_key(*parsed.path))
    return found if found is not None and found.record.arn == arn else None


async def _move(
    parts: Parts, instance: InstanceRecord, found: Found[TaskRecord], told: HeldTask
) -> bool:
    """Assign a task to another instance; False if it is not proved, or must not move."""
    task = found.record
    may_have = task.cluster == instance.cluster or LENT in instance.attributes
    if not may_have or not _is_proved(task, told):
        return False
    moved = replace(
        task, instance_id=instance.id, instance_arn=instance.arn, version=task.version + 1
    )
    result = await parts.store.txn(
        [
            unchanged(found.kv),
            absent(records.alive_key(task.instance_id)),
            present(records.instance_key(instance.cluster, instance.id)),
        ],
        [
            Put(found.kv.key, records.encode(moved)),
            Delete(records.assignment_key(task.instance_id, task.id)),
            Put(
                records.assignment_key(instance.id, task.id), records.encode(AssignRecord.of(moved))
            ),
            Put(records.placement_key(instance.id), b""),
        ],
        urgent=True,
    )
    return result.succeeded


def _is_proved(task: TaskRecord, told: HeldTask) -> bool:
    """Return whether a payload is the one that was sent for the task. Pure."""
    if len(told.payload) > report_rules.PAYLOAD_MOST_BYTES:
        return False
    try:
        payload = payload_model.decode(told.payload)
    except (*BAD_JSON, PayloadError):
        return False
    said = {container.container_arn for container in payload.containers}
    known = {container.arn for container in task.containers}
    return payload.arn == task.arn and bool(known) and said == known


def _answer(told: HeldTask, status: str, message: str) -> ChangeAnswer:
    return ChangeAnswer(id=told.change.id[:_ID_SHOWN], status=status, message=message)
