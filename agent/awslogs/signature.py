"""Signature Version 4 of a call that the engine's log driver makes: is it of these keys? Pure.

Written out here, although ``aws.signing`` has botocore for it: what is checked is one fixed form (a POST
to ``/``, signed in its header), and botocore would cost every agent without AWS a tenth of a second and
ten megabytes. Tests compare it with botocore and with the engine itself. Source of the rules: the AWS
General Reference, "Signature Version 4 signing process".

The date of a signature is not checked: driver and relay share one clock, and a call that is sent again
is stored once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,\s]{1,256})/([0-9]{8})/([A-Za-z0-9-]{1,64})/logs/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]{1,1024}), ?Signature=([0-9a-f]{64})"
)
_MUST_BE_SIGNED: Final = frozenset({"host", "x-amz-date", "x-amz-target"})


class Claim(NamedTuple):
    """What a call says about its signature; nothing of it is proven."""

    access_key: str
    date: str
    region: str
    signed: tuple[str, ...]
    """Names of the signed headers, in lower case and in order."""
    signature: str


def read(headers: Mapping[str, str]) -> Claim | None:
    """Return what a call claims; None where it is not signed, or not so that anybody could check it.

    Args:
        headers: found by name in any case, as aiohttp has them.
    """
    match = _HEADER.fullmatch(headers.get("Authorization", "").strip())
    if match is None:
        return None
    access_key, date, region, names, signature = match.groups()
    signed = tuple(names.split(";"))
    if not set(signed) >= _MUST_BE_SIGNED or len(set(signed)) < len(signed):
        return None
    if not headers.get("X-Amz-Date", "").startswith(date):
        return None
    return Claim(access_key, date, region, signed, signature)


def is_made_with(
    secret_key: str, claim: Claim, headers: Mapping[str, str], body: bytes, path: str = "/"
) -> bool:
    """Tell whether a POST was signed with a secret key.

    Args:
        secret_key: of the access key that the claim names.
        claim: what ``read`` found in these headers.
        headers: of the call.
        body: as it was sent.
        path: of the request line, without a query.
    """
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}" for name in claim.signed]
    digest = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(("POST", path, "", *lines, "", ";".join(claim.signed), digest))
    scope = f"{claim.date}/{claim.region}/logs/aws4_request"
    stamp = headers.get("X-Amz-Date", "")
    hashed = hashlib.sha256(canonical.encode(errors="replace")).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"
    key = f"AWS4{secret_key}".encode()
    for word in (claim.date, claim.region, "logs", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    made = hmac.new(key, text.encode(errors="replace"), hashlib.sha256).hexdigest()
    return hmac.compare_digest(made, claim.signature)
