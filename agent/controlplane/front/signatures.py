"""Signature Version 4 on the server: parses signatures and checks them against secrets. Pure.

A signature is in the ``Authorization`` header or, for a presigned URL, in the query. Nothing in it is
trusted until ``makers`` has checked it; botocore computes the expected value. Source of the rules: the
AWS General Reference, "Signature Version 4 signing process", and botocore's ``auth``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, unquote_plus

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agent.controlplane.front.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multidict import CIMultiDictProxy

SKEW_S: Final = 15 * 60
"""How far the date of a signature may be from control's clock, as on AWS: clocks of hosts drift."""
PRESIGNED_LIMIT_S: Final = 7 * 24 * 3600
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_PART: Final = re.compile(r"(Credential|SignedHeaders|Signature)=([^\s,]{1,2048})")
_SCOPE: Final = re.compile(
    r"(.{1,128})/([0-9]{8})/([A-Za-z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request"
)
_STAMP: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_IN_QUERY: Final = "X-Amz-Signature"
_TOKEN: Final = "X-Amz-Security-Token"  # noqa: S105 - name of a header


class SignatureRefused(ApiError):
    """A request is not signed correctly; ``code`` says how."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class SignatureOutOfDate(SignatureRefused):
    """A request was signed too long ago, or in the future."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that were signed."""

    method: str
    target: str
    """Path and query as in the request line."""
    headers: CIMultiDictProxy[str]
    digest: str = hashlib.sha256(b"").hexdigest()
    """SHA-256 of the body as it was sent, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The content of a signature, before it is checked."""

    key_id: str
    date: str
    region: str
    service: str
    signed: tuple[str, ...]
    """Names of the signed headers, lower case."""
    signature: str
    stamp: str
    expires_s: int | None = None
    """How long a presigned URL is valid; None for a signature in a header."""
    token: str = field(default="", repr=False)
    """The session token that came with it; empty for none."""


def is_signed(call: SignedRequest) -> bool:
    """Return whether a call has something that may be a signature, valid or not."""
    return "Authorization" in call.headers or f"{_IN_QUERY}=" in call.target


def read_claim(call: SignedRequest) -> Claim:
    """Return the content of a call's signature.

    Raises:
        SignatureRefused: there is none, or it cannot be read.
    """
    header = call.headers.get("Authorization")
    if header is not None:
        scheme, _, rest = header.strip().partition(" ")
        parts = dict(_PART.findall(rest))
        stamp, expires = call.headers.get("X-Amz-Date", ""), None
        token = call.headers.get(_TOKEN, "")
    else:
        query = dict(_pairs(call.target.partition("?")[2]))
        if _IN_QUERY not in query:
            raise SignatureRefused(
                "MissingAuthenticationTokenException", "Missing Authentication Token"
            )
        scheme = query.get("X-Amz-Algorithm", "")
        parts = {
            name: query.get(f"X-Amz-{name}", "")
            for name in ("Credential", "SignedHeaders", "Signature")
        }
        stamp, expires = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
        token = query.get(_TOKEN, "")
    scope = _SCOPE.fullmatch(parts.get("Credential", ""))
    signature = parts.get("Signature", "")
    if scheme != _ALGORITHM or scope is None or not _HEX.fullmatch(signature):
        raise broken(f"it must be {_ALGORITHM} with Credential, SignedHeaders, Signature")
    key_id, date, region, service = scope.groups()
    signed = tuple(parts.get("SignedHeaders", "").lower().split(";"))
    if "host" not in signed or (expires is None and "x-amz-date" not in signed):
        raise broken("host and x-amz-date must be signed")
    if len(set(signed)) < len(signed):
        # A kilobyte of names could make us sign megabytes of values, again for each secret.
        raise broken("SignedHeaders names a header twice")
    if not stamp.startswith(date):
        raise broken("the date of the credential scope is not that of X-Amz-Date")
    seconds = _seconds(expires)
    return Claim(key_id, date, region, service, signed, signature, stamp, seconds, token)


def check_time(claim: Claim, now: float) -> None:
    """Raise ``SignatureOutOfDate`` if a call was signed too long before or after now (Unix seconds)."""
    signed_at, here = _moment(claim.stamp), _text(now)
    good_for_s = SKEW_S if claim.expires_s is None else claim.expires_s
    if signed_at < now - good_for_s:
        edge = _text(now - good_for_s)
        text = (
            f"Signature expired: {claim.stamp} is now earlier than {edge} ({here} - "
            f"{good_for_s // 60} min.)"
        )
    elif signed_at > now + SKEW_S:
        edge = _text(now + SKEW_S)
        text = (
            f"Signature not yet current: {claim.stamp} is still later than {edge} ({here} + "
            f"{SKEW_S // 60} min.)"
        )
    else:
        return
    raise SignatureOutOfDate("InvalidSignatureException", text)


def check_whole(call: SignedRequest, claim: Claim) -> None:
    """Raise ``SignatureRefused`` if an important part of a call is not signed."""
    content = call.headers.get("X-Amz-Content-SHA256")
    if content is not None and content != call.digest:
        raise mismatch("X-Amz-Content-SHA256 does not match the body")
    for name in call.headers:
        if name.lower().startswith("x-amz-") and name.lower() not in claim.signed:
            raise broken(f"the header {name[:64]} must be signed")


def makers(secrets: Sequence[str], call: SignedRequest, claim: Claim) -> list[str]:
    """Return the secrets that made a call's signature; each is tried, in constant time.

    The signed text is built once, however many secrets there are.

    Raises:
        SignatureRefused: the call has characters that cannot be signed.
    """
    try:
        request = _request(call, claim)
        text = None
        found = []
        for secret in secrets:
            signer = S3SigV4Auth if claim.service == "s3" else SigV4Auth
            auth = signer(Credentials(claim.key_id, secret), claim.service, claim.region)
            # It is known, so do not compute it again for each secret.
            auth.payload = lambda _: call.digest
            text = text or auth.string_to_sign(request, auth.canonical_request(request))
            if hmac.compare_digest(auth.signature(text, request), claim.signature):
                found.append(secret)
    except ValueError:
        raise broken("a header or the query has characters that cannot be signed") from None
    return found


def _request(call: SignedRequest, claim: Claim) -> AWSRequest:
    """Return what was signed; raises ``ValueError`` for text that is not valid UTF-8."""
    path, _, query = call.target.partition("?")
    host = call.headers.get("Host", "")
    request = AWSRequest(
        method=call.method,
        url=f"https://{host}{path}?{_canonical_query(query)}",
    )
    for name in claim.signed:
        for value in call.headers.getall(name, ()):
            value.encode()  # Raises here, because botocore would fail with another error.
            request.headers.add_header(name, value)
    request.context["timestamp"] = claim.stamp
    return request


def broken(why: str) -> SignatureRefused:
    """Return the error for a signature that cannot be parsed."""
    return SignatureRefused("IncompleteSignatureException", f"The signature cannot be read: {why}.")


def mismatch(why: str) -> SignatureRefused:
    """Return the error for a signature with another secret, or of another request."""
    return SignatureRefused(
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. "
        f"Check your AWS Secret Access Key and signing method: {why}.",
    )


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise broken("X-Amz-Expires must be a number of seconds")
    if int(text) > PRESIGNED_LIMIT_S:
        raise broken(f"X-Amz-Expires must be at most {PRESIGNED_LIMIT_S} seconds")
    return int(text)


def _moment(stamp: str) -> float:
    match = _STAMP.fullmatch(stamp)
    try:
        if match is not None:
            year, month, day, hour, minute, second = map(int, match.groups())
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        pass  # a 13th month, for example
    raise broken("X-Amz-Date must look like 20060102T150405Z")


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime(_DATE_FORMAT)


def _pairs(query: str) -> list[tuple[str, str]]:
    parts = (pair.partition("=") for pair in query.split("&") if pair)
    return [(unquote(name), unquote_plus(value)) for name, _, value in parts]


def _canonical_query(query: str) -> str:
    """Return a query in its canonical form for signing: some clients send ``+`` for a space."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return "&".join(
        f"{quote(unquote_plus(name), safe='-_.~')}={quote(unquote_plus(value), safe='-_.~')}"
        for name, _, value in pairs
        if name != _IN_QUERY
    )
