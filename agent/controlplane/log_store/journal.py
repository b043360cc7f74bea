"""The journal: the newest events, appended and synced before anybody is told they are taken. Blocking.

One file of frames for each segment-to-be. Each frame has the runs of one commit, so that the tail a
crash tears was promised to nobody.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog

from agent.controlplane.log_store import blocks, frames
from agent.controlplane.log_store.contract import Run
from agent.controlplane.log_store.segments import sync_directory
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIX: Final = ".journal"
_LEVEL: Final = 1
_FRAME_MOST_BYTES: Final = 256 * 1024 * 1024

_runs = msgspec.msgpack.Decoder(list[Run])

_log = structlog.get_logger(__name__)


class Replayed(NamedTuple):
    """What a journal held."""

    runs: list[Run]
    damaged_bytes: int
    torn_bytes: int


class Journal:
    """One journal that is written; for one thread."""

    def __init__(self, path: Path, number: int, handle: int, size_bytes: int = 0) -> None:
        self.path = path
        self.number = number
        self.size_bytes = size_bytes
        self._handle = handle
        self._has_rest = False
        """Whether something of a failed append is behind the end."""

    @classmethod
    def create(cls, directory: Path, number: int) -> Journal:
        """Make the journal of a number; raises ``OSError``."""
        path = path_of(directory, number)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            sync_directory(directory)
        except OSError:
            os.close(handle)
            raise
        return cls(path, number, handle)

    @classmethod
    def reopen(cls, directory: Path, number: int) -> Journal:
        """Go on with a journal that was replayed; raises ``OSError``."""
        path = path_of(directory, number)
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        return cls(path, number, handle, os.fstat(handle).st_size)

    def append(self, runs: Sequence[Run]) -> None:
        """Append runs; they are on the disk on return.

        Raises:
            OSError: the disk does not take them; none of them is kept.
        """
        data = frames.frame(zlib.compress(msgspec.msgpack.encode(runs), _LEVEL))
        if self._has_rest:
            os.ftruncate(self._handle, self.size_bytes)
            self._has_rest = False
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._handle, data[done:], self.size_bytes + done)
            os.fdatasync(self._handle)
        except OSError:
            self._has_rest = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self.size_bytes)
                self._has_rest = False
            raise
        self.size_bytes += len(data)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def path_of(directory: Path, number: int) -> Path:
    """Return where the journal of a number is."""
    return directory / f"{number:08d}{SUFFIX}"


def replay(path: Path) -> Replayed:
    """Return what a journal holds, and cut its torn tail off.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    found = frames.scan(data)
    runs: list[Run] = []
    damaged = found.damaged_bytes
    for payload in found.payloads:
        try:
            runs += _runs.decode(blocks.inflate(payload, _FRAME_MOST_BYTES))
        except (*BAD_JSON, zlib.error):
            damaged += len(payload)
    torn = len(data) - found.end
    if torn:
        os.truncate(path, found.end)
        _log.warning(
            "log journal ended in the middle of a write, which is cut off; nothing in it was promised",
            file=str(path),
            bytes=torn,
        )
    if damaged:
        _log.error(
            "log journal is damaged; the events there are lost", file=str(path), bytes=damaged
        )
    return Replayed(runs, damaged, torn)
