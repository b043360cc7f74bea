"""The receiving side of Signature Version 4: what was received is signed again by botocore.

Nothing of the request is trusted: the canonical form is built from the bytes that came, and only
from the headers that the request itself calls signed.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WINDOW_S = 300.0
"""How far a signature's time may be off, to either side."""
_FORMAT = "%Y%m%dT%H%M%SZ"


class Clock:
    """The back end's own time; a test may set it wrong."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        """How far it is ahead of the machine's."""

    def now(self) -> float:
        """Return the Unix time that this back end believes in."""
        return time.time() + self.ahead_s

    def date(self) -> str:
        """Return the value of a ``Date`` header."""
        return datetime.fromtimestamp(self.now(), UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


@dataclass(frozen=True)
class Keys:
    """Keys that are let in."""

    access_key: str
    secret_key: str
    token: str = ""


class SignatureRefused(Exception):
    """A signature does not hold; ``code`` is what AWS calls that."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Verifier:
    """Checks signatures of one service in one region."""

    def __init__(
        self, keys: Iterable[Keys], clock: Clock, *, region: str = "us-east-1", service: str = "ecs"
    ) -> None:
        self.keys = {k.access_key: k for k in keys}
        self.clock = clock
        self.region = region
        self.service = service

    def check(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, ...]:
        """Return the names of the signed headers, in the order that was given.

        Args:
            method: of the request.
            url: whole, as it was asked for, with the query's own encoding.
            headers: as received; any case.
            body: what the payload hash must be of.

        Raises:
            SignatureRefused: it does not hold.
        """
        given = {name.lower(): value for name, value in headers.items()}
        fields = _fields(given.get("authorization", ""))
        keys, stamp = self._keys(fields["Credential"], given)
        signed = tuple(fields["SignedHeaders"].split(";"))
        self._check_signed(signed, given)
        expected = self._signature(keys, stamp, method, url, {n: given[n] for n in signed}, body)
        if not hmac.compare_digest(expected, fields["Signature"]):
            raise SignatureRefused(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
            )
        self._check_time(stamp)
        return signed

    def _keys(self, credential: str, given: Mapping[str, str]) -> tuple[Keys, str]:
        parts = credential.split("/")
        stamp = given.get("x-amz-date", "")
        if len(parts) != 5:
            raise SignatureRefused("IncompleteSignatureException", f"credential {credential!r}")
        access_key, *scope = parts
        if scope != [stamp[:8], self.region, self.service, "aws4_request"]:
            raise SignatureRefused(
                "InvalidSignatureException", f"Credential should be scoped otherwise than {scope}"
            )
        keys = self.keys.get(access_key)
        if keys is None or given.get("x-amz-security-token", "") != keys.token:
            raise SignatureRefused(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        return keys, stamp

    @staticmethod
    def _check_signed(signed: tuple[str, ...], given: Mapping[str, str]) -> None:
        if list(signed) != sorted(signed):
            raise SignatureRefused(
                "IncompleteSignatureException", f"signed headers not sorted: {signed}"
            )
        missing = [n for n in signed if n not in given]
        must = ["host", *(n for n in given if n.startswith("x-amz-"))]
        missing += [n for n in must if n not in signed]
        if missing:
            raise SignatureRefused("IncompleteSignatureException", f"not signed: {missing}")

    def _signature(
        self,
        keys: Keys,
        stamp: str,
        method: str,
        url: str,
        signed: dict[str, str],
        body: bytes,
    ) -> str:
        place, _, query = url.partition("?")
        # A plus in a query is a space, and is signed as one.
        whole = f"{place}?{query.replace('+', '%20')}" if query else place
        auth = SigV4Auth(
            Credentials(keys.access_key, keys.secret_key, keys.token or None),
            self.service,
            self.region,
        )
        request = AWSRequest(method=method, url=whole, data=body, headers=signed)
        request.context["timestamp"] = stamp
        text = auth.string_to_sign(request, auth.canonical_request(request))
        return str(auth.signature(text, request))

    def _check_time(self, stamp: str) -> None:
        try:
            signed_at = datetime.strptime(stamp, _FORMAT).replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise SignatureRefused("IncompleteSignatureException", f"date {stamp!r}") from None
        now = self.clock.now()
        here = datetime.fromtimestamp(now, UTC).strftime(_FORMAT)
        if signed_at < now - WINDOW_S:
            raise SignatureRefused(
                "InvalidSignatureException",
                f"Signature expired: {stamp} is now earlier than {here} ({here} - 5 min.)",
            )
        if signed_at > now + WINDOW_S:
            raise SignatureRefused(
                "InvalidSignatureException",
                f"Signature not yet current: {stamp} is still later than {here} ({here} + 5 min.)",
            )


def _fields(authorization: str) -> dict[str, str]:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != "AWS4-HMAC-SHA256":
        raise SignatureRefused(
            "MissingAuthenticationTokenException", "Missing Authentication Token"
        )
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if set(fields) != {"Credential", "SignedHeaders", "Signature"}:
        raise SignatureRefused("IncompleteSignatureException", f"fields {sorted(fields)}")
    return fields
