"""One call over HTTP: its deadline, its token, its certificate, and every failure as a ``ControlFailure``.

Keeps no state except its connections and its token; several tasks may use it at once. The token is sent only to the
endpoint: redirects are not followed. A host with a certificate sends no token, unless control asks for it.

Tests: ``tests/unit/upstream/longpoll/test_client.py``, ``tests/unit/upstream/test_tokens.py``.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import aiohttp
from msgspec import Struct
from yarl import URL

from agent import keepalive
from agent.errors import ConfigError, ControlUnavailable, InstanceUnknown
from agent.model import ids
from agent.model.wire import (
    GENERATION_HEADER,
    HOST_KEY_HEADER,
    SESSION_HEADER,
)
from agent.upstream import transport
from agent.upstream.certificates import introduction, trust
from agent.upstream.credentials import Token
from agent.upstream.longpoll import answers, request_bodies
from agent.upstream.longpoll.answers import RequestRefused, TokenRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.upstream.certificates.host import HostCertificate
    from agent.upstream.certificates.trust import Tls

_LATE_S: Final = 5.0
"""How much longer than requested a poll may be silent before its connection counts as dead."""
_IDLE_S: Final = 30.0
"""Idle connections are closed well before servers do it, so that reports rarely fail on one."""


class Identity(Struct, frozen=True, kw_only=True):
    """The result of a registration; every later call includes it."""

    instance_arn: str
    generation: int
    control_id: str
    lease_s: float = 0.0
    history: str = ""
    """History of control's store; empty if control has no histories."""
    session: str = ""
    """Secret of this registration, in memory alone; empty if control gives none."""

    @property
    def headers(self) -> dict[str, str]:
        """What shows control that a call is of this registration."""
        own = {SESSION_HEADER: self.session} if self.session else {}
        return {GENERATION_HEADER: str(self.generation)} | own

    @property
    def path(self) -> str:
        """The URL path of calls about this instance."""
        return f"v1/instances/{ids.instance_id(self.instance_arn)}"


class CallLimits(Struct, frozen=True, kw_only=True):
    """Time and size limits of single calls."""

    connect_s: float = 3.0
    """Enough for one lost packet of a TCP handshake to be sent again."""
    call_s: float = 30.0
    """From the first byte sent to the last byte received, not counting the time a poll is held."""
    answer_bytes: int = 64 * 1024 * 1024
    """Maximum size of an answer after decompression."""


class Answer(NamedTuple):
    """A successful answer; the body is empty for 204."""

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


class Exchange:
    """A connection pool for one control endpoint; ``close`` it."""

    def __init__(
        self,
        endpoint: URL,
        limits: CallLimits,
        token: Token,
        ca_file: Path | None,
        certificate: HostCertificate | None,
        tls: Tls,
    ) -> None:
        """Take what ``open`` made."""
        self.endpoint = endpoint
        self.is_certificate_refused = False
        self._ca_file = ca_file
        self._certificate = certificate
        self._tls = tls
        self._limits = limits
        self._token = token
        self._session = self._opened()
        self.host_key = ""
        """Secret that shows control which host calls (``agent.model.wire``); empty for none yet."""
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
        certificate: HostCertificate | None = None,
    ) -> Self:
        """Return a pool without a connection yet.

        Args:
            endpoint: where control is (``parse_endpoint``).
            limits: of each call.
            token: what identifies this host; None where control asks for none.
            ca_file: PEM file with a CA to trust besides the system's.
            certificate: of this host; None for callers that have none.

        Raises:
            ConfigError: the CA file cannot be used.
        """
        prepare = trust.prepare if certificate is None else certificate.tls
        tls = await asyncio.to_thread(prepare, ca_file)
        return cls(endpoint, limits, token or Token(), ca_file, certificate, tls)

    def _opened(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                keepalive_timeout=_IDLE_S,
                ssl=self._tls.context,
                socket_factory=keepalive.socket_for,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s),
            headers={"User-Agent": "ecs-host-agent", "Accept-Encoding": "gzip"},
        )

    def _has_certificate(self) -> bool:
        return self._certificate is not None and self._certificate.identity is not None

    async def reconnect(self) -> None:
        """Close all connections, and read the certificate of this host anew for the next ones."""
        if self._certificate is not None:
            self._tls = await asyncio.to_thread(self._certificate.tls, self._ca_file)
        before, self._session = self._session, self._opened()
        self.is_certificate_refused = False
        await before.close()

    def use_renewed(self) -> None:
        """Use the renewed certificate for new connections; open ones stay. See ``trust.take_renewed``."""
        if self._certificate is not None and not isinstance(self._tls.context, bool):
            trust.take_renewed(self._tls.context, self._certificate.files)

    async def close(self) -> None:
        """Close all connections. Idempotent; calls under way fail."""
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        identity: Identity | None = None,
        body: bytes | None = None,
        packed: bytes | None = None,
        query: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        held_s: float = 0.0,
    ) -> Answer:
        """Make one call; return the body of a successful answer, empty for 204."""
        call = f"{method} /{path}"
        headers = {} if identity is None else identity.headers
        if self.host_key:
            headers[HOST_KEY_HEADER] = self.host_key
        data, encoding = (
            request_bodies.packed(body) if packed is None else (packed, request_bodies.GZIP)
        )
        request: dict[str, Any] = {"data": data, "params": query, "headers": headers | encoding}
        try:
            async with asyncio.timeout(held_s + self._limits.call_s):
                return await self._with_token(method, path, call, request, held_s)
        except TimeoutError as error:
            what = str(error) or f"no answer within {held_s + self._limits.call_s:g} s"
            raise ControlUnavailable(f"{call}: {what}", away=True) from None
        except (aiohttp.ClientError, OSError, ValueError, EOFError) as error:
            if await self._refuses_certificate(error):
                self.is_certificate_refused = True
                raise InstanceUnknown(
                    f"{call}: control refuses the certificate of this host"
                ) from None
            told = transport.worded(error)
            if transport.is_about_time(error):
                told += await self._clocks()
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

    async def _refuses_certificate(self, error: Exception) -> bool:
        """Return whether control hung up because of this host's certificate."""
        context = self._tls.context
        if not self._has_certificate() or isinstance(context, bool):
            return False
        if not isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            return False
        return await transport.refuses_certificate(self.endpoint, context, self._tls.server_name)

    async def _clocks(self) -> str:
        """Return what the clocks say, for the error about a certificate that is not valid now."""
        here = formatdate(usegmt=True)
        there = await introduction.date_of(self.endpoint)
        if not there:
            return f"; this host's clock says {here}"
        return f"; this host's clock says {here}, and control's {there}: set the one that is wrong"

    async def _is_tls(self) -> bool:
        """Return whether an ``http://`` server speaks TLS; checked until it has once answered."""
        if self._has_answered or self.endpoint.scheme != "http":
            return False
        return await transport.speaks_tls(self.endpoint)

    async def _with_token(
        self, method: str, path: str, call: str, request: dict[str, Any], held_s: float
    ) -> Answer:
        """Make one call with the token; if it is refused, read the file again and retry once."""
        # Where the certificate proves the host, the token stays at home.
        token = "" if self._has_certificate() else await self._token.current()
        try:
            return await self._exchange(
                method, path, call, request_bodies.bearing(request, token), held_s
            )
        except TokenRefused as error:
            newest = await self._token.newest()
            if newest == token:
                raise self._refused(error) from None
        try:
            return await self._exchange(
                method, path, call, request_bodies.bearing(request, newest), held_s
            )
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
    ) -> Answer:
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
            server_hostname=self._tls.server_name,
            **request,
        ) as response:
            raw = await self._read(response, call)
            date = response.headers.get("Date", "")
            self._has_answered = self._has_answered or response.status < 300
            if response.status == 204:
                return Answer(b"", date)
            if response.status == 200:
                if not raw:
                    raise ControlUnavailable(f"{call} was answered 200 without a body")
                return Answer(raw, date)
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
