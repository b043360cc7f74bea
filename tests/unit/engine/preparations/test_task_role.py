from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.engine.preparations import table, task_role
from agent.engine.preparations.task_role import VARIABLE, TaskRolePreparation
from agent.errors import CredentialsAwaited
from agent.model import task
from agent.model.payload import Credentials, RoleType
from tests.support.host_access import host_access
from tests.support.tasks import ARN, container, payload

if TYPE_CHECKING:
    from agent.model.payload import TaskPayload

ROLE = "arn:aws:iam::123456789012:role/app"
KEYS = Credentials(credentials_id="a1", role_arn=ROLE, secret_access_key="canary")
ORDERED = payload(container("a"), container("b"), role_credentials=KEYS)
RESTORED = task.new_record(ORDERED, origin="control", now=1.0).payload


@pytest.mark.parametrize("given", [ORDERED, RESTORED])
async def test_each_container_is_told_where_once_the_credentials_are_there(
    given: TaskPayload,
) -> None:
    access = host_access()
    waiting = asyncio.create_task(TaskRolePreparation().prepare(given, access))
    access.credentials.keep(ARN, RoleType.EXECUTION, Credentials(credentials_id="e1"))
    await asyncio.sleep(0)
    assert not waiting.done()
    access.credentials.keep(ARN, RoleType.APPLICATION, KEYS)
    path = {VARIABLE: "/v2/credentials/a1"}
    assert (await waiting).environment == {"a": path, "b": path}


async def test_what_is_waited_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_role, "WAIT_S", 0.01)
    with pytest.raises(CredentialsAwaited, match=f"has not sent credentials of {ROLE} yet"):
        await TaskRolePreparation().prepare(RESTORED, host_access())


def test_only_tasks_with_a_role_wait_for_one() -> None:
    assert "@role" in table.wanted(ORDERED)
    assert "@role" in table.wanted(RESTORED)
    assert "@role" not in table.wanted(payload(container("a"), execution_role_credentials=KEYS))
