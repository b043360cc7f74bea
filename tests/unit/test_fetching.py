"""AWS is opened at the first use, once, and closed at the end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.config import load
from agent.fetching import TaskServices
from agent.model.payload import Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

import pytest


async def role(_other: Credentials | None) -> Credentials:
    return Credentials(credentials_id="e", access_key_id="ASIATASK", secret_access_key="s")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.Response(body=b"A=1")
        asked = json.loads(await request.read())
        answers: dict[str, Any] = {
            "GetParameters": {
                "Parameters": [{"Name": n, "Value": n} for n in asked.get("Names", ())]
            },
            "GetSecretValue": {"SecretString": "text"},
            "GetAuthorizationToken": {"authorizationData": [{"authorizationToken": "QVdTOnB3"}]},
        }
        return web.json_response(answers[request.headers["X-Amz-Target"].rpartition(".")[2]])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_every_service_is_reached(url: str) -> None:
    settings = load({"AWS_ENDPOINT_URL": url, "ECS_CONTROL_ENDPOINT": "http://c"}, ())
    services = TaskServices(settings, {})
    names = [f"p{n}" for n in range(25)]
    parameters, secret, content, token = await asyncio.gather(
        services.parameters(role, "eu-west-1", names),
        services.secret(role, "eu-west-1", "arn:s", stage="S"),
        services.object(role, "eu-west-1", "b", "k", limit_bytes=10),
        services.registry_token(role, "eu-west-1", "1"),
    )
    assert parameters == {name: name for name in names}
    assert (secret, content) == ("text", b"A=1")
    assert (token.username, token.password) == ("AWS", "pw")
    await services.close()
    await services.close()


def test_nothing_of_aws_is_loaded_before() -> None:
    script = """
import sys
from agent.config import load
from agent.fetching import TaskServices
TaskServices(load({"ECS_CONTROL_ENDPOINT": "http://c"}, ()), {})
assert not [name for name in sys.modules if name.startswith(("agent.aws", "botocore"))]
"""
    subprocess.run([sys.executable, "-c", script], check=True)
