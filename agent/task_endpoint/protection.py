"""Scale-in protection: a task reads and sets its own at ``$ECS_AGENT_URI/task-protection/v1/state``.

GET reads it, PUT changes it by ``{"ProtectionEnabled": bool, "ExpiresInMinutes": int}``; the second is not
required. Control decides (``Control.task_protection``); nothing is kept here. The answer has one of:

================ =======================================================================================
``protection``   200: as it is now
``failure``      200: why the task cannot have any, such as ``TASK_NOT_VALID`` for one of no service
``error``        why there is no answer: 400, 403, 404, 500, 504, or the status of the ECS API, and then
                 its ``requestID``
================ =======================================================================================

Source of paths, texts and statuses: Amazon ECS agent 1.105.1, ``ecs-agent/tmds/handlers/taskprotection``.
Tests: ``tests/unit/task_endpoint/test_protection.py``, ``tests/integration/e2e/test_task_protection.py``.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from agent.errors import ControlFailure, EcsRefused
from agent.model.protection import ProtectionCall, ProtectionChange
from agent.task_endpoint.contract import Route, answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from agent.model.protection import ProtectionOutcome
    from agent.task_endpoint.contract import Call

    Ask = Callable[[ProtectionCall], Awaitable[ProtectionOutcome]]

PATH: Final = "/api/(?P<id>[^/]*)/task-protection/v1/state"
CALL_S: Final = 4.0
"""How long control may take; the limit of the server itself is ten seconds."""
_NAMES: Final = {"protectionenabled": "enabled", "expiresinminutes": "minutes"}
_INT64: Final = 2**63
_SERVER: Final = "ServerException"
_INVALID: Final = "InvalidParameterException"


class Given(NamedTuple):
    """What a body says."""

    enabled: bool | None = None
    minutes: int | None = None


class _Protection(Struct, frozen=True, kw_only=True, rename="pascal"):
    expiration_date: str | None
    protection_enabled: bool
    task_arn: str


class _Failure(Struct, frozen=True, kw_only=True, rename="pascal"):
    arn: str
    detail: str | None
    reason: str


class _Error(Struct, frozen=True, kw_only=True, rename="pascal"):
    arn: str | UnsetType = UNSET
    code: str
    message: str


class _Answer(Struct, frozen=True, kw_only=True, rename={"request_id": "requestID"}):
    request_id: str | UnsetType = UNSET
    protection: _Protection | UnsetType = UNSET
    failure: _Failure | UnsetType = UNSET
    error: _Error | UnsetType = UNSET


def routes(task_of: Callable[[str], str], ask: Ask) -> list[Route]:
    """Return the path of protection.

    Args:
        task_of: returns the ARN of the task of an endpoint id; empty for one that nobody knows.
        ask: asks control.
    """
    calls = _Calls(task_of, ask)
    return [Route(PATH, calls.state, frozenset({"GET", "PUT"}))]


def read_change(body: bytes) -> Given:
    """Return what the body of a PUT says; names in any case, and no others. Pure.

    Raises:
        ValueError: it is not such a JSON object.
    """
    try:
        fields = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if fields is None:
        return Given()
    if not isinstance(fields, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 - like any other bad body
    given: dict[str, Any] = {}
    for name, value in fields.items():
        known = _NAMES.get(name.lower())
        if known is None:
            raise ValueError(f"unknown field {name[:64]!r}")
        if value is not None and not _is_valid(known, value):
            raise ValueError(f"the value of {name} has the wrong type")
        given[known] = value
    return Given(**given)


def _is_valid(name: str, value: object) -> bool:
    if name == "enabled":
        return isinstance(value, bool)
    return type(value) is int and -_INT64 <= value < _INT64


def rfc3339(unix_s: float) -> str:
    """Return a time in UTC, with milliseconds only if there are any. Pure."""
    whole, milliseconds = divmod(round(unix_s * 1000), 1000)
    fraction = f".{milliseconds:03d}".rstrip("0") if milliseconds else ""
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


class _Calls:
    """Answers requests."""

    def __init__(self, task_of: Callable[[str], str], ask: Ask) -> None:
        self._task_of = task_of
        self._ask = ask

    async def state(self, call: Call) -> web.Response:
        """Answer with the task's protection, changed first by a PUT.

        Only a container of the task is answered: the id alone proves nothing.
        """
        given = None
        if call.request.method == "PUT":
            try:
                given = read_change(await call.body())
            except ValueError:
                return _error(400, _INVALID, "UpdateTaskProtection: failed to decode request")
        task_arn = self._task_of(call.match["id"])
        if not task_arn or not await call.is_from(task_arn):
            text = "Failed to find a task for the request"
            return _error(404, "ResourceNotFoundException", text)
        change = None
        if given is not None:
            if given.enabled is None:
                text = "Invalid request: does not contain 'ProtectionEnabled' field"
                return _error(400, _INVALID, text, task_arn)
            change = ProtectionChange(
                protection_enabled=given.enabled, expires_in_minutes=given.minutes
            )
        return await self._of(task_arn, change)

    async def _of(self, task_arn: str, change: ProtectionChange | None) -> web.Response:
        try:
            async with asyncio.timeout(CALL_S):
                outcome = await self._ask(ProtectionCall(task_arn=task_arn, change=change))
        except TimeoutError:
            text = "Timed out calling ECS Task Protection API"
            return _error(504, "RequestCanceled", text, task_arn)
        except EcsRefused as error:
            told = error.answer
            return _error(told.status, told.code, told.message, task_arn, told.request_id)
        except ControlFailure as error:
            return _error(500, _SERVER, str(error), task_arn)
        return _told(outcome, task_arn)


def _told(outcome: ProtectionOutcome, task_arn: str) -> web.Response:
    each = [*outcome.protected_tasks, *outcome.failures]
    if len(each) != 1:
        return _error(500, _SERVER, "Unexpected error occurred", task_arn)
    for failed in outcome.failures:
        failure = _Failure(arn=failed.arn, detail=failed.detail, reason=failed.reason)
        return answer(_Answer(failure=failure))
    (task,) = outcome.protected_tasks
    protection = _Protection(
        expiration_date=None if task.expiration_date is None else rfc3339(task.expiration_date),
        protection_enabled=task.protection_enabled,
        task_arn=task.task_arn,
    )
    return answer(_Answer(protection=protection))


def _error(
    status: int, code: str, message: str, task_arn: str = "", request_id: str = ""
) -> web.Response:
    error = _Error(arn=task_arn or UNSET, code=code, message=message)
    return answer(_Answer(request_id=request_id or UNSET, error=error), status=status)
