"""The AWS CLI reads and writes logs of a control endpoint: version 1 of the dev tools, and 2 for ``tail``.

The tests of ``aws logs tail`` need version 2, which is not a Python package: as ``aws`` on the path, or
named by ``AWS_CLI_V2``, as one command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.control_endpoint import Endpoint, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration

VERSION_1 = [sys.executable, str(Path(sys.executable).with_name("aws"))]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "open",
    "AWS_SECRET_ACCESS_KEY": "open",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_PAGER": "",
    "PYTHONUNBUFFERED": "1",
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
}


def version_2() -> list[str]:
    """Return how to run version 2 of the CLI; empty where it is not there."""
    command = shlex.split(os.environ.get("AWS_CLI_V2", "aws"))
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=False, timeout=60
        )
        if done.stdout.startswith("aws-cli/2"):
            return command
    return []


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        yield running


async def aws(endpoint: Endpoint, *arguments: str, command: list[str] = VERSION_1) -> Any:
    """Run a command of ``aws logs``; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--endpoint-url", endpoint.url, "--output", "json", "logs"),
        *arguments,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return json.loads(out) if out.strip() else None


async def group_with_stream(endpoint: Endpoint) -> None:
    await aws(endpoint, "create-log-group", "--log-group-name", "/ecs/web")
    where = ["--log-group-name", "/ecs/web", "--log-stream-name", "web/main/1"]
    await aws(endpoint, "create-log-stream", *where)


async def put(endpoint: Endpoint, *messages: str) -> None:
    now_ms = int(time.time() * 1000)
    events = [{"timestamp": now_ms + n, "message": text} for n, text in enumerate(messages)]
    where = ["--log-group-name", "/ecs/web", "--log-stream-name", "web/main/1"]
    await aws(endpoint, "put-log-events", *where, "--log-events", json.dumps(events))


async def test_version_1_writes_and_reads(endpoint: Endpoint) -> None:
    await group_with_stream(endpoint)
    await put(endpoint, *(f"line {number}" for number in range(25)))
    where = ["--log-group-name", "/ecs/web"]
    page = await aws(
        endpoint, "get-log-events", *where, "--log-stream-name", "web/main/1", "--limit", "3"
    )
    assert [event["message"] for event in page["events"]] == ["line 22", "line 23", "line 24"]
    found = await aws(endpoint, "filter-log-events", *where, "--filter-pattern", '"line 1" -"19"')
    assert [event["message"] for event in found["events"]] == [
        f"line {number}" for number in (1, *range(10, 19))
    ]
    await aws(endpoint, "put-retention-policy", *where, "--retention-in-days", "7")
    ((group),) = (await aws(endpoint, "describe-log-groups"))["logGroups"]
    assert group["retentionInDays"] == 7
    await aws(endpoint, "tag-resource", "--resource-arn", group["logGroupArn"], "--tags", "a=b")
    tags = await aws(endpoint, "list-tags-log-group", *where)
    assert tags["tags"] == {"a": "b"}
    await aws(endpoint, "delete-log-group", *where)
    assert (await aws(endpoint, "describe-log-groups"))["logGroups"] == []


async def test_tail_follows(endpoint: Endpoint) -> None:
    command = await asyncio.to_thread(version_2)
    if not command:
        pytest.skip("no version 2 of the AWS CLI; name one by AWS_CLI_V2")
    await group_with_stream(endpoint)
    await put(endpoint, "first", "second")
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--endpoint-url", endpoint.url, "logs", "tail", "/ecs/web", "--follow"),
        *("--format", "short", "--color", "off"),
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(120):
            for number in range(3):
                while len(lines) < 2 + number:
                    line = (await process.stdout.readline()).decode()
                    assert line, lines
                    lines.append(line.split(" ", 1)[1].strip())
                await put(endpoint, f"later {number}")
    finally:
        process.terminate()
        await process.wait()
    assert lines == ["first", "second", "later 0", "later 1"]
