"""Bodies of requests: read as sent, and decompressed once the sender is known.

A few kilobytes can decompress to gigabytes, so the sender is verified first, by a signature of the
bytes that were sent. Decompression then stops at the limit; it runs in a thread, two at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from typing import TYPE_CHECKING, Final

from aiohttp import ClientError, web

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BODY_S: Final = 30.0
"""How long a whole body may take."""
SILENCE_S: Final = 10.0
"""How long a sender may pause within a body."""
_LANES: Final = 2
_DIGEST_IN_THREAD_BYTES: Final = 32 * 1024
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS


class BodyRefused(AgentError):
    """A body that is refused; the text says why."""


class BodyTooLarge(BodyRefused):
    """It is larger than the limit, as sent or after decompression."""


class BodyLate(BodyRefused):
    """It did not arrive in time."""


class BodyBroken(BodyRefused):
    """It cannot be read: it is cut off, or does not match its encoding."""


class EncodingUnknown(BodyRefused):
    """It has an unsupported ``Content-Encoding``."""


class Bodies:
    """Reads bodies up to a limit; for one event loop."""

    def __init__(self, limit_bytes: int, *, silence_s: float = SILENCE_S) -> None:
        self._limit_bytes = limit_bytes
        self._silence_s = silence_s
        self._lanes = asyncio.Semaphore(_LANES)

    async def read(self, request: web.BaseRequest) -> bytes:
        """Return a body as it was sent.

        Raises:
            BodyTooLarge: it is larger than the limit.
            BodyLate: it took too long, or paused for too long.
            BodyBroken: the connection ended too early.
        """
        if (request.content_length or 0) > self._limit_bytes:
            raise self._too_large("")
        taken = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in self._chunks(request):
                    taken += chunk
                    if len(taken) > self._limit_bytes:
                        raise self._too_large("")
        except TimeoutError:
            raise BodyLate("the body did not arrive in time") from None
        except (web.RequestPayloadError, ClientError, ConnectionError) as error:
            raise BodyBroken(f"the body cannot be read: {error}") from None
        return bytes(taken)

    async def inflate(self, request: web.BaseRequest, raw: bytes) -> bytes:
        """Return a body after decompression; only call it for a known sender.

        Raises:
            EncodingUnknown: the encoding is neither gzip nor deflate.
            BodyTooLarge: the decompressed body is larger than the limit.
            BodyBroken: the body does not match its encoding.
        """
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("", "identity"):
            return raw
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise EncodingUnknown("Content-Encoding must be gzip, deflate or identity")
        async with self._lanes:
            return await asyncio.to_thread(self._inflated, encoding, raw)

    async def _chunks(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        while True:
            async with asyncio.timeout(self._silence_s):
                chunk = await request.content.readany()
            if not chunk:
                return
            yield chunk

    def _inflated(self, encoding: str, raw: bytes) -> bytes:
        """Decompress one stream, never beyond the limit. Blocks for some milliseconds."""
        work = zlib.decompressobj(_bits(encoding, raw))
        try:
            plain = work.decompress(raw, self._limit_bytes + 1)
        except zlib.error as error:
            raise BodyBroken(f"the body is not valid {encoding}: {error}") from None
        if len(plain) > self._limit_bytes:
            raise self._too_large(" when it is inflated")
        if not work.eof:
            raise BodyBroken(f"the body is not complete {encoding}: its end is missing")
        if work.unused_data:
            raise BodyBroken(f"the body has more than one {encoding} stream")
        return plain

    def _too_large(self, when: str) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._limit_bytes} bytes{when}")


async def digest(raw: bytes) -> str:
    """Return the SHA-256 of a body in hexadecimal; uses a thread for a large body."""
    if len(raw) > _DIGEST_IN_THREAD_BYTES:
        return await asyncio.to_thread(_digest, raw)
    return _digest(raw)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _bits(encoding: str, raw: bytes) -> int:
    """Return the format as zlib expects it; "deflate" may come with or without a header."""
    if encoding != "deflate":
        return _GZIP_BITS
    return zlib.MAX_WBITS if raw and raw[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
