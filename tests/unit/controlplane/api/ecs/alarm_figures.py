"""Figures of a service and alarms on them, for tests of deployments that watch alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.api.cloudwatch import operations
from agent.controlplane.metric_store import catalogue
from agent.controlplane.metric_store.roll_up import Facts
from agent.controlplane.metric_store.store import MetricStore
from agent.controlplane.scaling import figures
from agent.controlplane.scaling.alarm_loop import AlarmLoop
from agent.model.statistics import StatisticSet, one
from tests.unit.controlplane.scaling.conftest import HOT

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

WATCHED = {"alarmNames": ["hot"], "enable": True, "rollback": True}


class AlarmFigures:
    """A metric store of an endpoint, whose minutes a test fills and closes."""

    def __init__(self, endpoint: Endpoint, metrics: MetricStore) -> None:
        self._endpoint = endpoint
        self.metrics = metrics
        self.loop = AlarmLoop(endpoint.parts, metrics)
        object.__setattr__(endpoint.parts, "metrics", metrics)

    @classmethod
    async def open(cls, endpoint: Endpoint) -> AlarmFigures:
        async def read_facts() -> Facts:
            return Facts()

        metrics = await MetricStore.open(None, read_facts, clock=lambda: endpoint.now[0])
        return cls(endpoint, metrics)

    async def put_alarm(self, **changes: Any) -> None:
        """Make the alarm ``hot``: CPU above 70 per cent for two minutes."""
        await operations.handlers()["PutMetricAlarm"](self._endpoint.parts, HOT | changes)

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Make a call of CloudWatch."""
        return await operations.handlers()[operation](self._endpoint.parts, request)

    async def pass_minute(self, cpu: float | None, tasks: int = 2) -> None:
        """Let a minute pass in which the service had this figure, and look at the alarms once it is closed."""
        minute = int(self._endpoint.now[0] // 60)
        if cpu is not None:
            row = {
                catalogue.CPU_UTILIZATION.number: StatisticSet(cpu, cpu, cpu * tasks, tasks),
                catalogue.RUNNING_TASKS.number: one(float(tasks)),
            }
            scope = figures.scope("default", "shop")
            await self.metrics._do(self.metrics._file.add, minute, {scope: row})
        self._endpoint.now[0] = 60.0 * (minute + 1) + 16.0
        await self.loop.look(minute)

    async def close(self) -> None:
        await self.metrics.close()
