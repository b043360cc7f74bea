"""Scale-in protection: which tasks may not be stopped to make their service smaller or newer.

A task is protected until a time that its record has. Nothing happens when the time has come: whoever
wants to stop a task asks ``is_protected``. Orders of operators (StopTask) end protected tasks too, as
on Amazon ECS.

Source of the rules: API reference of Amazon ECS, GetTaskProtection, UpdateTaskProtection and "API
failure reasons". Tests: ``tests/unit/controlplane/tasks/test_protection.py``,
``tests/unit/controlplane/api/ecs/test_task_protection.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.bounds import OutOfBounds
from agent.controlplane.records import TaskRecord
from agent.controlplane.store.contract import Put, unchanged
from agent.model.protection import (
    DEFAULT_MINUTES,
    LEAST_MINUTES,
    MOST_MINUTES,
    ProtectedTask,
    ProtectionFailure,
    ProtectionOutcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.store.contract import Store
    from agent.model.protection import ProtectionChange

MISSING: Final = "MISSING"
TASK_NOT_VALID: Final = "TASK_NOT_VALID"
OF_SERVICES: Final = "service:"
"""How the group of a task begins that belongs to a service."""


def is_protected(task: TaskRecord, now: float) -> bool:
    """Return whether a task may not be stopped by its service now. Pure.

    Args:
        task: any task.
        now: Unix seconds.
    """
    return task.protected_until > now and task.desired_status != "STOPPED"


def check(change: ProtectionChange) -> None:
    """Raise ``OutOfBounds`` for a protection that lasts too short or too long. Pure."""
    minutes = change.expires_in_minutes
    if minutes is not None and not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise OutOfBounds(
            f"expiresInMinutes must be between {LEAST_MINUTES} and {MOST_MINUTES}, not {minutes}."
        )


def changed(
    task: TaskRecord, change: ProtectionChange, now: float
) -> TaskRecord | ProtectionFailure:
    """Return the record of a task after a change of its protection, or why it cannot have any. Pure.

    A protection that is there already begins again.
    """
    failure = _failure(task, protects=change.protection_enabled)
    if failure is not None:
        return failure
    minutes = change.expires_in_minutes or DEFAULT_MINUTES
    until = now + 60.0 * minutes if change.protection_enabled else 0.0
    return replace(task, protected_until=until)


def shown(task: TaskRecord, now: float) -> ProtectedTask | ProtectionFailure:
    """Return a task's protection as it is now, or why it cannot have any. Pure."""
    failure = _failure(task)
    if failure is not None:
        return failure
    if not is_protected(task, now):
        return ProtectedTask(task_arn=task.arn)
    return ProtectedTask(
        task_arn=task.arn, protection_enabled=True, expiration_date=task.protected_until
    )


async def read(
    store: Store,
    arns: Mapping[str, str],
    *,
    clock: Callable[[], float],
    is_known: Callable[[TaskRecord], bool] = lambda _: True,
) -> ProtectionOutcome:
    """Return the protection of tasks.

    Args:
        store: where they are.
        arns: ARN of each task by its key; at most ``store.contract.TXN_LIMIT``.
        clock: Unix seconds.
        is_known: whether whoever asks may know of a task that is there. Pure.

    Raises:
        StoreFailure: they cannot be read now.
    """
    found = await access.find_many(store, TaskRecord, arns)
    now = clock()
    return _outcome(
        arns, {key: shown(each.record, now) for key, each in _known(found, is_known).items()}
    )


async def update(
    store: Store,
    arns: Mapping[str, str],
    change: ProtectionChange,
    *,
    clock: Callable[[], float],
    is_known: Callable[[TaskRecord], bool] = lambda _: True,
) -> ProtectionOutcome:
    """Change the protection of tasks, of all that can have any in one transaction.

    See ``read`` for the arguments. The same call again is safe: protection begins again.

    Raises:
        OutOfBounds: the protection would last too short or too long; nothing was changed.
        StoreFailure: it may not be changed.
    """
    check(change)
    tries = access.ConflictRetries("the protection of tasks")
    while True:
        found = _known(await access.find_many(store, TaskRecord, arns), is_known)
        now = clock()
        decided = {key: changed(each.record, change, now) for key, each in found.items()}
        news = {key: new for key, new in decided.items() if isinstance(new, TaskRecord)}
        outcome = _outcome(
            arns,
            {
                key: shown(new, now) if isinstance(new, TaskRecord) else new
                for key, new in decided.items()
            },
        )
        compares = [unchanged(found[key].kv) for key in news]
        puts = [Put(key, records.encode(new), found[key].kv.lease) for key, new in news.items()]
        if not puts or (await store.txn(compares, puts)).succeeded:
            return outcome
        await tries.again()


def _known(
    found: Mapping[str, Found[TaskRecord]], is_known: Callable[[TaskRecord], bool]
) -> dict[str, Found[TaskRecord]]:
    return {key: each for key, each in found.items() if is_known(each.record)}


def _outcome(
    arns: Mapping[str, str], results: Mapping[str, ProtectedTask | ProtectionFailure]
) -> ProtectionOutcome:
    each = [
        results.get(key) or ProtectionFailure(arn=arn, reason=MISSING) for key, arn in arns.items()
    ]
    return ProtectionOutcome(
        protected_tasks=[one for one in each if isinstance(one, ProtectedTask)],
        failures=[one for one in each if isinstance(one, ProtectionFailure)],
    )


def _failure(task: TaskRecord, *, protects: bool = False) -> ProtectionFailure | None:
    """Return why a task has no protection; one that is stopping can only give up its own."""
    if not task.group.startswith(OF_SERVICES):
        detail = "The task is not part of a service."
    elif task.last_status == "STOPPED":
        detail = "The task has stopped."
    elif protects and task.desired_status == "STOPPED":
        detail = "The task is stopping."
    else:
        return None
    return ProtectionFailure(arn=task.arn, reason=TASK_NOT_VALID, detail=detail)
