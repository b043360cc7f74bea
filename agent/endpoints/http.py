"""What both local servers share: JSON answers, and errors that are always a ``views.Problem``.

No request can end the process: an unexpected error is logged once and answered with 500.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiohttp import web

from agent.errors import (
    EngineTimeout,
    EngineUnavailable,
    NetworkFailure,
    NoSuchContainer,
    RuntimeFailure,
    StateFailure,
)
from agent.listening.limits import Limits
from agent.listening.server import HttpServer
from agent.model.views import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger()

_BODY_LIMIT_BYTES = 64 * 1024
_SHUTDOWN_LIMIT_S = 1.0
"""How long requests in flight may take when the server stops; log followers never end."""
_LINGERING_S = 2.0
_LIMITS = Limits(
    connections=256,
    silent=64,
    silent_per_address=32,
    unproven=64,
    unproven_per_address=32,
    unproven_bytes=8 * 1024 * 1024,
)
"""The agent needs its descriptors and its memory for tasks."""


class RequestRefused(Exception):
    """A request that cannot be answered; becomes a ``Problem`` with this status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def application() -> web.Application:
    """Return an application without routes that turns errors into ``Problem`` answers."""
    return web.Application(middlewares=[_worded], client_max_size=_BODY_LIMIT_BYTES)


async def server(app: web.Application) -> HttpServer:
    """Return a server that ends a handler when its client leaves and logs no calls.

    Strangers reach it too, such as tasks in the host's network: they take no more than a little.
    """
    return await HttpServer.open(
        app,
        _LIMITS,
        shutdown_s=_SHUTDOWN_LIMIT_S,
        lingering_s=_LINGERING_S,
        handler_cancellation=True,
    )


def answer(body: Any, *, status: int = 200) -> web.Response:
    """Return a JSON answer for anything that msgspec can encode."""
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


@web.middleware
async def _worded(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestRefused as error:
        return answer(Problem(message=str(error)), status=error.status)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        text = f"{request.method} {request.path}: {error.reason}"
        return answer(Problem(message=text), status=error.status)
    except RuntimeFailure as error:
        return answer(Problem(message=str(error)), status=_status_of(error))
    except (StateFailure, NetworkFailure) as error:
        return answer(Problem(message=str(error)), status=503)
    except ConnectionError:  # the client left in the middle of an answer
        raise
    except Exception:  # noqa: BLE001 - no request may end the agent
        _log.exception("a local request failed", method=request.method, path=request.path)
        text = "the agent failed to answer; see its log"
        return answer(Problem(message=text), status=500)


def _status_of(error: RuntimeFailure) -> int:
    if isinstance(error, NoSuchContainer):
        return 404
    return 503 if isinstance(error, EngineUnavailable | EngineTimeout) else 409
