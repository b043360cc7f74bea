"""Amazon's protocol as a whole: agents' calls in ``POST /``, ``GET /acs/ws`` and ``GET /tcs/ws``.

Built by ``server`` next to the long poll's ``AgentWire``, with the same ``AgentParts``. Whatever an
agent does, its connection gets a response or is closed, and no other is affected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from agent.controlplane.agents.amazon.acs import Acs
from agent.controlplane.agents.amazon.calls import ACS_PATH, TCS_PATH, AgentCalls
from agent.controlplane.agents.amazon.signatures import Verifier
from agent.controlplane.agents.amazon.sockets import UpgradeCheck, UpgradeDenied
from agent.controlplane.agents.amazon.tcs import Tcs
from agent.throttle import LogThrottle

if TYPE_CHECKING:
    from aiohttp import web

    from agent.controlplane.agents.parts import AgentParts

_log = structlog.get_logger(__name__)


class EcsWire:
    """Serves Amazon's agents; one per control endpoint, for one event loop."""

    def __init__(self, agent_parts: AgentParts) -> None:
        verifier = Verifier(agent_parts.agent_tokens, clock=agent_parts.parts.clock)
        troubles = LogThrottle()
        self.calls = AgentCalls(agent_parts, verifier)
        self._entrance = UpgradeCheck(agent_parts, verifier)
        self._acs = Acs(agent_parts, troubles)
        self._tcs = Tcs(agent_parts, troubles)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add both websockets to an application."""
        router.add_get(f"{ACS_PATH}ws", self._acs_call)
        router.add_get(f"{TCS_PATH}ws", self._tcs_call)

    def close(self) -> None:
        """End all connections; the server stops."""
        self._acs.close()
        self._tcs.close()

    async def _acs_call(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self._acs, "clusterArn", "containerInstanceArn")

    async def _tcs_call(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self._tcs, "cluster", "containerInstance")

    async def _serve(
        self, request: web.Request, service: Acs | Tcs, cluster: str, instance: str
    ) -> web.StreamResponse:
        try:
            admitted = await self._entrance.admit(request, cluster=cluster, instance=instance)
        except UpgradeDenied as error:
            return error.response()
        try:
            return await service.serve(request, admitted)
        except Exception:
            # Unexpected; the connection is already closed, and the agent reconnects.
            _log.exception("connection of an agent failed", instance=admitted.instance.arn)
            raise
