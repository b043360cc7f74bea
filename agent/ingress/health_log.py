"""The socket to which HAProxy sends a line whenever the health of a server changes.

The lines only say that there is something to read: what it is comes from the statistics.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

_LINE_BYTES = 4096
_AT_ONCE = 256


class HealthLog:
    """Sets an event for each burst of lines; for one event loop."""

    def __init__(self, wire: socket.socket, told: asyncio.Event) -> None:
        self._wire = wire
        self._told = told

    @classmethod
    async def open(cls, path: Path, told: asyncio.Event) -> Self:
        """Listen at a path, instead of whoever did before; raises ``OSError``."""
        opened = cls(await asyncio.to_thread(_bound, path), told)
        asyncio.get_running_loop().add_reader(opened._wire, opened._read)
        return opened

    def close(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self._wire)
        self._wire.close()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                self._wire.recv(_LINE_BYTES)
        self._told.set()


def _bound(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    wire.setblocking(False)
    try:
        wire.bind(str(path))
        path.chmod(0o666)  # HAProxy's workers may run as another user
    except OSError:
        wire.close()
        raise
    return wire
