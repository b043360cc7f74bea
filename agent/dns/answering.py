"""Begins to answer names when the first namespace exists, and stops when there is none left."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Self

import structlog
from msgspec import Struct
from msgspec.structs import replace

from agent.config.addresses import TASK_ADDRESS
from agent.dns import redirection
from agent.dns.server import NameServer
from agent.dns.zones import Zones
from agent.network.host.firewall import generation
from agent.network.names import resolvers

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.network.settings import NetworkSettings

_log = structlog.get_logger(__name__)


class Servers(Struct, frozen=True, kw_only=True):
    """The name servers that containers of a host ask, those to which IPv4 leads. Pure."""

    pool: IPv4Network | None
    """Network of the tasks on the task bridge."""
    given: tuple[str, ...]
    """For those tasks by the settings, in place of the servers of the host."""
    of_host: tuple[str, ...] = ()
    """The engine gives them to containers on its own bridge."""

    @classmethod
    def of(cls, settings: NetworkSettings) -> Self:
        """Return what the settings say."""
        pool = IPv4Network(settings.pool_cidr) if settings.pool_cidr else None
        return cls(pool=pool, given=resolvers.reachable(settings.dns_servers))

    def on(self, host: resolvers.Resolvers) -> Self:
        """Return the same with the servers of a host."""
        return replace(self, of_host=host.servers)

    @property
    def all(self) -> tuple[str, ...]:
        """The servers of all containers."""
        return tuple(dict.fromkeys((*self.given, *self.of_host)))

    def of_peer(self, peer: str) -> list[tuple[str, int]]:
        """Return where to pass on what the container with an address asks, in this order."""
        is_task = self.pool is not None and IPv4Address(peer) in self.pool
        chosen = (self.given if is_task else ()) or self.of_host
        return [(each, redirection.DNS_PORT) for each in chosen]


class Answering:
    """The answers of one host. Belongs to one event loop; one caller at a time."""

    def __init__(
        self, settings: NetworkSettings, table: str, namespace_of: Callable[[str], str]
    ) -> None:
        """Take the networks of tasks.

        Args:
            settings: of these networks.
            table: name of the table for the rule.
            namespace_of: gives the namespace of Service Connect of the task with an address; empty without.
        """
        self.zones = Zones()
        """Changed by whoever is told of names; ``settle`` follows if there are namespaces or none."""
        self._table = table
        self._namespace_of = namespace_of
        self._port = settings.server_port
        self._servers = Servers.of(settings)
        self._bridges = frozenset(
            link
            for link in (
                settings.engine_bridge,
                settings.bridge if settings.driver == "bridge" else "",
            )
            if link
        )
        self._lacks_servers = False
        self._server: NameServer | None = None
        self._seen: tuple[tuple[str, ...], int | None] | None = None
        """The name servers to which the rule applies, and the rules of the kernel as of then; None: no rule."""

    async def settle(self) -> None:
        """Bring server and rule to what the names want, whoever changed it; idempotent.

        Costs a request to the kernel and the host's list of name servers where nothing has changed.

        Raises:
            NetworkFailure: the rule was refused.
            OSError: the port is taken.
        """
        if not self.zones or not self._bridges:
            await self.close()
            return
        host, rules = await asyncio.to_thread(lambda: (resolvers.of_host(), generation()))
        self._servers = self._servers.on(host)
        servers = self._servers.all
        if not servers:
            if not self._lacks_servers:
                _log.warning("no name server that tasks can reach: names of tasks are not answered")
            self._lacks_servers = True
            await self.close()
            return
        self._lacks_servers = False
        if self._server is None:
            self._server = await NameServer.open(
                self.zones,
                self._servers.of_peer,
                self._namespace_of,
                host=TASK_ADDRESS,
                port=self._port,
            )
            _log.info("names of tasks are answered", name_servers=servers)
        self._server.servers_of = self._servers.of_peer
        if self._seen != (servers, rules) or rules is None:
            self._seen = servers, None  # from now on there may be a rule
            await asyncio.to_thread(
                redirection.ensure, self._table, self._bridges, servers, self._port
            )
            self._seen = servers, rules

    async def close(self) -> None:
        """Remove the rule, and then stop answering; may be repeated. Raises ``NetworkFailure``."""
        server, self._server = self._server, None
        try:
            if self._seen is not None:
                await asyncio.to_thread(redirection.remove, self._table)
                self._seen = None
        finally:
            if server is not None:
                await server.close()
