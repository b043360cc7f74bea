"""The keys of operators: a file that only its owner reads, created with one key at the first start.

It has the format of AWS's shared credentials file, so every AWS tool can use it
(``AWS_SHARED_CREDENTIALS_FILE``); each section is a name and its key. A bad file is a ``ConfigError``
that says how to fix it and shows nothing of the file. Blocking: read it in a thread.
"""

from __future__ import annotations

import configparser
import os
import re
import secrets
import stat
import string
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.controlplane.private_file import make_once
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_NAME: Final = "default"
"""The section that the AWS tools read by default."""
OPEN: Final = "open"
"""Key id and secret that ``ecs-agent env`` gives to tools for a control that requires no keys."""
_PREFIX: Final = "ECSK"
"""Key ids created here begin with it; those of AWS begin with an ``A``."""
OF_USERS: Final = "ECSU"
OF_SESSIONS: Final = "ECSS"
"""With what ids of keys begin that users of this control and sessions of its roles have."""
_LIMIT_BYTES: Final = 64 * 1024
_SECRET_BYTES: Final = 30
"""40 characters in base64, as on AWS."""
_ID_CHARACTERS: Final = string.ascii_uppercase + "234567"
_ID: Final = re.compile(r"[A-Za-z0-9_]{16,128}")
_SECRET: Final = re.compile(r"[!-~]{20,256}")
_HEAD: Final = """\
# Keys of the operators of this control endpoint; each section is one key. The AWS tools can read this file:
# eval $(ecs-agent env). To change a key: add a section, use it, remove the old one. SIGHUP reloads the file.
"""


class Key(Struct, frozen=True):
    """One key; the secret is not part of the repr."""

    name: str
    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Key(name={self.name!r}, id={self.id!r})"


def load(file: Path, *, owner: int | None = None) -> dict[str, Key]:
    """Return the keys of a file by their ids; a missing file is created with a new key.

    Args:
        file: only root, the user of this process and ``owner`` may own it.
        owner: the user that control runs as, if the calling process runs as another user.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        if not file.exists():
            _make(file)
        text = _read(file, {0, os.geteuid(), owner})
    except OSError as error:
        raise ConfigError(
            f"keys {file}: {error.strerror}; give a file that control can read"
        ) from None
    return _parse(file, text)


def is_own(key_id: str) -> bool:
    """Tell whether a key is one that a control endpoint made, or the one for an open one. Pure."""
    return key_id == OPEN or key_id.startswith((_PREFIX, OF_USERS, OF_SESSIONS))


def _parse(file: Path, text: str) -> dict[str, Key]:
    parser = configparser.ConfigParser(default_section="", interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        where = f" in line {error.lineno}" if hasattr(error, "lineno") else ""
        raise ConfigError(
            f"keys {file}: cannot be parsed{where}; write sections with aws_access_key_id and "
            "aws_secret_access_key"
        ) from None
    keys: dict[str, Key] = {}
    for name in parser.sections():
        key_id = parser[name].get("aws_access_key_id", "")
        secret = parser[name].get("aws_secret_access_key", "")
        if not _ID.fullmatch(key_id) or not _SECRET.fullmatch(secret):
            raise ConfigError(
                f"keys {file}: section {name!a} needs an aws_access_key_id of 16 to 128 letters and "
                "digits and an aws_secret_access_key of 20 to 256 characters"
            )
        if key_id in keys:
            raise ConfigError(
                f"keys {file}: {name!a} and {keys[key_id].name!a} have the same key id; change one"
            )
        keys[key_id] = Key(name, key_id, secret)
    if not keys:
        raise ConfigError(
            f"keys {file}: contains no key; remove the file, and a new one is created"
        )
    return keys


def _make(file: Path) -> None:
    """Write a file with one new key; a concurrent writer may win."""
    key_id = _PREFIX + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(16))
    text = (
        f"{_HEAD}[{DEFAULT_NAME}]\naws_access_key_id = {key_id}\n"
        f"aws_secret_access_key = {secrets.token_urlsafe(_SECRET_BYTES)}\n"
    )
    make_once(file, text)


def _read(file: Path, owners: set[int | None]) -> str:
    with file.open("rb") as source:
        info = os.fstat(source.fileno())
        mode = stat.S_IMODE(info.st_mode)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"keys {file}: is not a regular file; give a file of keys")
        if info.st_uid not in owners:
            raise ConfigError(
                f"keys {file}: belongs to another user (uid {info.st_uid}), who could change it; "
                f"run 'chown {os.geteuid()} {file}'"
            )
        if mode & (stat.S_IRWXO | stat.S_IRWXG):
            raise ConfigError(
                f"keys {file}: others can read or change it (mode {mode:04o}); run 'chmod 600 {file}'"
            )
        raw = source.read(_LIMIT_BYTES + 1)
    if len(raw) > _LIMIT_BYTES:
        raise ConfigError(f"keys {file}: is larger than 64 KiB; give a file of keys")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"keys {file}: byte {error.start} is not UTF-8; fix the file") from None
