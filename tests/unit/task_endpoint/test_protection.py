"""The path of protection, called through the real server; who asks is decided by the test."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ControlUnavailable, EcsRefused, ErrorAnswer
from agent.model.protection import (
    ProtectedTask,
    ProtectionCall,
    ProtectionChange,
    ProtectionFailure,
    ProtectionOutcome,
)
from agent.task_endpoint import protection
from agent.task_endpoint.contract import Caller, Peer
from agent.task_endpoint.protection import Given, read_change, rfc3339
from agent.task_endpoint.server import TaskServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TASK = "arn:aws:ecs:us-east-1:1:task/c/0123"
OTHER = "arn:aws:ecs:us-east-1:1:task/c/4567"
NOT_FOUND = {
    "error": {
        "Code": "ResourceNotFoundException",
        "Message": "Failed to find a task for the request",
    }
}


class Asks:
    """Says that one task asks, whoever does."""

    task_arn = TASK

    async def of(self, _peer: Peer) -> Caller:
        return Caller(self.task_arn)

    async def is_of(self, _peer: Peer, task_arn: str) -> bool:
        return task_arn == self.task_arn

    async def is_host(self, _peer: Peer) -> bool:
        return False


class Control:
    """Gives one answer to all calls."""

    def __init__(self) -> None:
        self.calls: list[ProtectionCall] = []
        self.answer: ProtectionOutcome | Exception | None = None
        """None to give none."""

    async def ask(self, asked: ProtectionCall) -> ProtectionOutcome:
        self.calls.append(asked)
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer


class Task:
    """A container that asks."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session
        self.control = Control()
        self.callers = Asks()

    async def call(
        self, method: str = "GET", body: bytes | None = None, endpoint_id: str = "e-1"
    ) -> tuple[int, Any]:
        url = f"{self.url}/api/{endpoint_id}/task-protection/v1/state"
        async with self.session.request(method, url, data=body) as response:
            raw = await response.read()
            if response.status == 405:
                return 405, raw
            assert response.headers["Content-Type"] == "application/json"
            return response.status, json.loads(raw)


@pytest.fixture
async def task() -> AsyncIterator[Task]:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    async with aiohttp.ClientSession() as session:
        made = Task(f"http://127.0.0.1:{bound.getsockname()[1]}", session)
        ids = {"e-1": TASK, "e-2": OTHER}
        server = await TaskServer.open(
            bound,
            routes=protection.routes(lambda name: ids.get(name, ""), made.control.ask),
            callers=made.callers,
        )
        yield made
        await server.close()


async def test_a_task_reads_and_sets_its_protection(task: Task) -> None:
    task.control.answer = ProtectionOutcome(protected_tasks=[ProtectedTask(task_arn=TASK)])
    shown = {"ExpirationDate": None, "ProtectionEnabled": False, "TaskArn": TASK}
    assert await task.call() == (200, {"protection": shown})
    task.control.answer = ProtectionOutcome(
        protected_tasks=[
            ProtectedTask(task_arn=TASK, protection_enabled=True, expiration_date=1665023356.0)
        ]
    )
    shown |= {"ExpirationDate": "2022-10-06T02:29:16Z", "ProtectionEnabled": True}
    body = b'{"protectionenabled": true, "ExpiresInMinutes": 60}'
    assert await task.call("PUT", body) == (200, {"protection": shown})
    change = ProtectionChange(protection_enabled=True, expires_in_minutes=60)
    assert task.control.calls == [
        ProtectionCall(task_arn=TASK),
        ProtectionCall(task_arn=TASK, change=change),
    ]


async def test_a_failure_is_no_error(task: Task) -> None:
    failure = ProtectionFailure(arn=TASK, reason="TASK_NOT_VALID")
    task.control.answer = ProtectionOutcome(failures=[failure])
    told = {"Arn": TASK, "Detail": None, "Reason": "TASK_NOT_VALID"}
    assert await task.call("PUT", b'{"ProtectionEnabled":false}') == (200, {"failure": told})


@pytest.mark.parametrize(
    ("outcome", "status", "body"),
    [
        (
            EcsRefused(ErrorAnswer(400, "ThrottlingException", "Rate exceeded", "r-1")),
            400,
            {
                "requestID": "r-1",
                "error": {"Code": "ThrottlingException", "Message": "Rate exceeded"},
            },
        ),
        (
            EcsRefused(ErrorAnswer(403, "AccessDeniedException", "no role")),
            403,
            {"error": {"Code": "AccessDeniedException", "Message": "no role"}},
        ),
        (
            ControlUnavailable("control is away"),
            500,
            {"error": {"Code": "ServerException", "Message": "control is away"}},
        ),
        (
            ProtectionOutcome(),
            500,
            {"error": {"Code": "ServerException", "Message": "Unexpected error occurred"}},
        ),
        (
            ProtectionOutcome(protected_tasks=[ProtectedTask(task_arn=t) for t in (TASK, OTHER)]),
            500,
            {"error": {"Code": "ServerException", "Message": "Unexpected error occurred"}},
        ),
    ],
)
async def test_why_there_is_no_answer(
    task: Task, outcome: ProtectionOutcome | Exception, status: int, body: dict[str, Any]
) -> None:
    task.control.answer = outcome
    body["error"]["Arn"] = TASK
    assert await task.call() == (status, body)


async def test_a_control_that_does_not_answer(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protection, "CALL_S", 0.05)
    text = "Timed out calling ECS Task Protection API"
    told = {"Arn": TASK, "Code": "RequestCanceled", "Message": text}
    assert await task.call() == (504, {"error": told})


async def test_another_tasks_id_is_like_no_id(task: Task) -> None:
    body = b'{"ProtectionEnabled": true}'
    for endpoint_id in ("unknown", "e-2"):
        assert await task.call(endpoint_id=endpoint_id) == (404, NOT_FOUND)
        assert await task.call("PUT", body, endpoint_id) == (404, NOT_FOUND)
    task.callers.task_arn = OTHER
    assert await task.call() == (404, NOT_FOUND)
    assert task.control.calls == []


async def test_the_order_of_checks(task: Task) -> None:
    status, told = await task.call("PUT", b"{", "unknown")
    assert (status, told["error"]["Code"]) == (400, "InvalidParameterException")
    assert await task.call("PUT", b"{}", "unknown") == (404, NOT_FOUND)
    text = "Invalid request: does not contain 'ProtectionEnabled' field"
    error = {"Arn": TASK, "Code": "InvalidParameterException", "Message": text}
    assert await task.call("PUT", b'{"ExpiresInMinutes": 5}') == (400, {"error": error})
    assert task.control.calls == []


async def test_other_methods_are_refused(task: Task) -> None:
    for method in ("POST", "DELETE", "PATCH"):
        assert await task.call(method, b"{}") == (405, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"1",
        b'"ProtectionEnabled"',
        b"[" * 5000,
        b'{"ProtectionEnabled": "true"}',
        b'{"ProtectionEnabled": 1}',
        b'{"ProtectionEnabled": true, "ExpiresInMinutes": 1.0}',
        b'{"ProtectionEnabled": true, "ExpiresInMinutes": true}',
        b'{"ProtectionEnabled": true, "ExpiresInMinutes": "5"}',
        b'{"ProtectionEnabled": true, "ExpiresInMinutes": 9223372036854775808}',
        b'{"ProtectionEnabled": true, "Expires": 5}',
        b'{"ProtectionEnabled": true} more',
    ],
)
async def test_a_body_that_cannot_be_decoded(task: Task, body: bytes) -> None:
    text = "UpdateTaskProtection: failed to decode request"
    error = {"Code": "InvalidParameterException", "Message": text}
    assert await task.call("PUT", body) == (400, {"error": error})


def test_names_are_read_in_any_case_and_null_is_nothing() -> None:
    assert read_change(b"null") == Given()
    assert read_change(b'{"PROTECTIONENABLED": false, "expiresinminutes": null}') == Given(False)
    assert read_change(b'{"ProtectionEnabled": true, "ExpiresInMinutes": -3}') == Given(True, -3)


@given(st.binary(max_size=64))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        assert isinstance(read_change(body), Given)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - the other outcome is as good


def test_times_have_milliseconds_only_where_there_are_some() -> None:
    assert rfc3339(0.0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1665023356.25) == "2022-10-06T02:29:16.25Z"
    assert rfc3339(1665023355.9999) == "2022-10-06T02:29:16Z"
