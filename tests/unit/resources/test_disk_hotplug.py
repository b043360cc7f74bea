"""Serial numbers of block devices, and news of them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.resources import disk_hotplug
from agent.resources.disk_hotplug import DiskHotplug, volume_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ADD = b"add@/devices/pci0/nvme1/nvme1n1\0ACTION=add\0SUBSYSTEM=block\0SEQNUM=7\0"
OTHER = b"add@/devices/virtual/net/veth1\0ACTION=add\0SUBSYSTEM=net\0SEQNUM=8\0"


@pytest.fixture
async def kernel(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[socket.socket]:
    """The kernel's end of the event socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    monkeypatch.setattr(disk_hotplug, "_listen", lambda: ours)
    yield theirs
    theirs.close()
    ours.close()


def device(sys_block: Path, name: str, serial: str, *, file: str = "device/serial") -> None:
    path = sys_block / name / file
    path.parent.mkdir(parents=True)
    path.write_text(serial)


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        ("vol0123456789abcdef0", "vol-0123456789abcdef0"),
        ("vol-0123456789abcdef0", "vol-0123456789abcdef0"),
        ("VOL0123456789ABCDEF0", "vol-0123456789abcdef0"),
        ("vol12345678", "vol-12345678"),
        ("AWS1A2B3C", "AWS1A2B3C"),
        ("volume", "volume"),
        ("vol", "vol"),
    ],
)
def test_the_serial_of_a_volume_is_its_id(serial: str, expected: str) -> None:
    assert volume_id(serial) == expected


@given(st.text())
def test_any_serial_becomes_some_key(serial: str) -> None:
    assert volume_id(volume_id(serial)) == volume_id(serial)


async def test_every_kind_of_device_is_listed(tmp_path: Path, kernel: socket.socket) -> None:
    del kernel
    device(tmp_path, "nvme0n1", "vol0aaaaaaaaaaaaaaaa   \n")
    device(tmp_path, "vda", "disk-7", file="serial")
    device(tmp_path, "sda", "")
    (tmp_path / "loop0").mkdir()
    device(tmp_path, "nvme9n1", "\udcff\0odd".encode(errors="surrogateescape").decode("latin-1"))
    disks = DiskHotplug(tmp_path)

    assert {"vol-0aaaaaaaaaaaaaaaa", "disk-7"} <= await disks.present()

    await disks.rest()


async def test_a_host_without_a_list_of_devices_is_an_error(
    tmp_path: Path, kernel: socket.socket
) -> None:
    del kernel
    disks = DiskHotplug(tmp_path / "absent")

    with pytest.raises(FileNotFoundError):
        await disks.present()

    await disks.rest()


async def test_only_block_devices_are_news(tmp_path: Path, kernel: socket.socket) -> None:
    disks = DiskHotplug(tmp_path)
    await disks.present()
    news = asyncio.create_task(disks.changed())
    kernel.send(OTHER)
    await asyncio.sleep(0.01)
    assert not news.done()

    kernel.send(ADD)

    await asyncio.wait_for(news, 1.0)
    await disks.rest()


async def test_what_came_while_the_list_was_read_is_news(
    tmp_path: Path, kernel: socket.socket
) -> None:
    disks = DiskHotplug(tmp_path)
    await disks.present()
    for _ in range(20):
        kernel.send(ADD)

    await asyncio.wait_for(disks.changed(), 1.0)

    with pytest.raises(TimeoutError):  # a burst is one piece of news
        await asyncio.wait_for(disks.changed(), 0.02)
    await disks.rest()


async def test_nothing_is_watched_before_a_list_or_after_the_rest(
    tmp_path: Path, kernel: socket.socket
) -> None:
    del kernel
    disks = DiskHotplug(tmp_path)
    with pytest.raises(OSError, match="not being watched"):
        await disks.changed()
    await disks.present()
    await disks.rest()
    await disks.rest()

    with pytest.raises(OSError, match="not being watched"):
        await disks.changed()


async def test_lost_events_are_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Overrun(socket.socket):
        def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
            del bufsize, flags
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    news = Overrun(socket.AF_UNIX, socket.SOCK_DGRAM)
    news.setblocking(False)
    monkeypatch.setattr(disk_hotplug, "_listen", lambda: news)
    disks = DiskHotplug(tmp_path)
    await disks.present()

    await asyncio.wait_for(disks.changed(), 1.0)

    await disks.rest()


async def test_a_broken_socket_is_told_of_and_replaced(
    tmp_path: Path, kernel: socket.socket
) -> None:
    del kernel
    disks = DiskHotplug(tmp_path)
    await disks.present()
    assert disks._news is not None
    disks._news.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        await disks.changed()

    assert disks._news is None


async def test_a_device_that_hangs_holds_one_thread(
    tmp_path: Path, kernel: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    del kernel
    going_on, readers = threading.Event(), []

    def hang(sys_block: Path) -> frozenset[str]:
        del sys_block
        readers.append(threading.get_ident())
        going_on.wait(5)
        return frozenset({"found"})

    monkeypatch.setattr(disk_hotplug, "_serials", hang)
    disks = DiskHotplug(tmp_path)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(disks.present(), 0.02)
    assert len(readers) == 1

    going_on.set()

    assert await disks.present() == {"found"}
    assert len(readers) == 2
    await disks.rest()
