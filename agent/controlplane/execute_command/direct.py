"""A client that speaks ``model.exec`` itself, as ``ecs-agent exec`` and the console do: its messages are passed on.

It gets standard error apart, the exit code, and a command without a terminal. How much input is under way, the
client and the agent settle between them; output waits while the client does not read. A session of the owner, on
control's Unix socket, may be idle for as long as it wants: a long command may have nothing to say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import WSMsgType

from agent.controlplane.execute_command.ending import (
    ENDINGS,
    ClientGone,
    Ended,
    Idle,
    control_stops,
    first,
)
from agent.errors import BAD_JSON
from agent.model.exec import (
    ClientMessage,
    EndOfInput,
    ExecExited,
    ExecFailed,
    Resize,
    TerminalSize,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from agent.controlplane.execute_command.agent_link import AgentLink
    from agent.controlplane.execute_command.sessions import Session
    from agent.controlplane.execute_command.transcript import Transcript
    from agent.errors import AgentError

SEND_S: Final = 24 * 3600.0
"""A person may stop the output for as long as a pager shows it."""


class DirectChannel:
    """One client on one WebSocket."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        session: Session,
        transcript: Transcript,
        terminal: TerminalSize | None,
        idle: Idle | None,
    ) -> None:
        """Take what to join.

        Args:
            socket: of the client.
            session: which it has opened.
            transcript: keeps the output.
            terminal: the size of the command's terminal; None for a command without one.
            idle: ends a session in which nothing passes; None for one that may be idle.
        """
        self._socket = socket
        self._session = session
        self._transcript = transcript
        self._terminal = terminal
        self._idle = idle

    async def run(self, agent: Callable[[], Awaitable[AgentLink]]) -> str:
        """Carry the session to its end; return why it ended."""
        cause: AgentError = Ended()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(control_stops(self._session))
                link = await agent()
                await link.start(self._session.target, self._terminal)
                group.create_task(self._read(link))
                if self._idle is not None:
                    group.create_task(self._idle.watch())
                await self._pass_output(link)
        except* ENDINGS as errors:
            cause = first(errors)
        text = str(cause)
        if text and not isinstance(cause, ClientGone):
            try:
                await self._tell(ExecFailed(message=text))
            except ClientGone:
                return text
        return text

    async def _read(self, link: AgentLink) -> None:
        """Pass on what the client sends until it leaves; raises ``ClientGone``."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                self._active()
                await link.write(message.data)
            elif message.type is WSMsgType.TEXT:
                try:
                    order = msgspec.json.decode(message.data, type=ClientMessage)
                except BAD_JSON as error:
                    raise ClientGone(f"the client sent what cannot be read: {error}") from None
                if isinstance(order, Resize):
                    await link.resize(order.size)
                elif isinstance(order, EndOfInput):
                    await link.end_input()
            else:
                raise ClientGone("the client left")

    async def _pass_output(self, link: AgentLink) -> None:
        """Pass on what the agent sends; raises ``Ended`` when the command has ended."""
        while True:
            told = await link.read()
            if isinstance(told, tuple):
                self._active()
                stream, data = told
                await self._transcript.add(data)
                await self._send(self._socket.send_bytes(bytes((stream,)) + data))
                continue
            if isinstance(told, ExecExited | ExecFailed):
                await self._transcript.finish()
            await self._tell(told)
            if isinstance(told, ExecExited | ExecFailed):
                raise Ended

    def _active(self) -> None:
        if self._idle is not None:
            self._idle.passed()

    async def _tell(self, message: msgspec.Struct) -> None:
        await self._send(self._socket.send_str(msgspec.json.encode(message).decode()))

    async def _send(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await sending
        except (TimeoutError, ConnectionError, RuntimeError):
            raise ClientGone("the client left") from None
