"""Waits for the container engine at the start.

Tests: ``tests/integration/e2e/test_engine_restart.py``.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from agent.errors import RuntimeFailure

if TYPE_CHECKING:
    from agent.overview import Overview
    from agent.runtime.protocol import ContainerEngine, EngineInfo
    from agent.supervision.lifecycle import ServeSession
    from agent.supervision.watchdog import Watchdog

ENGINE_RETRY_S = (0.25, 15.0)
"""First and longest wait between two tries to reach the engine."""

_log = structlog.get_logger(__name__)


async def reach_engine(
    runtime: ContainerEngine, overview: Overview, serve_session: ServeSession, watchdog: Watchdog
) -> EngineInfo:
    """Return once the engine has answered; until then the agent shows what it waits for."""
    wait_s, longest_s = ENGINE_RETRY_S
    while True:
        try:
            info = await runtime.connect()
        except RuntimeFailure as error:
            overview.wait_for(
                f"waiting for the container engine: {error}; start it "
                "('systemctl start docker') or set DOCKER_HOST"
            )
            _log.warning("waiting for the container engine", error=str(error))
            watchdog.report()
            serve_session.ready()
            await asyncio.sleep(wait_s * random.uniform(1.0, 1.2))  # noqa: S311 - spreads retries
            wait_s = min(longest_s, wait_s * 2)
        else:
            overview.engine_answered(info.version)
            return info
