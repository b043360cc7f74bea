"""Who control's authority is, compared with a fingerprint: for ``join``, before anything is trusted.

The one call goes over TLS without a check of control's certificate, carries no secret, and returns a certificate whose
public key must have the fingerprint. Whoever answers in control's place cannot do more than make it fail.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from agent.errors import BAD_JSON, ConfigError, ControlUnavailable
from agent.model.wire import AuthorityAnswer
from agent.upstream import transport
from agent.upstream.certificates.trust import MARK

if TYPE_CHECKING:
    from yarl import URL

LIMIT_S: Final = 10.0
_MOST_BYTES: Final = 64 * 1024
_answer = msgspec.json.Decoder(AuthorityAnswer)


async def authority_of(endpoint: URL, fingerprint: str) -> bytes:
    """Return the certificate of control's authority as the text of a CA file.

    Args:
        endpoint: control's URL.
        fingerprint: SHA-256 of the authority's public key, in hexadecimal.

    Raises:
        ConfigError: the URL has no TLS, or the authority is another one.
        ControlUnavailable: control does not answer, or has no authority.
    """
    if endpoint.scheme != "https":
        raise ConfigError(f"{endpoint}: a fingerprint is of use with https:// alone")
    body, _ = await _asked(endpoint, {})
    try:
        told = _answer.decode(body)
    except BAD_JSON:
        raise ControlUnavailable(
            f"{endpoint}: does not tell its authority; it is not a control endpoint, or an older one"
        ) from None
    found = await asyncio.to_thread(_fingerprint, told.certificate)
    if found != fingerprint.lower().replace(":", ""):
        raise ConfigError(
            f"{endpoint}: control's authority has another fingerprint, {found or 'none'}, than the one that was "
            "given; somebody else may answer in control's place, or the token is of another control"
        )
    mark = MARK if told.control_name else b""
    return mark + told.certificate.encode("ascii")


async def date_of(endpoint: URL) -> str:
    """Return the ``Date`` of control's clock, told without trust and for display alone; empty if there is none.

    Control is told this host's clock, so that its log names a host whose clock is wrong.
    """
    try:
        _, date = await _asked(endpoint, {"at": str(int(time.time()))})
    except ControlUnavailable:
        return ""
    return date


async def _asked(endpoint: URL, query: dict[str, str]) -> tuple[bytes, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # see the module docstring
    connector = aiohttp.TCPConnector(ssl=context)
    try:
        async with (
            asyncio.timeout(LIMIT_S),
            aiohttp.ClientSession(connector=connector) as session,
            session.get(endpoint / "v1/authority", params=query, allow_redirects=False) as response,
        ):
            return await response.content.read(_MOST_BYTES), response.headers.get("Date", "")
    except TimeoutError:
        raise ControlUnavailable(f"{endpoint}: no answer within {LIMIT_S:g} s", away=True) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ControlUnavailable(f"{endpoint}: {transport.worded(error)}") from None


def _fingerprint(pem: str) -> str:
    """Return that of a certificate; empty if there is none. Loads a large library."""
    import hashlib  # noqa: PLC0415 - with the library

    from cryptography import x509  # noqa: PLC0415 - only `join` needs it
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    try:
        key = x509.load_pem_x509_certificate(pem.encode("ascii")).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return ""
    told = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(told).hexdigest()
