"""Connects sandboxes again that somebody disconnected from their network.

A container in a sandbox shows nothing of it, so the sandbox itself is looked at: a moment after an
event, because the end of a container disconnects it, too, and all of them after a gap in the events.

Tests: ``tests/unit/network/container_sandboxes/test_sandboxes.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import EngineRefused, NoSuchContainer, RuntimeFailure
from agent.model.views import RepairView

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.runtime.protocol import ContainerEngine

WAIT_S: Final = 0.15
"""How long a sandbox may be disconnected before it is looked at."""
RETRY_S: Final = 5.0
_REMEMBERED: Final = 20
_log = structlog.get_logger(__name__)


class CutOff:
    """Looks at sandboxes on demand. Belongs to one event loop."""

    def __init__(
        self,
        runtime: ContainerEngine,
        give_up: Callable[[str, str], object],
        wait_s: float = WAIT_S,
    ) -> None:
        """Nothing is done before ``run``.

        Args:
            runtime: connects them.
            give_up: told the id of a sandbox that cannot be connected, and why.
            wait_s: time between an event and the look at it.
        """
        self.repairs: deque[RepairView] = deque(maxlen=_REMEMBERED)
        """The newest repairs, oldest first."""
        self._runtime = runtime
        self._give_up = give_up
        self._wait_s = wait_s
        self._suspects: dict[str, None] = {}
        self._added = asyncio.Event()

    def suspect(self, sandbox_ids: Collection[str]) -> None:
        """Have these looked at soon; may be called any number of times."""
        if sandbox_ids:
            self._suspects |= dict.fromkeys(sandbox_ids)
            self._added.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._added.wait()
            await asyncio.sleep(self._wait_s)
            self._added.clear()
            suspects, self._suspects = self._suspects, {}
            for sandbox_id in suspects:
                try:
                    await self._look(sandbox_id)
                except RuntimeFailure as error:
                    _log.warning("sandbox not looked at", sandbox=sandbox_id[:12], error=str(error))
                    self._suspects[sandbox_id] = None
            if self._suspects:
                await asyncio.sleep(RETRY_S)
                self._added.set()

    async def _look(self, sandbox_id: str) -> None:
        try:
            seen = await self._runtime.inspect_container(sandbox_id)
        except NoSuchContainer:
            return  # its end is noticed elsewhere
        if not seen.running or not seen.cut_off_from:
            return
        try:
            await self._runtime.connect_network(seen.cut_off_from, sandbox_id)
        except NoSuchContainer:
            return
        except EngineRefused as error:
            self._give_up(sandbox_id, f"it was disconnected from its network: {error}")
            return
        found = f"sandbox {seen.name} was disconnected from network {seen.cut_off_from}"
        self.repairs.append(RepairView(at=time.time(), found=found))
        _log.warning(
            "a sandbox was disconnected from its network; reconnected it",
            sandbox=seen.name,
            network=seen.cut_off_from,
        )
