"""Errors of control about calls that it sends on, in the words of the caller's protocol. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.front.protocols import Protocol
from agent.controlplane.front.service_model import QUERY_ERRORS

if TYPE_CHECKING:
    from agent.controlplane.front.errors import ApiError

_OF_S3: Final = {
    "AccessDeniedException": ("AccessDenied", 403),
    "IncompleteSignatureException": ("AuthorizationHeaderMalformed", 400),
    "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
    "MissingAuthenticationTokenException": ("AccessDenied", 403),
    "RequestEntityTooLargeException": ("EntityTooLarge", 400),
    "UnrecognizedClientException": ("InvalidAccessKeyId", 403),
}
_OF_EC2: Final = dict.fromkeys(
    (
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    ),
    ("AuthFailure", 401),
)


def refusal(protocol: Protocol, error: ApiError) -> tuple[str, int]:
    """Return code and status of an error."""
    plain = (error.name, error.status)
    match protocol:
        case Protocol.S3:
            return _OF_S3.get(error.name, plain)
        case Protocol.QUERY:
            return QUERY_ERRORS.get(error.name, plain)
        case Protocol.EC2:
            return _OF_EC2.get(error.name) or QUERY_ERRORS.get(error.name, plain)
        case _:
            return plain
