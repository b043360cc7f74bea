"""The file of the audit trail, and its rotation by size and number.

Records go to the file that the settings name. A full one gets a number, ``audit.jsonl.1``, then ``.2`` and so on: the
highest is the newest. The oldest go. So a place in the trail, a number and an offset, keeps its meaning.

Blocking; for one thread.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

MODE: Final = 0o600
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class AuditSettings(Struct, frozen=True):
    """Where records go, and how many are kept."""

    file: Path
    most_bytes: int = 64 * 2**20
    """Size from which on a file is full."""
    keep: int = 8
    """How many full files are kept."""


def numbers(path: Path) -> list[int]:
    """Return the numbers of the full files, oldest first.

    Raises:
        OSError: the directory cannot be read.
    """
    pattern = re.compile(re.escape(path.name) + r"\.([1-9][0-9]{0,8})")
    found = (pattern.fullmatch(name) for name in _names(path.parent))
    return sorted(int(match[1]) for match in found if match)


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def numbered(path: Path, number: int) -> Path:
    """Return the path of a full file."""
    return path.with_name(f"{path.name}.{number}")


class TrailFile:
    """The file that is written; it is opened when it is needed."""

    def __init__(self, settings: AuditSettings) -> None:
        self._settings = settings
        self._handle = -1
        self._size = 0

    def check(self) -> None:
        """Open the file, to know whether it can be; raises ``OSError``."""
        self._open()

    def append(self, lines: list[bytes]) -> None:
        """Write lines; all of them are there on return.

        Raises:
            OSError: some could not be written; the file has none of them then, unless it was full in between.
        """
        batch = bytearray()
        for line in lines:
            if batch and self._size + len(batch) + len(line) > self._settings.most_bytes:
                self._write(bytes(batch))
                batch.clear()
            batch += line
        if batch:
            self._write(bytes(batch))

    def close(self) -> None:
        """Close it; may be repeated."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with contextlib.suppress(OSError):
                os.fsync(handle)
            os.close(handle)

    def _write(self, batch: bytes) -> None:
        self._open()
        if self._size and self._size + len(batch) > self._settings.most_bytes:
            self._rotate()
            self._open()
        done = 0
        try:
            while done < len(batch):
                done += os.write(self._handle, batch[done:])
        except OSError:
            # Part of a line would spoil the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._size)
            raise
        self._size += done

    def _open(self) -> None:
        """Open the file of the path, also if somebody has moved or removed the one that was open."""
        path = self._settings.file
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), os.fstat(self._handle)):
                    return
            self.close()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._handle = os.open(path, _FLAGS, MODE)
        self._size = os.fstat(self._handle).st_size
        if self._size and os.pread(self._handle, 1, self._size - 1) != b"\n":
            # A process was killed while it wrote; its last record is not whole.
            self._size += os.write(self._handle, b"\n")

    def _rotate(self) -> None:
        path = self._settings.file
        self.close()
        full = numbers(path)
        path.rename(numbered(path, full[-1] + 1 if full else 1))
        for number in full[: max(0, len(full) + 1 - self._settings.keep)]:
            numbered(path, number).unlink(missing_ok=True)
