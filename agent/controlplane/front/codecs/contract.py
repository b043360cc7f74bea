"""What a protocol of an API does, and the bounds of a request in any of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.front.errors import ApiError

ITEMS_MOST = 10_000
"""For one list of a request; the longest list that ECS accepts has a thousand items."""
VALUES_MOST = 100_000
DEEPEST = 64


class Headed(Protocol):
    """What is known of a request before its body; ``aiohttp.web.Request`` is one."""

    @property
    def method(self) -> str:
        """GET, POST..."""

    @property
    def path(self) -> str:
        """Decoded."""

    @property
    def query_string(self) -> str:
        """What follows the question mark, decoded."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By name in any case."""

    @property
    def content_type(self) -> str:
        """Without parameters."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Codec(Protocol):
    """One protocol of one API."""

    def named(self, request: Headed) -> str | None:
        """Return the operation that the headers name; None if the body names it.

        Raises:
            ApiError: they do not name an operation of this API, or the request is not of this protocol.
        """

    def read(self, request: Headed, body: bytes) -> tuple[str, Any]:
        """Return the operation and the request as JSON has it.

        Raises:
            ApiError: the body cannot be read, or is too large for one request.
        """

    def answer(self, operation: str, response: dict[str, Any], request_id: str) -> Reply:
        """Write a response, which the model has shaped (``service_model.ApiModel.answer``)."""

    def error(self, error: ApiError, request_id: str) -> Reply:
        """Write an error."""
