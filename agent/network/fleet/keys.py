"""The WireGuard key of this host: made here, kept in a file that only root reads, never sent. Blocks.

Tests: ``tests/unit/network/fleet/test_keys.py``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agent.config.values import SecretText
from agent.errors import NetworkFailure
from agent.model.fleet import KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE: Final = "fleet.key"
"""In the data directory; the private key in the form of ``wg genkey``."""
_NEW: Final = f".{FILE}."
"""Beginning of the name of a file that is yet to take the place of that one."""

_log = structlog.get_logger(__name__)


class FleetKey(NamedTuple):
    """A key pair, in base64."""

    private: SecretText
    public: str


def load(directory: Path) -> FleetKey:
    """Return the key of this host; made the first time, and where the file has none.

    Raises:
        NetworkFailure: the file cannot be read or written.
    """
    path = directory / FILE
    _remove_left_behind(directory)
    try:
        text = path.read_text(encoding="ascii")
        if path.stat().st_mode & 0o077:
            _log.warning(
                "others could read the key of this host; a new one is made", file=str(path)
            )
        else:
            return _pair(_parsed(text))
    except FileNotFoundError:
        pass
    except ValueError:
        _log.warning("the key of this host was damaged; a new one is made", file=str(path))
    except OSError as error:
        raise NetworkFailure(f"{path} cannot be read: {error.strerror}") from None
    return replace(directory)


def replace(directory: Path) -> FleetKey:
    """Make a new key in the place of the one that there is, and return it.

    Raises:
        NetworkFailure: the file cannot be written; the old one stays.
    """
    key, path = _pair(X25519PrivateKey.generate()), directory / FILE
    new = path.with_name(f"{_NEW}{secrets.token_hex(4)}")
    try:
        with _removed_at_end(new):
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w") as out:
                out.write(f"{key.private.reveal()}\n")
                out.flush()
                os.fsync(out.fileno())
            new.replace(path)
    except OSError as error:
        raise NetworkFailure(f"{path} cannot be written: {error.strerror}") from None
    return key


def age_s(directory: Path, now: float | None = None) -> float:
    """Return how long ago the key was made; 0 if there is none."""
    try:
        made = (directory / FILE).stat().st_mtime
    except OSError:
        return 0.0
    return max(0.0, (time.time() if now is None else now) - made)


def _remove_left_behind(directory: Path) -> None:
    """Remove new keys that a killed process left before they took the place of the old one."""
    for path in directory.glob(f"{_NEW}*"):
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _removed_at_end(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _pair(private: X25519PrivateKey) -> FleetKey:
    raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return FleetKey(SecretText(_text(raw)), _text(public))


def _parsed(text: str) -> X25519PrivateKey:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise ValueError("it is not base64") from None
    if len(raw) != KEY_BYTES:
        raise ValueError("it has another length")
    return X25519PrivateKey.from_private_bytes(raw)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
