"""A command whose client is control, on a WebSocket that this agent opened to it.

The WebSocket is always read, so that control's end of a session is noticed while the command does not read
its input. So input waits here, and control sends no more than ``INPUT_WINDOW_BYTES`` ahead of what the command
has read.

Tests: ``tests/unit/controlplane/execute_command``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import WSMsgType

from agent.endpoints.exec_sessions import decoded, pass_output
from agent.endpoints.http import RequestRefused
from agent.model.exec import (
    INPUT_WINDOW_BYTES,
    AgentMessage,
    ClientMessage,
    EndOfInput,
    InputTaken,
    Resize,
)

if TYPE_CHECKING:
    import aiohttp

    from agent.runtime.protocol import ExecSession

_MOST_BYTES: Final = 2 * INPUT_WINDOW_BYTES
"""Of input that waits here; a client that sends more does not know of the window."""


class _Waiting:
    """Input that the command has not read, in order; None is its end, after which nothing is taken."""

    def __init__(self) -> None:
        self._pieces: deque[bytes | None] = deque()
        self._bytes = 0
        self._is_at_end = False
        self._has_some = asyncio.Event()

    def put(self, piece: bytes | None) -> None:
        """Take a piece; raises ``RequestRefused`` if too much waits. Pieces without bytes are not kept."""
        if self._is_at_end or piece == b"":
            return
        self._is_at_end = piece is None
        self._bytes += len(piece or b"")
        if self._bytes > _MOST_BYTES:
            raise RequestRefused(400, f"more than {_MOST_BYTES} bytes of input were sent ahead")
        self._pieces.append(piece)
        self._has_some.set()

    async def get(self) -> bytes | None:
        """Return the next piece."""
        while not self._pieces:
            self._has_some.clear()
            await self._has_some.wait()
        piece = self._pieces.popleft()
        self._bytes -= len(piece or b"")
        return piece


async def with_control(
    socket: aiohttp.ClientWebSocketResponse, session: ExecSession, program: str
) -> AgentMessage | None:
    """Pass input and output until the command ends; return None if control ends the session first.

    Raises:
        RequestRefused: control sent what cannot be read.
    """
    waiting = _Waiting()
    output = asyncio.create_task(pass_output(session, socket, program))
    control = asyncio.create_task(_read(socket, session, waiting))
    feeding = asyncio.create_task(_feed(socket, session, waiting))
    every = {output, control, feeding}
    try:
        await asyncio.wait({output, control}, return_when=asyncio.FIRST_COMPLETED)
        if output.done():
            return output.result()
        control.result()
        return None
    finally:
        for each in every:
            each.cancel()
        await asyncio.wait(every)


async def _read(
    socket: aiohttp.ClientWebSocketResponse, session: ExecSession, waiting: _Waiting
) -> None:
    """Take what control sends until it ends the session."""
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.BINARY:
            waiting.put(message.data)
        elif message.type is WSMsgType.TEXT:
            order = decoded(message.data, ClientMessage)
            if isinstance(order, Resize):
                await session.resize(order.size)
            elif isinstance(order, EndOfInput):
                waiting.put(None)
        else:
            return


async def _feed(
    socket: aiohttp.ClientWebSocketResponse, session: ExecSession, waiting: _Waiting
) -> None:
    """Pass input on as fast as the command reads it. What it no longer reads is discarded."""
    while True:
        piece = await waiting.get()
        if piece is None:
            await session.end_input()
            continue
        with contextlib.suppress(ConnectionError):
            await session.write(piece)
        taken = InputTaken(size_bytes=len(piece))
        with contextlib.suppress(ConnectionError):
            await socket.send_str(msgspec.json.encode(taken).decode())
