"""ENIs of sandboxes: brought in when their device is on the host, and given back at the end.

Holds a descriptor of each sandbox's namespace. With it, a device can be fetched from a sandbox whose
processes have all ended; without it, the kernel would return a physical device to the host by
itself, under a name of its own, and remove any other.

Tests: ``tests/integration/network/test_eni.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from agent.errors import NetworkFailure
from agent.network.eni import placing
from agent.network.kernel import namespaces
from agent.network.kernel.link_hotplug import LinkNews

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from agent.model.eni import TaskEni
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.settings import NetworkSettings

T = TypeVar("T")

ARRIVAL_LIMIT_S: Final = 30.0
"""How long to wait for a device: Amazon ECS attaches it before, or shortly after, it sends the task."""
_LOOK_S: Final = 5.0
"""Interval of looks besides those at events, which may be lost."""
_IPV6_SWITCHES: Final = ("all", "default")

_log = structlog.get_logger(__name__)


class EniPlacement:
    """Places ENIs and takes them back. Belongs to one event loop; one call per sandbox at a time."""

    def __init__(self, lane: NetlinkLane, settings: NetworkSettings, files: Executor) -> None:
        self._lane = lane
        self._settings = settings
        self._files = files
        self._namespaces: dict[str, int] = {}
        """Descriptors by address of the sandbox."""

    async def hold(self, record: SandboxRecord) -> int:
        """Keep a sandbox's namespace until ``give_back`` or ``close``; return its descriptor.

        Raises:
            NetworkFailure: the pause process has ended.
        """
        held = self._namespaces.get(record.ipv4)
        if held is None:
            held = await self._block(namespaces.open_netns, record.process)
            self._namespaces[record.ipv4] = held
        return held

    async def place(self, record: SandboxRecord, eni: TaskEni) -> None:
        """Bring an ENI into its sandbox, waiting until its device is on the host. Idempotent.

        Raises:
            NetworkFailure: the device did not appear in time, the kernel refused, or the sandbox
                has died.
        """
        netns = await self.hold(record)
        if eni.ipv6:
            await self._block(namespaces.inside, netns, _allow_ipv6)
        try:
            await self._place(netns, eni)
        except placing.EniAbsent:
            _log.info("waiting for an interface", mac=eni.mac, task=record.task_arn)
            await self._place_on_arrival(netns, eni)

    async def _place(self, netns: int, eni: TaskEni) -> None:
        async def work(_host: Any) -> None:
            async with placing.sockets(netns) as (host, task):
                await placing.place(
                    host,
                    task,
                    netns,
                    eni,
                    blocked=self._settings.blocked_addresses,
                    mtu=self._settings.mtu,
                )

        await self._lane.call(work)

    async def _place_on_arrival(self, netns: int, eni: TaskEni) -> None:
        with contextlib.closing(LinkNews()) as news:
            try:
                async with asyncio.timeout(ARRIVAL_LIMIT_S):
                    while True:
                        # First a try: it may have come before the news were subscribed to.
                        with contextlib.suppress(placing.EniAbsent):
                            return await self._place(netns, eni)
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(news.changed(), _LOOK_S)
            except TimeoutError:
                raise NetworkFailure(
                    f"interface {eni.eni_id} ({eni.trunk_mac or eni.mac}) did not appear on the "
                    f"host within {ARRIVAL_LIMIT_S:g} s; is it attached to this instance?"
                ) from None

    async def give_back(self, record: SandboxRecord, eni: TaskEni) -> None:
        """Return an ENI to the host. Idempotent; nothing to do if the namespace is gone.

        Raises:
            NetworkFailure: the kernel refused; call again.
        """
        try:
            netns = await self.hold(record)
        except NetworkFailure:
            return  # the kernel has returned the device by itself
        own = await self._block(placing.open_own_netns)
        try:

            async def work(_host: Any) -> bool:
                async with placing.sockets(netns) as (host, task):
                    return await placing.take_back(host, task, own, eni)

            returned = await self._lane.call(work)
        finally:
            os.close(own)
        self._drop(record.ipv4)
        if returned:
            _log.info("interface returned", mac=eni.mac, task=record.task_arn)

    async def serves(self, record: SandboxRecord, eni: TaskEni) -> bool:
        """Return whether a sandbox has its ENI as ordered.

        Raises:
            NetworkFailure: the sandbox has died, or the kernel refused.
        """
        netns = await self.hold(record)

        async def work(_host: Any) -> bool:
            async with placing.sockets(netns) as (_, task):
                return await placing.serves(task, eni)

        return await self._lane.call(work)

    def close(self) -> None:
        """Close all descriptors; the ENIs stay where they are. Idempotent."""
        for ipv4 in list(self._namespaces):
            self._drop(ipv4)

    def _drop(self, ipv4: str) -> None:
        descriptor = self._namespaces.pop(ipv4, None)
        if descriptor is not None:
            os.close(descriptor)

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)


def _allow_ipv6() -> None:
    """Turn IPv6 on in the namespace of this thread: the engine may have turned it off."""
    for name in _IPV6_SWITCHES:
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0", encoding="ascii")
