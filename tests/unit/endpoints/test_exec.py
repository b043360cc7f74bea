"""Commands in containers, over a real WebSocket of the operators' socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest

from agent.endpoints import exec_sessions
from agent.errors import EngineRefused
from agent.model.exec import (
    STDERR,
    STDOUT,
    AgentMessage,
    EndOfInput,
    ExecCommand,
    ExecExited,
    ExecFailed,
    ExecRequest,
    Resize,
    TerminalSize,
)
from agent.runtime.protocol import ExecResult
from tests.unit.endpoints.conftest import FakeSession

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse

    from agent.endpoints.operator import OperatorSocket
    from tests.unit.endpoints.conftest import FakeAgent

LIMIT_S = 20.0


async def connect(http: ClientSession, task: str, *words: str) -> ClientWebSocketResponse:
    """Open a session and ask for a command."""
    socket = await http.ws_connect(f"/v1/tasks/{task}/exec")
    await tell(socket, ExecRequest(command=ExecCommand(words=list(words))))
    return socket


async def tell(socket: ClientWebSocketResponse, message: msgspec.Struct) -> None:
    await socket.send_str(msgspec.json.encode(message).decode())


async def conclusion(socket: ClientWebSocketResponse) -> tuple[bytes, bytes, AgentMessage | None]:
    """Return everything written to stdout and stderr, and the last message."""
    written = {STDOUT: b"", STDERR: b""}
    end = None
    async with asyncio.timeout(LIMIT_S):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                written[message.data[0]] += message.data[1:]
            else:
                end = msgspec.json.decode(message.data, type=AgentMessage)
    return written[STDOUT], written[STDERR], end


def plays(agent: FakeAgent) -> FakeSession:
    assert isinstance(agent.exec_session, FakeSession)
    return agent.exec_session


async def test_output_streams_stay_apart_and_the_code_is_told(
    http: ClientSession, agent: FakeAgent
) -> None:
    agent.exec_session = FakeSession((STDOUT, b"out"), (STDERR, b"err"))
    agent.exec_session.how = ExecResult(exit_code=7, started=True)
    agent.exec_session.output.put_nowait(None)
    socket = await connect(http, "aa11", "ls", "-l")
    assert await conclusion(socket) == (b"out", b"err", ExecExited(code=7))
    assert agent.commands == [("r-app", ExecCommand(words=["ls", "-l"]))]
    assert agent.exec_session.closed.is_set()


async def test_input_and_its_end_reach_the_command(http: ClientSession, agent: FakeAgent) -> None:
    socket = await connect(http, "aa11", "cat")
    await socket.send_bytes(b"hello")
    await tell(socket, Resize(size=TerminalSize(rows=5, columns=6)))
    await tell(socket, EndOfInput())
    assert await conclusion(socket) == (b"hello", b"", ExecExited(code=0))
    assert plays(agent).sizes == [TerminalSize(rows=5, columns=6)]


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (
            'exec: "nope": executable file not found in $PATH: unknown',
            ExecFailed(message="the container has no program 'nope'", code=127),
        ),
        (
            'exec: "/nope": stat /nope: no such file or directory: unknown',
            ExecFailed(message="the container has no program 'nope'", code=127),
        ),
        (
            'exec: "/x": permission denied: unknown',
            ExecFailed(
                message="'nope' cannot be started: exec: \"/x\": permission denied", code=126
            ),
        ),
        (
            'chdir to cwd ("/y") set in config.json failed: no such file or directory: unknown',
            ExecFailed(
                message="'nope' cannot be started: chdir to cwd (\"/y\") set in config.json failed: "
                "no such file or directory",
                code=126,
            ),
        ),
    ],
)
async def test_a_command_that_cannot_be_started_is_a_failure_in_our_words(
    http: ClientSession, agent: FakeAgent, cause: str, told: ExecFailed
) -> None:
    words = f"OCI runtime exec failed: exec failed: unable to start container process: {cause}\r\n"
    agent.exec_session = FakeSession((STDOUT, words.encode()))
    agent.exec_session.how = ExecResult(exit_code=126, started=False)
    agent.exec_session.output.put_nowait(None)
    assert await conclusion(await connect(http, "aa11", "nope")) == (b"", b"", told)


async def test_output_that_only_looks_like_the_engines_words_is_passed_on(
    http: ClientSession, agent: FakeAgent
) -> None:
    looks = b"OCI runtime exec failed, says a log"
    agent.exec_session = FakeSession((STDOUT, looks))
    agent.exec_session.output.put_nowait(None)
    assert (await conclusion(await connect(http, "aa11", "cat")))[0] == looks
    agent.exec_session = FakeSession((STDOUT, looks), (STDOUT, b"!"))
    agent.exec_session.output.put_nowait(None)
    assert (await conclusion(await connect(http, "aa11", "cat")))[0] == looks + b"!"


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("zz", "no task 'zz' on this host; there are bb33"),
        ("aa", "'aa' matches several tasks"),
        ("aa22", "several containers; name one of them after the task: app, side"),
        ("bb33", "container 'app' of task bb33 is not running"),
    ],
)
async def test_a_refusal_says_why(
    http: ClientSession, agent: FakeAgent, task: str, words: str
) -> None:
    end = (await conclusion(await connect(http, task, "ls")))[2]
    assert isinstance(end, ExecFailed)
    assert words in end.message
    assert not agent.commands


async def test_a_refusal_of_the_engine_is_passed_on(http: ClientSession, agent: FakeAgent) -> None:
    agent.exec_session = EngineRefused("container is paused")
    end = (await conclusion(await connect(http, "aa11", "ls")))[2]
    assert end == ExecFailed(message="container is paused")


async def test_a_client_that_leaves_takes_its_command_along(
    http: ClientSession, agent: FakeAgent
) -> None:
    socket = await connect(http, "aa11", "cat")
    await socket.send_bytes(b"hello")
    await socket.receive()
    await socket.close()
    async with asyncio.timeout(LIMIT_S):
        await plays(agent).closed.wait()


async def test_a_client_that_is_gone_is_noticed_while_its_input_is_not_read(
    http: ClientSession, agent: FakeAgent
) -> None:
    plays(agent).reads_input.clear()
    socket = await connect(http, "aa11", "sleep")

    async def flood() -> None:
        while True:
            await socket.send_bytes(bytes(65536))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await flood()
    assert socket._response.connection is not None
    transport = socket._response.connection.transport
    assert transport is not None
    transport.abort()
    async with asyncio.timeout(LIMIT_S):
        await plays(agent).closed.wait()


async def test_one_session_too_many_is_refused(
    http: ClientSession, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_sessions, "MOST_SESSIONS", 1)
    first = await connect(http, "aa11", "cat")
    await first.send_bytes(b"here")
    await first.receive()
    end = (await conclusion(await connect(http, "aa11", "cat")))[2]
    assert isinstance(end, ExecFailed)
    assert "1 commands already run" in end.message
    await tell(first, EndOfInput())
    assert (await conclusion(first))[2] == ExecExited(code=0)
    again = await connect(http, "aa11", "cat")
    await tell(again, EndOfInput())
    assert (await conclusion(again))[2] == ExecExited(code=0)
    assert len(agent.commands) == 2


@pytest.mark.parametrize("message", ["{", '{"type":"resize"}', '{"type":"exec","command":{}}'])
async def test_a_first_message_that_is_no_command_is_refused(
    http: ClientSession, message: str
) -> None:
    socket = await http.ws_connect("/v1/tasks/aa11/exec")
    await socket.send_str(message)
    end = (await conclusion(socket))[2]
    assert isinstance(end, ExecFailed)
    assert "cannot be read" in end.message


async def test_a_plain_request_is_told_what_it_takes(http: ClientSession) -> None:
    async with http.get("/v1/tasks/aa11/exec") as response:
        assert response.status == 426
        assert "WebSocket" in await response.text()


async def test_sessions_end_with_the_agent(
    http: ClientSession, served: OperatorSocket, agent: FakeAgent
) -> None:
    socket = await connect(http, "aa11", "cat")
    await socket.send_bytes(b"here")
    await socket.receive()
    async with asyncio.timeout(LIMIT_S):
        await served.close()
    assert plays(agent).closed.is_set()
    assert (await conclusion(socket))[2] is None
