"""Certificate requests: what is signed says nothing but that its sender has the key."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.pki import requests
from agent.controlplane.pki.requests import RequestRefused
from agent.upstream.certificates import key_pair

EMPTY = x509.Name([])
NAMED = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "0" * 32)])


def a_request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: x509.Name = EMPTY) -> str:
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_the_request_of_an_agent_is_taken() -> None:
    assert isinstance(requests.read(key_pair.make().request), ec.EllipticCurvePublicKey)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (a_request(ec.generate_private_key(ec.SECP256R1()), NAMED), "asks for names"),
        (a_request(ec.generate_private_key(ec.SECP521R1())), "elliptic curve"),
        (a_request(rsa.generate_private_key(65537, 2048)), "elliptic curve"),
        ("", "cannot be read"),
        ("-----BEGIN CERTIFICATE REQUEST-----\n", "cannot be read"),
        ("ö", "cannot be read"),
        ("x" * 10_000, "more than"),
    ],
)
def test_others_are_refused(text: str, told: str) -> None:
    with pytest.raises(RequestRefused, match=told):
        requests.read(text)


def test_an_alternative_name_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(EMPTY)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:x")])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    with pytest.raises(RequestRefused, match="asks for names"):
        requests.read(made.public_bytes(serialization.Encoding.PEM).decode())


def test_a_request_with_any_byte_changed_is_refused() -> None:
    """Its version, too: cryptography has errors of its own for some of them."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(EMPTY)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("a"), x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]
    )
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    der = made.public_bytes(serialization.Encoding.DER)
    for at in range(len(der)):
        for other in (der[at] ^ 1, der[at] ^ 2, der[at] ^ 0x80, 0xA3):
            with pytest.raises(RequestRefused):
                requests.read(as_pem(der[:at] + bytes([other]) + der[at + 1 :]))


def as_pem(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


def test_a_request_for_the_key_of_another_is_refused() -> None:
    """Its signature was made with another key."""
    mine, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    der = x509.load_pem_x509_csr(a_request(mine).encode()).public_bytes(serialization.Encoding.DER)

    def point(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    forged = x509.load_der_x509_csr(der.replace(point(mine), point(other)))
    with pytest.raises(RequestRefused, match="not signed with its own key"):
        requests.read(forged.public_bytes(serialization.Encoding.PEM).decode())


@given(st.binary(max_size=300))
def test_nothing_that_is_sent_does_more_than_be_refused(data: bytes) -> None:
    text = x509.load_pem_x509_csr(key_pair_request.encode())
    der = bytearray(text.public_bytes(serialization.Encoding.DER))
    der[10 : 10 + len(data)] = data
    import base64  # noqa: PLC0415

    body = base64.encodebytes(bytes(der)).decode()
    wrapped = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    if data and bytes(der) != text.public_bytes(serialization.Encoding.DER):
        with pytest.raises(RequestRefused):
            requests.read(wrapped)


key_pair_request = a_request(ec.generate_private_key(ec.SECP256R1()))
