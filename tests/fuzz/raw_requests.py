"""Requests as no client would send them, over a socket: to everything that speaks HTTP."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from tests.fuzz.changed import changed
from tests.fuzz.choices import ChoicesOfBytes

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Collection, Sequence

    Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_METHODS: Final = [
    "GET",
    "GET",
    "POST",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "A",
]
_HEADERS: Final = [
    b"Content-Type: application/json", b"Content-Type: application/x-amz-json-1.1", b"Content-Encoding: gzip",
    b"Content-Type: application/x-www-form-urlencoded", b"Content-Type: application/cbor", b"Smithy-Protocol: rpc-v2-cbor",
    b"X-Amz-Target: AmazonEC2ContainerServiceV20141113.RunTask", b"X-Amz-Target: Logs_20140328.PutLogEvents",
    b"X-Amz-Target: ", b"Origin: http://a", b"Range: bytes=0-", b"If-None-Match: *", b"Accept-Encoding: gzip, deflate",
    b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Authorization: Bearer a", b"Authorization: AWS4-HMAC-SHA256 Credential=a",
    b"X-Forwarded-For: 10.0.0.1", b"Cookie: a=b", b"ECS-Generation: 1", b"ECS-Host-Key: a", b"Host: \xff", b"Accept: text/event-stream",
]  # fmt: skip
_BODIES: Final = [
    b"", b"{}", b"[]", b"null", b'{"taskArn":"a","names":["b"],"instance":"c"}', b"Action=ListUsers&Version=2010-05-08",
    b'{"changes":[{"id":"a","taskArn":"b","status":"RUNNING","at":1}]}', b"\x1f\x8b\x08\0", b"\xbf\xff", b"5\r\nhello\r\n0\r\n\r\n",
    b'{"cluster":"default","clientToken":"a","resources":{"cpuUnits":1,"memoryMib":1}}', b"\xff" * 9, b"[" * 3000,
]  # fmt: skip
_QUERY: Final = [
    b"after=0&wait=0", b"at=99999999999", b"cluster=default", b"balancer=a", b"since=-1", b"follow=1", b"tail=x", b"a[]=%00",
    b"Action=DescribeVpcs", b"agentHash=a&containerInstanceArn=b&seqNum=1", b"timeout=0&all=1", b"X-Amz-Signature=" + b"a" * 64,
]  # fmt: skip
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_ANSWER_S: Final = 20.0
_WHOLE_S: Final = 0.3
"""After this, a server that waits for more of a request is told that there is none."""
NOT_OURS: Final = {501, 503}
"""What is not built, or not open now, says so."""


class Broken(AssertionError):
    """A request got no answer that it could have."""


def made(paths: Sequence[str], rng: random.Random) -> bytes:
    """Return a request for one of the paths, or nearly so."""
    path = rng.choice(paths).encode()
    if rng.random() < 0.4:
        path = changed(path, ChoicesOfBytes(rng.randbytes(24)))
    query = b"?" + b"&".join(rng.sample(_QUERY, rng.randrange(3))) if rng.random() < 0.4 else b""
    body = rng.choice(_BODIES)
    if rng.random() < 0.4:
        body = changed(body, ChoicesOfBytes(rng.randbytes(24)))
    headers = [b"Host: localhost", *rng.sample(_HEADERS, rng.randrange(6))]
    if rng.random() < 0.9:
        headers.append(b"Content-Length: %d" % len(body))
    if rng.random() < 0.1:
        headers = [changed(one, ChoicesOfBytes(rng.randbytes(9))) for one in headers]
    target = (path + query).replace(b" ", b"%20").replace(b"\r", b"").replace(b"\n", b"")
    head = [b"%b %b HTTP/1.1" % (rng.choice(_METHODS).encode(), target), *headers]
    return b"\r\n".join([*head, b"Connection: close", b"", body])


async def send(connect: Connect, request: bytes, also: Collection[int] = ()) -> int:
    """Send a request; return the status of its answer, and 0 for a connection that was closed instead.

    Args:
        connect: opens a connection.
        request: what to send.
        also: statuses that tell of no failure here.

    Raises:
        Broken: there was none in time, or one that tells of a failure.
    """
    reader, writer = await connect()
    try:
        writer.write(request)
        asyncio.get_running_loop().call_later(_WHOLE_S, _end, writer)
        async with asyncio.timeout(_ANSWER_S):
            line = await reader.readline()
            while line.startswith(b"HTTP/1.1 100"):
                await reader.readline()
                line = await reader.readline()
    except TimeoutError:
        raise Broken(f"no answer to {request!r}") from None
    except ConnectionError:
        return 0
    finally:
        writer.close()
    if not line:
        return 0
    found = _STATUS.match(line)
    if found is None:
        raise Broken(f"{line!r} to {request!r}")
    status = int(found[1])
    if status >= 500 and status not in {*NOT_OURS, *also}:
        raise Broken(f"{status} to {request!r}")
    return status


def _end(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        writer.write_eof()
