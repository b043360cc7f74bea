"""How full the disk of the engine is: watermarks, and readings of the file system.

Tests: ``tests/unit/images/test_disk.py``.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

READ_LIMIT_S: Final = 5.0


class Watermarks(Struct, frozen=True, kw_only=True):
    """Percentages of a disk. Above ``high``, room is made until no more than ``low`` is used."""

    high: float = 85.0
    """100 makes no room."""
    low: float = 80.0


class DiskUse(Struct, frozen=True, kw_only=True):
    """How full a disk is, as ``df`` shows it."""

    path: str
    used_percent: float
    free_bytes: int


def read_use(path: Path) -> DiskUse | None:
    """Read one file system; None if it cannot be read. Blocks."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    used = found.f_blocks - found.f_bfree
    usable = used + found.f_bavail
    return DiskUse(
        path=str(path),
        used_percent=100.0 * used / usable if usable else 0.0,
        free_bytes=found.f_bavail * found.f_frsize,
    )


class EngineDisk:
    """The file systems with the engine's data; the fullest one counts. Belongs to one event loop."""

    def __init__(
        self, paths: Sequence[Path], *, read: Callable[[Path], DiskUse | None] = read_use
    ) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._reading: asyncio.Task[DiskUse | None] | None = None
        self.newest: DiskUse | None = None
        """The last reading; None before the first, or if the disk does not answer."""

    async def measure(self) -> DiskUse | None:
        """Read the disk; None if it cannot be read in time. A reading that hangs is not repeated."""
        if self._reading is None or self._reading.done():
            work = asyncio.to_thread(self._fullest)
            self._reading = asyncio.create_task(work, name="disk of the engine")
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                self.newest = await asyncio.shield(self._reading)
        except TimeoutError:
            self.newest = None
        return self.newest

    def _fullest(self) -> DiskUse | None:
        found = [use for use in map(self._read, self._paths) if use is not None]
        return max(found, key=lambda use: use.used_percent, default=None)
