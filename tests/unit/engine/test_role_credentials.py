"""How long the engine keeps the credentials of a task's roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model.payload import Credentials, RoleType
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    from agent.resources.role_credentials import RoleCredentials
    from tests.support.task_host import TaskHost

APPLICATION = Credentials(credentials_id="app", secret_access_key="canary-a")
EXECUTION = Credentials(credentials_id="exec", secret_access_key="canary-e")


def keep(kept: RoleCredentials) -> None:
    kept.keep(ARN, RoleType.APPLICATION, APPLICATION)
    kept.keep(ARN, RoleType.EXECUTION, EXECUTION)


async def test_those_of_the_execution_role_outlast_the_containers(host: TaskHost) -> None:
    keep(host.role_credentials)
    await host.order(
        container("a"), role_credentials=APPLICATION, execution_role_credentials=EXECUTION
    )
    await host.until_known("RUNNING")
    assert host.role_credentials.get("app") is not None
    await host.stop()
    await host.until_known("STOPPED")
    assert host.role_credentials.get("app") is None
    assert host.role_credentials.get("exec") is not None


async def test_they_go_with_the_clean_up(hasty_host: TaskHost) -> None:
    host = hasty_host
    keep(host.role_credentials)
    await host.order(container("a"), execution_role_credentials=EXECUTION)
    await host.until_known("RUNNING")
    await host.stop()
    await host.until(lambda: not len(host.role_credentials))


async def test_a_restarted_agent_knows_which_ids_are_to_come(host: TaskHost) -> None:
    keep(host.role_credentials)
    await host.order(
        container("a"), role_credentials=APPLICATION, execution_role_credentials=EXECUTION
    )
    await host.until_known("RUNNING")
    await host.crash()
    await host.start()
    assert [host.role_credentials.is_expected(i) for i in ("app", "exec", "x")] == [
        True,
        True,
        False,
    ]
    keep(host.role_credentials)
    assert not host.role_credentials.is_expected("exec")
    await host.stop()
    await host.until_known("STOPPED")
    await host.crash()
    await host.start()
    assert not host.role_credentials.is_expected("exec")
