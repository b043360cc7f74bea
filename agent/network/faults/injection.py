"""Starts, stops and reads faults in the namespace of a task or of the host.

Calls for one namespace run one at a time, reads side by side. A start that fails undoes what it did.
Faults in the host's namespace concern the whole host, as on Amazon ECS; those of a task in ``host``
mode are removed when it has stopped.

Tests: ``tests/integration/network/test_faults.py``, ``tests/vm/test_kernel_networks.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from agent.errors import NetworkFailure
from agent.network.bridge.links import TASK_INTERFACE
from agent.network.faults import queues, rules
from agent.network.kernel import namespaces, nft

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Executor

    from agent.network.faults.fault import Blackhole, Impairment, Kind

T = TypeVar("T")

TABLE_SUFFIX: Final = "_faults"
_UNREACHABLE: Final = {"lo", ""}


class FaultPlace(NamedTuple):
    """Where a fault is: the namespace of a process, or that of the host."""

    sandbox_pid: int = 0
    """Pause process of the task; 0 for the host's namespace."""


class AlreadyRunning(NetworkFailure):
    """Another fault with ``netem`` is running in the namespace."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(f"{kind.value} is running")
        self.kind = kind


class NoInterface(NetworkFailure):
    """The namespace has no interface by which packets leave."""


class Faults:
    """The faults of one host. Belongs to one event loop."""

    def __init__(self, table: str, files: Executor | None = None) -> None:
        """Take the name of the agent's table; that of faults is made of it.

        Args:
            table: ``ECS_FIREWALL_TABLE``.
            files: runs what blocks; the loop's own executor if None.
        """
        self._table = f"{table}{TABLE_SUFFIX}"
        self._files = files
        self._locks: dict[int, asyncio.Lock] = {}

    async def start_blackhole(self, place: FaultPlace, fault: Blackhole) -> None:
        """Drop packets to a port; nothing changes if the fault is running.

        Raises:
            NetworkFailure: the task has ended, or the kernel refused.
        """
        async with self._changing(place) as netns:
            if fault.name not in rules.chains(await self._listed(netns)):
                await self._apply(netns, rules.blackhole(self._table, fault))

    async def stop_blackhole(self, place: FaultPlace, name: str) -> None:
        """End a black hole by its name. Idempotent; raises ``NetworkFailure``."""
        async with self._changing(place) as netns:
            await self._remove(netns, name)

    async def has_blackhole(self, place: FaultPlace, name: str) -> bool:
        """Return whether a black hole is running; raises ``NetworkFailure``."""
        async with self._inside(place) as netns:
            return name in rules.chains(await self._listed(netns))

    async def start_impairment(self, place: FaultPlace, fault: Impairment) -> None:
        """Delay or lose packets.

        Raises:
            AlreadyRunning: such a fault is running in the namespace.
            NoInterface: packets leave the namespace by no interface.
            NetworkFailure: the task has ended, or the kernel refused or lacks ``netem``.
        """
        async with self._changing(place) as netns:
            interfaces = await self._block(interfaces_of, netns, place)
            if not interfaces:
                raise NoInterface("the namespace has no interface by which packets leave")
            found = await self._running(netns, interfaces)
            if found is not None:
                raise AlreadyRunning(found)
            try:
                # The queues first: without them, the priority of packets has no effect.
                await queues.start(netns, interfaces, fault)
                await self._remove(netns, fault.kind.value)  # what a failed stop left
                await self._apply(netns, rules.impairment(self._table, fault))
            except BaseException:
                with contextlib.suppress(NetworkFailure):
                    await queues.stop(netns, interfaces)
                raise

    async def stop_impairment(self, place: FaultPlace, kind: Kind) -> None:
        """End a fault of this kind, and no other. Idempotent; raises ``NetworkFailure``."""
        async with self._changing(place) as netns:
            if rules.running(await self._listed(netns)) is not kind:
                return
            await queues.stop(netns, await self._block(interfaces_of, netns, place))
            await self._remove(netns, kind.value)

    async def impairment(self, place: FaultPlace) -> Kind | None:
        """Return which fault with ``netem`` is running; raises ``NetworkFailure``."""
        async with self._inside(place) as netns:
            return await self._running(netns, await self._block(interfaces_of, netns, place))

    async def remove_all(self, place: FaultPlace) -> None:
        """End every fault in a namespace. Idempotent; raises ``NetworkFailure``."""
        async with self._changing(place) as netns:
            listed = await self._listed(netns)
            if listed is None:
                return
            if rules.running(listed) is not None:
                await queues.stop(netns, await self._block(interfaces_of, netns, place))
            await self._block(self._there, netns, partial(nft.remove, rules.FAMILY, self._table))

    async def _running(self, netns: int, interfaces: list[int]) -> Kind | None:
        kind = rules.running(await self._listed(netns))
        return kind if kind is not None and await queues.impaired(netns, interfaces) else None

    async def _remove(self, netns: int, name: str) -> None:
        listed = await self._listed(netns)
        if listed is not None and name in rules.chains(listed):
            await self._apply(netns, rules.removal(self._table, name, listed))

    async def _listed(self, netns: int) -> list[dict[str, object]] | None:
        return await self._block(self._there, netns, partial(nft.listed, rules.FAMILY, self._table))

    async def _apply(self, netns: int, commands: list[dict[str, object]]) -> None:
        await self._block(self._there, netns, partial(nft.apply, commands))

    @staticmethod
    def _there(netns: int, work: Callable[[], T]) -> T:
        try:
            return namespaces.inside(netns, work)
        except OSError as error:
            raise NetworkFailure(f"a network namespace cannot be entered: {error}") from None

    @contextlib.asynccontextmanager
    async def _changing(self, place: FaultPlace) -> AsyncIterator[int]:
        lock = self._locks.setdefault(place.sandbox_pid, asyncio.Lock())
        try:
            async with lock, self._inside(place) as netns:
                yield netns
        finally:
            if not lock.locked() and self._locks.get(place.sandbox_pid) is lock:
                del self._locks[place.sandbox_pid]

    @contextlib.asynccontextmanager
    async def _inside(self, place: FaultPlace) -> AsyncIterator[int]:
        """Open the descriptor of the namespace, and close it at the end."""
        netns = await self._block(_open, place)
        try:
            yield netns
        finally:
            os.close(netns)

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._files, partial(work, *arguments))


def interfaces_of(netns: int, place: FaultPlace) -> list[int]:
    """Return the indices of the interfaces by which packets leave a namespace. Blocks.

    Of a task it is its ``eth0``; of the host, those with the default routes of IPv4 and IPv6.
    """
    return namespaces.inside(netns, _of_task if place.sandbox_pid else _of_default_routes)


def _of_task() -> list[int]:
    return [index for index, name in socket.if_nameindex() if name == TASK_INTERFACE]


def _of_default_routes() -> list[int]:
    names = _ipv4_defaults(_read("/proc/thread-self/net/route")) | _ipv6_defaults(
        _read("/proc/thread-self/net/ipv6_route")
    )
    return [index for index, name in socket.if_nameindex() if name in names - _UNREACHABLE]


def _ipv4_defaults(text: str) -> set[str]:
    """Return the links with the best default route, as a set of at most one name. Pure."""
    rows = [line.split() for line in text.splitlines()[1:]]
    best = [
        (int(row[6]), row[0]) for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"
    ]
    return {min(best)[1]} if best else set()


def _ipv6_defaults(text: str) -> set[str]:
    rows = [line.split() for line in text.splitlines()]
    best = [
        (int(row[5], 16), row[9])
        for row in rows
        if len(row) > 9 and row[0] == "0" * 32 and row[1] == "00" and row[9] not in _UNREACHABLE
    ]
    return {min(best)[1]} if best else set()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""


def _open(place: FaultPlace) -> int:
    if not place.sandbox_pid:
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    process = namespaces.identify(place.sandbox_pid)
    if process is None:
        raise NetworkFailure("the task's network sandbox has ended")
    return namespaces.open_netns(process)
