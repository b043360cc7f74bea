"""What an agent that ends removes from the host, so that one that was stopped for good leaves nothing behind.

Tests: ``tests/integration/supervision/test_reload.py``, ``tests/integration/e2e``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.errors import AgentError
from agent.network.container_sandboxes.sandboxes import CREATION_LIMIT_S
from agent.wiring.host import network_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Settings
    from agent.network.container_sandboxes.sandboxes import ContainerSandboxes
    from agent.network.pool import TaskNetworks
    from agent.supervision.lifecycle import ServeSession

LEAVE_LIMIT_S = 10.0
"""How long the end of the agent waits for a hanging engine."""

_log = structlog.get_logger(__name__)


async def leave_no_spare(
    networks: TaskNetworks,
    settings: Settings,
    serve_session: ServeSession,
    is_needed: Callable[[], bool],
) -> None:
    """Remove bridge, rules, address and spare sandboxes when the agent stops and no task needs them.

    Tasks in every mode but ``none`` do: what they send to the agent's address must not leave the host.

    Settings that follow with the same networks take them over as they are.
    """
    follower = serve_session.successor
    now = network_settings(settings, "", "")
    kept = follower is not None and network_settings(follower, "", "") == now
    try:
        if not kept and not networks.networks() and not is_needed():
            async with asyncio.timeout(LEAVE_LIMIT_S):
                await networks.remove_host_objects()
    except (AgentError, TimeoutError) as error:
        _log.warning(
            "network left in place; the next start cleans it up",
            error=str(error) or f"not removed within {LEAVE_LIMIT_S:g} s",
        )
    await networks.close()


async def leave_no_ready(
    sandboxes: ContainerSandboxes, settings: Settings, serve_session: ServeSession
) -> None:
    """Remove ready sandboxes of containers when the agent stops and no container holds one.

    Settings that follow and want as many, with such ports, take them over as they are.
    """
    follower = serve_session.successor
    kept = follower is not None and (
        follower.warm_sandboxes,
        follower.dynamic_host_port_range,
    ) == (settings.warm_sandboxes, settings.dynamic_host_port_range)
    try:
        if not kept and not sandboxes.held:
            async with asyncio.timeout(LEAVE_LIMIT_S):
                await sandboxes.remove_ready()
        await sandboxes.finish(CREATION_LIMIT_S)
    except (AgentError, TimeoutError) as error:
        text = str(error) or f"not removed within {LEAVE_LIMIT_S:g} s"
        _log.warning("sandboxes left; the next start takes them over", error=text)
    sandboxes.close()
