"""The parts of the host's network that all sandboxes share: bridge, forwarding and firewall.

``ensure`` makes them, ``repair`` finds out cheaply whether somebody changed them (a restarted
Docker, ``nft flush ruleset``, a deleted bridge) and puts them right, ``remove`` takes them away.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from agent.errors import NetworkFailure
from agent.network import addresses, claims, firewall
from agent.network.settings import POOL_SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from concurrent.futures import Executor

    from agent.network.addresses import AddressPool
    from agent.network.lease import Lease
    from agent.network.links import HostLinks
    from agent.network.settings import NetworkSettings

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Shape(NamedTuple):
    """What the bridge and the rules must know of."""

    bridge_addresses: frozenset[str]
    pools: frozenset[str]


def shape_of(pool: AddressPool, leases: Iterable[Lease]) -> Shape:
    """Return the shape for the pool of today and for tasks with addresses of an earlier one."""
    gateways = {f"{pool.gateway}/{pool.prefix_len}"}
    gateways.update(f"{lease.gateway}/{lease.prefix_len}" for lease in leases)
    pools = {str(IPv4Interface(gateway).network) for gateway in gateways}
    return Shape(frozenset(gateways), frozenset(pools))


class HostNetwork:
    """Bridge and rules of one agent. Its calls wait for each other."""

    def __init__(
        self,
        *,
        links: HostLinks,
        rules: firewall.Firewall,
        pool: AddressPool,
        settings: NetworkSettings,
        files: Executor,
    ) -> None:
        self._links = links
        self._rules = rules
        self._pool = pool
        self._settings = settings
        self._files = files
        self._lock = asyncio.Lock()
        self._seen: tuple[Shape, int] | None = None
        self._legacy_tables = False

    async def check_pool(self) -> None:
        """Refuse a pool that the host uses otherwise.

        Raises:
            NetworkFailure: names the setting and what claims its addresses.
        """
        found = claims.clash(self._pool.network, self._settings.bridge, await self._links.routes())
        if found is not None:
            raise NetworkFailure(
                f"{POOL_SETTING}={self._pool.network} overlaps {found.network} of this host "
                f"({found.interface or 'no interface'}); choose a network that nothing else uses"
            )

    async def ensure(self, leases: Collection[Lease], mtu: int) -> None:
        """Make bridge, forwarding and rules, or bring them into shape.

        Raises:
            NetworkFailure: the kernel or ``nft`` refused; the next call tries again.
        """
        shape = shape_of(self._pool, leases)
        async with self._lock:
            await self._bridge(shape, mtu)
            await self._block(self._rules.ensure, shape.pools)
            self._legacy_tables = await self._block(firewall.has_legacy_tables)
            await self._remember(shape)

    async def repair(self, leases: Collection[Lease], mtu: int) -> list[Lease]:
        """Put right what changed since the last look; returns the leases whose link is gone.

        Args:
            leases: sandboxes that are alive and not about to be removed.
            mtu: of the bridge, if it has to be made anew.
        """
        shape = shape_of(self._pool, leases)
        async with self._lock:
            await self._bridge(shape, mtu)
            if await self._rules_may_have_changed(shape):
                if not await self._block(self._rules.is_intact, shape.pools):
                    _log.warning("forwarding or firewall rules changed by others; put right")
                    await self._block(self._rules.ensure, shape.pools)
                await self._remember(shape)
            ports = await self._block(self.ports)
            missing = [lease for lease in leases if lease.host_interface not in ports]
            if not missing:
                return []
            existing = await self._links.links()
            loose = [lease for lease in missing if lease.host_interface in existing]
            if loose:
                _log.warning("links were off the bridge; put back", count=len(loose))
                await self._links.enslave(lease.host_interface for lease in loose)
            return [lease for lease in missing if lease.host_interface not in existing]

    def ports(self) -> frozenset[str]:
        """Return the names of the links on our bridge. Blocks on ``/sys``."""
        directory = Path("/sys/class/net") / self._settings.bridge / "brif"
        try:
            return frozenset(entry.name for entry in directory.iterdir())
        except OSError:
            return frozenset()

    async def remove(self) -> None:
        """Remove bridge and rules; what is gone already is success."""
        async with self._lock:
            self._seen = None
            await self._block(self._rules.remove)
            await self._links.delete(self._settings.bridge)

    async def _bridge(self, shape: Shape, mtu: int) -> None:
        mac = addresses.mac_of(self._pool.gateway)
        await self._links.ensure_bridge(shape.bridge_addresses, mac, mtu)

    async def _rules_may_have_changed(self, shape: Shape) -> bool:
        if self._legacy_tables or self._seen is None:
            return True
        # The switch has no generation: whoever runs sysctl changes it without a trace.
        if not await self._block(firewall.forwards):
            return True
        return self._seen != (shape, await self._block(firewall.generation))

    async def _remember(self, shape: Shape) -> None:
        number = await self._block(firewall.generation)
        self._seen = None if number is None else (shape, number)

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        """Run blocking work; ends with it also when cancelled.

        The thread cannot be stopped, and whoever has the lock next, for example to remove it all,
        must not meet it.
        """
        job = asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            if not job.cancelled():
                job.exception()  # nobody is left to be told
            raise
