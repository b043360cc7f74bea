"""Which certificate requests of hosts are signed. Pure.

A request proves that its sender has the key, and says nothing else: control chooses the name of a host, how long it is
valid and for what. A request that asks for a name of its own is refused, so that nobody believes to have got it.

Tests: ``tests/unit/controlplane/pki/test_requests.py``.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import AgentError

MOST_BYTES: Final = 8 * 1024
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)


UNREADABLE: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""All that cryptography raises for a certificate or a request that it cannot read."""


class RequestRefused(AgentError):
    """A certificate request that is not signed; the text says why."""


def read(text: str) -> ec.EllipticCurvePublicKey:
    """Return the key in a certificate request, as PEM.

    Raises:
        RequestRefused: it cannot be read, is not signed with its key, has another kind of key, or asks for names.
    """
    if len(text) > MOST_BYTES:
        raise RequestRefused(f"the certificate request has more than {MOST_BYTES} characters")
    try:
        request = x509.load_pem_x509_csr(text.encode("ascii"))
        key = request.public_key()
        is_signed = request.is_signature_valid
        names = len(list(request.subject)) + len(list(request.extensions))
    except UNREADABLE:
        raise RequestRefused(
            "the certificate request cannot be read; send PKCS #10 as PEM"
        ) from None
    if not is_signed:
        raise RequestRefused("the certificate request is not signed with its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise RequestRefused("the key must be of the elliptic curve P-256 or P-384")
    if names:
        raise RequestRefused(
            "the certificate request asks for names or extensions; control alone names a host, so "
            "leave the subject empty"
        )
    return key
