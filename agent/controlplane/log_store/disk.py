"""The directory of the log store: its lock, its files, and the room beside them. Blocking.

::

    logs/catalogue.db          groups, streams, blocks
    logs/00000012.journal      the newest events
    logs/00000011.segment      compressed events; 00000011.2.segment once it was rewritten
    logs/lock                  locked by the process that uses the store
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from typing import TYPE_CHECKING, Final

from agent.controlplane.log_store.contract import LogStoreFailure

if TYPE_CHECKING:
    from pathlib import Path

CATALOGUE: Final = "catalogue.db"
_SEGMENT: Final = re.compile(r"([0-9]{8,})(?:\.([0-9]+))?\.segment")
_JOURNAL: Final = re.compile(r"([0-9]{8,})\.journal")
_GRACE_S: Final = 60.0
"""Longer than any page is read."""


class Lock:
    """Keeps a second process away; released by the kernel on any exit."""

    def __init__(self, directory: Path) -> None:
        self._handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
            raise LogStoreFailure(f"{directory} is used by another process") from None

    def release(self) -> None:
        """Let others use the directory; may be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Graveyard:
    """Files that nothing leads to any more, removed once nobody can be reading them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: list[tuple[float, str]] = []

    def bury(self, file: str) -> None:
        """Have a file removed in a while; one that a crash leaves is removed at the next start."""
        if file:
            self._files.append((time.monotonic() + _GRACE_S, file))

    def remove(self) -> None:
        """Remove those whose time has come."""
        now = time.monotonic()
        due = [file for at, file in self._files if at <= now]
        self._files = [(at, file) for at, file in self._files if at > now]
        for file in due:
            with contextlib.suppress(OSError):
                (self._directory / file).unlink(missing_ok=True)


def segment_name(number: int, times_rewritten: int = 0) -> str:
    """Return the name of a segment's file."""
    return f"{number:08d}{f'.{times_rewritten}' if times_rewritten else ''}.segment"


def next_name(file: str) -> str:
    """Return the name of a segment's file once it is rewritten."""
    found = _SEGMENT.fullmatch(file)
    if found is None:
        raise ValueError(f"{file} names no segment")
    return segment_name(int(found[1]), int(found[2] or 0) + 1)


def segment_files(directory: Path) -> dict[str, int]:
    """Return the number of the segment in each file; of one segment, the one written last comes last."""
    found = {
        path.name: (int(name[1]), int(name[2] or 0))
        for path in directory.iterdir()
        if (name := _SEGMENT.fullmatch(path.name))
    }
    return {file: found[file][0] for file in sorted(found, key=lambda file: found[file])}


def journal_numbers(directory: Path) -> list[int]:
    """Return the numbers of the journals, the oldest first."""
    return sorted(
        int(found[1]) for path in directory.iterdir() if (found := _JOURNAL.fullmatch(path.name))
    )


def free_bytes(directory: Path) -> int:
    """Return what the disk has left for ordinary users."""
    room = os.statvfs(directory)
    return room.f_bavail * room.f_frsize


def size_bytes(directory: Path) -> int:
    """Return what catalogue and journals take; segments and the 4 MiB of SQLite's WAL are not counted."""
    total = 0
    for path in directory.iterdir():
        if path.name == CATALOGUE or _JOURNAL.fullmatch(path.name):
            with contextlib.suppress(OSError):
                total += path.stat().st_size
    return total
