"""The credentials of a task's execution role, with which the agent calls AWS for the task.

Source: Amazon ECS agent 1.105.1, ``taskresource`` (which resources need them, and the text when a task
has none). This agent waits without polling, and shows what it waits for.

Tests: ``tests/unit/engine/preparations/test_execution_role.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.errors import CredentialsAwaited, PayloadError
from agent.model.payload import RoleType

if TYPE_CHECKING:
    from agent.model.lookups import AskRole
    from agent.model.payload import Credentials, TaskPayload
    from agent.resources.role_credentials import RoleCredentials

WAIT_S: Final = 30.0
"""How long one step waits; then the wait is shown to the operator, and the step is repeated."""


def ask_execution_role(payload: TaskPayload, kept: RoleCredentials) -> AskRole:
    """Return what gives the newest credentials of a task's execution role, again and again."""

    async def ask(other_than: Credentials | None) -> Credentials:
        return await execution_credentials(payload, kept, other_than=other_than)

    return ask


async def execution_credentials(
    payload: TaskPayload,
    kept: RoleCredentials,
    *,
    other_than: Credentials | None = None,
    limit_s: float = WAIT_S,
) -> Credentials:
    """Return the newest credentials of a task's execution role, once control has sent them.

    Args:
        payload: the task, as ordered or as restored.
        kept: the credentials of all tasks.
        other_than: credentials that AWS refused; the function waits for others.
        limit_s: how long to wait.

    Raises:
        PayloadError: the task has no execution role.
        CredentialsAwaited: control has not sent them yet.
    """
    if payload.execution_role_credentials is None:
        raise PayloadError("unable to find execution role credentials")
    try:
        async with asyncio.timeout(limit_s):
            return await kept.wait(payload.arn, RoleType.EXECUTION, other_than=other_than)
    except TimeoutError:
        role = payload.execution_role_credentials.role_arn or "the execution role"
        raise CredentialsAwaited(f"control has not sent credentials of {role} yet") from None
