"""Parsers for addresses: ``HOST:PORT``, URLs, proxies, the engine's socket.

Pure. A parser raises a ``ValueError`` that says what is wrong with the value and how to fix it. The
text does not repeat the value, so that callers can put it after the name of the setting and the
value.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

CONTROL_PORT: Final = 6820
"""Default port of a control endpoint."""
TASK_PORT = 51679
"""Port at which the agent answers tasks and the engine; as in Amazon's agent."""
TASK_ADDRESS: Final = "169.254.170.2"
"""Where it does so, on port 80, and on ``TASK_PORT`` itself."""
LARGEST_PORT: Final = 65535
_URL_EXAMPLE: Final = f"http://192.0.2.10:{CONTROL_PORT}"
_PROXY_EXAMPLE: Final = "http://192.0.2.10:3128"
_BLANK: Final = re.compile(r"\s")
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.%\w]+\]")
_BARE: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?/?")


class HostPort(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def text(self) -> str:
        """Return ``HOST:PORT``, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> HostPort:
    """Parse ``HOST:PORT`` or ``[V6]:PORT``; an empty host means loopback, port 0 any free port."""
    usual = f"127.0.0.1:{CONTROL_PORT} or [::1]:{CONTROL_PORT}"
    if "://" in text:
        raise ValueError(f"is a URL; write HOST:PORT alone, for example {usual}")
    host, colon, port = text.rpartition(":")
    if not colon:
        if text.isascii() and text.isdigit():
            raise ValueError(f"is only a port; add a host, for example 127.0.0.1:{text}")
        raise ValueError(f"is not HOST:PORT, because it has no port; write for example {usual}")
    if ":" in host and not host.startswith("["):
        raise ValueError(
            f"is not HOST:PORT: an IPv6 address needs brackets; write for example "
            f"[::1]:{CONTROL_PORT}"
        )
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"is not HOST:PORT; write for example {usual}")
    return HostPort(host.strip("[]") or "127.0.0.1", _port(port, may_be_zero=True))


def parse_url(text: str, *, example: str = _URL_EXAMPLE) -> str:
    """Parse an ``http`` or ``https`` URL; a trailing slash is dropped."""
    _check_url(text, example)
    url = urlsplit(text)
    if url.username or url.password:
        raise ValueError("contains a user name or password; remove them from the URL")
    if url.query or url.fragment:
        raise ValueError("contains a query or fragment; write only scheme, host, port and path")
    return text.rstrip("/")


def parse_metadata_url(text: str) -> str:
    """Parse the URL of an instance metadata service."""
    return parse_url(text, example="http://169.254.169.254")


def parse_backend(text: str) -> str:
    """Parse a host, host and port, or ``http(s)`` URL into a URL; a bare host gets https."""
    # http:/HOST and http:HOST are mistyped URLs, not hosts with the name http.
    is_url = "://" in text or text.lower().startswith(("http:", "https:"))
    example = "ecs.eu-central-1.amazonaws.com"
    return parse_url(text if is_url else f"https://{text}", example=example)


def parse_proxy(text: str) -> str:
    """Parse a proxy into a URL, including its user name and password if any."""
    full = text if "://" in text else f"http://{text}"
    if not full.lower().startswith(("http://", "https://")):
        raise ValueError("is not an HTTP proxy; use an http:// or https:// proxy")
    try:
        _check_url(full, _PROXY_EXAMPLE)
    except ValueError as error:
        raise ValueError(
            str(error).replace("is not an http or https URL", "is not a proxy")
        ) from None
    return full.rstrip("/")


def without_password(text: str) -> str:
    """Return a URL or ``host:port`` with the user name and password masked."""
    scheme, found, rest = text.rpartition("://")
    userinfo, at, host = rest.rpartition("@")
    return f"{scheme}{found}***@{host}" if at and userinfo else text


def parse_docker_host(text: str) -> str:
    """Parse the address of the container engine's API."""
    scheme, found, rest = text.partition("://")
    if not found or scheme not in {"unix", "tcp", "http", "https"} or not rest.strip("/"):
        raise ValueError(
            "is not an engine address; write unix:///var/run/docker.sock or tcp://HOST:PORT"
        )
    if scheme != "unix":
        _check_url(f"http://{rest}", "tcp://192.0.2.10:2375")
    elif not rest.startswith("/"):
        raise ValueError("is not an absolute socket path; write three slashes: unix:///path")
    return text


def _check_url(text: str, example: str) -> None:
    """Raise ``ValueError`` unless the text is a URL with a host and a valid port."""
    nothing = f"is not an http or https URL; write for example {example}"
    if _BLANK.search(text):
        raise ValueError(f"contains a blank; write for example {example}")
    if "://" not in text and _BARE.fullmatch(text):
        raise ValueError(
            f"does not begin with http:// or https://; write for example http://{text}"
        )
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError(nothing)
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(nothing) from None
    _, _, place = url.netloc.rpartition("@")
    host, colon, port = place.rpartition(":")
    if place.endswith("]") or not colon:
        host, port = place, ""
    if not host.strip("[]"):
        raise ValueError(nothing)
    if port:
        _port(port)


def _port(text: str, *, may_be_zero: bool = False) -> int:
    if not text:
        raise ValueError("has no port after the colon; add the port")
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"has the port {text[:20]!r}, which is not a number")
    if len(text) > 9 or int(text) > LARGEST_PORT:
        raise ValueError(
            f"has the port {text[:20]}, which is too large; the largest is {LARGEST_PORT}"
        )
    if int(text) == 0 and not may_be_zero:
        raise ValueError(f"has the port 0, which is not valid; use 1 to {LARGEST_PORT}")
    return int(text)
