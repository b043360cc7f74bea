"""Lines of containers are read from control by operators, whatever happens to control meanwhile."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.integration.e2e.conftest import describe, register, run
from tests.support.fleet import KEYS, Fleet, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

GROUP = "/ecs/web"
LOGGING = {
    "logConfiguration": {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": GROUP,
            "awslogs-stream-prefix": "p",
            "awslogs-create-group": "true",
        },
    }
}


@pytest.fixture
def site(leak_check: None, tmp_path: Path) -> Iterator[Fleet]:
    """A control endpoint, and an agent that offers the log driver."""
    del leak_check
    made = Fleet(tmp_path)
    made.add_agent(ECS_AVAILABLE_LOGGING_DRIVERS='["json-file","awslogs","none"]')
    try:
        made.start()
        yield made
    except BaseException:
        for process in (made.control, *made.agents):
            sys.stderr.write(f"--- {process.name}\n{process.tail()}\n")
        raise
    finally:
        made.end()


def logs_client(fleet: Fleet) -> Any:
    return boto3.client(
        "logs",
        endpoint_url=fleet.control.url,
        region_name=KEYS["AWS_DEFAULT_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def lines(client: Any, stream: str) -> list[str]:
    """What control has of a stream, in order; nothing while it is away."""
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=GROUP, logStreamNames=[stream]
    )
    with contextlib.suppress(ClientError, BotoCoreError):
        return [event["message"] for page in pages for event in page["events"]]
    return []


def until_there(client: Any, stream: str, count: int) -> None:
    """Return when control has so many lines of a stream."""
    eventually(lambda: len(lines(client, stream)) >= count, what=f"{count} lines at control")


def test_lines_are_read_from_control(site: Fleet, busybox_image: str) -> None:
    client, logs = site.client(), logs_client(site)
    command = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo done >&2"
    definition = register(client, busybox_image, command, containers=[LOGGING])
    (arn,) = run(client, definition)
    stream = f"p/c0/{arn.rsplit('/', 1)[-1]}"
    until_there(logs, stream, 3001)
    found = lines(logs, stream)
    assert [text for text in found if text != "done"] == [f"line {n}" for n in range(3000)]
    (group,) = logs.describe_log_groups()["logGroups"]
    assert group["logGroupName"] == GROUP
    page = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, limit=5)
    assert [event["message"] for event in page["events"]] == found[-5:]
    logs.close()


def test_kill_9_of_control_loses_and_doubles_no_line(site: Fleet, busybox_image: str) -> None:
    client, logs = site.client(), logs_client(site)
    command = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"
    definition = register(client, busybox_image, command, containers=[LOGGING])
    (arn,) = run(client, definition)
    stream = f"p/c0/{arn.rsplit('/', 1)[-1]}"
    for wanted in (40, 150, 250):
        until_there(logs, stream, wanted)
        site.control.kill()
        time.sleep(1.0)
        site.control.start()
        site.control.ready()
    until_there(logs, stream, 400)
    eventually(
        lambda: describe(client, arn)[0]["lastStatus"] == "STOPPED", what="the task is stopped"
    )
    assert lines(logs, stream) == [f"line {n}" for n in range(400)]
    logs.close()
