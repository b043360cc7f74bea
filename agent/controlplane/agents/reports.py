"""Reports of agents: each is applied once and in order, even if some are repeated or invalid.

Changes of one task are applied in one transaction, which compares the task's record and starts again
if it has changed meanwhile. Changes of different tasks are applied concurrently. A report of STOPPED
deletes the assignment in the same transaction, which frees the resources of the task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.agents import report_rules
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.bounds import OutOfBounds
from agent.controlplane.names import parse_arn
from agent.controlplane.records import TaskRecord
from agent.controlplane.store.contract import Delete, Op, Put, StoreFailure, unchanged
from agent.controlplane.tasks import changes as task_changes
from agent.errors import BAD_JSON, AgentError
from agent.model import changes as change_model
from agent.model.changes import TaskChange
from agent.model.wire import ChangeAnswer, ChangesAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord

_SIDE_BY_SIDE = 32
_ID_SHOWN = 256


class NoSuchTask(AgentError):
    """A report about a task that control does not know, or that belongs to another instance."""


class _Batch(Struct, frozen=True):
    changes: list[msgspec.Raw]


class _IdOnly(Struct, frozen=True):
    id: str = ""


_batch = msgspec.json.Decoder(_Batch)
_id_only = msgspec.json.Decoder(_IdOnly)


def read(body: bytes) -> list[TaskChange | ChangeAnswer]:
    """Return the changes of a batch; an invalid one becomes a refusal and does not affect others.

    Raises:
        InvalidRequest: the batch as a whole cannot be read.
    """
    try:
        report_rules.look(body)
        batch = _batch.decode(body)
    except OutOfBounds as error:
        raise InvalidRequest(f"changes are refused: {error}") from None
    except BAD_JSON as error:
        raise InvalidRequest(f"changes cannot be read: {error}") from None
    if len(batch.changes) > report_rules.BATCH_MOST:
        raise InvalidRequest(f"more than {report_rules.BATCH_MOST} changes in one call")
    return [_read_one(raw) for raw in batch.changes]


def _read_one(raw: msgspec.Raw) -> TaskChange | ChangeAnswer:
    try:
        change = change_model.decode(raw)
        report_rules.check(change)
    except (*BAD_JSON, OutOfBounds) as error:
        text = str(error)
    else:
        return change
    try:
        change_id = _id_only.decode(raw).id
    except BAD_JSON:
        change_id = ""
    return _rejected(change_id, text)


async def apply(
    parts: Parts, instance: InstanceRecord, batch: list[TaskChange | ChangeAnswer]
) -> ChangesAnswer:
    """Apply a batch and answer each change, in the same order.

    The times in a report are the agent's; only ``settled_at`` uses the clock of ``parts``.

    Raises:
        StoreFailure: a part may not be applied; the agent repeats the batch, which is safe.
    """
    answers: list[ChangeAnswer | None] = [
        item if isinstance(item, ChangeAnswer) else None for item in batch
    ]
    by_task: dict[str, list[tuple[int, TaskChange]]] = {}
    for index, item in enumerate(batch):
        if isinstance(item, TaskChange):
            by_task.setdefault(item.task_arn, []).append((index, item))
    lanes = asyncio.Semaphore(_SIDE_BY_SIDE)

    failures: list[StoreFailure] = []

    async def one_task(arn: str, changes: list[tuple[int, TaskChange]]) -> None:
        try:
            async with lanes:
                results = await _apply_to_task(parts, instance, arn, [c for _, c in changes])
        except StoreFailure as error:
            failures.append(error)
            return
        for (index, _), answer in zip(changes, results, strict=True):
            answers[index] = answer

    async with asyncio.TaskGroup() as group:
        for arn, items in by_task.items():
            group.create_task(one_task(arn, items))
    if failures:
        raise failures[0]
    return ChangesAnswer(results=[answer for answer in answers if answer is not None])


async def _apply_to_task(
    parts: Parts, instance: InstanceRecord, arn: str, changes: list[TaskChange]
) -> list[ChangeAnswer]:
    answers: list[ChangeAnswer] = []

    def fold(task: TaskRecord) -> TaskRecord:
        nonlocal answers
        if task.instance_id != instance.id:
            raise NoSuchTask("this container instance has no such task")
        task, answers = _fold(task, changes)
        return task

    try:
        await change_task(parts, arn, fold)
    except NoSuchTask as error:
        return [_rejected(change.id, str(error)) for change in changes]
    return answers


async def task_of(parts: Parts, arn: str) -> TaskRecord:
    """Return a task by an ARN that may be any text; raises ``NoSuchTask``."""
    parsed = parse_arn(arn)
    if parsed is None or parsed.kind != "task" or len(parsed.path) != 2:
        raise NoSuchTask("taskArn is not the ARN of a task")
    found = await access.find(parts.store, TaskRecord, records.task_key(*parsed.path))
    if found is None or found.record.arn != arn:
        raise NoSuchTask("this container instance has no such task")
    return found.record


async def change_task(
    parts: Parts, arn: str, decide: Callable[[TaskRecord], TaskRecord]
) -> TaskRecord:
    """Change a task by a report; if it becomes STOPPED, its assignment is deleted with it.

    Args:
        parts: the store and the clock.
        arn: the task's ARN, which may be any text.
        decide: pure; takes the record and returns the new one, or the same one to change nothing. It
            may raise, and may be called more than once.

    Raises:
        NoSuchTask: the text is not an ARN of a task, or no task has it.
        StoreFailure: the change may not be applied; repeating it is safe.
    """
    parsed = parse_arn(arn)
    if parsed is None or parsed.kind != "task" or len(parsed.path) != 2:
        raise NoSuchTask("taskArn is not the ARN of a task")
    cluster, task_id = parsed.path
    key, store = records.task_key(cluster, task_id), parts.store
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(store, TaskRecord, key)
        if found is None or found.record.arn != arn:
            raise NoSuchTask("this container instance has no such task")
        task = decide(found.record)
        if task is found.record:
            return task
        then: list[Op] = []
        if task.last_status == "RUNNING" and not task.ran_at:
            task = replace(task, ran_at=parts.clock())
        if task.last_status == "STOPPED":
            task = replace(task, settled_at=parts.clock())
            then.append(Delete(records.assignment_key(task.instance_id, task_id)))
        then.append(Put(key, records.encode(task)))
        if (await store.txn([unchanged(found.kv)], then, urgent=True)).succeeded:
            return task
        await tries.again()


def _fold(task: TaskRecord, changes: list[TaskChange]) -> tuple[TaskRecord, list[ChangeAnswer]]:
    answers = []
    for change in changes:
        try:
            task = task_changes.apply(task, change)
        except ValueError as error:
            answers.append(_rejected(change.id, str(error)))
        else:
            answers.append(ChangeAnswer(id=change.id, status="ok"))
    return task, answers


def _rejected(change_id: str, text: str) -> ChangeAnswer:
    # An id that no agent would make is not sent back whole.
    return ChangeAnswer(id=change_id[:_ID_SHOWN], status="rejected", message=text[:300])
