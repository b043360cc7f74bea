"""Log events go on to somebody else's CloudWatch Logs (moto's server), across restarts and outages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
import pytest
from botocore.config import Config

from agent.controlplane.log_forward.targets import parse
from agent.controlplane.log_settings import LogSettings
from tests.support.control_endpoint import Endpoint, control_endpoint
from tests.support.fleet import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

REGION = "eu-central-1"


class Moto:
    """The server, which a test starts and stops; it forgets everything when it ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2).close()
            except OSError:
                assert time.monotonic() < until, "moto does not answer"
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def messages(self, group: str) -> list[str]:
        """What it was given, by time."""
        client = boto3.client(
            "logs",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            found = client.filter_log_events(logGroupName=group)["events"]
        except client.exceptions.ResourceNotFoundException:
            return []
        finally:
            client.close()
        return [event["message"] for event in found]


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key-of-a-test")
    server = Moto()
    yield server
    server.stop()


async def call(endpoint: Endpoint, operation: str, **request: Any) -> None:
    headers = {
        "X-Amz-Target": f"Logs_20140328.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
    }
    body = msgspec.json.encode(request)
    async with endpoint.session.post(endpoint.url, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def put(endpoint: Endpoint, *messages: str) -> None:
    now_ms = int(time.time() * 1000)
    events = [{"timestamp": now_ms + n, "message": text} for n, text in enumerate(messages)]
    stream = {"logGroupName": "/ecs/web", "logStreamName": "web/1"}
    await call(endpoint, "PutLogEvents", **stream, logEvents=events)


async def arrived(moto: Moto, count: int) -> list[str]:
    async with asyncio.timeout(60):
        while len(found := await asyncio.to_thread(moto.messages, "/ecs/web")) < count:  # noqa: ASYNC110 - moto tells nobody
            await asyncio.sleep(0.1)
    return found


async def test_everything_arrives_once(tmp_path: Path, moto: Moto) -> None:
    logs = LogSettings(forward=(parse(f"cloudwatch:{REGION},{moto.url}"),))
    async with control_endpoint(tmp_path, logs=logs) as endpoint:
        await call(endpoint, "CreateLogGroup", logGroupName="/ecs/web")
        stream = {"logGroupName": "/ecs/web", "logStreamName": "web/1"}
        await call(endpoint, "CreateLogStream", **stream)
        await put(endpoint, "while it is away 1", "while it is away 2")
    # It was not there at all yet; a restart of control goes on where it was.
    async with control_endpoint(tmp_path, logs=logs) as endpoint:
        await asyncio.to_thread(moto.start)
        assert await arrived(moto, 2) == ["while it is away 1", "while it is away 2"]
        await put(endpoint, "later")
        assert (await arrived(moto, 3))[2:] == ["later"]
    async with control_endpoint(tmp_path, logs=logs) as endpoint:
        await put(endpoint, "after a restart")
        assert (await arrived(moto, 4))[3:] == ["after a restart"]
