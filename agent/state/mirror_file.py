"""The second place of values that must not be lost: a small file beside the state file.

It holds who the host is. Written whole after each change of one of those values, durably and for its
owner alone; a checksum tells a damaged one. Blocking; used in the store's thread.

Tests: ``tests/unit/state/test_mirrored_values.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct


class Values(Struct, frozen=True, kw_only=True):
    """What a place holds."""

    serial: int = 0
    """How many changes there were; 0 where none was ever written."""
    values: dict[str, str] = {}


class _File(Struct, frozen=True, kw_only=True):
    about: str
    sha256: str
    kept: msgspec.Raw


_ABOUT = (
    "who this host is towards its control, kept beside the state file in case one of them is lost; "
    "remove both to have the host registered as a new one"
)
_file = msgspec.json.Decoder(_File)
_values = msgspec.json.Decoder(Values)


class MirrorFile:
    """The file beside a state file."""

    def __init__(self, state: Path) -> None:
        self.path = Path(f"{state}.identity")

    def read(self) -> tuple[Values, str]:
        """Return what it holds, and why that cannot be read; nothing for a file that is not there."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return Values(), ""
        except OSError as error:
            return Values(), f"{self.path} cannot be read: {error.strerror}"
        try:
            file = _file.decode(raw)
            if hashlib.sha256(file.kept).hexdigest() == file.sha256:
                return _values.decode(file.kept), ""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        return Values(), f"{self.path} was damaged"

    def write(self, values: Values) -> None:
        """Put values in place of what it holds, durably; the directory must be there.

        Raises:
            OSError: it holds what it held before.
        """
        kept = msgspec.json.encode(values, order="deterministic")
        digest = hashlib.sha256(kept).hexdigest()
        file = _File(about=_ABOUT, sha256=digest, kept=msgspec.Raw(kept))
        fresh = self.path.with_name(f"{self.path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        try:
            made = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(made, "wb") as file_:  # noqa: PTH123 - an open descriptor
                file_.write(msgspec.json.encode(file) + b"\n")
                file_.flush()
                os.fsync(made)
            fresh.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
