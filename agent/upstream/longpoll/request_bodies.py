"""Bodies and headers of calls to control. Pure."""

from __future__ import annotations

import gzip
from typing import Any, Final

_COMPRESS_FROM: Final = 1024
"""Bodies of at least this many bytes are sent as gzip."""
_COMPRESS_LEVEL: Final = 1
JSON: Final = {"Content-Type": "application/json"}
GZIP: Final = {**JSON, "Content-Encoding": "gzip"}


def packed(body: bytes | None) -> tuple[bytes | None, dict[str, str]]:
    """Return a body as it is sent, compressed if that pays, and the headers that say so."""
    if body is None:
        return None, {}
    if len(body) <= _COMPRESS_FROM:
        return body, JSON
    return gzip.compress(body, _COMPRESS_LEVEL), GZIP


def bearing(request: dict[str, Any], token: str) -> dict[str, Any]:
    """Return a request with a token, if there is one."""
    if not token:
        return request
    return request | {"headers": request["headers"] | {"Authorization": f"Bearer {token}"}}
