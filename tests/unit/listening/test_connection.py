"""Time limits of a connection, and data that is not HTTP; real sockets, small limits."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import time
import tracemalloc

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.unit.listening.conftest import PLENTY, SHORT, Served, request, serving


async def test_a_silent_connection_is_closed_without_a_word(served: Served) -> None:
    with structlog.testing.capture_logs() as lines:
        raw = await served.connect()
        began = time.monotonic()
        assert await raw.end() == b""
    assert time.monotonic() - began > SHORT.head_s * 0.9
    assert lines == []
    await served.counts(0)


@pytest.mark.parametrize("step_s", [0.0, 0.1])
async def test_a_head_has_to_be_whole_in_its_time_however_it_drips(
    served: Served, step_s: float
) -> None:
    with structlog.testing.capture_logs() as lines:
        raw = await served.connect()
        began = time.monotonic()
        ending = asyncio.create_task(raw.end())
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX: 01234567890":
            if ending.done():
                break
            raw.send(bytes([byte]))
            await asyncio.sleep(step_s)
        assert await ending == b""
    assert time.monotonic() - began < 4
    assert [line["event"] for line in lines] == ["connection closed: request not complete in time"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canary\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization\x01: Bearer canary\r\n\r\n",
        b"GET /canary\x01 HTTP/canary\r\nHost: x\r\n\r\n",
        b"canary canary canary\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + b"canary" * 2000 + b"\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_not_logged(served: Served, head: bytes) -> None:
    with structlog.testing.capture_logs() as lines:
        raw = await served.connect()
        raw.send(head)
        await raw.end()
    assert lines
    assert "canary" not in repr(lines)


async def test_a_later_head_has_its_time_too_and_idling_has_another(served: Served) -> None:
    raw = await served.connect()
    raw.send(request(known=True))
    assert b"200 OK" in await raw.answer()
    await asyncio.sleep(SHORT.head_s * 1.2)  # Idle, which is not a head.
    raw.send(request(known=True))
    assert b"200 OK" in await raw.answer()
    began = time.monotonic()
    raw.send(b"GET / HT")
    assert await raw.end() == b""
    assert time.monotonic() - began < SHORT.idle_s


async def test_an_idle_connection_of_a_known_sender_is_closed_in_the_end(served: Served) -> None:
    raw = await served.connect()
    raw.send(request(known=True))
    await raw.answer()
    began = time.monotonic()
    assert await raw.end() == b""
    assert time.monotonic() - began > SHORT.idle_s * 0.9


async def test_a_held_call_is_not_idle(served: Served) -> None:
    raw = await served.connect()
    raw.send(request("/slow"))
    assert (await raw.answer()).endswith(b"slow")


async def test_a_stranger_has_one_request_and_a_known_sender_any_number(served: Served) -> None:
    stranger, known = await served.connect(), await served.connect()
    stranger.send(request() + request())
    assert (await stranger.end()).count(b"200 OK") == 1
    for _ in range(3):
        known.send(request(known=True))
        assert b"close" not in (await known.answer()).lower()


async def test_a_head_without_end_is_cut_off(served: Served) -> None:
    with structlog.testing.capture_logs() as lines:
        raw = await served.connect()
        for number in range(60):
            raw.send(b"" if number else b"GET / HTTP/1.1\r\nHost: x\r\n")
            raw.send(b"X-%d: %s\r\n" % (number, b"y" * 7000))
        await raw.end()
    assert [line["event"] for line in lines] == ["connection closed: request head too large"]


async def test_what_a_stranger_sends_behind_its_answer_is_bounded(served: Served) -> None:
    raw = await served.connect()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n"
    raw.send(head)
    sent = 0
    try:
        async with asyncio.timeout(10):
            while True:
                raw.send(b"z" * 65536)
                await raw.writer.drain()
                sent += 65536
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    assert sent < 30 * 1024 * 1024


@pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
async def test_what_came_behind_a_request_goes_with_its_connection(method: bytes) -> None:
    """Also while no garbage is collected: a collection of all is rare, and what it frees is large."""
    late = structs.replace(PLENTY, answers_burst=1, answers_per_s=0.001, answer_delay_s=0.5)
    async with serving(late) as served:
        first = await served.connect()
        first.send(request())
        await first.end()
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(20):
                raw = await served.connect()
                raw.send(method + request("/" if method == b"GET" else "x:1")[3:])
                for _ in range(20):  # In pieces: each one that is not HTTP is an error of its own.
                    raw.send(bytes(50_000))
                    await asyncio.sleep(0)
                await raw.end()
            served.hang_up()
            await served.counts(0)
            assert tracemalloc.get_traced_memory()[0] < 3 * 1024 * 1024
        finally:
            tracemalloc.stop()
            gc.enable()


async def test_bombs_stay_what_they_are(served: Served) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = b"POST /any HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    raw = await served.connect()
    began = time.process_time()
    raw.send(head % len(bomb) + bomb)
    assert b"200 OK" in await raw.answer()
    assert time.process_time() - began < 0.05


async def test_who_does_not_read_is_cut_off() -> None:
    async with serving(msgspec.structs.replace(SHORT, idle_s=60.0)) as served:
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", served.port))
        with small, structlog.testing.capture_logs() as lines:
            await asyncio.get_running_loop().sock_sendall(
                small, request("/?size=30000000", known=True)
            )
            await served.counts(1)
            await served.counts(0)
    assert [line["event"] for line in lines] == ["connection closed: answer not read"]


async def test_who_is_waited_for_may_stop_reading(served: Served) -> None:
    raw = await served.connect(limit=1024)
    raw.send(request("/?size=20000000&patient=1", known=True))
    await raw.reader.read(1)
    await asyncio.sleep(SHORT.stall_s * 6)
    got = 1
    async with asyncio.timeout(60):
        while got < 20_000_000:
            data = await raw.reader.read(1_000_000)
            assert data, f"cut off after {got} bytes"
            got += len(data)


async def test_who_reads_slowly_is_not(served: Served) -> None:
    raw = await served.connect(limit=1024)
    raw.send(request("/?size=1000000", known=True))
    began, got = time.monotonic(), 0
    while got < 1_000_000:
        got += len(await raw.reader.read(8192))
        await asyncio.sleep(0.02)
    assert time.monotonic() - began > SHORT.stall_s * 4


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\x1b]0;title\x07: y\r\n\r\n",
        b"G\xff\xfeT / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[::1:80/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01",
        b"GET / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http_is_one_short_line(served: Served, sent: bytes) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(20):
            raw = await served.connect()
            raw.send(sent)
            await raw.end()
    assert len(lines) <= 1, "one in ten seconds"
    for line in lines:
        assert "exc_info" not in line
        assert str(line).isascii()
        assert str(line).isprintable()
        assert len(str(line)) < 600


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=300), max_size=5), st.booleans())
def test_no_bytes_stop_it(parts: list[bytes], with_head: bool) -> None:
    async def attempt() -> None:
        async with serving() as served:
            raw = await served.connect()
            if with_head:
                raw.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n")
            for part in parts:
                raw.send(part)
                await asyncio.sleep(0)
            raw.writer.write_eof()
            await raw.end()
            other = await served.connect()
            other.send(request())
            assert b"200 OK" in await other.answer()

    asyncio.run(attempt())


async def test_a_fault_of_ours_is_an_answer_and_a_traceback_now_and_then(served: Served) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            raw = await served.connect()
            raw.send(request("/fail"))
            assert b"500 " in await raw.end()
    (line,) = lines
    assert isinstance(line["exc_info"], RuntimeError)


async def test_answers_to_strangers_come_no_faster_than_their_rate() -> None:
    limits = msgspec.structs.replace(
        SHORT, answers_per_s=0.001, answers_burst=3, answer_delay_s=0.4
    )
    async with serving(limits) as served:
        took = []
        for known in (False, False, False, False, True):
            raw = await served.connect()
            began = time.monotonic()
            raw.send(request(known=known))
            await raw.answer()
            took.append(time.monotonic() - began)
    assert took[3] > 0.35
    assert max(took[:3] + took[4:]) < 0.35
