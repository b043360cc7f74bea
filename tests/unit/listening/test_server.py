"""Accepting: places for known senders, TLS that never comes, descriptors that run short."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import structlog

from agent.listening.limits import Limits
from tests.support import certificates
from tests.unit.listening.conftest import PLENTY, SHORT, Served, request, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENT = msgspec.structs.replace(SHORT, head_s=30.0, idle_s=30.0)
PLACES = PATIENT.connections - PATIENT.silent - PATIENT.unproven
"""For connections of known senders."""


@pytest.fixture
async def patient() -> AsyncIterator[Served]:
    async with serving(PATIENT) as running:
        yield running


async def test_a_known_sender_keeps_its_place_and_a_new_one_finds_one(patient: Served) -> None:
    known = await patient.connect()
    known.send(request(known=True))
    await known.answer()
    with structlog.testing.capture_logs() as lines:
        silent = [await patient.connect() for _ in range(200)]
        late = await patient.connect()
        late.send(request(known=True))
        assert b"200 OK" in await late.answer()
    known.send(request(known=True))
    assert b"200 OK" in await known.answer()
    await asyncio.gather(*(one.end() for one in silent[:100]))
    assert patient.server.connections <= SHORT.silent_per_address + 2
    assert [line["event"] for line in lines] == ["connection closed: its place was needed"]


async def test_nor_do_many_addresses_keep_anybody_out(patient: Served) -> None:
    for number in range(200):
        await patient.connect(local_addr=(f"127.0.{1 + number // 100}.{1 + number % 100}", 0))
    late = await patient.connect()
    late.send(request(known=True))
    assert b"200 OK" in await late.answer()
    assert patient.server.connections <= SHORT.silent + 1


async def test_calls_in_progress_are_answered_however_many_more_come(patient: Served) -> None:
    """A client that waits, is cut off, and asks again would never get its answer."""
    held = [await patient.hold() for _ in range(PLACES - 1)]
    with structlog.testing.capture_logs() as lines:
        idle = await patient.connect()
        idle.send(request(known=True))
        assert b"200 OK" in await idle.answer()
        held.append(await patient.hold())
        assert await idle.end() == b"", "an idle one gives way first"
        for _ in range(5):
            refused = await patient.connect()
            refused.send(request("/held"))
            assert await refused.end() == b""
    assert patient.held.begun == PLACES, "what was refused was not done"
    assert [line["cause"] for line in lines] == ["too many proven connections"]
    patient.held.may_end.set()
    for one in held:
        assert (await one.answer()).endswith(b"held")
    late = await patient.connect()
    late.send(request(known=True))
    assert b"200 OK" in await late.answer()


async def test_a_connection_with_two_calls_is_busy_until_both_are_answered(patient: Served) -> None:
    twice = await patient.connect()
    twice.send(request(known=True) + request("/held"))
    assert b"200 OK" in await twice.answer()
    for _ in range(PLACES + 2):
        idle = await patient.connect()
        idle.send(request(known=True))
        await idle.answer()
    patient.held.may_end.set()
    assert (await twice.answer()).endswith(b"held")


async def test_a_whole_fleet_may_connect_at_once_from_one_address() -> None:
    """As behind one router, when control comes back: none of them is taken for a stranger too many."""
    async with serving(Limits()) as served:
        fleet = [await served.connect() for _ in range(800)]
        for agent in fleet:
            agent.send(request(known=True))
        answers = await asyncio.gather(*(agent.answer() for agent in fleet))
    assert sum(b"200 OK" in answer for answer in answers) == 800


async def test_a_silent_connection_costs_little(tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    async with serving(PLENTY, tls=tls) as served:
        tracemalloc.start()
        try:
            for _ in range(200):
                await served.connect()
            await served.counts(200)
            held = [
                trace.size
                for trace in tracemalloc.take_snapshot().traces
                if any("sslproto" in frame.filename for frame in trace.traceback)
            ]
        finally:
            tracemalloc.stop()
    assert sum(held) < 100_000


async def test_a_handshake_that_never_ends_is_ended(tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    with structlog.testing.capture_logs() as lines:
        async with serving(tls=tls) as served:
            silent = [await served.connect() for _ in range(5)]
            half = await served.connect()
            half.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            plain = await served.connect()
            plain.send(request())
            await asyncio.gather(*(one.end() for one in (*silent, half, plain)))
            await served.counts(0)
            trusted = ssl.create_default_context(cafile=str(made.ca))
            raw = await served.connect(ssl=trusted, server_hostname="localhost")
            raw.send(request(known=True))
            assert b"200 OK" in await raw.answer()
    assert {line["event"] for line in lines} == {"connection closed: TLS handshake failed"}


async def test_a_handshake_gives_way_like_any_connection(tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    async with serving(PATIENT, tls=tls) as served:
        held = [await served.connect() for _ in range(60)]
        for one in held:
            one.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        trusted = ssl.create_default_context(cafile=str(made.ca))
        raw = await served.connect(ssl=trusted, server_hostname="localhost")
        raw.send(request(known=True))
        assert b"200 OK" in await raw.answer()
        await asyncio.gather(*(one.end() for one in held[:30]))
        assert served.server.connections <= SHORT.unproven_per_address + 1


async def test_a_taken_address_is_an_error_and_leaves_nothing(served: Served) -> None:
    with pytest.raises(OSError, match="in use"):
        await served.server.listen_tcp("127.0.0.1", served.port)
    assert len(served.server.addresses) == 1


async def test_every_address_of_a_name_is_listened_on(served: Served) -> None:
    await served.server.listen_tcp("localhost", 0)
    found = {where[0] for where in served.server.addresses[1:]}
    assert found <= {"127.0.0.1", "::1"}
    assert "127.0.0.1" in found


async def test_a_trusted_socket_has_no_stranger(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "s"
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    served.server.listen(bound, is_trusted=True)
    reader, writer = await asyncio.open_unix_connection(str(path))
    for _ in range(2):
        writer.write(request())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"close" not in head.lower()
        await reader.readexactly(2)
    served.server.leave(bound)
    writer.write(request())
    assert b"200" in await reader.readuntil(b"\r\n\r\n"), "its connections go on"
    writer.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_unix_connection(str(path))


SHORTAGE = """
import asyncio, json, os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
from tests.unit.listening.conftest import PLENTY, request, serving

async def main():
    async with serving(PLENTY) as served:
        known = await served.connect()
        known.send(request(known=True))
        await known.answer()
        print(served.port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.process_time()
        await asyncio.sleep(2)
        used = time.process_time() - began
        known.send(request(known=True))
        answer = await known.answer()
        print(json.dumps({"cpu_s": used, "ok": b"200 OK" in answer}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


async def test_short_descriptors_cost_no_cpu_and_keep_no_known_sender_out() -> None:
    """In a process of its own, whose limit is lower than what its server would allow."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SHORTAGE,
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    held = []
    try:
        port = int(await process.stdout.readline())
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(150)]
        process.stdin.write(b"\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(known=True))
        async with asyncio.timeout(10):
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        lines, told = await _lines_until_json(process.stdout)
        assert told["ok"]
        assert told["cpu_s"] < 0.5
        assert sum("raise the limit" in line for line in lines) == 1
        assert len(lines) <= 2
    finally:
        process.stdin.write(b"\n")
        process.kill()
        await process.wait()
        for _, writer in held:
            writer.transport.abort()


async def _lines_until_json(stream: asyncio.StreamReader) -> tuple[list[str], dict[str, Any]]:
    lines: list[str] = []
    async with asyncio.timeout(20):
        while True:
            line = (await stream.readline()).decode()
            if line.startswith("{"):
                return lines, json.loads(line)
            lines.append(line)
