"""The mirror: a small file beside the state file with a second copy of the host's identity.

Rewritten after each change of one of those values: durable, with a checksum against damage, and
readable only by its owner. Blocking; used in the store's thread.

Tests: ``tests/unit/state/test_mirrored_values.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.errors import BAD_JSON


class Values(Struct, frozen=True, kw_only=True):
    """The values that one of the two files holds."""

    serial: int = 0
    """The number of changes so far; 0 if no value was ever written."""
    values: dict[str, str] = {}


class _File(Struct, frozen=True, kw_only=True):
    about: str
    sha256: str
    kept: msgspec.Raw


_ABOUT = (
    "identity of this host towards its control: a copy of values in the state file, in case one of "
    "the two is lost; remove both to register the host as a new one"
)
_file = msgspec.json.Decoder(_File)
_values = msgspec.json.Decoder(Values)


class MirrorFile:
    """The mirror of one state file."""

    def __init__(self, state: Path) -> None:
        self.path = Path(f"{state}.identity")

    def read(self) -> tuple[Values, str]:
        """Return its values, and why they cannot be read; no values if the file does not exist."""
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
        except BAD_JSON:
            pass
        return Values(), f"{self.path} was damaged"

    def write(self, values: Values) -> None:
        """Replace its values, durably; the directory must exist.

        Raises:
            OSError: writing failed; the old values are still there.
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
