"""TLS to AWS, straight and through a proxy: calls and websockets."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from agent.aws.api import JsonApi
from agent.aws.clock import AwsClock
from agent.aws.credentials import CredentialChain
from agent.aws.http import AwsHttp, Proxies, worded
from agent.aws.keys import Keys
from agent.aws.signing import Signer, wire_url
from agent.aws.sources import ConfiguredKeys
from tests.support import certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.certificates import Certificates

KEYS = Keys("ASIA1", "secret-1", "token-1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("tls"), names="DNS:ecs.test,IP:127.0.0.1")


class Proxy:
    """A proxy that takes CONNECT with a password, and resolves every name to the loopback."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self._pipes: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split()[1]
        password = head.partition("Proxy-Authorization: Basic ")[2].split("\r\n")[0]
        self.asked.append((target, base64.b64decode(password).decode()))
        port = int(target.rpartition(":")[2])
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(pipe(reader, back))
                group.create_task(pipe(there, writer))
        finally:
            back.close()
            writer.close()


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def answer(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Upgrade") != "websocket":
        return web.json_response({"signed": request.headers["Authorization"][:16]})
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(request.raw_path)
    await socket.close()
    return socket


async def start(context: ssl.SSLContext) -> tuple[web.AppRunner, int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    return runner, int(runner.addresses[0][1])


def server_context(made: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context


@pytest.fixture
async def port(made: Certificates) -> AsyncIterator[int]:
    runner, at = await start(server_context(made))
    yield at
    await runner.cleanup()


def api_of(http: AwsHttp, url: str) -> JsonApi:
    clock = AwsClock()
    chain = CredentialChain([ConfiguredKeys(KEYS)], clock)
    return JsonApi(http, chain, Signer("eu-west-1", "ecs", clock), URL(url))


async def test_a_call_over_tls(made: Certificates, port: int) -> None:
    async with AwsHttp(ca_file=made.ca) as http:
        found = await api_of(http, f"https://127.0.0.1:{port}").call("Op", {}, attempts=1)
    assert found == {"signed": "AWS4-HMAC-SHA256"}


async def test_a_certificate_of_nobody_is_not_trusted(http: AwsHttp, port: int) -> None:
    with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
        await http.session.get(f"https://127.0.0.1:{port}/")
    assert "is not trusted" in worded(caught.value)
    assert "add its authority" in worded(caught.value)


async def test_calls_and_websockets_through_a_proxy(made: Certificates, port: int) -> None:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    at = server.sockets[0].getsockname()[1]
    proxies = Proxies(https=f"http://user:pa%20ss@127.0.0.1:{at}")
    async with AwsHttp(proxies, made.ca) as http:
        found = await api_of(http, f"https://ecs.test:{port}").call("Op", {}, attempts=1)
        assert found == {"signed": "AWS4-HMAC-SHA256"}
        url = wire_url(f"wss://ecs.test:{port}/ws", {"a": "b c"})
        async with http.session.ws_connect(
            url,
            headers=Signer("eu-west-1", "ecs", AwsClock()).upgrade(KEYS, url),
            proxy=http.proxy_for(url),
        ) as socket:
            assert await socket.receive_str() == "/ws?a=b%20c"
    server.close()
    await server.wait_closed()
    assert proxy.asked[0] == (f"ecs.test:{port}", "user:pa ss")
    assert {target for target, _ in proxy.asked} == {f"ecs.test:{port}"}
