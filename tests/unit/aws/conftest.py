"""Servers on the loopback that stand for AWS, and the clients that are pointed at them."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.aws.clock import AwsClock
from agent.aws.http import AwsHttp
from agent.aws.keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agent.aws.credentials import CredentialChain

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
    Serve = Callable[[Handler], Awaitable[str]]
    ServeRaw = Callable[[Callable[[int], bytes]], Awaitable[str]]


NOW = 1_800_000_000.0


class Times:
    """Wall and steady clock of a test, moved by hand."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.clock = AwsClock(lambda: NOW + self.passed)

    def steady(self) -> float:
        return 1000.0 + self.passed


def keys(number: int, *, expires_in_s: float | None = None) -> Keys:
    expires_at = None if expires_in_s is None else NOW + expires_in_s
    return Keys(f"ASIA{number}", f"secret-{number}", f"token-{number}", expires_at)


async def settle(chain: CredentialChain) -> None:
    if chain._renewing is not None:
        await chain._renewing


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture(scope="session")
def trust() -> ssl.SSLContext:
    return ssl.create_default_context()


@pytest.fixture
async def http(trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsHttp]:
    # Reading the system's authorities takes most of the time of most tests.
    monkeypatch.setattr("agent.aws.http._trust", lambda _: trust)
    async with AwsHttp() as client:
        yield client


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Give a function that serves every path by one handler and returns the base URL."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def serve_raw() -> AsyncIterator[ServeRaw]:
    """Give a function that answers the n-th connection with bytes and closes it."""
    servers: list[asyncio.Server] = []

    async def start(answer: Callable[[int], bytes]) -> str:
        count = 0

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            await reader.readexactly(length)
            writer.write(answer(count))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()
