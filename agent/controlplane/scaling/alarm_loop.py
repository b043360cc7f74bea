"""The loop behind alarms of deployments: wakes when a minute of figures is closed, and looks at those that are watched.

What a minute costs: a read for each alarm that a deployment watches which is going on, and one for the service that
it is about. Services take a turn only if something has changed for them. Without such deployments, nothing is read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane.scaling import alarm_states
from agent.controlplane.scaling.figures import Figures
from agent.controlplane.services.observed import SeenAlarms
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from agent.controlplane.metric_store.store import MetricStore
    from agent.controlplane.parts import Parts

ROUND_LIMIT_S: Final = 50.0
"""For the alarms of one minute."""

_log = structlog.get_logger(__name__)


class AlarmLoop:
    """Tells the services of one store what the figures of one metric store say about their alarms."""

    def __init__(self, parts: Parts, metrics: MetricStore) -> None:
        self._parts = parts
        self._metrics = metrics
        self._figures = Figures(metrics)

    async def run(self) -> None:
        """Look after each minute, until cancelled."""
        minute = 0
        while True:
            minute = await self._metrics.next_minute(minute)
            try:
                async with asyncio.timeout(ROUND_LIMIT_S):
                    await self.look(minute)
            except (StoreFailure, TimeoutError) as error:
                _log.warning(
                    "alarms of deployments are unknown; trying again in a minute", error=repr(error)
                )

    async def look(self, minute: int) -> None:
        """Look at the alarms that are watched, by the figures of one minute.

        Raises:
            StoreFailure: of the store, or of the figures.
        """
        view = self._parts.services
        await view.read()
        names = view.watched_alarms()
        found = SeenAlarms()
        if names:
            found = await alarm_states.seen(self._parts.store, self._figures, names, minute)
            await view.read()
        view.take_alarms(found)
