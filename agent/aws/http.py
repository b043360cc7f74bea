"""The HTTP client for all calls to AWS: session, proxies and trusted authorities.

Uses the network and the CA file. Calls raise aiohttp's errors; `worded` turns those into one line
for people. One object per agent, on one event loop, shared by all tasks.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import ssl
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from agent import __version__, keepalive
from agent.errors import AwsUnavailable, ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

CONNECT_S: Final = 30.0
"""Limit for connecting, TLS included. Source: Amazon ECS agent 1.105.1, ecs-agent/httpclient."""
_IDLE_S: Final = 30.0
"""Idle connections are closed well before AWS closes them, so that calls rarely hit a dead one."""
_UNPROXIED: Final = "169.254.169.254,169.254.170.2"
"""Reached without a proxy unless NO_PROXY is set. Source: ecs-agent/wsclient."""
_SCHEMES: Final = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
_TEXT_LIMIT: Final = 300


class Proxies:
    """Chooses the proxy for a URL. Pure and immutable; ``repr`` shows no password.

    ``http`` is for ``http`` and ``ws``, ``https`` for the others. ``no_proxy`` is a comma-separated
    list of ``*``, names (including their subdomains), addresses and networks, each with or without
    a port. Loopback addresses are never reached through a proxy.
    """

    __slots__ = ("_ends", "_networks", "_proxies", "_scope")

    def __init__(self, http: str = "", https: str = "", no_proxy: str = "") -> None:
        """Read the three settings; raises ``ConfigError`` for an invalid proxy."""
        self._proxies = {"http": _proxy("HTTP_PROXY", http), "https": _proxy("HTTPS_PROXY", https)}
        if (http or https) and not no_proxy.strip():
            no_proxy = _UNPROXIED
        self._scope = no_proxy
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._ends: list[tuple[str, int | None]] = []
        for part in no_proxy.lower().split(","):
            self._except(part.strip())

    def _except(self, part: str) -> None:
        if not part:
            return
        try:
            self._networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            name, port = _split(part)
            self._ends.append((name.removeprefix("*").strip("."), port))

    def of(self, url: URL | str) -> URL | None:
        """Return the proxy for a URL; None if it is reached directly."""
        url = URL(url)
        proxy = self._proxies.get(_SCHEMES.get(url.scheme, ""))
        if proxy is None or self._is_direct((url.host or "").lower().rstrip("."), url.port):
            return None
        return proxy

    def _is_direct(self, host: str, port: int | None) -> bool:
        if host == "localhost" or not host:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            if address.is_loopback or any(address in network for network in self._networks):
                return True
        return any(
            (not name or host == name or host.endswith(f".{name}")) and (at is None or at == port)
            for name, at in self._ends
        )

    def __repr__(self) -> str:
        shown = {name: str(url.with_user(None)) for name, url in self._proxies.items() if url}
        return f"Proxies({shown}, no_proxy={self._scope!r})"


def _proxy(variable: str, text: str) -> URL | None:
    if not text:
        return None
    mend = "write for example http://192.0.2.10:3128"
    try:
        url = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        raise ConfigError(f"{variable} is not a URL; {mend}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"{variable} is not an HTTP proxy; {mend}")
    return url


def _split(part: str) -> tuple[str, int | None]:
    """Return name and port of one entry; an IPv6 address with a port has brackets."""
    name, colon, port = part.rpartition(":")
    if colon and port.isdecimal() and (":" not in name or name.startswith("[")):
        return name.strip("[]"), int(port)
    return part.strip("[]"), None


class AwsHttp:
    """The session for AWS. Use it as an async context manager; ``session`` exists inside it.

    The session keeps no cookies, uses a proxy only if the caller passes ``proxy_for`` to a call,
    and limits only the time to connect: every call sets its own limit.
    """

    session: aiohttp.ClientSession

    def __init__(
        self,
        proxies: Proxies | None = None,
        ca_file: Path | None = None,
        *,
        os_detail: str = "",
    ) -> None:
        """Prepare; ``ca_file`` is trusted in addition to the system's authorities."""
        self._proxies = proxies or Proxies()
        self._ca_file = ca_file
        shown = "".join(c for c in os_detail if c.isascii() and c.isprintable() and c not in "()")
        self.user_agent = f"ecs-host-agent - v{__version__} (linux; {shown or 'LINUX'})"

    async def __aenter__(self) -> AwsHttp:
        """Open the session; raises ``ConfigError`` if the CA file cannot be used."""
        tls = await asyncio.to_thread(_trust, self._ca_file)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                keepalive_timeout=_IDLE_S, ssl=tls, socket_factory=keepalive.socket_for
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            headers={"User-Agent": self.user_agent, "Accept-Encoding": "gzip"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.session.close()

    def proxy_for(self, url: URL | str) -> URL | None:
        """Return the proxy to pass to a call of ``session`` for this URL (http, https, ws, wss)."""
        return self._proxies.of(url)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return _system_trust()
    context = _made_trust()
    try:
        context.load_verify_locations(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or "is unusable"
        raise ConfigError(
            f"{ca_file}: no usable certificates ({why}); use a PEM file of an authority"
        ) from None
    return context


@functools.cache
def _system_trust() -> ssl.SSLContext:
    """Return what the authorities of the system give; they take long to read."""
    return _made_trust()


def _made_trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python builds that use the defaults of OpenSSL's configuration may allow older versions.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def read_body(response: aiohttp.ClientResponse, limit_bytes: int, what: str) -> bytes:
    """Return the whole body of an answer.

    Raises:
        AwsUnavailable: the decompressed body is larger than ``limit_bytes``; the rest is not read.
    """
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limit_bytes:
            response.close()
            raise AwsUnavailable(f"{what}: the answer is larger than {limit_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def worded(error: Exception) -> str:
    """Return one line of text for the error of a call that got no answer. Pure."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            f"the certificate of {error.host}:{error.port} is not trusted "
            f"({' '.join(str(error.certificate_error).split())[:_TEXT_LIMIT]}); "
            "add its authority to the trusted ones on this host"
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {error.host}:{error.port} cannot be reached; check HTTPS_PROXY"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}; check HTTPS_PROXY"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return (
            f"the name {error.host} does not resolve; check the region and this host's name servers"
        )
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionRefusedError
    ):
        return f"no process listens on {error.host}:{error.port}"
    if isinstance(error, aiohttp.ClientResponseError):
        # The error's own text contains the URL, which may hold more than the log should show.
        return " ".join(error.message.split())[:_TEXT_LIMIT] or type(error).__name__
    text = " ".join(str(error).split())[:_TEXT_LIMIT]
    return text or type(error).__name__
