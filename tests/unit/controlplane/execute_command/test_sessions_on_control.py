"""Sessions from the client to the agent, over a real control endpoint."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import structlog

from agent.controlplane.execute_command import ending, plugin
from agent.model.exec import STDOUT, ExecCommand, TerminalSize
from agent.runtime.protocol import ExecResult
from tests.support.control_endpoint import control_endpoint
from tests.support.session_plugin import PluginClient
from tests.unit.controlplane.execute_command.conftest import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT_S = 60.0


async def wait(event: asyncio.Event) -> None:
    async with asyncio.timeout(LIMIT_S):
        await event.wait()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


async def test_a_shell_gets_keys_and_sizes_and_shows_output(stage: Stage) -> None:
    async with await stage.plugin(size=(30, 100)) as client:
        await client.type("hello\r")
        assert await client.until(b"hello\r") == b"hello\r"
        await client.resize(41, 132)
        await client.type("again")
        await client.until(b"again")
        size = TerminalSize(rows=30, columns=100)
        assert stage.host.commands == [
            ("r1", ExecCommand(words=["/bin/sh", "-c", "a b"], terminal=size))
        ]
        await until(lambda: TerminalSize(rows=41, columns=132) in stage.command.sizes)
        stage.command.output.put_nowait(None)
        assert await client.end() == ""
    await wait(stage.command.closed)
    assert len(stage.orders) == 1


async def test_the_exit_code_is_told(stage: Stage) -> None:
    stage.command.how = ExecResult(exit_code=7, started=True)
    async with await stage.plugin() as client:
        await client.type("x")
        await client.until(b"x")
        stage.command.output.put_nowait(None)
        assert await client.end() == "the command ended with exit code 7"


async def test_output_before_the_terminal_is_ready_is_not_lost(stage: Stage) -> None:
    stage.command.output.put_nowait((STDOUT, b"first words"))
    async with await stage.plugin(drops=2) as client:
        await client.until(b"first words")
        await client.type("then")
        await client.until(b"then")
        stage.command.output.put_nowait(None)
        assert await client.end() == ""


async def test_ten_megabytes_arrive_whole_and_at_the_end(stage: Stage) -> None:
    blob = os.urandom(10 * 1024 * 1024)
    for start in range(0, len(blob), 65536):
        stage.command.output.put_nowait((STDOUT, blob[start : start + 65536]))
    stage.command.output.put_nowait(None)
    async with await stage.plugin() as client:
        assert await client.end() == ""
        assert client.shown == blob


async def test_input_waits_for_a_command_that_does_not_read(stage: Stage) -> None:
    stage.command.reads_input.clear()
    typed = os.urandom(400_000)
    async with await stage.plugin() as client:
        await client.type(typed)
        await client.resize(50, 60)  # behind the keys, as the client numbers them
        stage.command.output.put_nowait((STDOUT, b"busy"))
        await client.until(b"busy")
        stage.command.reads_input.set()
        await until(lambda: len(client.shown) >= len(typed))
        assert client.shown == typed


async def test_input_beyond_what_may_wait_comes_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "TYPED_MOST_BYTES", 4096)
    monkeypatch.setattr(plugin, "INPUT_WINDOW_BYTES", 2048)
    stage.command.reads_input.clear()
    typed = os.urandom(12 * 1024)
    async with await stage.plugin() as client:
        await client.type(typed)
        stage.command.output.put_nowait((STDOUT, b"busy"))
        await client.until(b"busy")
        stage.command.reads_input.set()
        await until(lambda: len(client.shown) >= len(typed))
        assert client.shown == typed


async def test_keys_of_no_bytes_are_acknowledged_and_not_kept(stage: Stage) -> None:
    stage.command.reads_input.clear()
    async with await stage.plugin() as client:
        await client.type("x")
        for _ in range(500):
            await client._post(1, b"")
        await client.type("y")
        await until(lambda: not client._unacknowledged)
        stage.command.reads_input.set()
        await client.until(b"xy")


@pytest.mark.parametrize("how", ["vanishes", "closes", "ends the session"])
async def test_the_command_ends_with_its_client(stage: Stage, how: str) -> None:
    client = await stage.plugin()
    await client.type("x")
    await client.until(b"x")
    stage.command.reads_input.clear()
    await client.type("not read")
    if how == "vanishes":
        client.vanish()
    elif how == "closes":
        await client.socket.close()
    else:
        await client._post(10, (2).to_bytes(4, "big"))
    await wait(stage.command.closed)
    await client.__aexit__()


async def test_an_agent_that_is_lost_ends_the_session_with_a_word(stage: Stage) -> None:
    async with await stage.plugin() as client:
        await client.type("x")
        await client.until(b"x")
        transport = stage.sockets[0]._writer.transport
        assert transport is not None
        transport.abort()
        assert await client.end() == "the connection to the agent of the task's host was lost"


async def test_a_control_that_stops_ends_the_session_with_a_word(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path / "control") as control:
        stage = Stage(control)
        await stage.begin()
        obeying = asyncio.create_task(stage.obey())
        client = await stage.plugin()
        await client.type("x")
        await client.until(b"x")
    assert await client.end() == "control stops; the command was ended"
    await wait(stage.command.closed)
    obeying.cancel()
    await asyncio.wait({obeying})
    await client.__aexit__()


async def test_an_agent_that_refuses_says_why(stage: Stage) -> None:
    stage.host.tasks = []
    async with await stage.plugin() as client:
        assert "nor any other" in await client.end()


async def test_an_order_that_was_not_followed_comes_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.controlplane.execute_command.sessions.TOLD_AGAIN_S", 0.2)
    monkeypatch.setattr(stage, "connect", _never_connects(stage))
    async with await stage.plugin() as client:
        await client.type("x")
        await client.until(b"x")
    assert len(stage.orders) > 1


def _never_connects(stage: Stage) -> object:
    connect, left = stage.connect, [1]

    async def once(session_id: str) -> aiohttp.ClientWebSocketResponse:
        if left[0]:
            left[0] = 0
            await asyncio.Event().wait()
        return await connect(session_id)

    return once


async def test_an_agent_that_does_not_connect_is_said(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.controlplane.execute_command.sessions.AGENT_S", 0.3)

    async def never(_: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stage, "connect", never)
    async with await stage.plugin() as client:
        assert await client.end() == "the agent of the task's host did not connect in time"


async def test_a_quiet_session_ends(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "IDLE_S", 0.3)
    async with await stage.plugin() as client:
        assert (await client.end()).startswith("nothing was typed or shown for")


async def test_a_client_may_pause_the_output(stage: Stage) -> None:
    async with await stage.plugin() as client:
        await client.type("x")
        await client.until(b"x")
        await _say(client, "pause_publication")
        await client.type("y")
        await _say(client, "start_publication")
        await client.until(b"y")


async def _say(client: PluginClient, kind: str) -> None:
    from tests.support import session_plugin  # noqa: PLC0415 - of this helper alone

    await client.socket.send_bytes(session_plugin.packed(kind, 0, 0, b"", 3))


async def closed_at_once(stage: Stage, url: str, first: object) -> int | None:
    """Open a WebSocket and return the code with which control closes it."""
    socket = await stage.control.session.ws_connect(url)
    if isinstance(first, bytes):
        await socket.send_bytes(first)
    else:
        await socket.send_str(first if isinstance(first, str) else json.dumps(first))
    async with asyncio.timeout(LIMIT_S):
        message = await socket.receive()
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await socket.close()
    return socket.close_code


async def test_a_token_opens_its_own_session_once(stage: Stage) -> None:
    first, second = await stage.session(), await stage.session()
    assert first["sessionId"] != second["sessionId"]
    stolen = {"TokenValue": second["tokenValue"]}
    for wrong in ({"TokenValue": "guessed"}, stolen, {}, "no JSON", b"bytes", {"TokenValue": 5}):
        assert await closed_at_once(stage, first["streamUrl"], wrong) == 1008
    client = await PluginClient.open(stage.control.session, first)
    await client.type("x")
    await client.until(b"x")
    assert (
        await closed_at_once(stage, first["streamUrl"], {"TokenValue": first["tokenValue"]}) == 1008
    )
    await client.type("still there")
    await client.until(b"still there")
    await client.__aexit__()
    assert (
        await closed_at_once(stage, first["streamUrl"], {"TokenValue": first["tokenValue"]}) == 1008
    )
    async with stage.control.session.get(first["streamUrl"].replace("ws://", "http://")) as answer:
        assert answer.status == 426


async def test_garbage_ends_the_session_and_nothing_else(stage: Stage) -> None:
    async with await stage.plugin() as client:
        await client.type("x")
        await client.until(b"x")
        await client.socket.send_bytes(b"garbage")
        await wait(client.has_left)
        assert client.closed is None
    await wait(stage.command.closed)


async def test_an_agent_only_connects_for_sessions_of_its_own(stage: Stage) -> None:
    for session_id in ("ecs-execute-command-0", (await stage.session())["sessionId"]):
        status, body = await stage.agent.send(
            "GET", f"/v1/instances/{stage.agent.id}/commands/{session_id}"
        )
        assert (status, json.loads(body)["code"]) == (404, "CommandGone")


async def test_the_log_says_who_and_what_but_nothing_that_passed(stage: Stage) -> None:
    with structlog.testing.capture_logs() as logged:
        opening = await stage.session(command="/bin/sh -c 'echo s3cret'")
        async with await PluginClient.open(stage.control.session, opening) as client:
            await client.type("typed-secret")
            await client.until(b"typed-secret")
            stage.command.output.put_nowait(None)
            await client.end()
        await wait(stage.command.closed)
        await until(lambda: any(one["event"] == "session of a command ended" for one in logged))
    events = [one["event"] for one in logged if one.get("session") == opening["sessionId"]]
    assert events == [
        "session of a command begun",
        "session of a command opened",
        "session of a command ended",
    ]
    opened = next(one for one in logged if one["event"] == "session of a command opened")
    assert (opened["by"], opened["task"], opened["program"]) == ("anyone", stage.task, "/bin/sh")
    assert not any(
        secret in str(logged) for secret in ("s3cret", "typed-secret", opening["tokenValue"])
    )


async def logs(stage: Stage, operation: str, **request: object) -> dict[str, Any]:
    """Make a call of the API of CloudWatch Logs."""
    headers = {
        "X-Amz-Target": f"Logs_20140328.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
    }
    url = f"{stage.control.url}/"
    async with stage.control.session.post(url, json=request, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        told: dict[str, Any] = json.loads(await answer.read() or b"{}")
        return told


async def test_output_is_kept_where_the_cluster_says(stage: Stage) -> None:
    await logs(stage, "CreateLogGroup", logGroupName="/exec")
    asked = {"logging": "OVERRIDE", "logConfiguration": {"cloudWatchLogGroupName": "/exec"}}
    configuration = {"executeCommandConfiguration": asked}
    await stage.control.call("UpdateCluster", cluster="default", configuration=configuration)
    opening = await stage.session()
    async with await PluginClient.open(stage.control.session, opening) as client:
        await client.type("one\r\ntw")
        await client.until(b"tw")
        await client.type("\N{LATIN SMALL LETTER O WITH DIAERESIS}")
        await client.until("\N{LATIN SMALL LETTER O WITH DIAERESIS}".encode())
        stage.command.output.put_nowait(None)
        assert await client.end() == ""
    where = {"logGroupName": "/exec", "logStreamName": opening["sessionId"]}
    kept = (await logs(stage, "GetLogEvents", **where, startFromHead=True))["events"]
    assert [one["message"] for one in kept] == ["one", "tw\N{LATIN SMALL LETTER O WITH DIAERESIS}"]


async def test_a_session_that_cannot_be_logged_any_more_ends(stage: Stage) -> None:
    await logs(stage, "CreateLogGroup", logGroupName="/exec")
    asked = {"logging": "OVERRIDE", "logConfiguration": {"cloudWatchLogGroupName": "/exec"}}
    configuration = {"executeCommandConfiguration": asked}
    await stage.control.call("UpdateCluster", cluster="default", configuration=configuration)
    async with await stage.plugin() as client:
        await client.type("x")
        await client.until(b"x")
        await logs(stage, "DeleteLogGroup", logGroupName="/exec")
        stage.command.output.put_nowait((STDOUT, b"a line\n" * 4000))
        assert await client.end() == (
            "the session cannot be logged any more: there is no log group /exec"
        )
    await wait(stage.command.closed)
