"""Who gets an answer on the long poll, and that everybody who calls gets one.

A call is admitted by the certificate of its host, if control's authority signed it, or by a token. Whatever happens in
a call becomes a response.

Tests: ``tests/unit/controlplane/agents/test_tokens.py``, ``tests/unit/controlplane/agents/test_agents.py``.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import structlog

from agent.controlplane.agents.longpoll import messages
from agent.controlplane.agents.longpoll.errors import (
    LogsNotTaken,
    TooManyHosts,
    TryAgain,
    Unauthorized,
    WireError,
)
from agent.controlplane.agents.tokens import TOKEN_GONE, Admission
from agent.controlplane.monitoring.figures import Call, Figures
from agent.controlplane.pki.names import host_of
from agent.controlplane.store.contract import StoreFailure
from agent.listening.connection import prove

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from agent.controlplane.agents.longpoll.identity_calls import IdentityCalls
    from agent.controlplane.agents.tokens import AgentTokens

    Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger(__name__)


class Gate:
    """Admits calls and answers whatever happens in them; for one event loop."""

    def __init__(
        self, agent_tokens: AgentTokens, identities: IdentityCalls, figures: Figures
    ) -> None:
        self._agent_tokens = agent_tokens
        self._identities = identities
        self._figures = figures

    def answering(self, operation: str, call: Answer) -> Answer:
        """Return the handler of a call for admitted agents, which is counted as ``operation``."""

        async def admitting(request: web.Request) -> web.StreamResponse:
            admission, host = self._admit(request)
            prove(request)
            request[messages.SHOWN] = messages.shown(request, admission, host)
            request[messages.ADMISSION] = admission
            return await self._admitted(call, request, admission, host)

        return self.answering_all(operation, admitting)

    def answering_all(self, operation: str, call: Answer) -> Answer:
        """Return the handler of a call for everybody, which is counted as ``operation``."""

        async def handler(request: web.Request) -> web.StreamResponse:
            response = await _translated(call, request)
            self._figures.called(Call("agents", operation, response.status))
            return response

        return handler

    def _admit(self, request: web.Request) -> tuple[Admission, str]:
        """Return how a call is admitted, and the identity of its host; empty if it has none.

        Raises:
            Unauthorized: it is not.
            StaleGeneration: the identity was revoked.
        """
        wire = request.transport
        host = host_of(wire.get_extra_info("peercert")) if wire is not None else ""
        if host:
            self._identities.check(host)
            return Admission(), host
        header = request.headers.get("Authorization")
        return self._agent_tokens.check(header, request.remote or ""), ""

    async def _admitted(
        self, call: Answer, request: web.Request, admission: Admission, host: str
    ) -> web.StreamResponse:
        """Answer a call; one whose token is taken out of the file, or whose host is revoked, ends at once.

        Raises:
            Unauthorized: its token was taken out.
            StaleGeneration: its host was revoked.
        """

        def end() -> None:
            scope.reschedule(0.0)

        try:
            async with asyncio.timeout(None) as scope:
                with (
                    self._agent_tokens.watching(admission, end),
                    self._identities.watching(host, end),
                ):
                    return await call(request)
        except TimeoutError:
            if not scope.expired():
                raise
            if host:
                self._identities.check(host)
            raise Unauthorized(f"control lets this call in no longer: {TOKEN_GONE}") from None


def is_encrypted(wire: asyncio.BaseTransport) -> bool:
    """Return whether control itself ends the TLS of a connection."""
    return wire.get_extra_info("ssl_object") is not None


async def _translated(call: Answer, request: web.Request) -> web.StreamResponse:
    """Answer a call, whatever happens in it."""
    try:
        return await call(request)
    except (TooManyHosts, LogsNotTaken) as error:
        answer = messages.problem(error.status, error.code, str(error))
        answer.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        return answer
    except WireError as error:
        return messages.problem(error.status, error.code, str(error))
    except (StoreFailure, TimeoutError) as error:
        _log.error("call failed", path=request.path, error=repr(error))
        return messages.problem(TryAgain.status, TryAgain.code, "control cannot do it now")
    except Exception:  # noqa: BLE001 - one bad call must not take the connection down
        _log.exception("call failed", path=request.path)
        return messages.problem(500, "InternalError", "control failed; its log says why")
