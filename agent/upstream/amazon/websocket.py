"""Websockets to Amazon ECS: a signed upgrade, frames with limits and deadlines. For ACS and TCS.

::

    async with dialer.dial(url) as socket:      the upgrade, signed with fresh keys
        frame = await socket.receive()          one reader
        await socket.send(text)                 any number of writers

Touches the network. A dial fails with ``UpgradeRefused``, ``ControlUnavailable`` or ``AwsFailure``;
an open socket fails with ``SocketClosed`` and nothing else. Whatever the server sends, a socket holds
one frame of ``frame_bytes`` at most, takes frames no faster than ``frames_per_s`` for long, and ends
within its deadlines.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/wsclient`` (limits, close codes, order of things).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from msgspec import Struct
from yarl import URL

from agent.aws import faults
from agent.aws.http import worded
from agent.errors import ControlUnavailable
from agent.upstream.amazon import frames
from agent.upstream.amazon.log_throttle import LogThrottle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.aws.credentials import CredentialChain
    from agent.aws.faults import Fault
    from agent.aws.http import AwsHttp
    from agent.aws.keys import Keys
    from agent.aws.signing import Signer
    from agent.upstream.amazon.frames import Frame

_CLEAN: Final = frozenset({1000, 1001, 1006, 1011})
"""Close codes that mean: come back. 1006 stands for a connection that ended without a code."""
_ABNORMAL: Final = 1006
_NORMAL: Final = 1000
_HEARTBEATS: Final = frozenset({aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG})
_NONSENSE_COST: Final = 5.0
"""A frame that means nothing counts as this many that do."""


class SocketLimits(Struct, frozen=True, kw_only=True):
    """Deadlines and sizes of one socket. Source: ``ecs-agent/wsclient/client.go``, but for sizes."""

    connect_s: float = 30.0
    handshake_s: float = 30.0
    read_s: float = 180.0
    """From one whole message to the next."""
    write_s: float = 180.0
    age_s: float = 1800.0
    age_jitter_s: float = 300.0
    """A socket is closed after ``age_s`` and up to this much more."""
    close_s: float = 2.0
    """How long the other end may take to answer a close."""
    frame_bytes: int = 8 * 1024 * 1024
    """Largest message taken; a larger one ends the connection with code 1009."""
    refusal_bytes: int = 64 * 1024
    """How much of the answer to a refused upgrade is read."""
    burst: float = 1000.0
    """Frames taken without a pause."""
    frames_per_s: float = 200.0
    """What a server may send for ever; one that sends more is read more slowly."""


class SocketClosed(ControlUnavailable):
    """The connection is over."""

    def __init__(self, text: str, *, clean: bool, code: int = _ABNORMAL) -> None:
        super().__init__(text)
        self.clean = clean
        """True where the server, or our own age limit, ended it in the ordinary way."""
        self.code = code
        """The close code; 1006 where none came."""


class UpgradeRefused(ControlUnavailable):
    """The server answered the upgrade with something else than a websocket."""

    def __init__(self, fault: Fault) -> None:
        named = fault.code or "unknown"
        super().__init__(f"the connection was refused ({fault.status}): {named}: {fault.text}")
        self.name = fault.code
        """The error of ECS, for example ``InactiveInstanceException``; empty where none was named."""
        self.text = fault.text
        """What ECS said of it; ``null`` where it said nothing."""
        self.status = fault.status
        self.fault = fault

    @property
    def is_about_signature(self) -> bool:
        """Whether other keys, or the right time, could mend it."""
        fault = self.fault
        return fault.is_stale_keys or fault.may_be_skewed or fault.status in {401, 403}


class Dialer:
    """Opens sockets. May be used by several tasks at once; made on the event loop it runs on."""

    def __init__(
        self,
        http: AwsHttp,
        chain: CredentialChain,
        signer: Signer,
        limits: SocketLimits | None = None,
    ) -> None:
        self.limits = limits or SocketLimits()
        self._http = http
        self._chain = chain
        self._signer = signer
        self._nonsense = LogThrottle("frames that mean nothing")

    @contextlib.asynccontextmanager
    async def dial(self, url: str | URL) -> AsyncIterator[Socket]:
        """Open a socket, and close it at the end of the block.

        An upgrade that is refused for its signature is tried once more, with keys read anew and the
        time that the server told.

        Raises:
            UpgradeRefused: the server answered, and not with a websocket.
            ControlUnavailable: there was no such answer.
            AwsFailure: there are no keys to sign with, or they cannot be had now.
        """
        target = URL(url)
        async with contextlib.AsyncExitStack() as stack:
            keys = await self._chain.keys()
            try:
                socket = await self._open(target, keys, stack)
            except UpgradeRefused as error:
                if not error.is_about_signature:
                    raise
                newer = await self._others(keys, error)
                if newer is None:
                    raise
                socket = await self._open(target, newer, stack)
            yield socket

    async def _others(self, keys: Keys, error: UpgradeRefused) -> Keys | None:
        """Return what to sign with after a refusal; None where it would be the same again."""
        learned = self._signer.clock.learn(error.fault.date)
        self._chain.refused(keys)
        newer = await self._chain.keys()
        return newer if learned or newer != keys else None

    async def _open(self, url: URL, keys: Keys, stack: contextlib.AsyncExitStack) -> Socket:
        upgrade = _Upgrade(keys, self.limits.refusal_bytes)
        session = aiohttp.ClientSession(
            connector=self._http.session.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            auto_decompress=False,
            middlewares=(upgrade.watch,),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.limits.connect_s),
        )
        stack.push_async_callback(session.close)
        limit_s = self.limits.connect_s + self.limits.handshake_s
        try:
            async with asyncio.timeout(limit_s):
                opened = await session.ws_connect(
                    url,
                    headers=self._signer.upgrade(keys, url),
                    proxy=self._http.proxy_for(url),
                    timeout=aiohttp.ClientWSTimeout(ws_close=self.limits.close_s),
                    max_msg_size=self.limits.frame_bytes,
                    decode_text=False,
                    autoping=False,  # aiohttp would answer a flood of pings as fast as it comes
                )
        except TimeoutError as error:
            what = str(error) or f"no connection within {limit_s:g} s"
            raise ControlUnavailable(f"{url.host}: {what}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ControlUnavailable(worded(error)) from None
        socket = Socket(opened, upgrade.transport, self.limits, self._nonsense)
        stack.push_async_callback(socket.end)
        return socket


class _Upgrade:
    """What ``ws_connect`` does not tell of one upgrade: the answer that refuses it."""

    def __init__(self, keys: Keys, limit: int) -> None:
        self.transport: asyncio.Transport | None = None
        self._keys = keys
        self._limit = limit

    async def watch(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Let a websocket pass and turn any other answer into ``UpgradeRefused``."""
        response = await handler(request)
        if response.status == 101:
            if response.connection is not None:
                self.transport = response.connection.transport
            return response
        try:
            body = await _start_of(response, self._limit)
        finally:
            response.close()
        told = frames.refusal(body, response.headers)
        text = self._keys.scrub(told.text)
        raise UpgradeRefused(faults.fault(response.status, response.headers, told.name, text))


async def _start_of(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the first bytes of an answer; what ends too early counts as it is."""
    parts: list[bytes] = []
    size = 0
    with contextlib.suppress(aiohttp.ClientPayloadError):
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size >= limit:
                break
    return b"".join(parts)[:limit]


class _End(NamedTuple):
    text: str
    clean: bool
    code: int

    def error(self) -> SocketClosed:
        return SocketClosed(self.text, clean=self.clean, code=self.code)


class Socket:
    """One open connection: one task receives, any number send. Ends by itself at its age."""

    def __init__(
        self,
        opened: aiohttp.ClientWebSocketResponse[bool],
        raw: asyncio.Transport | None,
        limits: SocketLimits,
        nonsense: LogThrottle,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._opened = opened
        self._raw = raw
        self._limits = limits
        self._nonsense = nonsense
        self._writing = asyncio.Lock()
        self._pace = _Pace(limits.burst, limits.frames_per_s, loop.time())
        self._over: _End | None = None
        self._expiring = False
        age_s = limits.age_s + random.uniform(0.0, limits.age_jitter_s)  # noqa: S311 - spreads load
        self._aging = asyncio.create_task(self._grow_old(age_s))

    async def receive(self) -> Frame:
        """Return the next message that can be read; others are skipped and logged seldom.

        Raises:
            SocketClosed: there will be no more.
        """
        while True:
            raw = await self._next()
            await self._slow_down(1.0)
            if raw is None:
                await self.ignored("it is binary")
                continue
            try:
                return frames.frame(raw)
            except ValueError as error:
                await self.ignored(str(error))

    async def ignored(self, why: str) -> None:
        """Take note that the last frame meant nothing; who sends many of them is read slowly."""
        self._nonsense.tell(why=why)
        await self._slow_down(_NONSENSE_COST)

    async def send(self, text: str | bytes) -> None:
        """Send one text frame; frames of several tasks go one after the other.

        Raises:
            SocketClosed: it could not be sent, and nothing can any more.
        """
        body = text.encode() if isinstance(text, str) else text
        limit_s = self._limits.write_s
        try:
            async with asyncio.timeout(limit_s), self._writing:
                if self._over is not None:
                    raise self._over.error()
                await self._opened.send_frame(body, aiohttp.WSMsgType.TEXT)
        except TimeoutError as error:
            what = str(error) or f"a frame could not be sent within {limit_s:g} s"
            self._abort()
            raise self._ended(what, clean=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._ended(f"a frame could not be sent: {error}", clean=False) from None

    async def close(self, reason: str = "") -> None:
        """Close from this side with code 1000; whoever waits in ``receive`` gets ``SocketClosed``.

        Waits for the other end for a bounded time. Safe to repeat.
        """
        self._ended(f"closed here: {reason or 'no longer needed'}", clean=False)
        await self._shut(reason)

    async def end(self) -> None:
        """Close, and leave nothing open whatever the other end does."""
        try:
            self._aging.cancel()
            await asyncio.wait([self._aging])
            await self.close()
        finally:
            self._abort()

    async def _next(self) -> bytes | None:
        """Return the next text frame; None for a binary one."""
        limit_s = self._limits.read_s
        try:
            async with asyncio.timeout(limit_s):
                message = await self._opened.receive()
                while message.type in _HEARTBEATS:
                    await self._beat(message.type, message.data)
                    message = await self._opened.receive()
        except TimeoutError as error:
            what = str(error) or f"no whole message came within {limit_s:g} s"
            raise self._ended(what, clean=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._ended(f"a ping could not be answered: {error}", clean=False) from None
        kind, data = message.type, message.data
        if kind is aiohttp.WSMsgType.TEXT and isinstance(data, bytes):
            return data
        if kind is aiohttp.WSMsgType.BINARY:
            return None
        if kind is aiohttp.WSMsgType.CLOSE:
            told = frames.one_line(str(message.extra or ""))
            text = f"the server closed the connection ({data}{': ' + told if told else ''})"
            raise self._ended(text, clean=data in _CLEAN, code=int(data or 0))
        if kind is aiohttp.WSMsgType.ERROR:
            code = data.code if isinstance(data, aiohttp.WebSocketError) else _ABNORMAL
            raise self._ended(f"the server broke the protocol: {data}", clean=False, code=code)
        if self._over is None:
            raise self._ended("the connection ended", clean=True)
        if self._expiring:
            await asyncio.wait([self._aging])
        raise self._over.error()

    async def _beat(self, kind: aiohttp.WSMsgType, data: bytes) -> None:
        """Answer a ping; a server that sends many of them, or of pongs, is read slowly."""
        if kind is aiohttp.WSMsgType.PING:
            await self._opened.pong(data)
        await self._slow_down(1.0)

    async def _grow_old(self, age_s: float) -> None:
        await asyncio.sleep(age_s)
        self._expiring = True
        self._ended("ConnectionExpired: the connection reached its age", clean=True, code=_NORMAL)
        await self._shut("ConnectionExpired: reconnecting")

    async def _shut(self, reason: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.close_s):
                await self._opened.close(code=_NORMAL, message=reason.encode()[:120])

    def _ended(self, text: str, *, clean: bool, code: int = _ABNORMAL) -> SocketClosed:
        """Return why it is over: what was said first counts."""
        if self._over is None:
            self._over = _End(text, clean, code)
        return self._over.error()

    def _abort(self) -> None:
        # A plain close waits until a peer that reads nothing has read what was written before.
        if self._raw is not None:
            self._raw.abort()

    async def _slow_down(self, cost: float) -> None:
        wait_s = self._pace.wait_s(cost, asyncio.get_running_loop().time())
        if wait_s > 0:
            await asyncio.sleep(wait_s)


class _Pace:
    """A bucket of frames that fills by itself: how long to wait before the next is taken."""

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at = now

    def wait_s(self, cost: float, now: float) -> float:
        """Take ``cost`` out of the bucket; return the seconds until it is no longer in debt."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - cost
        self._at = now
        return max(0.0, -self._left / self._per_s)
