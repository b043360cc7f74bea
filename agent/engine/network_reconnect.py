"""Containers that somebody disconnected from their network: connected again, or why that will not do.

The engine gives a container that it connects again another address, and publishes its ports as before.
Legacy links hold the address that a container had when the other one was started: there the task
cannot go on.

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
    """Connects containers again. Safe for concurrent use; repeatable."""

    def __init__(self, runtime: ContainerEngine) -> None:
        self.repairs: deque[RepairView] = deque(maxlen=_REMEMBERED)
        """The newest repairs, oldest first."""
        self._runtime = runtime

    async def reconnect(self, payload: TaskPayload, name: str, seen: ContainerState) -> str:
        """Put a running container back into the network ``seen.cut_off_from``.

        Returns:
            Nothing if it is connected (again), else why it cannot be, for the task's reason.

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
            "a container was disconnected from its network by others; connected again",
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
