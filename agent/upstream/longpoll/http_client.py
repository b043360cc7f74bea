"""The calls of the long-poll wire over HTTP: one method per call, each with its own deadline.

Whatever the network or the server does, a call raises only ``ControlFailure``. Keeps no state
except its connections and its token; several tasks may use it at once. The token is sent only to
the endpoint: redirects are not followed.

Tests: ``tests/unit/upstream/longpoll/test_client.py``,
``tests/unit/upstream/longpoll/test_full_report.py``.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from agent import keepalive
from agent.errors import ConfigError, ControlUnavailable
from agent.model import ids
from agent.model.wire import (
    GENERATION_HEADER,
    Changes,
    ChangesAnswer,
    Held,
    Hello,
    InstanceStatus,
    Register,
    Registered,
)
from agent.upstream import transport
from agent.upstream.credentials import Token, trusting
from agent.upstream.longpoll import answers
from agent.upstream.longpoll.answers import RequestRefused, TokenRefused

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.model.changes import TaskChange
    from agent.model.logs import LogsAnswer, LogStream
    from agent.model.protection import ProtectionCall, ProtectionOutcome
    from agent.model.usage import Usage
    from agent.upstream.longpoll.answers import ReadAssignments

_COMPRESS_FROM: Final = 1024
"""Bodies of at least this many bytes are sent as gzip."""
_COMPRESS_LEVEL: Final = 1
_LATE_S: Final = 5.0
"""How much longer than requested a poll may be silent before its connection counts as dead."""
_IDLE_S: Final = 30.0
"""Idle connections are closed well before servers do it, so that reports rarely fail on one."""
_JSON: Final = {"Content-Type": "application/json"}
_GZIP: Final = {**_JSON, "Content-Encoding": "gzip"}
_encode = msgspec.json.Encoder().encode


class Identity(Struct, frozen=True, kw_only=True):
    """The result of a registration; every later call includes it."""

    instance_arn: str
    generation: int
    control_id: str
    lease_s: float = 0.0
    history: str = ""
    """History of control's store; empty if control has no histories."""

    @property
    def path(self) -> str:
        """The URL path of calls about this instance."""
        return f"v1/instances/{ids.instance_id(self.instance_arn)}"


class HelloAnswer(NamedTuple):
    """Who answered, and when."""

    hello: Hello
    date: str
    """The ``Date`` header of the answer; empty if it has none."""


class CallLimits(Struct, frozen=True, kw_only=True):
    """Time and size limits of single calls."""

    connect_s: float = 3.0
    """Enough for one lost packet of a TCP handshake to be sent again."""
    call_s: float = 30.0
    """From the first byte sent to the last byte received, not counting the time a poll is held."""
    answer_bytes: int = 64 * 1024 * 1024
    """Maximum size of an answer after decompression."""


class _Answer(NamedTuple):
    body: bytes
    date: str


def parse_endpoint(endpoint: str) -> URL:
    """Return the URL of a control endpoint; raises ``ConfigError`` with the fix."""
    mend = "use http://HOST:PORT or https://HOST[:PORT]"
    try:
        url = URL(endpoint)
    except ValueError as error:
        raise ConfigError(
            f"ECS_CONTROL_ENDPOINT {endpoint!r} is not a URL ({error}): {mend}"
        ) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"ECS_CONTROL_ENDPOINT {endpoint!r} is not an HTTP URL: {mend}")
    # aiohttp would send a user in the URL as credentials in place of the token.
    return url.with_user(None).with_query(None).with_fragment(None)


class HttpClient:
    """A connection pool for one control endpoint; ``close`` it."""

    def __init__(
        self, endpoint: URL, limits: CallLimits, token: Token, session: aiohttp.ClientSession
    ) -> None:
        """Take what ``open`` made."""
        self.endpoint = endpoint
        self._limits = limits
        self._token = token
        self._session = session
        self._has_answered = False
        """Whether a control endpoint has ever answered; then the URL is right."""

    @classmethod
    async def open(
        cls,
        endpoint: URL,
        limits: CallLimits,
        *,
        token: Token | None = None,
        ca_file: Path | None = None,
    ) -> Self:
        """Return a pool without a connection yet.

        Args:
            endpoint: where control is (``parse_endpoint``).
            limits: of each call.
            token: what identifies this host; None where control asks for none.
            ca_file: PEM file with a CA to trust besides the system's.

        Raises:
            ConfigError: the CA file cannot be used.
        """
        tls: ssl.SSLContext | bool = True
        if ca_file is not None:
            tls = await asyncio.to_thread(trusting, ca_file)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                keepalive_timeout=_IDLE_S, ssl=tls, socket_factory=keepalive.socket_for
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s),
            headers={"User-Agent": "ecs-host-agent", "Accept-Encoding": "gzip"},
        )
        return cls(endpoint, limits, token or Token(), session)

    async def close(self) -> None:
        """Close all connections. Idempotent; calls under way fail."""
        await self._session.close()

    async def hello(self, cluster: str = "") -> HelloAnswer:
        """Ask who control is, and whether hosts may register into a cluster."""
        query = {"cluster": cluster} if cluster else {}
        answer = await self._call("GET", "v1/hello", query=query)
        return HelloAnswer(answers.hello(answer.body), answer.date)

    async def register(self, body: Register) -> Registered:
        """Register the host; the same client token gives the same instance."""
        answer = await self._call("POST", "v1/instances", body=_encode(body))
        return answers.registered(answer.body)

    async def assignments(
        self, identity: Identity, *, after: int, wait_s: float, credentials_after: int
    ) -> ReadAssignments | None:
        """Get the changes after a revision, waiting up to ``wait_s``; None if there are none.

        ``credentials_after`` is the serial of the newest credentials received, 0 for none.
        """
        answer = await self._call(
            "GET",
            f"{identity.path}/assignments",
            identity=identity,
            query={
                "after": str(after),
                "wait": f"{wait_s:g}",
                "credentials": str(credentials_after),
            },
            held_s=wait_s,
        )
        return answers.assignments(answer.body) if answer.body else None

    async def changes(self, identity: Identity, changes: list[TaskChange]) -> ChangesAnswer:
        """Send a batch of state changes, oldest first."""
        body = _encode(Changes(changes=changes))
        answer = await self._call("POST", f"{identity.path}/changes", identity=identity, body=body)
        return answers.changes(answer.body)

    async def held(self, identity: Identity, held: Held) -> ChangesAnswer:
        """Report what this host holds; only if the answer to the registration asked for it."""
        path = f"{identity.path}/held"
        answer = await self._call("POST", path, identity=identity, body=_encode(held))
        return answers.changes(answer.body)

    async def brought(self, identity: Identity, held: Held) -> ChangesAnswer:
        """Report tasks that were not ordered for this instance; the answer decides about each."""
        path = f"{identity.path}/brought"
        answer = await self._call("POST", path, identity=identity, body=_encode(held))
        return answers.changes(answer.body)

    async def usage(self, identity: Identity, usage: Usage) -> None:
        """Tell what tasks and host used; raises ``answers.CallUnknown`` for an older control."""
        path = f"{identity.path}/usage"
        await self._call("POST", path, identity=identity, body=_encode(usage))

    async def logs(self, identity: Identity, body: bytes) -> LogsAnswer:
        """Deliver log events; ``body`` is a ``model.logs.Logs``, gzip."""
        answer = await self._call("POST", "v1/logs", identity=identity, packed=body)
        return answers.logs(answer.body)

    async def log_stream(self, identity: Identity, stream: LogStream) -> None:
        """Have a log stream made; raises ``answers.NoLogGroup`` where its group is not there."""
        await self._call("POST", "v1/logs/streams", identity=identity, body=_encode(stream))

    async def secrets(self, identity: Identity, task_arn: str, names: list[str]) -> dict[str, str]:
        """Ask for values that control keeps for a task; raises ``answers.SecretsMissing``."""
        body = _encode({"instance": identity.instance_arn, "taskArn": task_arn, "names": names})
        answer = await self._call("POST", "v1/secrets", identity=identity, body=body)
        return answers.secrets(answer.body)

    async def tags(self, identity: Identity, resource_arn: str) -> dict[str, str]:
        """Ask for the tags of a task placed on this instance, or of the instance."""
        body = _encode({"instance": identity.instance_arn, "resource": resource_arn})
        answer = await self._call("POST", "v1/tags", identity=identity, body=body)
        return answers.tags(answer.body)

    async def protection(self, identity: Identity, asked: ProtectionCall) -> ProtectionOutcome:
        """Read or change the scale-in protection of a task; raises ``answers.RequestRefused``."""
        path = f"{identity.path}/protection"
        answer = await self._call("POST", path, identity=identity, body=_encode(asked))
        return answers.protection(answer.body)

    async def status(self, identity: Identity, status: str) -> None:
        """Set the status of this instance: ACTIVE, or DRAINING so that nothing is placed on it."""
        path = f"{identity.path}/status"
        body = _encode(InstanceStatus(status=status))
        await self._call("POST", path, identity=identity, body=body)

    async def command(self, identity: Identity, session_id: str) -> aiohttp.ClientWebSocketResponse:
        """Connect for a session of control with a command in a container; the caller closes it."""
        from agent.upstream.longpoll import commands  # noqa: PLC0415 - most hosts have none

        token = await self._token.current()
        return await commands.connect(self._session, self.endpoint, token, identity, session_id)

    async def leave(self, identity: Identity) -> None:
        """Remove the instance from its cluster."""
        await self._call("DELETE", identity.path, identity=identity)

    async def ingress(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        held_s: float = 0.0,
    ) -> bytes:
        """Make a call of an ingress (``agent.model.ingress``); return its answer, empty for 204."""
        path = f"v1/ingresses/{path}"
        return (await self._call(method, path, query=query, body=body, held_s=held_s)).body

    async def _call(
        self,
        method: str,
        path: str,
        *,
        identity: Identity | None = None,
        body: bytes | None = None,
        packed: bytes | None = None,
        query: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        held_s: float = 0.0,
    ) -> _Answer:
        """Make one call; return the body of a successful answer, empty for 204."""
        call = f"{method} /{path}"
        headers = {} if identity is None else {GENERATION_HEADER: str(identity.generation)}
        data, encoding = _packed(body) if packed is None else (packed, _GZIP)
        request: dict[str, Any] = {"data": data, "params": query, "headers": headers | encoding}
        try:
            async with asyncio.timeout(held_s + self._limits.call_s):
                return await self._with_token(method, path, call, request, held_s)
        except TimeoutError as error:
            what = str(error) or f"no answer within {held_s + self._limits.call_s:g} s"
            raise ControlUnavailable(f"{call}: {what}", away=True) from None
        except (aiohttp.ClientError, OSError, ValueError, EOFError) as error:
            told = transport.worded(error)
            if not isinstance(error, aiohttp.ClientConnectorError) and await self._is_tls():
                told = transport.asked_in_plain(self.endpoint)
            # A server with plain HTTP or with the wrong certificate does answer.
            away = not isinstance(error, aiohttp.ClientSSLError)
            raise ControlUnavailable(f"{call}: {told}", away=away) from None
        except RequestRefused:
            # TLS servers answer plain HTTP in different ways.
            if await self._is_tls():
                told = transport.asked_in_plain(self.endpoint)
                raise ControlUnavailable(f"{call}: {told}") from None
            raise

    async def _is_tls(self) -> bool:
        """Return whether an ``http://`` server speaks TLS; checked until it has once answered."""
        if self._has_answered or self.endpoint.scheme != "http":
            return False
        return await transport.speaks_tls(self.endpoint)

    async def _with_token(
        self, method: str, path: str, call: str, request: dict[str, Any], held_s: float
    ) -> _Answer:
        """Make one call with the token; if it is refused, read the file again and retry once."""
        token = await self._token.current()
        try:
            return await self._exchange(method, path, call, _bearing(request, token), held_s)
        except TokenRefused as error:
            newest = await self._token.newest()
            if newest == token:
                raise self._refused(error) from None
        try:
            return await self._exchange(method, path, call, _bearing(request, newest), held_s)
        except TokenRefused as error:
            raise self._refused(error) from None

    def _refused(self, error: TokenRefused) -> TokenRefused:
        """Return an error that says which token was refused, and the fix."""
        if not self._token.is_asked_for:
            return TokenRefused(
                "control requires a token; set ECS_CONTROL_TOKEN_FILE, or run 'ecs-agent join'"
            )
        which = f"token in {self._token.file}" if self._token.file else "token"
        return TokenRefused(
            f"control refused the {which}; use one of those in control's --token-file",
            retry_after_s=error.retry_after_s,
        )

    async def _exchange(
        self, method: str, path: str, call: str, request: dict[str, Any], held_s: float
    ) -> _Answer:
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._limits.connect_s,
            sock_read=min(held_s + _LATE_S, held_s + self._limits.call_s) if held_s else None,
        )
        async with self._session.request(
            method,
            self.endpoint / path,
            allow_redirects=False,
            timeout=timeout,
            **request,
        ) as response:
            raw = await self._read(response, call)
            date = response.headers.get("Date", "")
            self._has_answered = self._has_answered or response.status < 300
            if response.status == 204:
                return _Answer(b"", date)
            if response.status == 200:
                if not raw:
                    raise ControlUnavailable(f"{call} was answered 200 without a body")
                return _Answer(raw, date)
            raise answers.failure(response.status, response.headers, raw, call)

    async def _read(self, response: aiohttp.ClientResponse, call: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._limits.answer_bytes:
                response.close()
                raise ControlUnavailable(
                    f"{call}: the answer exceeds {self._limits.answer_bytes} bytes"
                )
            parts.append(part)
        return b"".join(parts)


def _packed(body: bytes | None) -> tuple[bytes | None, dict[str, str]]:
    if body is None:
        return None, {}
    if len(body) <= _COMPRESS_FROM:
        return body, _JSON
    return gzip.compress(body, _COMPRESS_LEVEL), _GZIP


def _bearing(request: dict[str, Any], token: str) -> dict[str, Any]:
    if not token:
        return request
    return request | {"headers": request["headers"] | {"Authorization": f"Bearer {token}"}}
