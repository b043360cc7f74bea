"""The HTTP server that containers reach at 169.254.170.2.

Everything that every path has in common is here: limits on connections, heads and bodies, throttling, the
headers and texts of Amazon's agent for what is not a path of any part. Whoever floods it gets 429 and waits for
it: a container that asks in a loop slows down itself, and nobody else.

Source: Amazon ECS agent 1.105.1, ``agent/handlers/task_server_setup.go`` and ``ecs-agent/tmds``.
Tests: ``tests/unit/task_endpoint/test_server.py``.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, Self

import structlog
from aiohttp import web

from agent.listening.connection import prove
from agent.listening.limits import Limits
from agent.listening.rates import RateLimits
from agent.listening.server import HttpServer
from agent.task_endpoint.contract import BODY_LIMIT_BYTES, Call, Peer
from agent.task_endpoint.throttle import RequestRate, Throttle

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

    from aiohttp.typedefs import Middleware

    from agent.task_endpoint.contract import AsksWho, Route

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
    Refused = Callable[[web.Request, Peer], object]

HANDLER_S: Final = 10.0
"""How long an answer may take, with the time in which a body arrives."""
HEAD_S: Final = 5.0
"""How long a client may take for a request's head; the same again for its body."""
REFUSAL_WAIT_S: Final = 0.5
"""How long a client that asks far too often waits for each further refusal."""
_REFUSALS_PER_S: Final = 20.0
_REFUSALS_BURST: Final = 60
_SHUTDOWN_S: Final = 1.0
_LINGERING_S: Final = 2.0
_LONGEST_HEADER: Final = 256
_COUNTED: Final = frozenset({"api", "v1", "v2", "v3", "v4"})
_LIMITS: Final = Limits(
    connections=512,
    silent=128,
    silent_per_address=32,
    unproven=192,
    unproven_per_address=64,
    unproven_bytes=8 * 1024 * 1024,
    head_s=HEAD_S,
    stall_s=2.0,
    lingering_bytes=BODY_LIMIT_BYTES,
    answers_per_s=200.0,
    answers_burst=400,
)
"""The agent needs its descriptors and its memory for tasks. The rate of answers is above that of any
throttle: it only slows those who ask for ever new paths."""

_log = structlog.get_logger(__name__)


class TaskServer:
    """The server of one agent."""

    def __init__(self, served: HttpServer) -> None:
        """Take what ``open`` made."""
        self._server = served

    @classmethod
    async def open(
        cls,
        bound: socket.socket,
        *,
        routes: Iterable[Route],
        callers: AsksWho,
        rate: RequestRate | None = None,
        refused: Refused | None = None,
        counts: Counter[tuple[str, int]] | None = None,
    ) -> Self:
        """Serve on a bound socket, which is closed with the server; ``close`` it.

        Args:
            bound: the socket.
            routes: of all parts; the first that matches answers.
            callers: knows who asks.
            rate: how often one client may ask for one path; the usual rate if None.
            refused: called with each request that the throttle refused, and its peer.
            counts: where answers are counted, by kind of path and HTTP status.

        Raises:
            OSError: it cannot be listened on.
        """
        throttle = Throttle(rate or RequestRate())
        requests = _Requests(
            list(routes), callers, throttle, refused, Counter() if counts is None else counts
        )
        app = web.Application(middlewares=[requests.middleware()], client_max_size=BODY_LIMIT_BYTES)
        served = await HttpServer.open(
            app,
            _LIMITS,
            shutdown_s=_SHUTDOWN_S,
            lingering_s=_LINGERING_S,
            handler_cancellation=True,
        )
        try:
            served.listen(bound)
        except OSError:
            await served.close()
            raise
        return cls(served)

    async def close(self) -> None:
        """Listen no longer; may be repeated."""
        await self._server.close()


class _Requests:
    """Answers every request, whatever its path and method."""

    def __init__(
        self,
        routes: list[Route],
        callers: AsksWho,
        throttle: Throttle,
        refused: Refused | None,
        counts: Counter[tuple[str, int]],
    ) -> None:
        self._routes = [(re.compile(route.path, re.DOTALL), route) for route in routes]
        self._callers = callers
        self._throttle = throttle
        self._refused = refused
        self._counts = counts
        self._refusals = RateLimits(_REFUSALS_PER_S, _REFUSALS_BURST)

    def middleware(self) -> Middleware:
        """Return what aiohttp calls in place of its own routes, of which there are none."""

        @web.middleware
        async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
            del handler  # its answer to a path that aiohttp does not know
            return await self.serve(request)

        return serve

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with the headers that every answer has."""
        peer = _peer_of(request)
        if self._throttle.take(peer.ipv4, request.path):
            response = await self._answer(request, peer)
        else:
            response = await self._refuse(request, peer)
        if not response.prepared:
            self._add_headers(request, peer, response)
        self._counts[_counted(request.path), response.status] += 1
        if response.status < 400:
            prove(request)  # it may ask again on this connection
        return response

    async def _answer(self, request: web.Request, peer: Peer) -> web.StreamResponse:
        try:
            async with asyncio.timeout(HANDLER_S):
                return await self._routed(request, peer)
        except TimeoutError:
            _log.warning("request of a task not answered in time", path=_kind(request.path))
            return _plain(503, "the agent did not answer in time")
        except web.HTTPException as error:
            response = _plain(error.status, error.reason)
            if error.status in (408, 413):
                response.force_close()
            return response
        except ConnectionError:  # the client left in the middle
            raise
        except Exception:  # noqa: BLE001 - no request may end the agent
            _log.exception("a request of a task failed", path=_kind(request.path))
            return _plain(500, "internal server error")

    async def _routed(self, request: web.Request, peer: Peer) -> web.StreamResponse:
        path = request.path
        clean = cleaned(path)
        if clean != path:
            given = request.rel_url.raw_query_string  # decoded, it may have an end of line
            query = f"?{given}" if given else ""
            location = request.rel_url.with_path(clean).raw_path + query
            return web.Response(status=301, headers={"Location": location})
        for pattern, route in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if route.methods and request.method not in route.methods:
                return web.Response(status=405)
            return await route.handler(Call(request, match, peer, self._callers))
        return _plain(404, "404 page not found\n")

    async def _refuse(self, request: web.Request, peer: Peer) -> web.Response:
        if self._refused is not None:
            self._refused(request, peer)
        if not self._refusals.take(peer.ipv4):
            await asyncio.sleep(REFUSAL_WAIT_S)
        return _plain(429, "You have reached maximum request limit.")

    def _add_headers(self, request: web.Request, peer: Peer, response: web.StreamResponse) -> None:
        forwarded = request.headers.get("X-Forwarded-For", "")[:_LONGEST_HEADER]
        # A part with a rate of its own has added that.
        response.headers.add("X-Rate-Limit-Limit", f"{self._throttle.rate.per_s:.2f}")
        response.headers["X-Rate-Limit-Duration"] = "1"
        response.headers["X-Rate-Limit-Request-Forwarded-For"] = forwarded.encode(
            "ascii", "replace"
        ).decode()
        response.headers["X-Rate-Limit-Request-Remote-Addr"] = peer.text()


def cleaned(path: str) -> str:
    """Return a path without empty, ``.`` and ``..`` parts; a slash at its end stays. Pure."""
    clean = posixpath.normpath(f"/{path}").replace("//", "/", 1)
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean


def _peer_of(request: web.Request) -> Peer:
    transport = request.transport
    name = transport.get_extra_info("peername") if transport is not None else None
    return Peer(*name[:2]) if isinstance(name, tuple) else Peer("", 0)


def _kind(path: str) -> str:
    """Return the start of a path, which has no id in it."""
    return "/".join(path.split("/")[:2])


def _counted(path: str) -> str:
    """Return what a path is counted as, so that nobody can make up series."""
    kind = _kind(path).lstrip("/")
    return kind if kind in _COUNTED else "other"


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/plain", charset="utf-8")
