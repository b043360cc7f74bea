"""Where calls of services that control does not serve are sent on to. Pure.

An operator writes ``SERVICE=URL``, with the service as signatures name it (``s3``, ``dynamodb``), or ``*`` for all others.
``,host`` behind the URL has the target see its own host name.

Tests: ``tests/unit/controlplane/front/test_forward_targets.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec import Struct

from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ANY: Final = "*"
_SERVICE: Final = re.compile(r"[a-z0-9-]{1,64}|\*")
_OWN_HOST: Final = ",host"


class Target(Struct, frozen=True):
    """One place that answers calls."""

    url: str
    """``http://HOST:PORT`` or ``https://...``, without a path."""
    keeps_host: bool = True
    """Whether it sees the Host header that the caller has signed; otherwise the host of ``url``."""


def parse(texts: Iterable[str]) -> dict[str, Target]:
    """Return the targets by the names of services.

    Raises:
        ConfigError: a text is none, or names a service again.
    """
    found: dict[str, Target] = {}
    for text in texts:
        service, target = _parse(text)
        if service in found:
            raise ConfigError(f"{_shown(text)}: {service} is named twice; give it once")
        found[service] = target
    return found


def check_not_served(targets: Mapping[str, Target], served: Iterable[str]) -> None:
    """Raise ``ConfigError`` for a target of a service that control serves itself."""
    for service in sorted(set(targets) & set(served)):
        raise ConfigError(
            f"--forward {service}=...: control serves {service} itself; leave it out, or set the endpoint URL "
            "of this service for your tools"
        )


def _parse(text: str) -> tuple[str, Target]:
    service, found, rest = text.partition("=")
    url = rest.removesuffix(_OWN_HOST)
    if not found or not _SERVICE.fullmatch(service):
        raise ConfigError(
            f"{_shown(text)}: is not SERVICE=URL; write, for example, s3=http://10.0.0.5:9000"
        )
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ConfigError(f"{service}: is no URL of http or https; write http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{service}: a URL with a password would be told in errors; leave it out")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(
            f"{service}: the URL has a path, and signatures cover the path of the caller; write http://HOST:PORT"
        )
    return service, Target(f"{parts.scheme}://{parts.netloc}", rest == url)


def _shown(text: str) -> str:
    """Return the beginning of a text, without what may be a password in it."""
    return repr(text.partition("=")[0][:64])
