"""Attackers of an HTTP server, in a separate process: ``python -m tests.support.attackers``.

Each kind of attack continues until standard input ends; then its counts are printed as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

LATE_S = 20.0
_MIB = 1024 * 1024
_INFLATED_BYTES = 300 * _MIB
_TARGET = "AmazonEC2ContainerServiceV20141113"
_NOW = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
_SIGNED = (
    f"Authorization: AWS4-HMAC-SHA256 Credential=AKIAAAAAAAAAAAAAAAAA/{_NOW[:8]}/us-east-1/ecs/"
    f"aws4_request, SignedHeaders=host;x-amz-date, Signature={'0' * 64}\r\nX-Amz-Date: {_NOW}\r\n"
)
Attack = Callable[["Attacker", int], Awaitable[None]]


class Attacker:
    """What the senders of one attack have in common."""

    def __init__(self, host: str, port: int, *, many: bool) -> None:
        self.host, self.port = host, port
        self.many = many
        self.seen: Counter[str] = Counter()
        self.bomb = gzip.compress(b"\0" * _INFLATED_BYTES)
        self.open_now = 0

    async def connect(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; if there should be many addresses, each sender has its own."""
        local = (f"127.{1 + number // 250 % 200}.7.{1 + number % 250}", 0) if self.many else None
        reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=local)
        self.seen["connected"] += 1
        return reader, writer

    async def ask(self, number: int, sent: bytes) -> bytes:
        """Send data on a new connection and return what is received until it ends."""
        reader, writer = await self.connect(number)
        try:
            writer.write(sent)
            answer = await reader.read(_MIB)
            self.seen[answer[9:12].decode("ascii", "replace") or "cut"] += 1
            return answer
        finally:
            writer.transport.abort()


async def silent(attacker: Attacker, number: int) -> None:
    """Connect and send nothing."""
    await _hold(attacker, number, b"")


async def half_heads(attacker: Attacker, number: int) -> None:
    """Send part of a head."""
    await _hold(attacker, number, b"POST / HTTP/1.1\r\nHost: control\r\nX-Pad: ")


async def half_handshakes(attacker: Attacker, number: int) -> None:
    """Start a TLS handshake."""
    await _hold(attacker, number, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


async def half_bodies(attacker: Attacker, number: int) -> None:
    """Send a head and part of a body."""
    head = b"POST / HTTP/1.1\r\nHost: control\r\nContent-Length: 1000000\r\n\r\n"
    await _hold(attacker, number, head + b"{" * 60_000)


async def silent_once(attacker: Attacker, number: int) -> None:
    """Connect once and send nothing; do not reconnect."""
    await _hold(attacker, number, b"")
    await asyncio.sleep(3600)


async def dripping(attacker: Attacker, number: int) -> None:
    """Send a head, one byte a second."""
    _, writer = await attacker.connect(number)
    for byte in b"GET /healthz HTTP/1.1\r\nHost: control\r\n" + b"X: " + b"y" * 600:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def _hold(attacker: Attacker, number: int, sent: bytes) -> None:
    reader, writer = await attacker.connect(number)
    attacker.open_now += 1
    try:
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(65536):
                pass
        attacker.seen["closed"] += 1
    finally:
        attacker.open_now -= 1
        writer.transport.abort()


def bombs(path: str, headers: str) -> Attack:
    """Return the attack that sends gzip bombs to a path, one after the other."""

    async def attack(attacker: Attacker, number: int) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: control\r\nContent-Encoding: gzip\r\n{headers}"
            f"Content-Length: {len(attacker.bomb)}\r\n\r\n"
        )
        await attacker.ask(number, head.encode() + attacker.bomb)

    return attack


async def garbage(attacker: Attacker, number: int) -> None:
    """Send data that is not HTTP, on one connection after the other."""
    await attacker.ask(number, b"\x16\x03\x01\x02\x00\x01\x00 \r\n\r\n" + b"\xff" * 500)


async def large_heads(attacker: Attacker, number: int) -> None:
    """Send an endless head."""
    fields = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 8000) for n in range(60))
    await attacker.ask(number, b"GET / HTTP/1.1\r\nHost: control\r\n" + fields)


ATTACKS: dict[str, Attack] = {
    "silent": silent,
    "silent-once": silent_once,
    "half-heads": half_heads,
    "half-handshakes": half_handshakes,
    "half-bodies": half_bodies,
    "dripping": dripping,
    "bombs": bombs("/v1/instances", ""),
    "bombs-to-any-path": bombs("/any/path", ""),
    "bombs-signed": bombs(
        "/",
        f"{_SIGNED}X-Amz-Target: {_TARGET}.RegisterContainerInstance\r\n"
        "Content-Type: application/x-amz-json-1.1\r\n",
    ),
    "bombs-bearer": bombs("/v1/instances", "Authorization: Bearer wrong\r\n"),
    "garbage": garbage,
    "large-heads": large_heads,
}


async def main(kind: str, host: str, port: int, senders: int, *, many: bool) -> dict[str, Any]:
    """Attack until standard input ends; return what was counted."""
    attacker = Attacker(host, port, many=many)
    attack = ATTACKS[kind]

    async def sender(number: int) -> None:
        while True:
            try:
                await attack(attacker, number)
            except OSError as error:
                attacker.seen[type(error).__name__] += 1
                await asyncio.sleep(0.01)

    senders_now = [asyncio.create_task(sender(number)) for number in range(senders)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    if attack is silent_once:  # on a busy machine, it is behind what the server has done
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_S):
                while attacker.seen["closed"] < senders:  # noqa: ASYNC110 - one event of many
                    await asyncio.sleep(0.05)
    told = dict(attacker.seen) | {"open": attacker.open_now}
    for one in senders_now:
        one.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*senders_now, return_exceptions=True)
    return told


if __name__ == "__main__":
    given = sys.argv[1:]
    counted = asyncio.run(
        main(given[0], given[1], int(given[2]), int(given[3]), many=given[4] == "many")
    )
    sys.stdout.write(json.dumps(counted) + "\n")
