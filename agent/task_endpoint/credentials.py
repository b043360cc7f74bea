"""Credentials by their id: ``GET /v2/credentials/{id}``, and ``/v1/credentials?id=`` for old SDKs.

Better than Amazon's agent, an id is not the only secret: credentials of a task's role are given to the task
that owns them, and everything to the host's superuser, as whom the engine and its volume plugins ask. Anyone
else gets what an unknown id gets. Source of the wire: Amazon ECS agent 1.105.1,
``ecs-agent/tmds/handlers``.

====== ============================ ===================================================================
200    ``Credentials``
400    ``NoIdInRequest``            there is no id
400    ``InvalidIdInRequest``       nobody knows it, or it is of another task
503    ``CredentialsUninitialized`` they exist, and control has not sent them again yet
====== ============================ ===================================================================

Tests: ``tests/unit/task_endpoint/test_credentials.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from agent.task_endpoint.contract import Route, answer

if TYPE_CHECKING:
    from aiohttp import web

    from agent.task_endpoint.audit import AuditLog
    from agent.task_endpoint.contract import Call


class Credentials(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What a client signs with."""

    access_key_id: str
    secret_access_key: str
    role_arn: str = ""
    token: str = ""
    expiration: str = ""
    """RFC 3339; left out for those that do not expire."""

    def __repr__(self) -> str:
        """Hide the secrets."""
        return f"Credentials(role_arn={self.role_arn!r})"


class Found(Struct, frozen=True, kw_only=True):
    """What is known of an id."""

    whose: str
    """ARN or id of the task, for the log."""
    kind: str
    """What they are for, for the log: ``GetCredentials``, ``GetCredentialsExecutionRole``, ``GetLogKeys``."""
    owner: str
    """ARN of the task whose containers may have them; empty where only the engine may."""
    credentials: Credentials | None
    """None while control has not sent them."""


class FindCredentials(Protocol):
    """Knows credentials by their id; returns at once."""

    def __call__(self, credentials_id: str) -> Found | None:
        """Return what is known of an id; None for one that nobody knows."""


class _Refusal(Struct, frozen=True, rename={"status": "HTTPErrorCode"}):
    code: str
    message: str
    status: int


class CredentialsPart:
    """Answers for credentials; its ``routes`` go to the server."""

    def __init__(self, find: FindCredentials, audit: AuditLog) -> None:
        """Take what knows credentials, and where each request is noted."""
        self._find = find
        self._audit = audit

    def routes(self) -> list[Route]:
        """Return the paths of both versions."""
        return [
            Route(r"/v1/credentials", self._first),
            Route(r"/v2/credentials(?:/(?P<id>.*))?", self._second),
        ]

    async def _first(self, call: Call) -> web.Response:
        return await self._given(call, call.request.query.get("id", ""), 1)

    async def _second(self, call: Call) -> web.Response:
        return await self._given(call, call.match["id"] or "", 2)

    async def _given(self, call: Call, credentials_id: str, version: int) -> web.Response:
        """Answer with credentials, or why there are none."""
        found = self._find(credentials_id) if credentials_id else None
        if found is not None and not await _may_have(call, found):
            found = None
        if found is not None and found.credentials is not None:
            response = answer(found.credentials)
        elif found is not None:
            text = "Credentials uninitialized for ID"
            response = _refused(version, 503, "CredentialsUninitialized", text)
        elif credentials_id:
            response = _refused(version, 400, "InvalidIdInRequest", "Credentials not found")
        else:
            response = _refused(version, 400, "NoIdInRequest", "No Credential ID in the request")
        self._audit.note(
            call.request,
            call.peer,
            status=response.status,
            task=found.whose if found else "",
            kind=found.kind if found and found.credentials else "",
        )
        return response


async def _may_have(call: Call, found: Found) -> bool:
    if found.owner and await call.is_from(found.owner):
        return True
    return await call.is_from_host()


def _refused(version: int, status: int, code: str, message: str) -> web.Response:
    refusal = _Refusal(code, f"CredentialsV{version}Request: {message}", status)
    return answer(refusal, status=status)
