"""GetTaskProtection and UpdateTaskProtection: the scale-in protection of tasks of services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane import records
from agent.controlplane.api.ecs.naming import DESCRIBE_LIMIT, active_cluster, at_most, resource_id
from agent.controlplane.bounds import OutOfBounds
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.tasks import protection
from agent.model.protection import ProtectionChange, ProtectionOutcome

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts

UPDATE_LIMIT = 10
"""Tasks in one UpdateTaskProtection. Source: API reference of Amazon ECS."""


async def get_task_protection(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the protection of up to 100 tasks; ``failures`` has those that cannot have any."""
    arns = await _asked(parts, request, DESCRIBE_LIMIT)
    return _answer(await protection.read(parts.store, arns, clock=parts.clock))


async def update_task_protection(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Protect up to 10 tasks, or end their protection; the same call again begins it again."""
    arns = await _asked(parts, request, UPDATE_LIMIT)
    change = ProtectionChange(
        protection_enabled=request["protectionEnabled"],
        expires_in_minutes=request.get("expiresInMinutes"),
    )
    try:
        outcome = await protection.update(parts.store, arns, change, clock=parts.clock)
    except OutOfBounds as error:
        raise InvalidParameterException(str(error)) from None
    return _answer(outcome)


async def _asked(parts: Parts, request: dict[str, Any], limit: int) -> dict[str, str]:
    """Return the ARNs of the tasks that a request names, by their keys."""
    cluster = (await active_cluster(parts, request)).name
    asked: list[str] = request.get("tasks") or []
    if not asked:
        raise InvalidParameterException("Tasks cannot be empty.")
    at_most(asked, limit, "tasks")
    ids = [resource_id(parts.names, given, "task", cluster) for given in asked]
    return {records.task_key(cluster, one): parts.names.task(cluster, one) for one in ids}


def _answer(outcome: ProtectionOutcome) -> dict[str, Any]:
    return {
        "protectedTasks": [
            {
                "taskArn": task.task_arn,
                "protectionEnabled": task.protection_enabled,
                "expirationDate": task.expiration_date,
            }
            for task in outcome.protected_tasks
        ],
        "failures": msgspec.to_builtins(outcome.failures),
    }


HANDLERS: Handlers = {
    "GetTaskProtection": get_task_protection,
    "UpdateTaskProtection": update_task_protection,
}
