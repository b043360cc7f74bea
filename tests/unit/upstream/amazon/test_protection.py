"""Protection asked of a server on the loopback that stands for Amazon ECS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agent.aws.cloud import open_cloud
from agent.config import load
from agent.errors import ControlUnavailable, EcsRefused
from agent.model.payload import Credentials, RoleType
from agent.model.protection import (
    ProtectedTask,
    ProtectionCall,
    ProtectionChange,
    ProtectionFailure,
    ProtectionOutcome,
)
from agent.resources.role_credentials import RoleCredentials
from agent.upstream.amazon.protection import ProtectionApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TASK = "arn:aws:ecs:eu-west-1:1:task/c/0123"
READ = ProtectionCall(task_arn=TASK)
PROTECT = ProtectionCall(
    task_arn=TASK, change=ProtectionChange(protection_enabled=True, expires_in_minutes=5)
)


class Ecs:
    """Gives one answer after the other, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = [(200, {})]
        self.asked: list[tuple[str, str, Any]] = []
        """Access key, operation and request of each call."""

    async def handle(self, request: web.Request) -> web.Response:
        key = request.headers["Authorization"].partition("Credential=")[2].split("/")[0]
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        self.asked.append((key, operation, json.loads(await request.read())))
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(body, status=status, headers={"x-amzn-RequestId": "r-1"})


class Bench:
    def __init__(self, ecs: Ecs, credentials: RoleCredentials, api: ProtectionApi) -> None:
        self.ecs = ecs
        self.credentials = credentials
        self.ask = api.ask

    def issue(self, access_key: str, role: RoleType = RoleType.APPLICATION) -> None:
        keys = Credentials(
            credentials_id=role, access_key_id=access_key, secret_access_key="the-secret"
        )
        self.credentials.keep(TASK, role, keys)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    ecs, credentials = Ecs(), RoleCredentials()
    app = web.Application()
    app.router.add_post("/", ecs.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = load(
        {"ECS_BACKEND_HOST": url, "AWS_DEFAULT_REGION": "eu-west-1", "ECS_EXTERNAL": "true"}, ()
    )
    async with open_cloud(settings, {}) as cloud:
        yield Bench(
            ecs, credentials, ProtectionApi(cloud, credentials, cluster="c", backend_host=url)
        )
    await runner.cleanup()


async def test_the_role_of_the_task_asks(bench: Bench) -> None:
    bench.issue("ASIAEXEC", RoleType.EXECUTION)
    bench.issue("ASIATASK")
    bench.ecs.answers = [
        (
            200,
            {
                "protectedTasks": [
                    {"taskArn": TASK, "protectionEnabled": True, "expirationDate": 1.7e9 + 0.5}
                ],
                "failures": [],
            },
        ),
        (200, {"failures": [{"arn": TASK, "reason": "TASK_NOT_VALID"}]}),
    ]
    assert await bench.ask(PROTECT) == ProtectionOutcome(
        protected_tasks=[
            ProtectedTask(task_arn=TASK, protection_enabled=True, expiration_date=1.7e9 + 0.5)
        ]
    )
    assert await bench.ask(READ) == ProtectionOutcome(
        failures=[ProtectionFailure(arn=TASK, reason="TASK_NOT_VALID")]
    )
    request = {"cluster": "c", "tasks": [TASK]}
    assert bench.ecs.asked == [
        (
            "ASIATASK",
            "UpdateTaskProtection",
            {**request, "protectionEnabled": True, "expiresInMinutes": 5},
        ),
        ("ASIATASK", "GetTaskProtection", request),
    ]


async def test_a_task_without_a_role_is_refused_here(bench: Bench) -> None:
    bench.issue("ASIAEXEC", RoleType.EXECUTION)
    with pytest.raises(EcsRefused) as caught:
        await bench.ask(READ)
    assert caught.value.answer.status == 403
    assert caught.value.answer.code == "AccessDeniedException"
    assert bench.ecs.asked == []


async def test_errors_of_ecs_are_passed_on_as_they_are(bench: Bench) -> None:
    bench.issue("ASIATASK")
    denied = {"__type": "ns#AccessDeniedException", "message": "User: x is not authorized"}
    slow = {"__type": "ThrottlingException", "message": "Rate exceeded"}
    bench.ecs.answers = [(403, denied), (400, slow)]
    for status, code, text in (
        (403, "AccessDeniedException", "User: x is not authorized"),
        (400, "ThrottlingException", "Rate exceeded"),
    ):
        with pytest.raises(EcsRefused) as caught:
            await bench.ask(READ)
        assert caught.value.answer == (status, code, text, "r-1")
    # A call that is throttled is tried again, as long as the task waits.
    assert len(bench.ecs.asked) == 4


async def test_refused_keys_are_not_waited_for(bench: Bench) -> None:
    bench.issue("ASIAOLD")
    expired = {"__type": "ExpiredTokenException", "message": "The security token is expired"}
    bench.ecs.answers = [(400, expired)]
    with pytest.raises(EcsRefused, match="ExpiredTokenException"):
        await bench.ask(READ)
    assert len(bench.ecs.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (502, "a proxy's page"),
        (200, {"protectedTasks": [{"taskArn": TASK, "expirationDate": 1e300}]}),
        (200, {"failures": "none"}),
    ],
)
async def test_what_is_no_answer_of_ecs_is_no_answer(bench: Bench, answer: tuple[int, Any]) -> None:
    bench.issue("ASIATASK")
    bench.ecs.answers = [answer]
    with pytest.raises(ControlUnavailable):
        await bench.ask(READ)
