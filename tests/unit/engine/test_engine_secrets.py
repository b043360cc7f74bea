"""Secrets from the order to the container, on an engine in memory: who sees them, and who does not."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from agent.engine.hiding import WITHHELD
from agent.errors import AwsUnavailable, ControlUnavailable, EngineRefused
from agent.model.payload import Credentials, EngineConfig, RestartPolicy, RoleType, Secret
from tests.support.memory_engine import Fault
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.task_host import TaskHost

CANARY = "canary-of-the-secret"
REGION = ["AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1"]
"""Given to containers that name none."""
KEYS = Credentials(credentials_id="exec", role_arn="arn:role", secret_access_key="canary-key")
SECRET = Secret(name="TOKEN", value_from="/p", provider="ssm", region="eu-west-1")
OPTION = Secret(name="tag", value_from="/o", provider="ssm", region="r", target="LOG_DRIVER")
JSON_FILE = EngineConfig(
    host_config={"LogConfig": {"Type": "json-file", "Config": {"max-file": "2"}}}
)


def give(host: TaskHost) -> None:
    host.role_credentials.keep(ARN, RoleType.EXECUTION, KEYS)
    host.aws.known_parameters = {"/p": CANARY, "/o": f"{CANARY}-option"}


def on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.rglob("*") if file.is_file())


async def test_a_container_gets_them_and_nobody_else(
    host: TaskHost, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    give(host)
    secrets = [SECRET, OPTION]
    await host.order(
        container("a", secrets=secrets, docker_config=JSON_FILE, environment={"TOKEN": "x"}),
        container("b"),
        execution_role_credentials=KEYS,
    )
    await host.until_known("RUNNING")
    box = host.runtime.box("a")
    assert box.body["Env"] == [f"TOKEN={CANARY}", *REGION]
    assert box.host_config["LogConfig"]["Config"] == {"max-file": "2", "tag": f"{CANARY}-option"}
    assert CANARY not in str(host.runtime.box("b").body)
    assert "canary" not in str(box.labels)
    changes = await host.deliver()
    await host.stop()
    await host.until_known("STOPPED")
    changes += await host.deliver()
    assert "canary" not in str(changes)
    assert "canary" not in str(host.engine.tasks.views())
    assert b"canary" not in on_disk(host.path)
    assert "canary" not in caplog.text + "".join(capfd.readouterr())


async def test_containers_made_before_a_restart_need_no_secrets(host: TaskHost) -> None:
    give(host)
    await host.order(container("a", secrets=[SECRET]), execution_role_credentials=KEYS)
    await host.until_known("RUNNING")
    await host.crash()
    host.aws.asked.clear()
    await host.start()
    await host.until_known("RUNNING")
    await asyncio.sleep(0.02)
    assert not host.aws.asked


async def test_those_that_were_not_made_wait_for_credentials_to_come_again(host: TaskHost) -> None:
    await host.order(container("a", secrets=[SECRET]), execution_role_credentials=KEYS)
    await host.until(lambda: host.engine.tasks.views()[0].waits)
    await host.crash()
    await host.start()
    assert host.role_credentials.is_expected("exec")
    await host.until(
        lambda: any("fetch secrets" in w.what for w in host.engine.tasks.views()[0].waits)
    )
    give(host)
    await host.until_known("RUNNING")
    assert host.runtime.box("a").body["Env"] == [f"TOKEN={CANARY}", *REGION]


async def test_a_failure_ends_the_task_with_the_words_of_ecs(host: TaskHost) -> None:
    give(host)
    host.aws.failures = [AwsUnavailable("GetParameters: nobody listens on ssm:443")]
    await host.order(container("a", secrets=[SECRET]), execution_role_credentials=KEYS)
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert last.reason == (
        "Fetching secret data from SSM Parameter Store in eu-west-1: "
        "GetParameters: nobody listens on ssm:443"
    )
    assert last.stop_code == "TaskFailedToStart"
    assert not host.runtime.boxes


async def test_a_task_that_is_to_stop_waits_for_nobody(host: TaskHost) -> None:
    give(host)
    host.aws.open.clear()
    await host.order(container("a", secrets=[SECRET]), execution_role_credentials=KEYS)
    await host.until(lambda: host.aws.under_way)
    await host.stop()
    await host.until_known("STOPPED")
    await host.until(lambda: not host.aws.under_way)


async def test_control_that_is_away_is_waited_for(host: TaskHost) -> None:
    host.control.known = {"kept": CANARY}
    host.control.failures = [ControlUnavailable("no answer"), ControlUnavailable("no answer")]
    kept = Secret(name="TOKEN", value_from="kept", endpoint="control")
    await host.order(container("a", secrets=[kept]))
    await host.until_known("RUNNING")
    assert host.runtime.box("a").body["Env"] == [f"TOKEN={CANARY}", *REGION]
    assert len(host.control.asked) == 3


@pytest.mark.parametrize("operation", ["create", "start"])
async def test_what_the_engine_repeats_of_them_is_not_shown(
    host: TaskHost, operation: str, capfd: pytest.CaptureFixture[str]
) -> None:
    give(host)
    text = f'invalid tag "{CANARY}-option"'
    host.runtime.fault(operation, Fault(error=EngineRefused(text)))
    await host.order(
        container("a", secrets=[OPTION], docker_config=JSON_FILE), execution_role_credentials=KEYS
    )
    await host.until_known("STOPPED")
    assert host.container("a").reason.endswith('ContainerError: invalid tag "***"')
    assert "canary" not in str(await host.deliver()) + "".join(capfd.readouterr())
    assert b"canary" not in on_disk(host.path)


async def test_nor_after_a_restart_when_nobody_knows_them(host: TaskHost) -> None:
    give(host)
    policy = RestartPolicy(enabled=True, restart_attempt_period=0)
    await host.order(
        container("a", secrets=[OPTION], docker_config=JSON_FILE, restart_policy=policy),
        execution_role_credentials=KEYS,
    )
    await host.until_known("RUNNING")
    await host.crash()
    await host.start()
    await host.until_known("RUNNING")
    host.runtime.fault("start", Fault(error=EngineRefused(f"invalid tag {CANARY}-option")))
    host.runtime.exit("a", 1)
    await host.until_known("STOPPED")
    assert host.container("a").reason == f"CannotStartContainerError: {WITHHELD}"
