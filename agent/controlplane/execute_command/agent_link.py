"""The WebSocket of the agent of a session: control starts the command, and passes input and output on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import WSMsgType

from agent.errors import AgentError
from agent.model.exec import (
    ChannelMessage,
    EndOfInput,
    ExecCommand,
    ExecExited,
    ExecFailed,
    ExecRequest,
    InputTaken,
    Resize,
)

if TYPE_CHECKING:
    from aiohttp import web

    from agent.controlplane.execute_command.sessions import CommandTarget
    from agent.model.exec import TerminalSize

SEND_S: Final = 30.0
"""How long an agent may take to take a message."""
LOST: Final = "the connection to the agent of the task's host was lost"
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class AgentLost(AgentError):
    """The agent is gone; the text says so to the client."""

    def __init__(self, text: str = LOST) -> None:
        super().__init__(text)


class AgentLink:
    """One agent's end of one session. One task reads, others may write."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def start(self, target: CommandTarget, terminal: TerminalSize | None) -> None:
        """Start the command, on a terminal of this size or without one; raises ``AgentLost``."""
        command = ExecCommand(words=target.words, terminal=terminal)
        await self._tell(ExecRequest(container=target.container, command=command))

    async def write(self, data: bytes) -> None:
        """Pass input on; raises ``AgentLost``."""
        try:
            async with asyncio.timeout(SEND_S):
                await self._socket.send_bytes(data)
        except (TimeoutError, ConnectionError, RuntimeError):
            raise AgentLost from None

    async def resize(self, size: TerminalSize) -> None:
        """Tell the command's terminal its size; raises ``AgentLost``."""
        await self._tell(Resize(size=size))

    async def end_input(self) -> None:
        """Tell that there is no more input; raises ``AgentLost``."""
        await self._tell(EndOfInput())

    async def read(self) -> tuple[int, bytes] | ExecExited | ExecFailed | InputTaken:
        """Return the next output with its stream, or what else the agent says.

        Raises:
            AgentLost: its connection ended, or it sent what cannot be read.
        """
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY and message.data:
            return message.data[0], message.data[1:]
        if message.type is not WSMsgType.TEXT:
            raise AgentLost
        try:
            told: ExecExited | ExecFailed | InputTaken = msgspec.json.decode(
                message.data, type=ChannelMessage
            )
        except _BAD:
            raise AgentLost("the agent of the task's host sent what cannot be read") from None
        return told

    async def _tell(self, message: msgspec.Struct) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await self._socket.send_str(msgspec.json.encode(message).decode())
        except (TimeoutError, ConnectionError, RuntimeError):
            raise AgentLost from None


def conclusion(end: ExecExited | ExecFailed) -> str:
    """Return how a command ended, in words for its client; empty if there is nothing to say."""
    if isinstance(end, ExecFailed):
        return end.message
    return f"the command ended with exit code {end.code}" if end.code else ""
