"""Watches a directory with inotify: entries added or removed, or the directory itself removed; also writes.

Python has no inotify module, so the C library is called. Source: inotify(7).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_MODIFY: Final = 0x2
_DELETE_SELF, _MOVE_SELF, _ONLY_DIRECTORIES = 0x400, 0x800, 0x1000000
_MASK: Final = (
    _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORIES
)
_READ_BYTES: Final = 65_536


class DirectoryWatch:
    """Reports when entries of one directory were added or removed. Belongs to one event loop.

    If ``writes``, also when one of its files was written.

    A directory that is removed and created again is a new one: call ``watch`` again.
    """

    def __init__(self, *, writes: bool = False) -> None:
        """Open an inotify instance.

        Raises:
            OSError: the kernel returns no more of them (``fs.inotify.max_user_instances``).
        """
        self._mask = _MASK | (_MODIFY if writes else 0)
        self._libc = ctypes.CDLL(None, use_errno=True)
        descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            raise _error("inotify")
        self._descriptor = descriptor
        self._watching = -1
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    def watch(self, directory: Path) -> None:
        """Watch this directory instead of the previous one; idempotent.

        Raises:
            OSError: there is no such directory.
        """
        path = os.fsencode(directory)
        watching = self._libc.inotify_add_watch(self._descriptor, path, self._mask)
        if watching < 0:
            raise _error(str(directory))
        if self._watching not in (-1, watching):
            self._libc.inotify_rm_watch(self._descriptor, self._watching)  # usually already gone
        self._watching = watching

    async def changed(self) -> None:
        """Return when something has changed since the last call."""
        await self._news.wait()
        self._news.clear()

    def close(self) -> None:
        """Close it; idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _read(self) -> None:
        # Only the fact of an event matters, not its content or time.
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, _READ_BYTES):
                self._news.set()


def _error(subject: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), subject)
