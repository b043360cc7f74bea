"""Connecting to control for commands: each order once, and no failure of a session ends the agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from agent.errors import ControlFailure, ControlUnavailable, InstanceUnknown
from agent.model.wire import GENERATION_HEADER, HOST_KEY_HEADER, SESSION_HEADER, CommandOrder
from agent.upstream.credentials import Token
from agent.upstream.longpoll import commands
from agent.upstream.longpoll.commands import Commands
from agent.upstream.longpoll.exchange import CallLimits, Identity
from agent.upstream.longpoll.http_client import HttpClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LIMIT_S = 30.0
ME = Identity(
    instance_arn="arn:x:container-instance/c/abc", generation=4, control_id="k", session="one"
)


class FakeSocket:
    closed = False

    async def close(self) -> None:
        self.closed = True


class FakeHost:
    """Carries sessions until it is let go, or fails."""

    def __init__(self) -> None:
        self.carried: list[str] = []
        self.let_go = asyncio.Event()
        self.error: Exception | None = None

    async def carry(self, _: Any, task_arn: str) -> None:
        self.carried.append(task_arn)
        if self.error is not None:
            raise self.error
        await self.let_go.wait()


class FakeClient:
    """Connects, or fails to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sockets: list[FakeSocket] = []
        self.error: ControlFailure | None = None

    async def command(self, _: Identity, session_id: str) -> FakeSocket:
        self.asked.append(session_id)
        if self.error is not None:
            raise self.error
        self.sockets.append(FakeSocket())
        return self.sockets[-1]


def orders(*ids: str) -> list[CommandOrder]:
    return [CommandOrder(session_id=one, task_arn=f"task of {one}") for one in ids]


async def test_an_order_that_comes_again_is_followed_once() -> None:
    client, host = FakeClient(), FakeHost()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        taken = Commands(cast("HttpClient", client), host, group)
        taken.take(ME, orders("a", "b"))
        taken.take(ME, orders("b", "a", "c"))
        while len(host.carried) < 3:  # noqa: ASYNC110 - of a fake without events
            await asyncio.sleep(0)
        host.let_go.set()
    assert client.asked == ["a", "b", "c"]
    assert all(socket.closed for socket in client.sockets)


@pytest.mark.parametrize("where", ["connecting", "carrying"])
async def test_a_failure_ends_its_session_alone(where: str) -> None:
    client, host = FakeClient(), FakeHost()
    if where == "connecting":
        client.error = ControlUnavailable("no")
    else:
        host.error = RuntimeError("nobody foresaw this")
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        taken = Commands(cast("HttpClient", client), host, group)
        taken.take(ME, orders("a"))
    client.error = host.error = None
    host.let_go.set()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        taken = Commands(cast("HttpClient", client), host, group)
        taken.take(ME, orders("a"))
    assert host.carried[-1] == "task of a"


async def connected(
    serve: Callable[[web.Request], Awaitable[web.StreamResponse]],
    token: Token | None = None,
    host_key: str = "",
) -> None:
    """Connect to a server that answers as told."""
    app = web.Application()
    app.router.add_get("/v1/instances/abc/commands/s1", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        url = URL(f"http://{host}:{port}")
        client = await HttpClient.open(url, CallLimits(), token=token)
        client.host_key = host_key
        try:
            await (await client.command(ME, "s1")).close()
        finally:
            await client.close()
    finally:
        await runner.cleanup()


async def test_the_call_says_who_connects() -> None:
    seen: list[tuple[str | None, ...]] = []
    names = ("Authorization", GENERATION_HEADER, SESSION_HEADER, HOST_KEY_HEADER)

    async def serve(request: web.Request) -> web.StreamResponse:
        seen.append(tuple(map(request.headers.get, names)))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    await connected(serve, Token(text="secret"), "of the host")
    await connected(serve)
    assert seen == [("Bearer secret", "4", "one", "of the host"), (None, "4", "one", None)]


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_refusal_is_a_failure_of_control(status: int) -> None:
    async def serve(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    with pytest.raises(ControlFailure) as caught:
        await connected(serve)
    assert not isinstance(caught.value, InstanceUnknown)


async def test_no_server_is_a_failure_of_control() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ControlUnavailable):
            await commands.connect(session, URL("http://127.0.0.1:1/x"), {}, server_name=None)
