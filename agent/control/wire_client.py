"""The calls of the long-poll wire over HTTP: one method per call, each with its own deadline.

Fails with ``ControlFailure`` and nothing else, whatever the network or the server does. Keeps no
state but its connections, and may be used by several tasks at once.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from agent.control import answers
from agent.errors import ConfigError, ControlUnavailable
from agent.model import ids
from agent.model.wire import GENERATION_HEADER, Changes, ChangesAnswer, Register, Registered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from agent.control.answers import ReadAssignments
    from agent.model.changes import TaskChange
    from agent.model.metrics import MetricsBatch

_COMPRESS_FROM: Final = 1024
"""Bytes; the wire lets larger bodies be gzip."""
_COMPRESS_LEVEL: Final = 1
_LATE_S: Final = 5.0
"""How much longer than asked a held poll may be silent before its connection counts as dead."""
_IDLE_S: Final = 30.0
"""Idle connections are closed well before servers do, so that a report seldom meets a dead one."""
_encode = msgspec.json.Encoder().encode


class Identity(Struct, frozen=True, kw_only=True):
    """What a registration gave; every later call carries it."""

    instance_arn: str
    generation: int
    control_id: str
    lease_s: float = 0.0

    @property
    def path(self) -> str:
        """Where calls about this instance go."""
        return f"v1/instances/{ids.instance_id(self.instance_arn)}"


class CallLimits(Struct, frozen=True, kw_only=True):
    """Deadlines and sizes of single calls."""

    connect_s: float = 5.0
    call_s: float = 30.0
    """From the first byte sent to the last byte read, without the time a poll is held."""
    answer_bytes: int = 64 * 1024 * 1024
    """Largest answer taken, after decompression."""


def parse_endpoint(endpoint: str) -> URL:
    """Return the URL of a control endpoint; raises ``ConfigError`` with the mend."""
    mend = "write http://HOST:PORT or https://HOST[:PORT]"
    try:
        url = URL(endpoint)
    except ValueError as error:
        raise ConfigError(
            f"ECS_CONTROL_ENDPOINT {endpoint!r} is no URL ({error}): {mend}"
        ) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"ECS_CONTROL_ENDPOINT {endpoint!r} is no HTTP URL: {mend}")
    return url.with_query(None).with_fragment(None)


class WireClient:
    """A connection pool to one control endpoint. Use as an async context manager."""

    def __init__(self, endpoint: URL, limits: CallLimits) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> WireClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(keepalive_timeout=_IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s),
            headers={"User-Agent": "ecs-host-agent", "Accept-Encoding": "gzip"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def register(self, body: Register) -> Registered:
        """Register the host; the same token gives the same instance."""
        raw = await self._call("POST", "v1/instances", body=_encode(body))
        return answers.registered(raw)

    async def assignments(
        self, identity: Identity, *, after: int, wait_s: float
    ) -> ReadAssignments | None:
        """Ask what changed after a revision, for up to ``wait_s``; None when nothing did."""
        raw = await self._call(
            "GET",
            f"{identity.path}/assignments",
            identity=identity,
            query={"after": str(after), "wait": f"{wait_s:g}"},
            held_s=wait_s,
        )
        return answers.assignments(raw) if raw else None

    async def changes(self, identity: Identity, changes: list[TaskChange]) -> ChangesAnswer:
        """Report a batch of state changes, oldest first."""
        body = _encode(Changes(changes=changes))
        raw = await self._call("POST", f"{identity.path}/changes", identity=identity, body=body)
        return answers.changes(raw)

    async def metrics(self, identity: Identity, batch: MetricsBatch) -> None:
        """Send one round of figures."""
        path = f"{identity.path}/metrics"
        await self._call("POST", path, identity=identity, body=_encode(batch))

    async def leave(self, identity: Identity) -> None:
        """Take the instance out of its cluster."""
        await self._call("DELETE", identity.path, identity=identity)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        identity: Identity | None = None,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        held_s: float = 0.0,
    ) -> bytes:
        """Make one call; return the body of a success, empty for 204."""
        call = f"{method} /{path}"
        headers = {} if identity is None else {GENERATION_HEADER: str(identity.generation)}
        data, encoding = _packed(body)
        request: dict[str, Any] = {"data": data, "params": query, "headers": headers | encoding}
        try:
            async with asyncio.timeout(held_s + self._limits.call_s):
                return await self._exchange(method, path, call, request, held_s)
        except TimeoutError as error:
            what = str(error) or f"no answer within {held_s + self._limits.call_s:g} s"
            raise ControlUnavailable(f"{call}: {what}") from None
        except (aiohttp.ClientError, OSError, ValueError, EOFError) as error:
            raise ControlUnavailable(f"{call}: {_brief(error)}") from None

    async def _exchange(
        self, method: str, path: str, call: str, request: dict[str, Any], held_s: float
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._limits.connect_s,
            sock_read=min(held_s + _LATE_S, held_s + self._limits.call_s) if held_s else None,
        )
        async with self._session.request(
            method,
            self._endpoint / path,
            allow_redirects=False,
            timeout=timeout,
            **request,
        ) as response:
            raw = await self._read(response, call)
            if response.status == 204:
                return b""
            if response.status == 200:
                if not raw:
                    raise ControlUnavailable(f"{call} was answered 200 without a body")
                return raw
            raise answers.failure(response.status, response.headers, raw, call)

    async def _read(self, response: aiohttp.ClientResponse, call: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._limits.answer_bytes:
                response.close()
                raise ControlUnavailable(
                    f"{call}: the answer is larger than {self._limits.answer_bytes} bytes"
                )
            parts.append(part)
        return b"".join(parts)


def _packed(body: bytes | None) -> tuple[bytes | None, dict[str, str]]:
    if body is None:
        return None, {}
    headers = {"Content-Type": "application/json"}
    if len(body) <= _COMPRESS_FROM:
        return body, headers
    return gzip.compress(body, _COMPRESS_LEVEL), headers | {"Content-Encoding": "gzip"}


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text or type(error).__name__
