"""Interprets error answers of AWS. Pure; no input from a server can raise an exception here."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.errors import AwsRefused, AwsUnavailable, ErrorAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT_LIMIT: Final = 500
_CODE_LIMIT: Final = 100
RETRY_AFTER_LIMIT_S: Final = 300.0
"""No server may keep an agent waiting for longer, however large its Retry-After is."""
_TRANSIENT_STATUS: Final = {429, 500, 502, 503, 504}
_THROTTLED: Final = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "TransactionInProgressException",
}
"""Source: the retryer of Amazon's SDK as the Amazon ECS agent 1.105.1 sets it up."""
STALE_KEYS: Final = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "InvalidTokenException",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
"""AWS does not know these keys, or no longer knows them; other keys may work."""
_SKEWED: Final = {
    "AuthFailure",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestInTheFuture",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
"""A wrong clock causes one of these; the date of the answer shows whether it did."""


class Fault(Struct, frozen=True, kw_only=True):
    """One parsed error answer."""

    status: int
    code: str
    """The AWS error code without its namespace; empty if there was none."""
    text: str
    """The AWS message in one line, or the text that came instead."""
    date: str = ""
    """The ``Date`` of the answer."""
    retry_after_s: float = 0.0
    request_id: str = ""

    @property
    def is_throttling(self) -> bool:
        """Whether AWS asks for fewer calls."""
        return self.code in _THROTTLED or self.code.startswith("RequestThrottled")

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed later: throttled, failed, or not answered by AWS."""
        return (
            self.is_throttling
            or self.status in _TRANSIENT_STATUS
            or self.status >= 500
            or not self.code
            or self.code.startswith("RequestTimeout")
        )

    @property
    def is_stale_keys(self) -> bool:
        """Whether other keys may work."""
        return self.code in STALE_KEYS

    @property
    def may_be_skewed(self) -> bool:
        """Whether the request may have been refused because of its time."""
        return self.code in _SKEWED

    def error(self, what: str) -> AwsUnavailable | AwsRefused:
        """Return the error to raise for the call ``what``."""
        told = f"{self.code}: {self.text}" if self.code else f"HTTP {self.status}: {self.text}"
        text = f"{what}: {told}".rstrip(": ")
        answer = ErrorAnswer(self.status, self.code, self.text, self.request_id)
        if self.is_transient:
            return AwsUnavailable(
                text, code=self.code, retry_after_s=self.retry_after_s, answer=answer
            )
        return AwsRefused(text, code=self.code, status=self.status, answer=answer)


def json_fault(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """Read an error answer of a JSON 1.1 service, even if it is not JSON."""
    fields = _object(body)
    code = headers.get("x-amzn-ErrorType", "") or _text(fields, "__type", "code")
    text = _text(fields, "message", "Message", "errorMessage")
    if not text and not fields:
        text = _stripped(body)
    return fault(status, headers, _bare(code), text)


def fault(status: int, headers: Mapping[str, str], code: str, text: str) -> Fault:
    """Return the fault for an answer with a known code and text."""
    return Fault(
        status=status,
        code=one_line(code, _CODE_LIMIT),
        text=one_line(_without_signature(text), _TEXT_LIMIT),
        date=headers.get("Date", ""),
        retry_after_s=retry_after_s(headers),
        request_id=one_line(headers.get("x-amzn-RequestId", ""), _CODE_LIMIT),
    )


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return how long the server asks to wait, within bounds; 0 if it does not say."""
    told = headers.get("Retry-After", "").strip()
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(told).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, IndexError):
            return 0.0
    if math.isnan(seconds):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT_S)


def one_line(text: str, limit: int) -> str:
    """Return an external text as one printable line of at most ``limit`` characters."""
    line = " ".join(text[: 4 * limit].split())
    return "".join(c if c.isprintable() else "?" for c in line)[:limit]


def decoded(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body, or None."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _object(body: bytes) -> dict[str, Any]:
    return decoded(body) or {}


def _text(fields: dict[str, Any], *names: str) -> str:
    found = (fields.get(name) for name in names)
    return next((value for value in found if isinstance(value, str) and value), "")


def _bare(code: str) -> str:
    """Return the bare code from a form such as ``namespace#Code:http://...``."""
    return code.rpartition("#")[2].partition(":")[0].strip()


def _without_signature(text: str) -> str:
    # AWS explains a refused signature with the whole request, including the session token.
    return text.partition("The Canonical String for this request")[0]


def _stripped(body: bytes) -> str:
    """Return the text of an HTML page, or of any other body, without tags."""
    shown, inside = [], False
    for character in body[: 8 * _TEXT_LIMIT].decode(errors="replace"):
        if character in "<>":
            inside = character == "<"
            shown.append(" ")
        elif not inside:
            shown.append(character)
    return "".join(shown)
