"""Detects attached block devices: their serial numbers, and the kernel's events about them.

Reads ``/sys/block`` in one thread, and a kernel event socket. ``present`` opens the socket and
``rest`` closes it, so that nothing runs while no volume is expected. A device whose serial number
cannot be read counts as having none. A device that hangs blocks one thread, never the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
from pathlib import Path
from typing import Final

SYS_BLOCK: Final = Path("/sys/block")

_SERIAL_FILES: Final = ("device/serial", "serial")
"""For NVMe devices, such as EBS volumes, and for virtio devices."""
_SERIAL_BYTES: Final = 256
_VOLUME: Final = re.compile(r"vol-?([0-9a-f]{8,32})", re.IGNORECASE)
_KERNEL_EVENTS: Final = 15
"""``NETLINK_KOBJECT_UEVENT``."""
_KERNEL_GROUP: Final = 1
"""Events from the kernel; group 2 is for udev's events."""
_DATAGRAM: Final = 65_536
_AT_ONCE: Final = 1000
"""Largest number of datagrams to read together; the rest stays for the next call."""


class DiskHotplug:
    """Serial numbers of the host's block devices; for an EBS volume, its id (``vol-...``).

    Implements ``upstream.protocol.Hotplug``, for one task on one event loop.
    """

    def __init__(self, sys_block: Path = SYS_BLOCK) -> None:
        self._sys_block = sys_block
        self._news: socket.socket | None = None
        self._reading: asyncio.Future[frozenset[str]] | None = None

    async def present(self) -> frozenset[str]:
        """Return the serial numbers of the present devices; idempotent.

        If a caller is cancelled, its read continues in the thread, and the next call waits for it.

        Raises:
            OSError: the kernel provides no event socket, or the devices cannot be listed.
        """
        if self._news is None:
            # Opened before the devices are listed, so that later devices cause an event.
            self._news = _listen()
        while self._reading is not None and not self._reading.done():
            # A cancelled call started this read, maybe before the newest device came.
            await asyncio.wait([self._reading])
        self._reading = asyncio.ensure_future(asyncio.to_thread(_serials, self._sys_block))
        self._reading.add_done_callback(_seen)
        return await asyncio.shield(self._reading)

    async def changed(self) -> None:
        """Return when a block device was added, removed or changed since ``present`` was called.

        Raises:
            OSError: ``present`` was not called, or the socket failed; the next ``present`` opens a
                new one.
        """
        if self._news is None:
            raise OSError(errno.EBADF, "block devices are not being watched")
        try:
            await _read(self._news)
        except OSError as error:
            # An overrun lost events, so something changed.
            if error.errno != errno.ENOBUFS:
                await self.rest()
                raise

    async def rest(self) -> None:
        """Stop watching and close the socket; idempotent."""
        if self._news is not None:
            self._news.close()
            self._news = None


def volume_id(serial: str) -> str:
    """Return a serial number in control's form: EBS ids get their dash back."""
    volume = _VOLUME.fullmatch(serial)
    return f"vol-{volume[1].lower()}" if volume else serial


def _serials(sys_block: Path) -> frozenset[str]:
    found = set()
    for device in sys_block.iterdir():
        for name in _SERIAL_FILES:
            serial = _serial(device / name)
            if serial:
                found.add(volume_id(serial))
                break
    return frozenset(found)


def _serial(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_SERIAL_BYTES).decode(errors="replace").strip("\0 \t\n")
    except OSError:
        return ""


async def _read(news: socket.socket) -> None:
    """Return when the kernel reports a block device, after reading all waiting events."""
    loop = asyncio.get_running_loop()
    concerns = False
    while not concerns:
        concerns = _is_of_block(await loop.sock_recv(news, _DATAGRAM))
    with contextlib.suppress(BlockingIOError):
        for _ in range(_AT_ONCE):
            news.recv(_DATAGRAM)


def _is_of_block(event: bytes) -> bool:
    return b"\0SUBSYSTEM=block\0" in event + b"\0"


def _seen(reading: asyncio.Future[frozenset[str]]) -> None:
    """Retrieve the exception of a read whose caller may be gone."""
    if not reading.cancelled():
        reading.exception()


def _listen() -> socket.socket:
    news = socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
        _KERNEL_EVENTS,
    )
    try:
        news.bind((0, _KERNEL_GROUP))
    except OSError:
        news.close()
        raise
    return news
