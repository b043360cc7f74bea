"""Pages of lists: opaque ``nextToken`` values that say where the next page begins.

A token contains the last key of the previous page and a digest of the request, so that a token of
another operation or with other filters, or a forged one, is refused. Pure.

Tests: ``tests/unit/controlplane/api/ecs/test_tasks.py``,
``tests/unit/controlplane/api/ecs/test_clusters.py``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane.front.errors import InvalidParameterException
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Mapping


class InvalidToken(InvalidParameterException):
    """The token was not made for this operation and these filters."""

    code = "InvalidParameterException"


_NOT_FILTERS = frozenset({"nextToken", "maxResults"})


def page_size(request: Mapping[str, Any], *, most: int = 100) -> int:
    """Return ``maxResults``, or ``most`` if it is not given.

    Raises:
        InvalidParameterException: it is not between 1 and ``most``.
    """
    size: int = request.get("maxResults", most)
    if not 1 <= size <= most:
        raise InvalidParameterException(f"maxResults must be between 1 and {most}.")
    return size


def token(operation: str, request: Mapping[str, Any], last: str) -> str:
    """Return the token of the page after the item ``last``."""
    body = msgspec.json.encode([_digest(operation, request, last), last])
    return base64.urlsafe_b64encode(body).decode()


def start_after(operation: str, request: Mapping[str, Any]) -> str | None:
    """Return the item after which the page begins, or None for the first page.

    Raises:
        InvalidToken: it was not made for this operation and these filters.
    """
    given = request.get("nextToken")
    if given is None:
        return None
    try:
        digest, last = msgspec.json.decode(
            base64.b64decode(given, altchars=b"-_", validate=True), type=tuple[str, str]
        )
    except (*BAD_JSON, binascii.Error, ValueError):
        raise InvalidToken("Invalid token.") from None
    if digest != _digest(operation, request, last):
        raise InvalidToken("Invalid token.")
    return last


def _digest(operation: str, request: Mapping[str, Any], last: str) -> str:
    filters = {name: value for name, value in request.items() if name not in _NOT_FILTERS}
    body = msgspec.json.encode([operation, filters, last], order="deterministic")
    return hashlib.sha256(body).hexdigest()[:24]
