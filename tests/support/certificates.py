"""Certificates for tests, made with the openssl command."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Certificates(NamedTuple):
    """A private authority, and a server's key and certificate signed by it."""

    ca: Path
    certificate: Path
    key: Path


def make(directory: Path, *, names: str = "DNS:localhost,IP:127.0.0.1") -> Certificates:
    """Make an authority and a certificate for these names."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificates(*(directory / name for name in ("ca.pem", "control.pem", "control.key")))
    ca_key, request, extensions = (directory / name for name in ("ca.key", "csr", "ext"))
    extensions.write_text(f"subjectAltName={names}\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl(
        *["req", "-x509", *curve, "-days", "2", "-subj", "/CN=test authority"],
        *["-addext", "keyUsage=critical,keyCertSign", "-keyout", f"{ca_key}", "-out", f"{made.ca}"],
    )
    new = ["-subj", "/CN=control", "-keyout", f"{made.key}", "-out", f"{request}"]
    _openssl("req", *curve, *new)
    by = ["-CA", f"{made.ca}", "-CAkey", f"{ca_key}", "-CAcreateserial"]
    result = ["-days", "2", "-extfile", f"{extensions}", "-out", f"{made.certificate}"]
    _openssl("x509", "-req", "-in", f"{request}", *by, *result)
    return made


def client(of: Certificates, subject: str) -> tuple[Path, Path]:
    """Make a client's certificate and key, signed by the same authority."""
    directory = of.ca.parent
    certificate, key, request = (directory / f"client.{end}" for end in ("pem", "key", "csr"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl("req", *curve, "-subj", subject, "-keyout", f"{key}", "-out", f"{request}")
    by = ["-CA", f"{of.ca}", "-CAkey", f"{directory / 'ca.key'}", "-CAcreateserial"]
    _openssl("x509", "-req", "-in", f"{request}", *by, "-days", "2", "-out", f"{certificate}")
    return certificate, key


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
