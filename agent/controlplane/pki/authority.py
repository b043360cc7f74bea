"""The authority that signs control's certificate and those of hosts: its files, and what it signs. Blocks.

``authority.pem`` is the authority, with its key: made here (ECDSA P-256), or an operator's. After a change it also has the
bridge: the new authority, signed by the one before it, so that hosts that only know the old one still trust control.
``trusted.pem`` has no secrets: the certificates of all authorities whose host certificates are accepted, the present one first.

Each is written to a new file that is renamed.

Tests: ``tests/unit/controlplane/pki/test_authority.py``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.controlplane.pki import names
from agent.controlplane.pki.requests import UNREADABLE
from agent.controlplane.private_file import replace_file
from agent.errors import ConfigError
from agent.model.wire import CONTROL_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

TRUSTED_FILE: Final = "trusted.pem"
AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 90
_BACK: Final = dt.timedelta(seconds=names.BEGINS_BEFORE_S)
_MAX_BYTES: Final = 64 * 1024

SigningKey = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)


class Signed(NamedTuple):
    """A certificate that was just signed."""

    pem: bytes
    serial: str
    """In hexadecimal."""
    not_before: float
    expires_at: float
    """Unix times."""


class Authority:
    """An authority that can sign; immutable."""

    def __init__(
        self,
        key: SigningKey,
        certificate: x509.Certificate,
        *,
        trusted: Sequence[x509.Certificate] = (),
        bridge: Sequence[x509.Certificate] = (),
    ) -> None:
        """Take the parts; ``trusted`` are earlier authorities."""
        self._key = key
        self.certificate = certificate
        self._trusted = tuple(one for one in trusted if one != certificate)
        self._bridge = tuple(bridge)

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Return the authority in a directory; None if there is none.

        Raises:
            ConfigError: its files cannot be used; the text says how to fix it.
        """
        file, others = directory / names.AUTHORITY_FILE, directory / TRUSTED_FILE
        if not file.exists():
            return None
        key, (certificate, *bridge) = _pair(_Pem.read(file), _Pem.read(file))
        trusted = _certificates(_Pem.read(others)) if others.exists() else []
        return cls(key, certificate, trusted=trusted, bridge=bridge)

    @classmethod
    def read(cls, certificate: Path, key: Path) -> Self:
        """Return an authority from two files.

        Raises:
            ConfigError: they cannot be used, or are not those of an authority.
        """
        signing, (first, *_) = _pair(_Pem.read(certificate), _Pem.read(key))
        return cls(signing, first)

    @classmethod
    def parse(cls, certificate: bytes, key: bytes) -> Self:
        """Return an authority from two texts in PEM; raises as ``read``."""
        signing, (first, *_) = _pair(_Pem("the certificate", certificate), _Pem("the key", key))
        return cls(signing, first)

    @classmethod
    def make(cls, label: str, *, now: float) -> Self:
        """Return a new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "ecs-host-agent control authority"),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, label[:64]),
            ]
        )
        return cls(key, _signed_authority(key, subject, key.public_key(), subject, now))

    def save(self, directory: Path) -> None:
        """Write the authority to a directory, which is made; raises ``OSError``."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(directory / TRUSTED_FILE, self.trusted_pem, mode=0o644)
        parts = [_key_pem(self._key), self.pem, *map(_pem, self._bridge)]
        replace_file(directory / names.AUTHORITY_FILE, b"".join(parts), mode=0o600)

    def followed_by(self, other: Authority, *, now: float) -> Authority:
        """Return another authority in place of this one, trusted by all who trust this one."""
        bridge = _signed_authority(
            self._key,
            self.certificate.subject,
            other.certificate.public_key(),
            other.certificate.subject,
            now,
            no_later_than=self.certificate.not_valid_after_utc,
        )
        return Authority(
            other._key,
            other.certificate,
            trusted=(self.certificate, *self._trusted),
            bridge=(bridge, *self._bridge),
        )

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return _pem(self.certificate)

    @property
    def trusted_pem(self) -> bytes:
        """The certificates of all authorities whose host certificates are accepted."""
        return b"".join(map(_pem, (self.certificate, *self._trusted)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key in hexadecimal: stays the same when the certificate is renewed."""
        return fingerprint(self.certificate)

    @property
    def expires_at(self) -> float:
        """Unix time."""
        return self.certificate.not_valid_after_utc.timestamp()

    @property
    def begins_at(self) -> float:
        """Unix time."""
        return self.certificate.not_valid_before_utc.timestamp()

    @property
    def name(self) -> str:
        """The subject, for display."""
        return self.certificate.subject.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"})

    def sign_host(
        self, key: ec.EllipticCurvePublicKey, host_id: str, *, now: float, life_s: float
    ) -> Signed:
        """Return a certificate for a host."""
        uri = x509.UniformResourceIdentifier(names.uri_of(host_id))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_id)])
        return self._sign(key, subject, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now, life_s)

    def sign_server(self, served: Iterable[str], *, now: float) -> tuple[Signed, bytes]:
        """Return a certificate with its chain for control's machine, and its key, both as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ecs-host-agent control")])
        found = [_general(name) for name in dict.fromkeys((CONTROL_NAME, *served))]
        alternatives = [name for name in found if name is not None]
        life_s = SERVER_DAYS * 86_400.0
        signed = self._sign(
            key.public_key(), subject, alternatives, ExtendedKeyUsageOID.SERVER_AUTH, now, life_s
        )
        chain = b"".join([signed.pem, *map(_pem, self._bridge), self.pem])
        return signed._replace(pem=chain), _key_pem(key)

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        alternatives: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: float,
        life_s: float,
    ) -> Signed:
        at = dt.datetime.fromtimestamp(int(now), dt.UTC)
        end = min(at + dt.timedelta(seconds=life_s), self.certificate.not_valid_after_utc)
        made = (
            _builder(subject, self.certificate.subject, key, at, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(_issuer(self.certificate), critical=False)
            .sign(self._key, _hash(self._key))
        )
        return Signed(
            _pem(made), f"{made.serial_number:x}", (at - _BACK).timestamp(), end.timestamp()
        )


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's public key, in hexadecimal."""
    return hashlib.sha256(_public(certificate)).hexdigest()


def _signed_authority(
    key: SigningKey,
    issuer: x509.Name,
    public: object,
    subject: x509.Name,
    now: float,
    *,
    no_later_than: dt.datetime | None = None,
) -> x509.Certificate:
    at = dt.datetime.fromtimestamp(int(now), dt.UTC)
    end = at + dt.timedelta(days=AUTHORITY_DAYS)
    if no_later_than is not None:
        end = min(end, no_later_than)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)  # type: ignore[arg-type]
    return (
        _builder(subject, issuer, public, at, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, _hash(key))
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: object, at: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BACK)
        .not_valid_after(end)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _issuer(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        known = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(certificate.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known.value)


def _general(name: str) -> x509.GeneralName | None:
    """Return a name or address as certificates have it; None for what cannot be in one."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        return None


def _hash(key: SigningKey) -> hashes.SHA256 | None:
    return (
        None
        if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        else hashes.SHA256()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: SigningKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public(of: SigningKey | x509.Certificate) -> bytes:
    return of.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


class _Pem(NamedTuple):
    """A text with certificates or keys, and where it comes from."""

    place: str
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; raises ``ConfigError``."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; make it readable for control") from None
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path}: is larger than 64 KiB; give a PEM file")
        return cls(str(path), data)


def _certificates(pem: _Pem) -> list[x509.Certificate]:
    path = pem.place
    try:
        found = x509.load_pem_x509_certificates(pem.data)
        for one in found:
            _public(one)
    except UNREADABLE:
        raise ConfigError(f"{path}: has no usable certificate; give a PEM file") from None
    return found


def _key_in(pem: _Pem) -> SigningKey:
    path = pem.place
    try:
        key = serialization.load_pem_private_key(pem.data, password=None)
    except TypeError:
        raise ConfigError(
            f"{path}: is encrypted with a passphrase, which control cannot ask for; give a key without one"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path}: has no usable private key; give a PEM file") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        raise ConfigError(f"{path}: an RSA key needs at least 2048 bits")
    if not isinstance(key, SigningKey):
        raise ConfigError(
            f"{path}: is a key that does not sign certificates; use ECDSA, RSA or Ed25519"
        )
    return key


def _pair(certificate: _Pem, key: _Pem) -> tuple[SigningKey, list[x509.Certificate]]:
    """Return a key and the certificates of a file, of which the first is that of the key."""
    found = _certificates(certificate)
    first, signing = found[0], _key_in(key)
    if _public(signing) != _public(first):
        raise ConfigError(
            f"{key.place}: is not the key of {certificate.place}; give the key of the authority"
        )
    _check_signs(certificate.place, first)
    return signing, found


def _check_signs(path: str, certificate: x509.Certificate) -> None:
    """Raise ``ConfigError`` unless a certificate is one of an authority."""
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        signs = basic.ca
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        signs = signs and usage.key_cert_sign
    except x509.ExtensionNotFound as error:
        signs = error.oid == x509.KeyUsage.oid and basic.ca
    except UNREADABLE:
        signs = False
    if not signs:
        raise ConfigError(
            f"{path}: is not the certificate of an authority (CA:TRUE and keyCertSign); give one that may "
            "sign others"
        )
