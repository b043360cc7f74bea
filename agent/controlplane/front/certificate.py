"""The TLS certificate and key of a control endpoint.

Only reads the two files. Problems are raised as a ``ConfigError`` that names the file, the problem and
how to fix it. Nothing of a key is ever shown, and no passphrase is ever asked for.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE: Final = "--tls-certificate"
KEY: Final = "--tls-key"
_MAX_BYTES: Final = 1024 * 1024
_CERTIFICATE_BEGINS: Final = b"-----BEGIN CERTIFICATE-----"
_ENCRYPTED: Final = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")
_KEY_ENDS: Final = b" PRIVATE KEY-----"


def context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the TLS context, or None if neither file was given. Blocks for a moment.

    Raises:
        ConfigError: only one was given, or they cannot be used.
    """
    if certificate is None and key is None:
        return None
    if certificate is None:
        raise ConfigError(f"{KEY} is given without {CERTIFICATE}; TLS needs both")
    if key is None:
        raise ConfigError(f"{CERTIFICATE} is given without {KEY}; TLS needs both")
    _check_certificate(certificate, _read(CERTIFICATE, certificate))
    _check_key(key, _read(KEY, key))
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        made.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"{KEY} {key}: is not the key of {CERTIFICATE} {certificate}; give its key"
            raise ConfigError(text) from None
        raise ConfigError(
            f"{CERTIFICATE} {certificate} and {KEY} {key}: cannot be used for TLS "
            f"({_reason(error)}); create them again"
        ) from None
    except OSError as error:  # the files could be read a moment ago
        raise ConfigError(f"{CERTIFICATE} {certificate}: {error.strerror}; try again") from None
    return made


def _read(option: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{option} {path}: no such file; check the path") from None
    except IsADirectoryError:
        raise ConfigError(f"{option} {path}: is a directory; give a PEM file") from None
    except OSError as error:
        raise ConfigError(
            f"{option} {path}: {error.strerror}; make it readable for control"
        ) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{option} {path}: is larger than 1 MiB; give a PEM file")
    return data


def _check_certificate(path: Path, data: bytes) -> None:
    if _CERTIFICATE_BEGINS in data:
        return
    what = "contains a key but no certificate" if _KEY_ENDS in data else "contains no certificate"
    raise ConfigError(
        f"{CERTIFICATE} {path}: {what}; give a PEM file with the certificate and its chain"
    )


def _check_key(path: Path, data: bytes) -> None:
    if any(mark in data for mark in _ENCRYPTED):
        raise ConfigError(
            f"{KEY} {path}: is encrypted with a passphrase, which control cannot ask for; "
            f"give a key without one ('openssl pkey -in {path} -out FILE')"
        )
    if _KEY_ENDS in data:
        return
    what = "contains a certificate but no key" if _CERTIFICATE_BEGINS in data else "contains no key"
    raise ConfigError(f"{KEY} {path}: {what}; give a PEM file with the private key")


def _reason(error: ssl.SSLError) -> str:
    """Return the problem that OpenSSL found, without the location in Python's source."""
    text = error.reason or str(error).partition(" (_ssl.c")[0]
    return text.replace("_", " ").lower()
