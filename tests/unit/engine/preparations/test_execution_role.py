from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.engine.preparations.execution_role import execution_credentials
from agent.errors import CredentialsAwaited, PayloadError
from agent.model import task
from agent.model.payload import Credentials, RoleType
from agent.resources.role_credentials import RoleCredentials
from tests.support.tasks import ARN, container, payload

if TYPE_CHECKING:
    from agent.model.payload import TaskPayload

ROLE = "arn:aws:iam::123456789012:role/execution"
KEYS = Credentials(credentials_id="e1", role_arn=ROLE, secret_access_key="canary")
ORDERED = payload(container("a"), execution_role_credentials=KEYS)
RESTORED = task.new_record(ORDERED, origin="control", now=1.0).payload


@pytest.mark.parametrize("given", [ORDERED, RESTORED])
async def test_the_credentials_that_control_sent_are_found(given: TaskPayload) -> None:
    kept = RoleCredentials()
    kept.keep(ARN, RoleType.APPLICATION, Credentials(credentials_id="a1"))
    waiting = asyncio.create_task(execution_credentials(given, kept))
    await asyncio.sleep(0)
    kept.keep(ARN, RoleType.EXECUTION, KEYS)
    assert await waiting is KEYS


async def test_a_task_without_an_execution_role_is_told_so_at_once() -> None:
    with pytest.raises(PayloadError, match="unable to find execution role credentials"):
        await execution_credentials(payload(container("a")), RoleCredentials())


async def test_what_is_waited_for_is_named() -> None:
    with pytest.raises(CredentialsAwaited, match=f"has not sent credentials of {ROLE} yet"):
        await execution_credentials(RESTORED, RoleCredentials(), limit_s=0.01)
