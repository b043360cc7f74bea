"""Where containers with the driver ``awslogs`` write, and with whose keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.engine.preparations.awslogs import AwslogsPreparation
from agent.errors import PayloadError
from agent.model.payload import Container, Credentials, EngineConfig, RoleType
from agent.resources.role_credentials import RoleCredentials
from tests.support.host_access import GRANTS, host_access
from tests.support.tasks import ARN, container, payload

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLE = Credentials(credentials_id="id-1", role_arn="arn:aws:iam::1:role/x")
AWSLOGS = AwslogsPreparation()


def logging(name: str = "a", driver: str = "awslogs", **fields: Any) -> Container:
    options = fields.pop("options", {})
    config = {"LogConfig": {"Type": driver, "Config": options}}
    return container(name, docker_config=EngineConfig(host_config=config), **fields)


async def options_of(*containers: Container, **task: Any) -> Mapping[str, Mapping[str, str]]:
    provision = await AWSLOGS.prepare(payload(*containers, **task), host_access())
    return provision.log_options


async def test_logs_for_control_go_to_the_relay_with_keys_of_the_task() -> None:
    made = await options_of(
        logging("a", log_destination="control"),
        logging("b", log_destination="control", options={"awslogs-create-group": "true"}),
        logging("c", driver="json-file"),
    )
    assert made["c"] == {}
    for name, create in (("a", False), ("b", True)):
        assert made[name]["awslogs-endpoint"] == "http://127.0.0.1:51681"
        path = made[name]["awslogs-credentials-endpoint"]
        keys = GRANTS.keys(path.removeprefix("/v2/credentials/"))
        assert keys is not None
        grant = GRANTS.grant(keys.access_key)
        assert grant is not None
        assert (grant[0].task_id, grant[0].create_group) == (ARN.rsplit("/", 1)[-1], create)


async def test_logs_for_cloudwatch_are_written_with_the_execution_role() -> None:
    roles = RoleCredentials()
    task = payload(
        logging("a", logs_auth_strategy="ExecutionRole"),
        logging("b"),
        execution_role_credentials=ROLE,
    )
    waiting = asyncio.create_task(AWSLOGS.prepare(task, host_access(credentials=roles)))
    await asyncio.sleep(0.01)
    assert not waiting.done()  # or else the engine would be told that they are not there yet
    roles.keep(ARN, RoleType.EXECUTION, ROLE)
    made = (await waiting).log_options
    assert made["a"] == {"awslogs-credentials-endpoint": "/v2/credentials/id-1"}
    assert made["b"] == {}


async def test_drivers_are_told_of_regions_that_they_do_not_know() -> None:
    region = {"awslogs-region": "us-iso-east-1"}
    made = await options_of(
        logging("a", options=region),
        logging("b", options={**region, "awslogs-endpoint": "https://logs.example"}),
        logging("c", options=region, log_destination="control"),
    )
    assert made["a"] == {"awslogs-endpoint": "https://logs.us-iso-east-1.c2s.ic.gov"}
    assert made["b"] == {}
    assert made["c"]["awslogs-endpoint"] == "http://127.0.0.1:51681"


def test_without_an_execution_role_the_task_says_why() -> None:
    with pytest.raises(PayloadError, match="logs with the execution role, and the task has none"):
        AWSLOGS.check(payload(logging(logs_auth_strategy="ExecutionRole")))
    AWSLOGS.check(payload(logging()))


def test_only_tasks_that_log_so_want_it() -> None:
    assert AWSLOGS.is_wanted(payload(container("x"), logging()))
    assert not AWSLOGS.is_wanted(payload(container("x"), logging(driver="syslog")))
