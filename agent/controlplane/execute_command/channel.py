"""The WebSocket of clients: ``GET /execute-command/{session}``, opened by the token of a session alone.

The first message says the token, as JSON. Who began and ended a session, and when, is logged; what passes
is not.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from aiohttp import WSMsgType, web
from msgspec import Struct

from agent import keepalive
from agent.controlplane.execute_command import ending
from agent.controlplane.execute_command.agent_link import AgentLink
from agent.controlplane.execute_command.direct import DirectChannel
from agent.controlplane.execute_command.ending import Idle
from agent.controlplane.execute_command.frames import FRAME_LIMIT_BYTES
from agent.controlplane.execute_command.plugin import PluginChannel
from agent.controlplane.execute_command.sessions import TokenRefused
from agent.controlplane.execute_command.transcript import Transcript, TranscriptFailed
from agent.errors import BAD_JSON
from agent.listening.connection import prove, wait_for_reader
from agent.model.exec import INPUT_WINDOW_BYTES, TerminalSize

if TYPE_CHECKING:
    from agent.controlplane.execute_command.sessions import CommandSessions, Session
    from agent.controlplane.log_store.store import LogStore

PATH: Final = "/execute-command/"
"""Of the WebSocket, before the id of the session."""
TOKEN_LIMIT_S: Final = 10.0
"""How long the token may take to arrive."""
CLOSE_S: Final = 0.5
DIRECT: Final = "exec"
"""What ``OpenChannel.speaks`` says of a client that speaks ``model.exec``."""
_POLICY: Final = 1008

_log = structlog.get_logger(__name__)


class OpenChannel(Struct, frozen=True, rename="pascal"):
    """First message of a client; the members of session-manager-plugin that matter, and two of our own."""

    token_value: str
    speaks: str = ""
    """``exec`` for the messages of ``model.exec``; empty for those of session-manager-plugin."""
    terminal: TerminalSize | None = None
    """The terminal for a command of a client that speaks ``exec``; None for none."""


_opening = msgspec.json.Decoder(OpenChannel)


class CommandChannel:
    """Serves clients of the sessions of one control."""

    def __init__(self, sessions: CommandSessions, log_store: LogStore | None) -> None:
        self._sessions = sessions
        self._log_store = log_store

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the WebSocket to an application."""
        router.add_get(PATH + "{session}", self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            timeout=CLOSE_S,
            max_msg_size=max(FRAME_LIMIT_BYTES, 2 * INPUT_WINDOW_BYTES),
            compress=False,
        )
        if not socket.can_prepare(request):
            return web.Response(status=426, text="sessions of ExecuteCommand need a WebSocket\n")
        await socket.prepare(request)
        try:
            opening = await _first_message(socket)
            session = self._sessions.open(request.match_info["session"], opening.token_value)
        except TokenRefused as error:
            _log.warning("session of a command refused", peer=request.remote, error=str(error))
            await socket.close(code=_POLICY, message=str(error).encode())
            return socket
        prove(request)
        wait_for_reader(request)
        # A client whose host is gone must not keep the command running.
        if request.transport is not None:
            keepalive.watch(request.transport.get_extra_info("socket"))
        try:
            await self._carry(socket, session, opening, request.remote or "")
        finally:
            self._sessions.end(session)
            await socket.close()
        return socket

    async def _carry(
        self, socket: web.WebSocketResponse, session: Session, opening: OpenChannel, peer: str
    ) -> None:
        """Carry a session from its opening to its end; ``peer`` is empty for the owner on the Unix socket."""
        target = session.target
        about = {"session": session.id, "task": target.task_arn, "container": target.container}
        _log.info(
            "session of a command opened",
            **about,
            by=session.caller.name,
            peer=peer or "its own host",
            program=target.words[0],
        )
        store = self._log_store if target.log_group else None
        transcript = Transcript(store, target.log_group, session.id)
        channel: PluginChannel | DirectChannel = (
            DirectChannel(
                socket,
                session,
                transcript,
                opening.terminal,
                Idle(ending.IDLE_S) if peer else None,
            )
            if opening.speaks == DIRECT
            else PluginChannel(socket, session, transcript)
        )

        async def agent() -> AgentLink:
            return AgentLink(await self._sessions.call_agent(session))

        began = time.monotonic()
        why = "it was cut off"
        try:
            why = await channel.run(agent) or "the command ended with exit code 0"
        finally:
            await self._finish(transcript, session)
            took_s = round(time.monotonic() - began, 1)
            _log.info(
                "session of a command ended",
                **about,
                by=session.caller.name,
                took_s=took_s,
                why=why,
            )

    @staticmethod
    async def _finish(transcript: Transcript, session: Session) -> None:
        """Store the last lines of a session that did not end by itself."""
        try:
            await transcript.finish()
        except TranscriptFailed as error:
            _log.error("output of a command not logged", session=session.id, error=str(error))


async def _first_message(socket: web.WebSocketResponse) -> OpenChannel:
    try:
        async with asyncio.timeout(TOKEN_LIMIT_S):
            message = await socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise TokenRefused("the first message must be the token, as JSON")
        return _opening.decode(message.data)
    except TimeoutError:
        raise TokenRefused("the token did not arrive in time") from None
    except BAD_JSON:
        # Without the decoder's words, which may quote what was sent.
        raise TokenRefused("the first message must be the token, as JSON") from None
