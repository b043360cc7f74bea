"""DeleteTaskDefinitions, and the end of revisions that nothing uses any more.

A revision must have been deregistered. It is DELETE_IN_PROGRESS until no task and no service uses it, as on
Amazon ECS: tasks go on, services that use it may still scale, and nothing new starts from it. Its number is
never used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs.naming import names_it
from agent.controlplane.api.ecs.task_definitions import show, split_revision
from agent.controlplane.front.errors import ClientException, InvalidParameterException
from agent.controlplane.records import TaskDefinitionRecord
from agent.controlplane.services.record import INACTIVE, ServiceRecord
from agent.controlplane.store.contract import Delete, Put, unchanged

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.store.contract import Store

DELETE_LIMIT = 10
SETTLE_S = 60.0
"""For how long a revision stays at least: a call that found it before it was deleted may still use it."""
IN_PROGRESS = "DELETE_IN_PROGRESS"
_ACTIVE = "The specified task definition is still in ACTIVE status. Please deregister the target and try again."
_MISSING = "The specified task definition does not exist. Specify a valid account, family, revision and try again."


class _Task(Struct, rename="camel"):
    last_status: str = ""
    task_definition_arn: str = ""


async def delete_task_definitions(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete up to ten INACTIVE revisions; those that cannot be deleted are among the failures."""
    given = request["taskDefinitions"]
    if not 1 <= len(given) <= DELETE_LIMIT:
        raise InvalidParameterException(
            f"Specify between 1 and {DELETE_LIMIT} task definitions to delete."
        )
    named: dict[str, str] = {}
    for text in given:
        family, revision = split_revision(text)
        if revision is None:
            raise ClientException("Revision is missing.")
        named.setdefault(records.task_definition_key(family, revision), text)
    shown, failures = [], []
    for key, text in named.items():
        found = await _mark(parts, key, text)
        if isinstance(found, str):
            failures.append({"arn": text, "reason": found})
        else:
            shown.append(show(found))
    return {"taskDefinitions": shown, "failures": failures}


async def _mark(parts: Parts, key: str, text: str) -> TaskDefinitionRecord | str:
    """Set a revision to DELETE_IN_PROGRESS and return it, or the reason why not."""
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(parts.store, TaskDefinitionRecord, key)
        if found is None or not names_it(text, found.record.arn):
            return _MISSING
        if found.record.status == "ACTIVE":
            return _ACTIVE
        if found.record.status == IN_PROGRESS:
            return found.record
        new = replace(found.record, status=IN_PROGRESS, delete_requested_at=parts.clock())
        puts = [
            Put(key, records.encode(new)),
            Put(records.deleting_key(new.family, new.revision), b""),
        ]
        if (await parts.store.txn([unchanged(found.kv)], puts)).succeeded:
            return new
        await tries.again()


async def sweep(store: Store, now: float) -> int:
    """Delete the revisions in DELETE_IN_PROGRESS that nothing uses; return how many keys that were.

    Costs one read when none is being deleted. Idempotent.

    Raises:
        StoreFailure: call again later.
    """
    waiting = (await store.range(records.DELETING, limit=access.SCAN_PAGE)).items
    if not waiting:
        return 0
    used = await _used(store)
    gone = 0
    for mark in waiting:
        key = records.TASK_DEFINITIONS + mark.key.removeprefix(records.DELETING)
        found = await access.find(store, TaskDefinitionRecord, key)
        if found is None:
            gone += (await store.txn([unchanged(mark)], [Delete(mark.key)], urgent=True)).succeeded
        elif found.record.arn not in used and found.record.delete_requested_at < now - SETTLE_S:
            compares, then = [unchanged(found.kv)], [Delete(key), Delete(mark.key)]
            gone += (await store.txn(compares, then, urgent=True)).succeeded
    return gone


async def _used(store: Store) -> set[str]:
    """Return the ARNs of the definitions that tasks and services use."""
    used: set[str] = set()
    async for _, task in access.scan(store, _Task, records.TASKS):
        if task.last_status != "STOPPED":
            used.add(task.task_definition_arn)
    async for _, service in access.scan(store, ServiceRecord, records.SERVICES):
        if service.status != INACTIVE:
            used.update(one.task_definition_arn for one in service.running_deployments)
    return used


HANDLERS: Handlers = {"DeleteTaskDefinitions": delete_task_definitions}
