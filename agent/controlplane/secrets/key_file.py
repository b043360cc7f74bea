"""The file of the keys that encrypt secrets: only its owner reads it, and it is created when first needed.

One key a line, an id and 32 bytes in base64; the first encrypts, all decrypt. To change keys, a new one is
put first, everything is encrypted anew, and old ones are removed later, if at all: a copy of the store needs
the keys of its time. Every change replaces the whole file at once. Blocking: use it in a thread.

Tests: ``tests/unit/controlplane/secrets/test_key_file.py``.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import stat
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY_BYTES: Final = 32
_LIMIT_BYTES: Final = 64 * 1024
_ID: Final = re.compile(r"[0-9a-f]{16}")
_HEAD: Final = """\
# Keys that encrypt the secrets of this control endpoint: the first encrypts, all decrypt. Without them
# the secrets are lost: keep a copy apart from the store. Change them with: ecs-agent secret rotate-key
"""


class SecretKey(Struct, frozen=True):
    """One key; ``repr`` does not show it."""

    id: str
    key: bytes

    def __repr__(self) -> str:
        return f"SecretKey(id={self.id!r})"


def new_key() -> SecretKey:
    """Return a new random key."""
    return SecretKey(secrets.token_hex(8), secrets.token_bytes(KEY_BYTES))


def load(file: Path) -> tuple[SecretKey, ...]:
    """Return the keys of a file, the one that encrypts first; none if there is no file.

    Raises:
        ConfigError: the file cannot be used; the text shows nothing of it but line numbers.
    """
    try:
        text = _read(file)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(
            f"secret keys {file}: {error.strerror}; give a file that control may read"
        ) from None
    return _parse(file, text)


def save(file: Path, keys: Sequence[SecretKey]) -> None:
    """Replace the file with one that has these keys; durable when it returns.

    Raises:
        ConfigError: it cannot be written; the old file is still there.
    """
    lines = [f"{key.id} {base64.b64encode(key.key).decode()}\n" for key in keys]
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w") as out:
                out.write(_HEAD + "".join(lines))
                out.flush()
                os.fsync(out.fileno())
            new.replace(file)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        _sync_directory(file.parent)
    except OSError as error:
        raise ConfigError(
            f"secret keys {file}: {error.strerror}; make room, or give a directory that control may "
            "write to"
        ) from None


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(file: Path) -> str:
    with file.open("rb") as source:
        info = os.fstat(source.fileno())
        mode = stat.S_IMODE(info.st_mode)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"secret keys {file}: is not a regular file; give a file of keys")
        if info.st_uid not in {0, os.geteuid()}:
            raise ConfigError(
                f"secret keys {file}: belongs to another user (uid {info.st_uid}), who can change it; "
                f"run 'chown {os.geteuid()} {file}'"
            )
        if mode & (stat.S_IRWXO | stat.S_IRWXG):
            raise ConfigError(
                f"secret keys {file}: other users can read or change it (mode {mode:04o}); run 'chmod "
                f"600 {file}'"
            )
        raw = source.read(_LIMIT_BYTES + 1)
    if len(raw) > _LIMIT_BYTES:
        raise ConfigError(f"secret keys {file}: is larger than 64 KiB; give a file of keys")
    return raw.decode("utf-8", "replace")


def _parse(file: Path, text: str) -> tuple[SecretKey, ...]:
    keys: dict[str, SecretKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key_id, _, encoded = line.strip().partition(" ")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not _ID.fullmatch(key_id) or len(key) != KEY_BYTES:
            raise ConfigError(
                f"secret keys {file}: line {number} is not an id and a key; put the file back from a copy"
            )
        if key_id in keys:
            raise ConfigError(f"secret keys {file}: line {number} has the id of an earlier line")
        keys[key_id] = SecretKey(key_id, key)
    if not keys:
        raise ConfigError(
            f"secret keys {file}: has no key; put the file back from a copy, or remove it if nothing "
            "was encrypted yet"
        )
    return tuple(keys.values())
