"""Files of keys and tokens that control makes by itself, or replaces.

Tests: ``tests/unit/controlplane/agents/test_tokens.py``, ``tests/unit/controlplane/front/test_keys.py``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_once(file: Path, text: str) -> bool:
    """Make a file that only its owner can read, unless there is one; return whether it was made.

    It has its whole text from the moment it has its name: others may read it as soon as it exists.

    Raises:
        OSError: it cannot be written.
    """
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(new, file)
        except FileExistsError:
            return False
    finally:
        new.unlink()
    return True


def replace_file(file: Path, data: bytes, *, mode: int) -> None:
    """Replace a file at once, also if the machine crashes meanwhile; one that is not there is made.

    Raises:
        OSError: it cannot be written; the old one is unchanged.
    """
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            os.fchmod(out.fileno(), mode)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        raise
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
