"""Reconnects containers that somebody disconnected from their network, or says why it cannot.

When the engine reconnects a container, it gets a new address; its ports are published as before.
Legacy links contain the address that a container had when the other one was started, so a task with
links has to stop.

Tests: ``tests/unit/engine/test_steps.py``, ``tests/unit/engine/test_engine_disconnected.py``.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import structlog

from agent.errors import EngineRefused
from agent.model.views import RepairView

if TYPE_CHECKING:
    from agent.model.payload import TaskPayload
    from agent.runtime.protocol import ContainerEngine, ContainerState

_REMEMBERED = 20

_log = structlog.get_logger()


class NetworkReconnect:
    """Reconnects containers. Idempotent and safe for concurrent use."""

    def __init__(self, runtime: ContainerEngine) -> None:
        self.repairs: deque[RepairView] = deque(maxlen=_REMEMBERED)
        """The newest repairs, oldest first."""
        self._runtime = runtime

    async def reconnect(self, payload: TaskPayload, name: str, seen: ContainerState) -> str:
        """Reconnect a running container to the network ``seen.cut_off_from``.

        Returns:
            An empty string if it is connected (again), else the reason for the task's stop.

        Raises:
            RuntimeFailure: the engine did not answer; call again.
        """
        network = seen.cut_off_from
        if _is_linked(payload, name):
            return _lost(name, network, "links between containers would hold its old address")
        try:
            await self._runtime.connect_network(network, seen.id)
        except EngineRefused as error:
            return _lost(name, network, str(error))
        found = f"container {seen.name} was disconnected from network {network}"
        self.repairs.append(RepairView(at=time.time(), found=found))
        _log.warning(
            "a container was disconnected from its network; reconnected it",
            container=seen.name,
            network=network,
        )
        return ""


def _is_linked(payload: TaskPayload, name: str) -> bool:
    own = payload.container(name)
    linked_to = {link.partition(":")[0] for c in payload.containers for link in c.links}
    return name in linked_to or bool(own and own.links)


def _lost(name: str, network: str, cause: str) -> str:
    return f"container {name} was disconnected from network {network} and cannot go on: {cause}"
