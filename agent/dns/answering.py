"""Begins to answer names when there are namespaces, and ends when there are none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.config.addresses import TASK_ADDRESS
from agent.dns import redirection
from agent.dns.server import NameServer
from agent.dns.zones import Zones
from agent.network.names import resolvers

if TYPE_CHECKING:
    from agent.network.settings import NetworkSettings

_log = structlog.get_logger(__name__)


class Answering:
    """The answers of one host. Belongs to one event loop; one caller at a time."""

    def __init__(self, settings: NetworkSettings, table: str) -> None:
        """Take the networks of tasks, and the name of the table for the rule."""
        self.zones = Zones()
        """Changed by whoever is told of names; ``settle`` follows if there are namespaces or none."""
        self._table = table
        self._port = settings.server_port
        self._given = settings.dns_servers
        self._bridges = frozenset(
            link
            for link in (
                settings.engine_bridge,
                settings.bridge if settings.driver == "bridge" else "",
            )
            if link
        )
        self._server: NameServer | None = None
        self._led: tuple[str, ...] = ()
        """The name servers to which the rule applies."""

    async def settle(self) -> None:
        """Bring server and rule to what the names want; idempotent.

        Raises:
            NetworkFailure: the rule was refused.
            OSError: the port is taken.
        """
        if not self.zones:
            await self.close()
            return
        servers = await asyncio.to_thread(self._servers)
        if not servers:
            _log.warning("no name server that tasks can reach: names of tasks are not answered")
            await self.close()
            return
        if self._server is None:
            self._server = await NameServer.open(self.zones, (), host=TASK_ADDRESS, port=self._port)
            _log.info("names of tasks are answered", name_servers=servers)
        self._server.servers = tuple((server, redirection.DNS_PORT) for server in servers)
        if servers != self._led:
            self._led = ()
            await asyncio.to_thread(
                redirection.lead, self._table, self._bridges, servers, self._port
            )
            self._led = servers

    def _servers(self) -> tuple[str, ...]:
        """Return the name servers of tasks, those to which IPv4 leads. Blocks on the disk."""
        return resolvers.reachable(self._given or resolvers.of_host().servers)

    async def close(self) -> None:
        """Remove the rule, and then stop answering; may be repeated. Raises ``NetworkFailure``."""
        server, self._server = self._server, None
        led, self._led = self._led, ()
        try:
            if led:
                await asyncio.to_thread(redirection.remove, self._table)
        finally:
            if server is not None:
                await server.close()
