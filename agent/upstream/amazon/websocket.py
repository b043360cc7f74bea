"""WebSockets to Amazon ECS, for ACS and TCS: a signed upgrade, frames with limits and deadlines.

::

    async with dialer.dial(url) as socket:      the upgrade, signed with current keys
        frame = await socket.receive()          one reader
        await socket.send(text)                 any number of writers

Accesses the network. ``dial`` fails with ``UpgradeRefused``, ``ControlUnavailable`` or
``AwsFailure``; an open socket fails only with ``SocketClosed``. Whatever the server sends, a socket
holds at most one frame of ``frame_bytes``, reads at most ``frames_per_s`` on average, and meets its
deadlines.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/wsclient`` (limits, close codes, order of steps).
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
from agent.throttle import RepeatedWarning
from agent.upstream.amazon import frames
from agent.upstream.connection import WARN_EVERY_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.aws.credentials import CredentialChain
    from agent.aws.faults import Fault
    from agent.aws.http import AwsHttp
    from agent.aws.keys import Keys
    from agent.aws.signing import Signer
    from agent.upstream.amazon.frames import Frame

_CLEAN: Final = frozenset({1000, 1001, 1006, 1011})
"""Close codes after which to reconnect. 1006 stands for a connection that ended without a code."""
_ABNORMAL: Final = 1006
_NORMAL: Final = 1000
_HEARTBEATS: Final = frozenset({aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG})
_NONSENSE_COST: Final = 5.0
"""A meaningless frame counts as this many normal ones."""


class SocketLimits(Struct, frozen=True, kw_only=True):
    """Limits of one socket. Source: ``ecs-agent/wsclient/client.go``, except for the sizes."""

    connect_s: float = 30.0
    handshake_s: float = 30.0
    read_s: float = 180.0
    """Maximum time between two complete messages."""
    write_s: float = 180.0
    age_s: float = 1800.0
    age_jitter_s: float = 300.0
    """A socket is closed after ``age_s`` plus up to this much."""
    close_s: float = 2.0
    """How long the server may take to answer a close."""
    frame_bytes: int = 8 * 1024 * 1024
    """Maximum size of a message; a larger one ends the connection with code 1009."""
    refusal_bytes: int = 64 * 1024
    """How much of the answer to a refused upgrade is read."""
    burst: float = 1000.0
    """Frames read without a pause."""
    frames_per_s: float = 200.0
    """Sustained rate of frames; above it, frames are read more slowly."""


class SocketClosed(ControlUnavailable):
    """The connection is over."""

    def __init__(self, text: str, *, clean: bool, code: int = _ABNORMAL) -> None:
        super().__init__(text)
        self.clean = clean
        """True if the server, or our own age limit, ended the connection normally."""
        self.code = code
        """The close code; 1006 if there was none."""


class UpgradeRefused(ControlUnavailable):
    """The server refused the upgrade to a WebSocket."""

    def __init__(self, fault: Fault) -> None:
        named = fault.code or "unknown"
        super().__init__(f"the connection was refused ({fault.status}): {named}: {fault.text}")
        self.name = fault.code
        """The ECS error, for example ``InactiveInstanceException``; empty if none was named."""
        self.text = fault.text
        """The text of the error; ``null`` if there was none."""
        self.status = fault.status
        self.fault = fault

    @property
    def is_about_signature(self) -> bool:
        """Whether other keys, or the right time, could help."""
        fault = self.fault
        return fault.is_stale_keys or fault.may_be_skewed or fault.status in {401, 403}


class Dialer:
    """Opens sockets. Several tasks may use it at once; create it on the event loop that uses it."""

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
        self._nonsense = RepeatedWarning("meaningless frames", every_s=WARN_EVERY_S)

    @contextlib.asynccontextmanager
    async def dial(self, url: str | URL) -> AsyncIterator[Socket]:
        """Open a socket, and close it at the end of the block.

        An upgrade that is refused because of its signature is tried once more, with new keys and
        the server's time.

        Raises:
            UpgradeRefused: the server refused the upgrade.
            ControlUnavailable: there was no such answer.
            AwsFailure: there are no keys to sign with, or they are not available now.
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
        """Return the keys for another try after a refusal; None if it would be refused again."""
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
                    autoping=False,  # aiohttp would answer a flood of pings without a limit
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
    """Captures the answer that refuses an upgrade, which ``ws_connect`` does not return."""

    def __init__(self, keys: Keys, limit: int) -> None:
        self.transport: asyncio.Transport | None = None
        self._keys = keys
        self._limit = limit

    async def watch(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Let a WebSocket pass, and turn any other answer into ``UpgradeRefused``."""
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
    """Return the first bytes of an answer, even if it ends early."""
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
    """One open connection: one task receives, any number send. Ends itself at its age limit."""

    def __init__(
        self,
        opened: aiohttp.ClientWebSocketResponse[bool],
        raw: asyncio.Transport | None,
        limits: SocketLimits,
        nonsense: RepeatedWarning,
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
        """Return the next readable message; others are skipped and logged now and then.

        Raises:
            SocketClosed: the connection is over.
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
        """Record that the last frame was meaningless; a sender of many is read more slowly."""
        self._nonsense.tell(why=why)
        await self._slow_down(_NONSENSE_COST)

    async def send(self, text: str | bytes) -> None:
        """Send one text frame; frames of several tasks are sent one after the other.

        Raises:
            SocketClosed: it could not be sent, and the connection is over.
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
        """Close from this side with code 1000; a pending ``receive`` raises ``SocketClosed``.

        Waits for the server for a limited time. Idempotent.
        """
        self._ended(f"closed here: {reason or 'no longer needed'}", clean=False)
        await self._shut(reason)

    async def end(self) -> None:
        """Close, and release everything whatever the server does."""
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
            what = str(error) or f"no complete message within {limit_s:g} s"
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
            raise self._ended(f"the server violated the protocol: {data}", clean=False, code=code)
        if self._over is None:
            raise self._ended("the connection ended", clean=True)
        if self._expiring:
            await asyncio.wait([self._aging])
        raise self._over.error()

    async def _beat(self, kind: aiohttp.WSMsgType, data: bytes) -> None:
        """Answer a ping; a server that sends many pings or pongs is read more slowly."""
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
        """Return why the connection is over: the first reason counts."""
        if self._over is None:
            self._over = _End(text, clean, code)
        return self._over.error()

    def _abort(self) -> None:
        # A plain close would wait until a peer that does not read has read all earlier data.
        if self._raw is not None:
            self._raw.abort()

    async def _slow_down(self, cost: float) -> None:
        wait_s = self._pace.wait_s(cost, asyncio.get_running_loop().time())
        if wait_s > 0:
            await asyncio.sleep(wait_s)


class _Pace:
    """A token bucket for frames: how long to wait before the next one is read."""

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at = now

    def wait_s(self, cost: float, now: float) -> float:
        """Take ``cost`` from the bucket; return the seconds until it is no longer in debt."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - cost
        self._at = now
        return max(0.0, -self._left / self._per_s)
