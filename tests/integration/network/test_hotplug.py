"""Links and disks as the kernel announces them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import NetworkFailure
from agent.network.kernel.link_hotplug import LinkHotplug
from agent.resources.disk_hotplug import DiskHotplug

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration

LINK, PEER = "ecst-arr0", "ecst-arr1"
MAC = "02:ec:57:00:00:01"


def sh(*command: str, given: str = "", check: bool = True) -> None:
    subprocess.run(command, input=given.encode(), check=check, capture_output=True, timeout=30)


def ip(*arguments: str, check: bool = True) -> None:
    sh("ip", *arguments, check=check)


@pytest.fixture
async def links(leak_check: None) -> AsyncIterator[LinkHotplug]:
    """Links that are watched until the end of the test; the link of the test goes with it."""
    del leak_check
    made = LinkHotplug()
    yield made
    await made.rest()
    ip("link", "delete", LINK, check=False)


async def come(links: LinkHotplug) -> frozenset[str]:
    """Return the addresses once the link of the test is among them."""
    async with asyncio.timeout(5):
        while MAC not in (there := await links.present()):
            await links.changed()
    return there


async def test_a_link_is_seen_when_it_comes_and_when_it_goes(links: LinkHotplug) -> None:
    before = await links.present()
    assert before
    assert "00:00:00:00:00:00" not in before
    seen = asyncio.create_task(come(links))
    await asyncio.sleep(0.05)

    ip("link", "add", LINK, "address", MAC.upper(), "type", "veth", "peer", "name", PEER)

    assert MAC in await seen
    ip("link", "delete", LINK)
    async with asyncio.timeout(5):
        while MAC in await links.present():
            await links.changed()


async def test_a_link_that_came_while_the_list_was_read_is_news(links: LinkHotplug) -> None:
    await links.present()
    ip("link", "add", LINK, "address", MAC, "type", "veth", "peer", "name", PEER)

    async with asyncio.timeout(5):
        await links.changed()

    assert MAC in await links.present()


async def test_more_news_than_the_socket_holds_is_news(links: LinkHotplug) -> None:
    ip("link", "add", LINK, "address", MAC, "type", "veth", "peer", "name", PEER)
    await links.present()
    switches = "\n".join(f"link set {LINK} mtu {1000 + index % 400}" for index in range(1500))
    sh("ip", "-batch", "-", given=switches)

    async with asyncio.timeout(5):
        await links.changed()

    assert MAC in await links.present()


async def test_after_a_failure_it_begins_anew(links: LinkHotplug) -> None:
    before = await links.present()
    assert links._news is not None
    links._news.close()
    with pytest.raises(NetworkFailure, match="no link events from the kernel"):
        await links.changed()
    assert await links.present() >= before
    lane = links._lane
    assert lane is not None
    lane._inside.end()  # as if its thread had ended by itself
    await asyncio.to_thread(lane._thread.join, 5)
    with pytest.raises(NetworkFailure, match="not running"):
        await links.present()

    assert await links.present() >= before


async def test_nothing_is_held_open_after_the_rest() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    links = LinkHotplug()
    with pytest.raises(NetworkFailure, match="not being watched"):
        await links.changed()
    await links.present()
    waiting = asyncio.create_task(links.changed())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError, NetworkFailure):
        await waiting

    await links.rest()
    await links.rest()

    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert await links.present()  # and it begins anew
    await links.rest()


async def test_the_kernels_event_of_a_block_device_is_news() -> None:
    device = next(Path("/sys/block").glob("loop*"), None)
    if device is None:
        pytest.skip("no loop device on this host")
    disks = DiskHotplug()
    await disks.present()
    news = asyncio.create_task(disks.changed())
    await asyncio.sleep(0.01)

    # The kernel sends the event again, as if the device had changed; nothing of it changes.
    sh("tee", str(device / "uevent"), given="change")

    await asyncio.wait_for(news, 5.0)
    await disks.rest()
