"""Commands that operators run in containers, over a WebSocket with the messages of ``model.exec``.

The WebSocket is one of the operator socket (``GET /v1/tasks/{task}/exec``), or one that this agent opened to
control, whose client then is control (``exec_channel``, loaded at the first of them). A session ends with its
command, with its container, or with its client; in the last case the command is ended too. Input is passed on as fast as the command reads it, output as fast as the client does.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from aiohttp import WSMsgType, web

from agent.endpoints.http import RequestRefused
from agent.endpoints.lookup import container_of, find
from agent.errors import BAD_JSON, RuntimeFailure
from agent.model.exec import (
    MESSAGE_LIMIT_BYTES,
    NOT_EXECUTABLE,
    NOT_FOUND,
    AgentMessage,
    ClientMessage,
    EndOfInput,
    ExecExited,
    ExecFailed,
    ExecRequest,
    Resize,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from agent.endpoints.lookup import Meant
    from agent.endpoints.source import AgentSource
    from agent.model.views import ContainerView
    from agent.runtime.protocol import ExecSession

    Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse

MOST_SESSIONS: Final = 64
"""How many commands run at once; one more is refused."""
REQUEST_LIMIT_S: Final = 10.0
"""How long the first message may take to arrive."""
CONTROL_LIMIT_S: Final = 60.0
"""The same if control is the client, which waits for the terminal of its own client."""
CLOSE_LIMIT_S: Final = 2.0
_PRESENCE_EVERY_S: Final = 1.0
_NO_START: Final = (b"OCI runtime exec failed", b"unable to find ")
"""How the engine begins the output of a command that it could not start."""
_MISSING: Final = re.compile("executable file not found|no such file or directory")

_log = structlog.get_logger(__name__)


class ExecSessions:
    """Serves sessions of one agent."""

    def __init__(self, agent: AgentSource) -> None:
        self._agent = agent
        self._open = 0

    async def serve(
        self, request: web.Request, meant: Callable[[web.Request], Meant]
    ) -> web.WebSocketResponse:
        """Serve one session to its end.

        Refusals are messages too, because a WebSocket client does not show the body of an error.
        """
        socket = web.WebSocketResponse(
            timeout=CLOSE_LIMIT_S, max_msg_size=MESSAGE_LIMIT_BYTES, compress=False
        )
        if not socket.can_prepare(request):
            raise RequestRefused(426, "a command in a container needs a WebSocket")
        await socket.prepare(request)
        try:
            end = await self._session(
                socket, partial(meant, request), partial(_with_client, request, socket)
            )
        except (RequestRefused, RuntimeFailure) as error:
            end = ExecFailed(message=str(error))
        if end is not None:
            with contextlib.suppress(ConnectionError):
                await socket.send_str(msgspec.json.encode(end).decode())
        await socket.close()
        return socket

    async def carry(self, socket: aiohttp.ClientWebSocketResponse, task_arn: str) -> None:
        """Serve one session of control to its end, on a WebSocket that is open and closed by the caller.

        Args:
            socket: on which control says which command to run.
            task_arn: the task in whose container it is run.
        """
        # Most agents never have such a session.
        from agent.endpoints import exec_channel  # noqa: PLC0415

        def meant() -> Meant:
            return find(self._agent.task_views(), task_arn)

        end: AgentMessage | None = ExecFailed(
            message="the agent of the task's host stops; the command was ended"
        )
        try:
            with_control = partial(exec_channel.with_control, socket)
            end = await self._session(socket, meant, with_control, CONTROL_LIMIT_S)
        except (RequestRefused, RuntimeFailure) as error:
            end = ExecFailed(message=str(error))
        finally:
            if end is not None:
                # A control that does not read must not hold up an agent that stops.
                with contextlib.suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(CLOSE_LIMIT_S):
                        await socket.send_str(msgspec.json.encode(end).decode())

    async def _session(
        self,
        socket: Socket,
        meant: Callable[[], Meant],
        with_client: Callable[[ExecSession, str], Awaitable[AgentMessage | None]],
        limit_s: float = REQUEST_LIMIT_S,
    ) -> AgentMessage | None:
        """Run the command; None if the client has left."""
        asked = await _first_message(socket, limit_s)
        if not asked.command.words or not asked.command.words[0]:
            raise RequestRefused(400, "the command is empty")
        found = meant()
        container = running_container(found, asked.container)
        if self._open >= MOST_SESSIONS:
            text = f"{MOST_SESSIONS} commands already run in containers; end one of them"
            raise RequestRefused(429, text)
        self._open += 1
        try:
            session = await self._agent.start_exec(container.runtime_id, asked.command)
            _log.info(
                "command in a container started",
                task=found.task.arn,
                container=container.name,
                program=asked.command.words[0],
                user=asked.command.user or "of the container",
            )
            try:
                return await with_client(session, asked.command.words[0])
            finally:
                await session.close()
        finally:
            self._open -= 1


def running_container(meant: Meant, name: str) -> ContainerView:
    """Return the container for a command: the named one, the one that matched, or the only one.

    Raises:
        RequestRefused: there are several, none of that name, or it does not run.
    """
    task = meant.task
    chosen = container_of(meant, name, mend="name one of them after the task")
    if chosen.status != "RUNNING" or not chosen.runtime_id:
        text = (
            f"container {chosen.name!r} of task {task.id} is not running: it is {chosen.status};"
            f" 'ecs-agent why {task.id}' shows why"
        )
        raise RequestRefused(409, text)
    return chosen


async def _first_message(socket: Socket, limit_s: float) -> ExecRequest:
    try:
        async with asyncio.timeout(limit_s):
            message = await socket.receive()
    except TimeoutError:
        raise RequestRefused(408, "the command did not arrive in time") from None
    if message.type is not WSMsgType.TEXT:
        raise RequestRefused(400, "the first message must be the command, as JSON")
    request: ExecRequest = decoded(message.data, ExecRequest)
    return request


def decoded(text: str, kind: Any) -> Any:
    """Return a message of a client; raises ``RequestRefused``."""
    try:
        return msgspec.json.decode(text, type=kind)
    except BAD_JSON as error:
        raise RequestRefused(400, f"a message of the session cannot be read: {error}") from None


async def _with_client(
    request: web.Request, socket: web.WebSocketResponse, session: ExecSession, program: str
) -> AgentMessage | None:
    """Pass input and output until the command ends; return None if its client leaves first."""
    output = asyncio.create_task(pass_output(session, socket, program))
    others = (
        asyncio.create_task(_pass_input(socket, session)),
        asyncio.create_task(_absence(request)),
    )
    try:
        await asyncio.wait({output, *others}, return_when=asyncio.FIRST_COMPLETED)
        if output.done():
            return output.result()
        for other in others:
            if other.done():
                other.result()
        return None
    finally:
        for each in (output, *others):
            each.cancel()
        await asyncio.wait({output, *others})


async def pass_output(session: ExecSession, socket: Socket, program: str) -> AgentMessage | None:
    """Send output and return how the command ended; None if the client has left."""
    try:
        first = await session.read()
        # Perhaps the engine's own words, which only the result can tell.
        is_withheld = first is not None and first[1].startswith(_NO_START)
        piece = await session.read() if is_withheld else first
        if piece is not None and is_withheld and first is not None:
            await _send(socket, first)
            is_withheld = False
        while piece is not None:
            await _send(socket, piece)
            piece = await session.read()
        result = await session.result()
        if not result.started:
            return _not_started(program, first[1] if first is not None else b"")
        if is_withheld and first is not None:
            await _send(socket, first)
    except ConnectionError:
        return None
    return ExecExited(code=result.exit_code)


async def _send(socket: Socket, piece: tuple[int, bytes]) -> None:
    stream, data = piece
    await socket.send_bytes(bytes((stream,)) + data)


def _not_started(program: str, explanation: bytes) -> ExecFailed:
    """Return the failure of a command that the engine could not start.

    The code is decided here: engines say 126 or 127 for a missing program, depending on their version.
    """
    words = explanation.decode(errors="replace").strip()
    cause = words.rpartition("unable to start container process: ")[2].removesuffix(": unknown")
    if cause.startswith("exec: ") and _MISSING.search(cause):
        return ExecFailed(message=f"the container has no program {program!r}", code=NOT_FOUND)
    told = cause or "the engine does not say why"
    return ExecFailed(message=f"{program!r} cannot be started: {told}", code=NOT_EXECUTABLE)


async def _pass_input(socket: web.WebSocketResponse, session: ExecSession) -> None:
    """Pass input on until the client leaves. What a command no longer reads is discarded."""
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.BINARY:
            with contextlib.suppress(ConnectionError):
                await session.write(message.data)
        elif message.type is WSMsgType.TEXT:
            order = decoded(message.data, ClientMessage)
            if isinstance(order, Resize):
                await session.resize(order.size)
            elif isinstance(order, EndOfInput):
                await session.end_input()
        else:
            return


async def _absence(request: web.Request) -> None:
    """Return when the client has closed its connection.

    While a command does not read its input, nothing reads the connection, so nothing else notices.
    """
    transport = request.transport
    wire = transport.get_extra_info("socket") if transport is not None else None
    if wire is None:
        return
    poll = select.poll()
    poll.register(wire.fileno(), 0)  # POLLHUP and POLLERR are always reported
    while True:
        if poll.poll(0):
            return
        await asyncio.sleep(_PRESENCE_EVERY_S)
