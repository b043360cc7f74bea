"""Sockets to Amazon ECS: the upgrade, the limits, and what a hostile server can do to them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from structlog.testing import capture_logs
from yarl import URL

from agent.aws.clock import AwsClock
from agent.aws.http import AwsHttp
from agent.aws.keys import Keys
from agent.aws.signing import Signer, wire_url
from agent.errors import ControlUnavailable, CredentialsMissing
from agent.upstream.amazon.websocket import (
    Dialer,
    Socket,
    SocketClosed,
    SocketLimits,
    UpgradeRefused,
)
from tests.support.fake_aws import FakeChain, FakeHttp, FakeSigner
from tests.support.ws_server import Peer, WsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

QUICK = SocketLimits(
    connect_s=1.0, handshake_s=1.0, read_s=5.0, write_s=5.0, close_s=0.3, frame_bytes=1024 * 1024
)


@pytest.fixture
async def server() -> AsyncIterator[WsServer]:
    async with WsServer().running() as running:
        yield running


@pytest.fixture
def chain() -> FakeChain:
    return FakeChain()


@pytest.fixture
def signer() -> FakeSigner:
    return FakeSigner()


class Kit:
    """Dials the server with any limits."""

    def __init__(self, server: WsServer, chain: FakeChain, signer: FakeSigner, http: Any) -> None:
        self._server = server
        self._parts: tuple[Any, Any, Any] = (http, chain, signer)

    def dial(
        self, limits: SocketLimits = QUICK, query: str = "a=b"
    ) -> contextlib.AbstractAsyncContextManager[Socket]:
        return Dialer(*self._parts, limits).dial(f"{self._server.url}ws?{query}")


@pytest.fixture
async def kit(server: WsServer, chain: FakeChain, signer: FakeSigner) -> AsyncIterator[Kit]:
    async with FakeHttp.opened() as http:
        yield Kit(server, chain, signer, http)


async def hold(peer: Peer) -> None:
    """Keep the connection until the agent ends it."""
    while (await peer.socket.receive()).type is WSMsgType.TEXT:
        pass


async def forever(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        await call()


async def test_messages_go_both_ways(server: WsServer, kit: Kit) -> None:
    heard: list[Any] = []

    async def play(peer: Peer) -> None:
        await peer.say("HeartbeatMessage", messageId="m-1", healthy=True)
        heard.append(await peer.hear())
        heard.append(await peer.hear())

    server.plays = [play]
    async with kit.dial() as socket:
        frame = await socket.receive()
        assert frame.type == "HeartbeatMessage"
        assert b'"m-1"' in bytes(frame.message)
        await socket.send('{"type":"One","message":{"n":1}}')
        await socket.send(b'{"type":"Two","message":{"n":2}}')
        with pytest.raises(SocketClosed) as closed:
            await socket.receive()
    assert closed.value.clean
    assert heard == [("One", {"n": 1}), ("Two", {"n": 2})]
    [request] = server.requests
    assert request.headers["Authorization"] == "keys-1"
    assert request.headers["X-Amz-Date"] == "20260101T000000Z"
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert request.query_string == "a=b"


@pytest.mark.parametrize(
    ("code", "clean"), [(1000, True), (1001, True), (1011, True), (1008, False), (1003, False)]
)
async def test_a_close_code_says_whether_to_come_back_at_once(
    server: WsServer, kit: Kit, code: int, clean: bool
) -> None:
    async def play(peer: Peer) -> None:
        await peer.socket.close(code=code, message=b"so it is")

    server.plays = [play]
    async with kit.dial() as socket:
        with pytest.raises(SocketClosed, match="so it is") as closed:
            await socket.receive()
        assert (closed.value.clean, closed.value.code) == (clean, code)
        with pytest.raises(SocketClosed):
            await socket.receive()
        with pytest.raises(SocketClosed):
            await socket.send("late")


async def test_a_connection_that_just_ends_is_clean(server: WsServer, kit: Kit) -> None:
    async def play(peer: Peer) -> None:
        assert peer.request.transport is not None
        peer.request.transport.close()

    server.plays = [play]
    async with kit.dial() as socket:
        with pytest.raises(SocketClosed) as closed:
            await socket.receive()
    assert (closed.value.clean, closed.value.code) == (True, 1006)


@pytest.mark.parametrize(
    ("status", "body", "name", "text"),
    [
        (400, b'{"InactiveInstanceException":"gone"}', "InactiveInstanceException", "gone"),
        (400, b'{"InactiveInstanceException":null}', "InactiveInstanceException", "null"),
        (
            400,
            b'{"type":"InvalidClusterException","message":{"message":"what cluster?"}}',
            "InvalidClusterException",
            "what cluster?",
        ),
        (
            403,
            b'{"__type":"com.amazonaws#ExpiredTokenException","message":"The token expired"}',
            "ExpiredTokenException",
            "The token expired",
        ),
        (403, b'{"__type":"AccessDenied","Message":"no"}', "AccessDenied", "no"),
        (503, b"<html>\n  busy\n</html>", "", "<html> busy </html>"),
        (500, b"", "", ""),
        (500, b"[" * 60_000, "", "[" * 500),
        (500, b"\xff\xfe{", "", "\ufffd\ufffd{"),
        (200, b'{"a":1,"b":2}', "", '{"a":1,"b":2}'),
    ],
)
async def test_a_refused_upgrade_says_why(
    server: WsServer, kit: Kit, status: int, body: bytes, name: str, text: str
) -> None:
    server.refusals = [web.Response(status=status, body=body) for _ in range(2)]
    with pytest.raises(UpgradeRefused) as refused:
        async with kit.dial():
            pass
    assert (refused.value.name, refused.value.text) == (name, text)
    assert refused.value.status == status


async def test_a_refused_signature_is_tried_once_more_with_other_keys_and_time(
    server: WsServer, kit: Kit, signer: FakeSigner
) -> None:
    told = web.Response(status=403, body=b'{"__type":"InvalidSignatureException","message":"x"}')
    server.refusals = [told]
    server.plays = [hold]
    async with kit.dial():
        pass
    assert [r.headers["Authorization"] for r in server.requests] == ["keys-1", "keys-2"]
    assert len(signer.clock.dates) == 1
    assert signer.clock.dates[0].endswith("GMT")


async def test_a_refused_signature_is_not_tried_again_when_it_would_be_the_same(
    server: WsServer, kit: Kit, chain: FakeChain, signer: FakeSigner
) -> None:
    chain.renews = False
    server.refusals = [web.Response(status=403, body=b"{}") for _ in range(9)]
    with pytest.raises(UpgradeRefused):
        async with kit.dial():
            pass
    assert len(server.requests) == 1
    signer.clock.learns = True
    with pytest.raises(UpgradeRefused):
        async with kit.dial():
            pass
    assert len(server.requests) == 3


async def test_a_refusal_shows_no_secrets(server: WsServer, kit: Kit) -> None:
    said = b'{"__type":"SomeException","message":"token the-session-token is not known"}'
    server.refusals = [web.Response(status=400, body=said)]
    with pytest.raises(UpgradeRefused) as refused:
        async with kit.dial():
            pass
    assert "the-session-token" not in str(refused.value)


async def test_a_refusal_for_good_ends_after_two_tries(server: WsServer, kit: Kit) -> None:
    server.refusals = [web.Response(status=403, body=b"{}") for _ in range(9)]
    with pytest.raises(UpgradeRefused):
        async with kit.dial():
            pass
    assert len(server.requests) == 2


async def test_an_endless_refusal_is_read_in_part(server: WsServer, kit: Kit) -> None:
    server.refusals = [web.Response(status=500, body=b"x" * 5_000_000)]
    with pytest.raises(UpgradeRefused) as refused:
        async with kit.dial():
            pass
    assert len(str(refused.value)) < 600


async def test_keys_do_not_follow_a_redirect(server: WsServer, kit: Kit) -> None:
    server.refusals = [web.Response(status=302, headers={"Location": f"{server.url}ws?stolen=1"})]
    server.plays = [hold]
    with pytest.raises(UpgradeRefused):
        async with kit.dial():
            pass
    assert len(server.requests) == 1


async def test_a_server_that_never_answers_the_upgrade() -> None:
    ended = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    listener = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    limits = SocketLimits(connect_s=0.1, handshake_s=0.1)
    parts: tuple[Any, Any] = (FakeChain(), FakeSigner())
    async with FakeHttp.opened() as http:
        with pytest.raises(ControlUnavailable, match="no connection within"):
            async with Dialer(http, *parts, limits).dial(f"http://127.0.0.1:{port}/ws"):
                pass
    await ended.wait()
    listener.close()
    await listener.wait_closed()


async def test_nobody_listens() -> None:
    listener = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    parts: tuple[Any, Any] = (FakeChain(), FakeSigner())
    async with FakeHttp.opened() as http:
        with pytest.raises(ControlUnavailable, match="no process listens"):
            async with Dialer(http, *parts, QUICK).dial(f"http://127.0.0.1:{port}/ws"):
                pass


async def test_without_keys_nothing_is_dialled(
    server: WsServer, kit: Kit, chain: FakeChain
) -> None:
    chain.missing = CredentialsMissing("no keys anywhere")
    with pytest.raises(CredentialsMissing):
        async with kit.dial():
            pass
    assert not server.requests


async def test_a_frame_of_10_mb_ends_the_connection_unread(server: WsServer, kit: Kit) -> None:
    codes: list[int | None] = []

    async def play(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            await peer.raw(b'{"type":"PayloadMessage","message":"' + b"x" * 10_000_000 + b'"}')
        await peer.socket.receive()
        codes.append(peer.socket.close_code)

    server.plays = [play]
    async with kit.dial() as socket:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        with pytest.raises(SocketClosed, match="exceeds limit") as closed:
            await socket.receive()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.5
    assert (closed.value.clean, closed.value.code) == (False, 1009)


async def test_half_a_frame_and_then_silence_ends_at_the_deadline(
    server: WsServer, kit: Kit
) -> None:
    async def play(peer: Peer) -> None:
        assert peer.request.transport is not None
        peer.request.transport.write(b"\x81\x7e\x01\x00" + b'{"type":')
        await hold(peer)

    server.plays = [play]
    limits = SocketLimits(read_s=0.1, close_s=0.1)
    async with kit.dial(limits) as socket:
        with pytest.raises(SocketClosed, match="no complete message within") as closed:
            await socket.receive()
    assert not closed.value.clean


async def test_a_slow_drip_ends_at_the_same_deadline(server: WsServer, kit: Kit) -> None:
    async def play(peer: Peer) -> None:
        assert peer.request.transport is not None
        write = peer.request.transport.write
        write(b"\x81\x7e\x01\x00")
        for _ in range(60):
            write(b"x")
            await asyncio.sleep(0.01)

    server.plays = [play]
    began = time.monotonic()
    async with kit.dial(SocketLimits(read_s=0.2, close_s=0.1)) as socket:
        with pytest.raises(SocketClosed, match="no complete message"):
            await socket.receive()
    assert time.monotonic() - began < 0.9


async def test_pings_are_answered_and_are_no_messages(server: WsServer, kit: Kit) -> None:
    pongs: list[bytes] = []

    async def play(peer: Peer) -> None:
        peer.socket._autoping = False
        with contextlib.suppress(ConnectionError):
            for _ in range(50):
                await peer.socket.ping(b"there?")
                pongs.append(bytes((await peer.socket.receive()).data))
                await asyncio.sleep(0.02)

    server.plays = [play]
    async with kit.dial(SocketLimits(read_s=0.2, close_s=0.1)) as socket:
        with pytest.raises(SocketClosed, match="no complete message"):
            await socket.receive()
    assert 2 < len(pongs) < 30
    assert pongs[0] == b"there?"


async def test_a_flood_of_pings_is_read_slowly(server: WsServer, kit: Kit) -> None:
    pongs = 0

    async def play(peer: Peer) -> None:
        nonlocal pongs
        peer.socket._autoping = False

        async def ping() -> None:
            await peer.socket.ping(b"there?")
            await asyncio.sleep(0)

        flood = asyncio.create_task(forever(ping))
        with contextlib.suppress(ConnectionError):
            while (await peer.socket.receive()).type is WSMsgType.PONG:
                pongs += 1
        flood.cancel()
        await asyncio.wait([flood])

    server.plays = [play]
    limits = SocketLimits(read_s=0.5, burst=100.0, frames_per_s=100.0, close_s=0.1)
    async with kit.dial(limits) as socket:
        with pytest.raises(SocketClosed, match="no complete message"):
            await socket.receive()
    assert 100 <= pongs < 300


async def test_what_cannot_be_read_is_skipped_and_logged_once(server: WsServer, kit: Kit) -> None:
    async def play(peer: Peer) -> None:
        for junk in (b"", b"{", b"null", b'"x"', b"[1]", b"\xff\xff", b'{"type":7}', b"{}"):
            await peer.raw(junk)
        await peer.raw(b'{"type":"A","message":' + b"[" * 100_000 + b"}")
        await peer.raw(b'{"a":"b","c":"d"}')
        await peer.socket.send_bytes(b'{"type":"Binary"}')
        await peer.raw(b'{"ServerException":"busy"}')
        await peer.raw(b'{"type":"Last"}')
        await hold(peer)

    server.plays = [play]
    with capture_logs() as lines:
        async with kit.dial() as socket:
            first = await socket.receive()
            last = await socket.receive()
    assert (first.type, bytes(first.message)) == ("ServerException", b'{"message":"busy"}')
    assert (last.type, bytes(last.message)) == ("Last", b"null")
    assert [line["event"] for line in lines] == ["meaningless frames"]


async def test_a_flood_of_nonsense_is_read_slowly(server: WsServer, kit: Kit) -> None:
    sent = 0

    async def play(peer: Peer) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while True:
                await peer.raw(b'{"x":' + b" " * 10_000 + b"1}")
                sent += 1

    server.plays = [play]
    limits = SocketLimits(burst=100.0, frames_per_s=100.0, close_s=0.1)
    with capture_logs() as lines:
        async with kit.dial(limits) as socket:
            began = time.process_time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await socket.receive()
            assert time.process_time() - began < 0.5
            assert sent < 1000  # what lies in the buffers of the kernel, and little more
    assert len(lines) == 1


async def test_a_peer_that_reads_nothing_ends_the_connection(server: WsServer, kit: Kit) -> None:
    stop = asyncio.Event()

    async def play(peer: Peer) -> None:
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()
        await stop.wait()

    server.plays = [play]
    began = time.monotonic()
    async with kit.dial(SocketLimits(write_s=0.2, close_s=0.1)) as socket:
        with pytest.raises(SocketClosed, match="could not be sent within"):
            await forever(lambda: socket.send(b"x" * 1_000_000))
        with pytest.raises(SocketClosed):
            await socket.receive()
    assert time.monotonic() - began < 5
    stop.set()


async def test_frames_of_many_tasks_do_not_mix(server: WsServer, kit: Kit) -> None:
    heard: list[Any] = []

    async def play(peer: Peer) -> None:
        heard.extend([await peer.hear() for _ in range(40)])

    server.plays = [play]
    async with kit.dial() as socket:
        body = "x" * 100_000
        async with asyncio.TaskGroup() as group:
            for n in range(40):
                group.create_task(socket.send(f'{{"type":"N","message":[{n},"{body}"]}}'))
        with pytest.raises(SocketClosed):
            await socket.receive()
    assert [message[0] for _, message in heard] == list(range(40))


async def test_a_socket_ends_itself_at_its_age_in_the_ordinary_way(
    server: WsServer, kit: Kit
) -> None:
    closes: list[tuple[Any, Any]] = []

    async def play(peer: Peer) -> None:
        got = await peer.socket.receive()
        closes.append((got.data, got.extra))

    server.plays = [play]
    limits = SocketLimits(age_s=0.1, age_jitter_s=0.1, close_s=0.5)
    async with kit.dial(limits) as socket:
        with pytest.raises(SocketClosed, match="ConnectionExpired") as closed:
            await socket.receive()
    assert closed.value.clean
    assert closes[0][0] == 1000
    assert str(closes[0][1]).startswith("ConnectionExpired")


async def test_at_its_age_it_does_not_wait_for_ever_for_the_other_end(
    server: WsServer, kit: Kit
) -> None:
    stop = asyncio.Event()

    async def play(peer: Peer) -> None:
        while not stop.is_set():
            await peer.say("HeartbeatMessage", messageId="again")
            await asyncio.sleep(0.01)

    server.plays = [play]
    began = time.monotonic()
    limits = SocketLimits(age_s=0.1, age_jitter_s=0.0, close_s=0.2)
    async with kit.dial(limits) as socket:
        with pytest.raises(SocketClosed, match="ConnectionExpired") as closed:
            await forever(socket.receive)
    assert closed.value.clean
    assert time.monotonic() - began < 2
    stop.set()


async def test_closing_here_wakes_the_reader(server: WsServer, kit: Kit) -> None:
    codes: list[Any] = []

    async def play(peer: Peer) -> None:
        codes.append((await peer.socket.receive()).data)

    server.plays = [play]
    async with kit.dial() as socket:
        reading = asyncio.create_task(socket.receive())
        await asyncio.sleep(0.05)
        await socket.close("no heartbeat")
        with pytest.raises(SocketClosed, match="no heartbeat") as closed:
            await reading
        await socket.close("again")
    assert not closed.value.clean
    assert codes == [1000]


async def test_many_dials_leave_nothing_open(server: WsServer, kit: Kit) -> None:
    server.plays = [hold]
    tasks = len(asyncio.all_tasks())
    for _ in range(30):
        with contextlib.suppress(RuntimeError):
            async with kit.dial() as socket:
                await socket.send("{}")
                raise RuntimeError
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) <= tasks


async def test_what_is_signed_is_what_goes_on_the_wire_also_with_a_clock_that_is_an_hour_off(
    server: WsServer,
) -> None:
    clock = AwsClock(clock=lambda: time.time() - 3600)
    signer = Signer("eu-west-1", "ecs", clock)
    keys = Keys("AKIAEXAMPLE", "secret", "token/with+odd=signs")
    chain = FakeChain()
    chain.given = keys
    url = wire_url(URL(f"{server.url}ws"), {"dockerVersion": "DockerVersion: 20.10+x", "a": "é/&"})
    said = b'{"__type":"InvalidSignatureException","message":"Signature expired"}'
    server.refusals = [web.Response(status=403, body=said)]
    server.plays = [hold]
    parts: tuple[Any, Any] = (chain, signer)
    async with AwsHttp() as http, Dialer(http, *parts, QUICK).dial(url):
        pass
    early, request = server.requests
    assert request.raw_path == url.raw_path_qs
    assert "DockerVersion%3A%2020.10%2Bx" in request.raw_path
    assert request.headers["X-Amz-Security-Token"] == "token/with+odd=signs"
    assert early.headers["X-Amz-Date"] != request.headers["X-Amz-Date"]
    stamp = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(stamp.timestamp() - time.time()) < 10
    fixed = Signer("eu-west-1", "ecs", AwsClock(clock=stamp.timestamp))
    assert fixed.upgrade(keys, url)["Authorization"] == request.headers["Authorization"]


async def test_the_real_client_session_is_left_open(server: WsServer, chain: FakeChain) -> None:
    server.plays = [hold]
    async with aiohttp.ClientSession() as session:
        parts: tuple[Any, Any, Any] = (FakeHttp(session), chain, FakeSigner())
        async with Dialer(*parts, QUICK).dial(f"{server.url}ws"):
            pass
        assert not session.closed
        assert session.connector is not None
        assert not session.connector.closed
