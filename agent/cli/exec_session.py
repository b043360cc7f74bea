"""Carries out ``ecs-agent exec``: between our terminal or pipes and the agent's WebSocket.

With a terminal, ours is in raw mode meanwhile: every key, Ctrl-C too, goes to the command, and the terminal
is restored whatever happens. Standard input is read in a thread, because a file cannot be polled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from agent.cli import output
from agent.cli.client import CliError
from agent.model.exec import (
    STDERR,
    AgentMessage,
    ChannelMessage,
    EndOfInput,
    ExecExited,
    ExecFailed,
    ExecRequest,
    InputTaken,
    Resize,
    TerminalSize,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.cli.client import AgentClient

CONNECT_LIMIT_S: Final = 30.0
_STDIN: Final = 0
_CHUNK_BYTES: Final = 64 * 1024
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_FALLBACK: Final = TerminalSize(rows=24, columns=80)


def terminal_size() -> TerminalSize:
    """Return the size of our terminal."""
    try:
        size = os.get_terminal_size(_STDIN)
    except OSError:
        return _FALLBACK
    if not size.lines or not size.columns:  # a terminal that was never told
        return _FALLBACK
    return TerminalSize(rows=size.lines, columns=size.columns)


async def run(client: AgentClient, task: str, request: ExecRequest) -> int:
    """Run a command in a container and return its exit code.

    Raises:
        CliError: the agent cannot be reached, or ended the session.
    """
    async with _connected(client, task) as socket:
        return await carry_out(
            socket,
            msgspec.json.encode(request).decode(),
            has_terminal=request.command.terminal is not None,
        )


async def carry_out(
    socket: aiohttp.ClientWebSocketResponse,
    opening: str,
    *,
    has_terminal: bool,
    window_bytes: int = 0,
) -> int:
    """Carry out a session between our terminal or pipes and a WebSocket; return its exit code.

    Args:
        socket: of the agent, or of control, which passes all on to the agent.
        opening: the first message.
        has_terminal: whether the command has a terminal.
        window_bytes: how much input may be under way that the agent has not told as read; 0 where the
            agent itself reads the WebSocket no faster than the command its input.

    Raises:
        CliError: the session was ended before the command.
    """
    window = _InputWindow(window_bytes)
    await socket.send_str(opening)
    with contextlib.ExitStack() as cleanup:
        if has_terminal:
            cleanup.enter_context(_raw_terminal())
        end = await _carry_out(socket, window, has_terminal=has_terminal)
    if isinstance(end, ExecFailed):
        output.line(f"ecs-agent: {end.message}", err=True)
    return end.code if isinstance(end, ExecFailed | ExecExited) else end


class _InputWindow:
    """How much input may be sent before the agent tells that some was read."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._unread_bytes = 0
        self._has_room = asyncio.Event()

    async def room(self, wanted_bytes: int) -> int:
        """Wait until something may be sent; return how many of the wanted bytes, which count as sent."""
        if not self._limit_bytes:
            return wanted_bytes
        while self._unread_bytes >= self._limit_bytes:
            self._has_room.clear()
            await self._has_room.wait()
        granted = min(wanted_bytes, self._limit_bytes - self._unread_bytes)
        self._unread_bytes += granted
        return granted

    def taken(self, size_bytes: int) -> None:
        """Take note that the command has read some."""
        self._unread_bytes = max(self._unread_bytes - size_bytes, 0)
        self._has_room.set()


@contextlib.asynccontextmanager
async def _connected(
    client: AgentClient, task: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Yield the session's WebSocket; every failure to connect becomes a ``CliError``."""
    connector = aiohttp.UnixConnector(path=client.socket_path)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S)
    async with aiohttp.ClientSession("http://agent", connector=connector, timeout=limits) as http:
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                socket = await http.ws_connect(client.exec_url(task), max_msg_size=0, compress=0)
        except aiohttp.WSServerHandshakeError as error:
            text = (
                f"the running agent cannot run commands in containers (it answered {error.status})"
            )
            raise CliError(f"{text}; restart it to update it") from None
        except aiohttp.ClientConnectorError as error:
            raise client.worded(error.os_error) from None
        except TimeoutError as error:
            raise client.worded(error) from None
        except (aiohttp.ClientError, OSError) as error:
            raise CliError(f"the session with the agent failed: {error}") from None
        try:
            yield socket
        finally:
            await socket.close()


async def _carry_out(
    socket: aiohttp.ClientWebSocketResponse, window: _InputWindow, *, has_terminal: bool
) -> AgentMessage | int:
    """Pass input and output; return how the command ended, or the code of a signal to us."""
    loop = asyncio.get_running_loop()
    resized = asyncio.Event()
    ended_by: list[int] = []
    received = asyncio.create_task(_receive(socket, window))

    def end(number: int) -> None:
        ended_by.append(128 + number)
        received.cancel()

    for number in _ENDING:
        loop.add_signal_handler(number, end, number)
    if has_terminal:
        loop.add_signal_handler(signal.SIGWINCH, resized.set)
        resized.set()  # it may have changed since the request
    helpers = {
        asyncio.create_task(_send_input(socket, window)),
        asyncio.create_task(_send_sizes(socket, resized)),
    }
    try:
        await asyncio.wait({received})
        return ended_by[0] if received.cancelled() else received.result()
    finally:
        for task in (received, *helpers):
            task.cancel()
        await asyncio.wait({received})
        await asyncio.wait(helpers)


async def _receive(socket: aiohttp.ClientWebSocketResponse, window: _InputWindow) -> AgentMessage:
    """Print output as it arrives; return how the command ended."""
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            output.raw(message.data[1:], err=message.data[0] == STDERR)
        elif message.type is aiohttp.WSMsgType.TEXT:
            told = msgspec.json.decode(message.data, type=ChannelMessage)
            if not isinstance(told, InputTaken):
                end: AgentMessage = told
                return end
            window.taken(told.size_bytes)
    raise CliError("the session was ended, and with it the command; look at the log of the agent")


async def _send_input(socket: aiohttp.ClientWebSocketResponse, window: _InputWindow) -> None:
    with contextlib.suppress(ConnectionError):
        async for piece in _stdin():
            rest = piece
            while rest:
                size = await window.room(len(rest))
                await socket.send_bytes(rest[:size])
                rest = rest[size:]
        await socket.send_str(msgspec.json.encode(EndOfInput()).decode())


async def _send_sizes(socket: aiohttp.ClientWebSocketResponse, resized: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            await resized.wait()
            resized.clear()
            resize = Resize(size=terminal_size())
            await socket.send_str(msgspec.json.encode(resize).decode())


async def _stdin() -> AsyncIterator[bytes]:
    """Yield standard input until its end; reads no further ahead than one piece."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(2)

    def read() -> None:
        piece = b"-"
        while piece:
            room.acquire()
            try:
                piece = os.read(_STDIN, _CHUNK_BYTES)
            except OSError:  # it is closed
                piece = b""
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

    # A daemon, because nothing can end its read.
    threading.Thread(target=read, name="standard input", daemon=True).start()
    while piece := await pieces.get():
        yield piece
        room.release()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Pass every key on unread while this lasts."""
    before = termios.tcgetattr(_STDIN)
    try:
        tty.setraw(_STDIN, termios.TCSADRAIN)
        yield
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
