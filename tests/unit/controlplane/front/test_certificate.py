"""What is wrong with the files of TLS is said in a line that a newcomer can act on."""

from __future__ import annotations

import re
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.front import certificate
from agent.errors import ConfigError
from tests.support import certificates

if TYPE_CHECKING:
    from pathlib import Path


class Files:
    """A certificate with its key, and others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = certificates.make(folder / "own")
        self.certificate, self.key = made.certificate, made.key
        self.other_key = certificates.make(folder / "other").key
        self.locked = folder / "locked.key"
        subprocess.run(
            [
                "openssl",
                "pkey",
                "-in",
                self.key,
                "-aes256",
                "-passout",
                "pass:x",
                "-out",
                self.locked,
            ],
            check=True,
        )
        self.text = folder / "text"
        self.text.write_text("hello\n")
        self.none = folder / "none"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


def test_a_pair_is_a_context_and_nothing_is_none(files: Files) -> None:
    assert isinstance(certificate.context(files.certificate, files.key), ssl.SSLContext)
    assert certificate.context(None, None) is None


@pytest.mark.parametrize(
    ("chain", "key", "told"),
    [
        ("certificate", "", "--tls-certificate is given without --tls-key; TLS needs both"),
        ("", "key", "--tls-key is given without --tls-certificate; TLS needs both"),
        ("none", "key", "--tls-certificate {none}: no such file; check the path"),
        ("certificate", "none", "--tls-key {none}: no such file; check the path"),
        ("folder", "key", "--tls-certificate {folder}: is a directory; give a PEM file"),
        ("text", "key", "--tls-certificate {text}: contains no certificate; give a PEM file"),
        ("key", "key", "--tls-certificate {key}: contains a key but no certificate"),
        ("certificate", "text", "--tls-key {text}: contains no key; give a PEM file"),
        (
            "certificate",
            "certificate",
            "--tls-key {certificate}: contains a certificate but no key",
        ),
        ("certificate", "locked", "--tls-key {locked}: is encrypted with a passphrase"),
        ("certificate", "other_key", "--tls-key {other_key}: is not the key of --tls-certificate"),
    ],
)
def test_each_mistake_has_its_own_words(files: Files, chain: str, key: str, told: str) -> None:
    given = [getattr(files, name) if name else None for name in (chain, key)]
    with pytest.raises(ConfigError, match=re.escape(told.format(**vars(files)))) as caught:
        certificate.context(*given)
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)
    assert "_ssl.c" not in str(caught.value)


def test_pem_blocks_of_nonsense(files: Files, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match="cannot be used for TLS") as caught:
        certificate.context(broken, files.key)
    assert "_ssl.c" not in str(caught.value)


def test_a_device_is_no_file(files: Files, tmp_path: Path) -> None:
    zero = tmp_path / "zero"
    zero.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="is larger than 1 MiB; give a PEM file"):
        certificate.context(zero, files.key)
