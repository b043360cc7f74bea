"""Clients that speak ``model.exec`` themselves, as ``ecs-agent exec --cluster`` does."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import msgspec

from agent.controlplane.execute_command import ending
from agent.model.exec import (
    INPUT_WINDOW_BYTES,
    STDERR,
    STDOUT,
    ChannelMessage,
    EndOfInput,
    ExecExited,
    ExecFailed,
    InputTaken,
    Resize,
    TerminalSize,
)
from agent.runtime.protocol import ExecResult
from tests.support.control_endpoint import control_endpoint
from tests.unit.controlplane.execute_command.conftest import Stage
from tests.unit.controlplane.execute_command.test_sessions_on_control import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from aiohttp import ClientWebSocketResponse

LIMIT_S = 60.0


async def direct(stage: Stage, terminal: TerminalSize | None = None) -> ClientWebSocketResponse:
    """Open a session without frames."""
    opening = await stage.session()
    socket = await stage.control.session.ws_connect(opening["streamUrl"])
    hello = {"TokenValue": opening["tokenValue"], "Speaks": "exec", "Terminal": terminal}
    await tell(socket, hello)
    return socket


async def tell(socket: ClientWebSocketResponse, message: object) -> None:
    await socket.send_str(msgspec.json.encode(message).decode())


async def told(
    socket: ClientWebSocketResponse,
) -> tuple[dict[int, bytes], int, ExecExited | ExecFailed | None]:
    """Return the output by stream, how much input was read, and the end."""
    written, taken = {STDOUT: b"", STDERR: b""}, 0
    async with asyncio.timeout(LIMIT_S):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                written[message.data[0]] += message.data[1:]
                continue
            one = msgspec.json.decode(message.data, type=ChannelMessage)
            if not isinstance(one, InputTaken):
                return written, taken, one
            taken += one.size_bytes
    return written, taken, None


async def test_streams_stay_apart_and_the_code_is_told(stage: Stage) -> None:
    stage.command.output.put_nowait((STDOUT, b"out"))
    stage.command.output.put_nowait((STDERR, b"err"))
    stage.command.output.put_nowait(None)
    stage.command.how = ExecResult(exit_code=3, started=True)
    socket = await direct(stage)
    assert await told(socket) == ({STDOUT: b"out", STDERR: b"err"}, 0, ExecExited(code=3))
    assert stage.host.commands[0][1].terminal is None
    await socket.close()


async def test_input_its_end_and_sizes_reach_the_command(stage: Stage) -> None:
    socket = await direct(stage, TerminalSize(rows=10, columns=20))
    blob = os.urandom(INPUT_WINDOW_BYTES)
    await socket.send_bytes(blob)
    await tell(socket, Resize(size=TerminalSize(rows=5, columns=6)))
    await tell(socket, EndOfInput())
    assert await told(socket) == ({STDOUT: blob, STDERR: b""}, len(blob), ExecExited(code=0))
    assert stage.host.commands[0][1].terminal == TerminalSize(rows=10, columns=20)
    assert stage.command.sizes == [TerminalSize(rows=5, columns=6)]
    await socket.close()


async def test_who_sends_too_far_ahead_is_refused(stage: Stage) -> None:
    stage.command.reads_input.clear()
    socket = await direct(stage)
    for _ in range(4):
        await socket.send_bytes(bytes(INPUT_WINDOW_BYTES))
    end = (await told(socket))[2]
    assert isinstance(end, ExecFailed)
    assert "sent ahead" in end.message
    await socket.close()


async def test_input_of_no_bytes_takes_no_memory_and_nothing_follows_the_end(stage: Stage) -> None:
    stage.command.reads_input.clear()
    socket = await direct(stage)
    await socket.send_bytes(b"x")
    for _ in range(1000):
        await socket.send_bytes(b"")
    for _ in range(1000):
        await tell(socket, EndOfInput())
    await socket.send_bytes(b"too late")
    stage.command.output.put_nowait((STDOUT, b"."))
    async with asyncio.timeout(LIMIT_S):
        assert (await socket.receive()).data == bytes((STDOUT,)) + b"."
    stage.command.reads_input.set()
    written, taken, end = await told(socket)
    assert (written[STDOUT], taken, end) == (b"x", 1, ExecExited(code=0))
    await asyncio.sleep(0)
    assert stage.command.ends_of_input == 1
    await socket.close()


async def test_a_session_from_the_network_may_not_be_idle(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "IDLE_S", 0.3)
    socket = await direct(stage)
    end = (await told(socket))[2]
    assert isinstance(end, ExecFailed)
    assert end.message.startswith("nothing was typed or shown for")
    await socket.close()


async def test_a_session_of_the_owner_may_be_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "IDLE_S", 0.1)
    path = tmp_path / "control.sock"
    async with control_endpoint(tmp_path / "control", socket=path) as control:
        stage = Stage(control)
        await stage.begin()
        obeying = asyncio.create_task(stage.obey())
        opening = await stage.session()
        place = f"ws://localhost{urlsplit(opening['streamUrl']).path}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
            http.ws_connect(place) as socket,
        ):
            await tell(socket, {"TokenValue": opening["tokenValue"], "Speaks": "exec"})
            await until(lambda: bool(stage.host.commands))
            await asyncio.sleep(5 * ending.IDLE_S)
            stage.command.output.put_nowait(None)
            assert (await told(socket))[2] == ExecExited(code=0)
        obeying.cancel()
        await asyncio.wait({obeying})


async def test_a_client_that_leaves_ends_the_command(stage: Stage) -> None:
    socket = await direct(stage)
    await socket.send_bytes(b"x")
    async with asyncio.timeout(LIMIT_S):
        assert {(await socket.receive()).data for _ in range(2)} >= {bytes((STDOUT,)) + b"x"}
        await socket.close()
        await stage.command.closed.wait()


async def test_a_failure_of_the_session_is_told(stage: Stage) -> None:
    socket = await direct(stage)
    await socket.send_bytes(b"x")
    async with asyncio.timeout(LIMIT_S):
        await socket.receive()
    transport = stage.sockets[0]._writer.transport
    assert transport is not None
    transport.abort()
    end = (await told(socket))[2]
    assert end == ExecFailed(message="the connection to the agent of the task's host was lost")
    await socket.close()
