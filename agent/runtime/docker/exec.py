"""A command in a running container, over the engine's hijacked connection.

The engine answers ``POST /exec/{id}/start`` with 101; from then on the connection carries input in one
direction and output in the other. Asyncio reads and writes it, so an open session needs no thread.

The engine cannot end such a command. ``close`` sends SIGHUP to its process group and SIGKILL when that
does not help, which needs the engine's processes to be processes of this host.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import structlog

from agent.errors import BAD_JSON, EngineTimeout, EngineUnavailable, RuntimeFailure
from agent.model import reasons
from agent.model.exec import STDOUT
from agent.runtime.docker import faults, hangup, parse
from agent.runtime.protocol import ExecResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.model.exec import ExecCommand, TerminalSize
    from agent.runtime.docker.calls import EngineCalls
    from agent.runtime.docker.client import EngineClient, ExecStart, ExecState
    from agent.runtime.docker.lanes import BlockingCall

OPERATION: Final = "exec"
START_LIMIT_S: Final = 30.0
CALL_LIMIT_S: Final = 30.0
"""Of the quick calls about a command that has been started."""
_CHUNK_BYTES: Final = 64 * 1024
_HEAD_LIMIT_BYTES: Final = 64 * 1024
_EXPLANATION_LIMIT_BYTES: Final = 64 * 1024
_HEADER: Final = struct.Struct(">BxxxL")
_INSPECT_EVERY_S: Final = (0.02, 1.0)
"""First and longest pause between two looks at a command whose output has ended."""

_log = structlog.get_logger(__name__)


class ExecCalls(NamedTuple):
    """The engine's calls for one command."""

    inspect: Callable[[], Awaitable[ExecState]]
    resize: Callable[[TerminalSize], Awaitable[None]]


class DockerExec:
    """One command; implements ``runtime.protocol.ExecSession``."""

    def __init__(
        self,
        container_id: str,
        calls: ExecCalls,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        has_terminal: bool,
    ) -> None:
        self._container_id = container_id
        self._calls = calls
        self._reader, self._writer = streams
        self._has_terminal = has_terminal
        self._stream = STDOUT
        self._missing = 0
        """Bytes of the current frame that have not arrived."""
        self._ended = False

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next output and its stream; None at its end."""
        try:
            if self._has_terminal:
                piece = await self._reader.read(_CHUNK_BYTES)
                return (STDOUT, piece) if piece else None
            while not self._missing:
                head = await self._reader.readexactly(_HEADER.size)
                self._stream, self._missing = _HEADER.unpack(head)
            piece = await self._reader.read(min(self._missing, _CHUNK_BYTES))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self._missing -= len(piece)
        return (self._stream, piece) if piece else None

    async def write(self, data: bytes) -> None:
        """Pass input on, no faster than the command reads it; raises ``ConnectionError``."""
        self._writer.write(data)
        await self._writer.drain()

    async def end_input(self) -> None:
        """Close the command's standard input; a terminal has no such end."""
        if self._writer.can_write_eof() and not self._has_terminal:
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    async def resize(self, size: TerminalSize) -> None:
        """Tell the command's terminal its size; does nothing once the command has ended."""
        with contextlib.suppress(RuntimeFailure):
            await self._calls.resize(size)

    async def result(self) -> ExecResult:
        """Return how the command ended; waits for that end."""
        pause_s, longest_s = _INSPECT_EVERY_S
        while (state := await self._calls.inspect()).running:
            await asyncio.sleep(pause_s)
            pause_s = min(longest_s, pause_s * 2)
        self._ended = True
        return ExecResult(exit_code=state.exit_code, started=state.pid != 0)

    async def close(self) -> None:
        """Close the connection, and end the command if it still runs."""
        self._writer.close()
        if self._ended:
            return
        self._ended = True
        try:
            state = await self._calls.inspect()
            if state.running and state.pid:
                await hangup.end(state.pid, self._container_id)
        except (RuntimeFailure, OSError) as error:
            _log.warning(
                "a command in a container may still run",
                container=self._container_id,
                error=str(error),
            )


async def start_exec(calls: EngineCalls, container_id: str, command: ExecCommand) -> DockerExec:
    """Start a command in a running container, and return its session.

    Raises:
        NoSuchContainer: the container does not exist.
        EngineRefused: it does not run, or the engine cannot do what the command asks for.
    """

    def create(client: EngineClient, _: BlockingCall) -> ExecStart:
        return client.create_exec(container_id, command)

    start = await calls.do(calls.launch, create, OPERATION, START_LIMIT_S, container_id)
    streams = await attach(calls.socket_path, start.target, start.body)

    async def inspect() -> ExecState:
        return await calls.do(
            calls.quick,
            lambda client, _: parse.exec_state(client.exec_inspect(start.exec_id)),
            OPERATION,
            CALL_LIMIT_S,
        )

    async def resize(size: TerminalSize) -> None:
        await calls.do(
            calls.quick,
            lambda client, _: client.exec_resize(start.exec_id, size.rows, size.columns),
            OPERATION,
            CALL_LIMIT_S,
        )

    return DockerExec(
        container_id,
        ExecCalls(inspect, resize),
        streams,
        has_terminal=command.terminal is not None,
    )


async def attach(
    path: str, target: str, body: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Start a command and return the streams of its connection.

    Args:
        path: of the engine's socket.
        target: path and version of the call.
        body: of the call.

    Raises:
        EngineUnavailable: no connection, or no answer that can be read.
        EngineTimeout: no answer within ``START_LIMIT_S``.
        EngineRefused: the engine's own words.
    """
    try:
        async with asyncio.timeout(START_LIMIT_S):
            return await _attached(path, target, msgspec.json.encode(body))
    except TimeoutError:
        text = f"the engine did not start the command within {reasons.duration(START_LIMIT_S)}"
        raise EngineTimeout(text, operation=OPERATION, limit_s=START_LIMIT_S) from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        text = f"cannot reach the container engine at {path}: {error}"
        raise EngineUnavailable(text, operation=OPERATION) from None


async def _attached(
    path: str, target: str, body: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path, limit=_HEAD_LIMIT_BYTES)
    try:
        writer.write(
            f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.partition(" ")[2][:3])
        if status not in {101, 200}:
            raise faults.refused(status, await _explanation(reader, head), operation=OPERATION)
    except BaseException:
        writer.close()
        raise
    return reader, writer


async def _explanation(reader: asyncio.StreamReader, head: str) -> str:
    """Return the engine's words in the body of a refusal."""
    fields = (line.partition(":") for line in head.lower().split("\r\n"))
    length = next((int(value) for name, _, value in fields if name == "content-length"), 0)
    body = await reader.readexactly(min(length, _EXPLANATION_LIMIT_BYTES))
    try:
        return str(msgspec.json.decode(body)["message"])
    except (*BAD_JSON, KeyError, TypeError):
        return body.decode(errors="replace").strip()
