"""The credentials of a task's own role, which its containers ask the agent for (``task_endpoint``).

Containers are told where they find them. They are only made once control has sent the credentials: a program
that asks for them in its first moment must get them.

Source: Amazon ECS agent 1.105.1, ``agent/api/task`` (name and value of the variable). There, a container whose
credentials have not come is started without the variable.

Tests: ``tests/unit/engine/preparations/test_task_role.py``, ``tests/integration/e2e/test_task_roles.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.engine.preparations.contract import Provision
from agent.engine.preparations.execution_role import WAIT_S
from agent.errors import CredentialsAwaited
from agent.model.payload import RoleType

if TYPE_CHECKING:
    from agent.engine.preparations.contract import HostAccess
    from agent.model.payload import TaskPayload

VARIABLE: Final = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
"""By which AWS SDKs find the path below http://169.254.170.2."""


class TaskRolePreparation:
    """The task's own role; see ``contract.Preparation``."""

    name = "role"
    doing = "wait for the credentials of the task's role"
    is_remote = True

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Tell whether the task has a role of its own."""
        role = payload.role_credentials
        return role is not None and bool(role.credentials_id)

    def check(self, payload: TaskPayload) -> None:
        """Nothing can be wrong with a role here."""

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Return the variable for each container, once control has sent credentials."""
        ordered = payload.role_credentials
        role = (ordered.role_arn if ordered is not None else "") or "the task's role"
        try:
            async with asyncio.timeout(WAIT_S):
                sent = await access.credentials.wait(payload.arn, RoleType.APPLICATION)
        except TimeoutError:
            raise CredentialsAwaited(f"control has not sent credentials of {role} yet") from None
        variables = {VARIABLE: f"/v2/credentials/{sent.credentials_id}"}
        return Provision(environment={c.name: variables for c in payload.containers})

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Leave everything: nothing was made."""
