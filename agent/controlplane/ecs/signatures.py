"""Who may speak as an agent on Amazon's wire: those whose signature was made with one of our tokens.

Amazon's agent cannot carry a bearer token, but it signs every call and both websocket upgrades with
Signature Version 4. So a token of control's file is the **secret** access key; the access key id and
the region may be anything. botocore computes what the signature must be; it is compared in constant
time, with every token of the file. Without a token file nothing is verified.

The frames of TCS carry signatures too. They are not verified: the connection that they come by was
admitted by its upgrade, the answers to them command nothing, and ACS, which does, has none in its
frames at all. Who can write into an admitted connection is kept out by TLS.

Pure but for the clock and one rate-limited log line.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_plus

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from msgspec import Struct

from agent.controlplane.api.errors import ApiError
from agent.controlplane.wire.auth import Admission

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDictProxy

    from agent.controlplane.wire.auth import Gate

SKEW_S: Final = 15 * 60
"""How far the date of a signature may be from control's clock, as on AWS."""
_SERVICE: Final = "ecs"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_PART: Final = re.compile(r"(Credential|SignedHeaders|Signature)=([^\s,]{1,2048})")
_SCOPE: Final = re.compile(
    r"(.{1,128})/([0-9]{8})/([A-Za-z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request"
)
_STAMP: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_NO_TOKENS: Final = "set AWS_SECRET_ACCESS_KEY of the agent to a token of control's --token-file"


class SignatureRefused(ApiError):
    """The call is not signed as it must be; ``code`` says in which way."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Call:
    """What was signed."""

    method: str
    target: str
    """Path and query as they stood in the request line."""
    headers: CIMultiDictProxy[str]
    body: bytes = b""


class _Claim(Struct, frozen=True):
    """What an ``Authorization`` header claims."""

    key_id: str
    date: str
    region: str
    signed: tuple[str, ...]
    signature: str


class Verifier:
    """Checks signatures with the tokens of a gate; for one event loop."""

    def __init__(self, gate: Gate, *, clock: Callable[[], float] = time.time) -> None:
        self._gate = gate
        self._clock = clock

    def check(self, call: Call, peer: str) -> Admission:
        """Return what lets the call in.

        Raises:
            SignatureRefused: it is not signed, by nobody we know, or at another time.
        """
        if self._gate.file is None:
            return Admission()
        try:
            return self._check(call)
        except SignatureRefused as error:
            self._gate.note(peer, f"{error.code}: {error}")
            raise

    def _check(self, call: Call) -> Admission:
        claim = _claim(call.headers.get("Authorization"))
        stamp = _stamp(call.headers)
        self._check_time(stamp)
        if not stamp.startswith(claim.date):
            raise _broken("the date of the credential scope is not that of X-Amz-Date")
        content = call.headers.get("X-Amz-Content-SHA256")
        if content is not None and content != hashlib.sha256(call.body).hexdigest():
            raise _mismatch("X-Amz-Content-SHA256 is not that of the body")
        try:
            # All of them, also behind one that fits: the time tells nothing of the file.
            fitting = [
                token
                for token in self._gate.tokens
                if hmac.compare_digest(_signature(call, claim, stamp, token), claim.signature)
            ]
        except ValueError:
            raise _broken("a header or the query has characters that cannot be signed") from None
        if not fitting:
            raise _mismatch(_NO_TOKENS)
        return self._gate.admission(fitting[0])

    def _check_time(self, stamp: str) -> None:
        signed_at = _moment(stamp)
        now = self._clock()
        here = _text(now)
        if signed_at < now - SKEW_S:
            edge = _text(now - SKEW_S)
            text = f"Signature expired: {stamp} is now earlier than {edge} ({here} - 15 min.)"
        elif signed_at > now + SKEW_S:
            edge = _text(now + SKEW_S)
            text = (
                f"Signature not yet current: {stamp} is still later than {edge} ({here} + 15 min.)"
            )
        else:
            return
        raise SignatureRefused("InvalidSignatureException", text)


def _claim(header: str | None) -> _Claim:
    """Read an ``Authorization`` header; nothing of it is trusted yet."""
    scheme, _, rest = (header or "").strip().partition(" ")
    if not header:
        raise SignatureRefused(
            "MissingAuthenticationTokenException",
            f"control asks agents for a signature and this call has none; {_NO_TOKENS}",
        )
    parts = dict(_PART.findall(rest))
    scope = _SCOPE.fullmatch(parts.get("Credential", ""))
    signature = parts.get("Signature", "")
    if scheme != _ALGORITHM or scope is None or not _HEX.fullmatch(signature):
        raise _broken(
            f"Authorization must be {_ALGORITHM} with Credential, SignedHeaders, Signature"
        )
    key_id, date, region, service = scope.groups()
    if service != _SERVICE:
        raise _broken(f"the credential must be scoped to the service {_SERVICE}")
    signed = tuple(parts.get("SignedHeaders", "").lower().split(";"))
    if "host" not in signed or "x-amz-date" not in signed:
        raise _broken("host and x-amz-date must be signed")
    return _Claim(key_id, date, region, signed, signature)


def _moment(stamp: str) -> float:
    match = _STAMP.fullmatch(stamp)
    try:
        if match is not None:
            year, month, day, hour, minute, second = map(int, match.groups())
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        pass  # a thirteenth month, say
    raise _broken("X-Amz-Date must look like 20060102T150405Z")


def _stamp(headers: CIMultiDictProxy[str]) -> str:
    stamp = headers.get("X-Amz-Date")
    if stamp is None:
        raise _broken("X-Amz-Date is missing")
    return stamp


def _signature(call: Call, claim: _Claim, stamp: str, secret: str) -> str:
    """Return the signature that the call has when it was made with this secret."""
    path, _, query = call.target.partition("?")
    host = call.headers.get("Host", "")
    request = AWSRequest(
        method=call.method,
        url=f"https://{host}{path}?{_canonical_query(query)}",
        data=call.body,
    )
    for name in claim.signed:
        for value in call.headers.getall(name, ()):
            request.headers.add_header(name, value)
    request.context["timestamp"] = stamp
    auth = SigV4Auth(Credentials(claim.key_id, secret), _SERVICE, claim.region)
    signature: str = auth.signature(
        auth.string_to_sign(request, auth.canonical_request(request)), request
    )
    return signature


def _canonical_query(query: str) -> str:
    """Return a query in the one spelling that is signed: the agent sends ``+`` for a space."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return "&".join(
        f"{quote(unquote_plus(name), safe='-_.~')}={quote(unquote_plus(value), safe='-_.~')}"
        for name, _, value in pairs
    )


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime(_DATE_FORMAT)


def _broken(why: str) -> SignatureRefused:
    return SignatureRefused("IncompleteSignatureException", f"The signature cannot be read: {why}.")


def _mismatch(why: str) -> SignatureRefused:
    return SignatureRefused(
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. "
        f"Check your AWS Secret Access Key and signing method: {why}.",
    )
