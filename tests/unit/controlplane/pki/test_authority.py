"""Control's authority: its files, what it signs, and another one in its place."""

from __future__ import annotations

import base64
import contextlib
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ExtendedKeyUsage, SubjectAlternativeName
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.pki import names
from agent.controlplane.pki.authority import Authority
from agent.controlplane.pki.names import AUTHORITY_FILE
from agent.errors import ConfigError
from agent.model.wire import CONTROL_NAME
from agent.upstream.certificates import introduction
from tests.support import certificates

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000.0
HOST = "0123456789abcdef" * 2


def test_it_is_kept_with_its_key(tmp_path: Path) -> None:
    made = Authority.make("c1", now=NOW)
    assert Authority.load(tmp_path / "pki") is None
    made.save(tmp_path / "pki")
    found = Authority.load(tmp_path / "pki")
    assert found is not None
    assert (found.fingerprint, found.pem) == (made.fingerprint, made.pem)
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "pki" / AUTHORITY_FILE).stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" not in (tmp_path / "pki" / "trusted.pem").read_bytes()


def test_what_it_signs_for_a_host() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    signed = Authority.make("c1", now=NOW).sign_host(key, HOST, now=NOW, life_s=3600.0)
    certificate = x509.load_pem_x509_certificate(signed.pem)
    assert certificate.public_key() == key
    assert (signed.not_before, signed.expires_at) == (NOW - 3600.0, NOW + 3600.0)
    assert int(signed.serial, 16) == certificate.serial_number
    usage = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    told = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    (uri,) = told.get_values_for_type(x509.UniformResourceIdentifier)
    assert names.host_of({"subjectAltName": (("URI", uri),)}) == HOST


def test_what_it_signs_for_control() -> None:
    signed, key = Authority.make("c1", now=NOW).sign_server(
        ["localhost", "::1", "not a name ö", CONTROL_NAME], now=NOW
    )
    certificate = x509.load_pem_x509_certificates(signed.pem)[0]
    told = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    assert told.get_values_for_type(x509.DNSName) == [CONTROL_NAME, "localhost"]
    assert [str(one) for one in told.get_values_for_type(x509.IPAddress)] == ["::1"]
    assert key.startswith(b"-----BEGIN PRIVATE KEY-----")


@given(st.text(max_size=80))
def test_other_names_are_of_no_host(text: str) -> None:
    assert names.host_of({"subjectAltName": (("URI", text), ("DNS", names.uri_of(HOST)))}) == ""
    assert names.host_of({"subjectAltName": (("URI", names.uri_of(text)),)}) == ""
    assert names.host_of(None) == names.host_of({}) == ""


def test_another_one_is_trusted_by_those_who_trust_the_first(tmp_path: Path) -> None:
    """For both kinds of certificates, through two changes, and after a restart."""
    first = Authority.make("first", now=time.time())
    second = first.followed_by(Authority.make("second", now=time.time()), now=time.time())
    given_ = certificates.make(tmp_path / "operator")
    ours = Authority.read(given_.ca, tmp_path / "operator" / "ca.key")
    third = second.followed_by(ours, now=time.time())
    third.save(tmp_path / "pki")
    loaded = Authority.load(tmp_path / "pki")
    assert loaded is not None
    assert loaded.trusted_pem.count(b"BEGIN CERTIFICATE") == 3
    signed, key = loaded.sign_server(["localhost"], now=time.time())
    (tmp_path / "server.pem").write_bytes(key + signed.pem)
    for trusting in (first, second, third):
        _shake_hands(tmp_path / "server.pem", trusting.pem.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(tmp_path / "server.pem", Authority.make("x", now=time.time()).pem.decode())


def _shake_hands(server_file: Path, trusted: str) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(server_file)
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    c_in, c_out, s_in, s_out = (ssl.MemoryBIO() for _ in range(4))
    ends = [
        client.wrap_bio(c_in, c_out, server_hostname=CONTROL_NAME),
        server.wrap_bio(s_in, s_out, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            s_in.write(c_out.read())
            c_in.write(s_out.read())


def test_files_that_are_no_authority(tmp_path: Path) -> None:
    given_ = certificates.make(tmp_path)
    for certificate, key, told in (
        (given_.certificate, given_.key, "not the certificate of an authority"),
        (given_.ca, given_.key, "is not the key of"),
        (given_.key, given_.key, "has no usable certificate"),
        (given_.ca, given_.ca, "has no usable private key"),
        (tmp_path / "missing", given_.key, "No such file"),
    ):
        with pytest.raises(ConfigError, match=told):
            Authority.read(certificate, key)
    (tmp_path / AUTHORITY_FILE).write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="has no usable"):
        Authority.load(tmp_path)


def test_an_error_never_shows_a_key(tmp_path: Path) -> None:
    key = certificates.make(tmp_path).key.read_bytes()
    with pytest.raises(ConfigError) as caught:
        Authority.parse(b"", key)
    assert "PRIVATE" not in str(caught.value)
    assert cast("Any", caught.value.__cause__) is None


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_certificate_with_any_byte_changed_is_taken_or_refused(tmp_path: Path) -> None:
    """Cryptography has errors of its own for some of them, such as versions that there are not."""
    made = Authority.make("c1", now=NOW)
    made.save(tmp_path)
    key = (tmp_path / AUTHORITY_FILE).read_bytes()
    der = made.certificate.public_bytes(serialization.Encoding.DER)
    for at in range(len(der)):
        for other in (der[at] ^ 2, der[at] ^ 0x80):
            text = base64.encodebytes(der[:at] + bytes([other]) + der[at + 1 :])
            pem = b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
            with contextlib.suppress(ConfigError):
                Authority.parse(pem, key)
            assert isinstance(introduction._fingerprint(pem.decode()), str)
