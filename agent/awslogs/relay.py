"""The log backend that the engine's awslogs driver writes to: an HTTP server on the loopback.

::

    CreateLogGroup     taken, where the task's containers may have groups made
    CreateLogStream    control is asked whether the group exists, if it can be asked at once
    PutLogEvents       signature ► packed ► durable in the spool ► answered

Whoever signs with a task's keys writes that task's logs; anybody else is refused, such as a container in
the host's network. A control that is away keeps no container from starting. Packing and checking happen
in a lane of two threads. Tests: ``tests/unit/awslogs/test_relay.py``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

import structlog
from aiohttp import web

from agent.awslogs import signature, wire
from agent.awslogs.spool_file import Append
from agent.awslogs.wire import LogsRefused
from agent.errors import StateFailure
from agent.listening.connection import prove
from agent.listening.limits import Limits
from agent.listening.server import HttpServer

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

    from agent.awslogs.grants import Grant, LogGrants
    from agent.awslogs.spool import Spool

T = TypeVar("T")

ASK_LIMIT_S: Final = 3.0
"""How long a container's start waits for what control says of its log group."""
WRITE_LIMIT_S: Final = 30.0
_LANES: Final = 2
_BODY_S: Final = 30.0
_SHUTDOWN_S: Final = 5.0
_LINGERING_S: Final = 2.0
_MIB: Final = 1024 * 1024
_LIMITS: Final = Limits(
    connections=4096,
    silent=1024,
    silent_per_address=1024,
    unproven=512,
    unproven_per_address=512,
    unproven_bytes=64 * _MIB,
)
"""The driver opens a connection for each container that writes, all from one address."""

_log = structlog.get_logger(__name__)


class MakeStream(Protocol):
    """Has control make a log stream."""

    async def __call__(self, group: str, stream: str, *, create_group: bool) -> bool:
        """Return whether the stream can be written to; False where the group does not exist.

        Returns True at once where control cannot be asked now.
        """


class LogRelay:
    """Takes logs from the engine's driver."""

    def __init__(self, server: HttpServer, lane: ThreadPoolExecutor) -> None:
        """Take what ``open`` made."""
        self._server = server
        self._lane = lane

    @classmethod
    async def open(
        cls, bound: socket.socket, *, spool: Spool, grants: LogGrants, make_stream: MakeStream
    ) -> Self:
        """Serve on a bound socket, which is closed with the relay; ``close`` it.

        Raises:
            OSError: it cannot be listened on.
        """
        lane = ThreadPoolExecutor(_LANES, thread_name_prefix="log-relay")
        calls = _Calls(spool, grants, make_stream, lane)
        app = web.Application(client_max_size=wire.BODY_LIMIT_BYTES)
        app.add_routes([web.post("/", calls.handle)])
        server = await HttpServer.open(
            app, _LIMITS, shutdown_s=_SHUTDOWN_S, lingering_s=_LINGERING_S
        )
        relay = cls(server, lane)
        try:
            server.listen(bound)
        except OSError:
            await relay.close()
            raise
        return relay

    async def close(self) -> None:
        """Finish what goes on, and listen no longer."""
        await self._server.close()
        self._lane.shutdown(wait=False, cancel_futures=True)


class _Calls:
    """Answers calls."""

    def __init__(
        self, spool: Spool, grants: LogGrants, make_stream: MakeStream, lane: ThreadPoolExecutor
    ) -> None:
        self._spool = spool
        self._grants = grants
        self._make_stream = make_stream
        self._lane = lane
        self._by_name: dict[str, Callable[[Grant, web.Request, bytes], Awaitable[bytes]]] = {
            "CreateLogGroup": self._create_group,
            "CreateLogStream": self._create_stream,
            "PutLogEvents": self._put,
        }

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call, whatever it is."""
        try:
            body = await _body(request)
            grant = await self._sender(request, body)
            prove(request)
            operation = request.headers.get("X-Amz-Target", "").removeprefix(wire.TARGET)
            call = self._by_name.get(operation)
            if call is None:
                raise LogsRefused("UnknownOperationException", f"no operation {operation[:64]!r}")
            return _response(200, await call(grant, request, body))
        except LogsRefused as error:
            return _response(error.status, wire.refusal(error))
        except (StateFailure, TimeoutError) as error:
            refused = LogsRefused("ServiceUnavailableException", str(error) or "not in time")
            return _response(503, wire.refusal(refused))
        except Exception:  # noqa: BLE001 - no call may end the agent
            _log.exception("a call of the log driver failed")
            failed = LogsRefused("InternalFailure", "the agent failed; see its log")
            return _response(500, wire.refusal(failed))

    async def _sender(self, request: web.Request, body: bytes) -> Grant:
        """Return whose logs the sender may write; raises ``LogsRefused``."""
        headers: Mapping[str, str] = request.headers
        claim = signature.read(headers)
        if claim is None:
            raise LogsRefused(
                "MissingAuthenticationTokenException", "the call is not signed", status=403
            )
        known = self._grants.grant(claim.access_key)
        if known is None:
            raise LogsRefused("UnrecognizedClientException", "no such access key", status=403)
        grant, keys = known
        check = partial(signature.is_made_with, keys.secret_key, claim, headers, body)
        if not await self._in_lane(check):
            raise LogsRefused(
                "InvalidSignatureException", "the call was signed with another key", status=403
            )
        return grant

    async def _create_group(self, grant: Grant, request: web.Request, body: bytes) -> bytes:
        del request
        wire.read_group(body)
        if not grant.create_group:
            raise LogsRefused("AccessDeniedException", "awslogs-create-group is not true")
        return b"{}"  # made with the stream

    async def _create_stream(self, grant: Grant, request: web.Request, body: bytes) -> bytes:
        del request
        group, stream = wire.read_stream(body)
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                exists = await self._make_stream(group, stream, create_group=grant.create_group)
        except TimeoutError:
            exists = True
        if not exists:
            raise LogsRefused(
                "ResourceNotFoundException", "The specified log group does not exist."
            )
        return b"{}"

    async def _put(self, grant: Grant, request: web.Request, body: bytes) -> bytes:
        invocation = request.headers.get("amz-sdk-invocation-id", "")
        packed = await self._in_lane(partial(wire.read_put, body, invocation))
        append = Append(task=grant.task_id, create_group=grant.create_group, packed=packed)
        async with asyncio.timeout(WRITE_LIMIT_S):
            await self._spool.append(append)
        return wire.answer_to_put(packed.id)

    async def _in_lane(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._lane, work)


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise LogsRefused(
            "InvalidParameterException", f"a call can have {wire.BODY_LIMIT_BYTES} bytes"
        ) from None


def _response(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": wire.CONTENT_TYPE})
