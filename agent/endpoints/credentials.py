"""Credentials by their id, for the engine's log driver: ``GET /v2/credentials/{id}`` on the loopback.

The host's processes find it at 169.254.170.2 (``network.agent_address``). Whoever knows an id gets the
credentials: ids are long and random, and nothing but the engine is told one. Source of the wire: Amazon
ECS agent 1.105.1, ``ecs-agent/tmds/handlers/v2``.

====== ============================ ===================================================================
200    ``Credentials``
400    ``NoIdInRequest``            the path ends before an id
400    ``InvalidIdInRequest``       nobody knows it
503    ``CredentialsUninitialized`` they exist, and control has not sent them again yet
====== ============================ ===================================================================

Each request is one line of the log, without the id. Tests: ``tests/unit/endpoints/test_credentials.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, Self

import structlog
from aiohttp import web
from msgspec import Struct

from agent.endpoints.http import answer, application, server
from agent.listening.connection import prove

if TYPE_CHECKING:
    import socket

    from agent.listening.server import HttpServer

_AGENT_LIMIT: Final = 100

_log = structlog.get_logger(__name__)


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


class Found(Struct, frozen=True):
    """What is known of an id."""

    whose: str
    """ARN or id of the task, for the log."""
    kind: str
    """What they are for, for the log: ``GetCredentials``, ``GetCredentialsExecutionRole``, ``GetLogKeys``."""
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


class CredentialsServer:
    """The server of one agent."""

    def __init__(self, served: HttpServer) -> None:
        """Take what ``open`` made."""
        self._server = served

    @classmethod
    async def open(cls, bound: socket.socket, find: FindCredentials) -> Self:
        """Serve on a bound socket, which is closed with the server; ``close`` it.

        Raises:
            OSError: it cannot be listened on.
        """
        calls = _Calls(find)
        app = application()
        app.add_routes([web.get("/v2/credentials{rest:(/.*)?}", calls.get)])
        served = await server(app)
        try:
            served.listen(bound)
        except OSError:
            await served.close()
            raise
        return cls(served)

    async def close(self) -> None:
        """Listen no longer; may be repeated."""
        await self._server.close()


class _Calls:
    """Answers requests."""

    def __init__(self, find: FindCredentials) -> None:
        self._find = find

    async def get(self, request: web.Request) -> web.Response:
        """Answer with credentials, or why there are none."""
        credentials_id = request.match_info["rest"].removeprefix("/")
        found = self._find(credentials_id) if credentials_id else None
        if found is not None and found.credentials is not None:
            prove(request)
            response = answer(found.credentials)
        elif found is not None:
            response = _refused(503, "CredentialsUninitialized", "Credentials uninitialized for ID")
        elif credentials_id:
            response = _refused(400, "InvalidIdInRequest", "Credentials not found")
        else:
            response = _refused(400, "NoIdInRequest", "No Credential ID in the request")
        _log.info(
            "credentials asked for",
            task=found.whose if found else "-",
            kind=found.kind if found and found.credentials else "-",
            status=response.status,
            peer=request.remote or "-",
            client=ascii(request.headers.get("User-Agent", ""))[1:-1][:_AGENT_LIMIT],
        )
        return response


def _refused(status: int, code: str, message: str) -> web.Response:
    return answer(_Refusal(code, f"CredentialsV2Request: {message}", status), status=status)
