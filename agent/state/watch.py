"""Notices when the state file, its companions or their directory are removed or replaced.

The kernel reports it (inotify), so no polling is needed. If inotify is not available, for example
because its watches are used up, the store still checks before each commit and at each beat.
Read-only. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_log = structlog.get_logger()

_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 64 * 1024

# From linux/inotify.h.
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_DELETE: Final = 0x200
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_ONLYDIR: Final = 0x01000000
_WATCHED: Final = _MOVED_FROM | _MOVED_TO | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_GONE: Final = _DELETE_SELF | _MOVE_SELF | _OVERFLOW | _IGNORED

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """Watches files in one directory until it is closed."""

    def __init__(self, directory: Path, names: frozenset[str], changed: Callable[[], None]) -> None:
        self._directory = os.fsencode(directory)
        self._names = {os.fsencode(name) for name in names}
        self._changed = changed
        """Called on the event loop when a file may have been removed or replaced."""
        self._loop = asyncio.get_running_loop()
        self._handle = -1
        self._watch = -1

    def begin(self) -> None:
        """Watch the directory; call it again after the directory was recreated. Never raises."""
        if self._handle < 0:
            self._handle = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._handle < 0:
                _log.warning("the state directory is not watched", error=_error())
                return
            self._loop.add_reader(self._handle, self._read)
        self._watch = _libc.inotify_add_watch(self._handle, self._directory, _WATCHED)
        if self._watch < 0:
            _log.warning("the state directory is not watched", error=_error())

    def close(self) -> None:
        """Stop watching; idempotent."""
        if self._handle >= 0:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1

    def _read(self) -> None:
        try:
            raw = os.read(self._handle, _READ_BYTES)
        except OSError:
            return
        if any(self._is_told(*event) for event in _events(raw)):
            self._changed()

    def _is_told(self, watch: int, mask: int, name: bytes) -> bool:
        if mask & _GONE:
            # Only of the current directory: events of the previous one still arrive, too.
            return watch in (self._watch, -1)
        # The agent itself replaces the mirror each time a value changes.
        is_own = mask & _MOVED_TO and name.endswith(b".identity")
        return name in self._names and not is_own


def _events(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _EVENT.size <= len(raw):
        watch, mask, _, size = _EVENT.unpack_from(raw, at)
        at += _EVENT.size
        yield watch, mask, raw[at : at + size].rstrip(b"\0")
        at += size


def _error() -> str:
    return os.strerror(ctypes.get_errno())
