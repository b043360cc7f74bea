"""TCS: telemetry of an agent over a websocket. Stores health; metrics go to the metric store.

Each frame is a block of signed headers, an empty line and the message; ``signatures`` explains why
these signatures are not verified. Everything is acknowledged except what cannot be read.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/tcs``.

Tests: ``tests/unit/controlplane/agents/amazon/test_health.py``.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.agents.amazon import shapes
from agent.controlplane.agents.amazon.sockets import (
    GOING_AWAY,
    NewestConnection,
    Socket,
)
from agent.controlplane.agents.amazon.tcs_usage import TcsUsage
from agent.controlplane.agents.reports import NoSuchTask, change_task
from agent.controlplane.store.contract import StoreFailure
from agent.controlplane.tasks import changes as task_changes
from agent.model.status import Health

if TYPE_CHECKING:
    from aiohttp import web

    from agent.controlplane.agents.amazon.sockets import Admitted
    from agent.controlplane.agents.parts import AgentParts
    from agent.controlplane.records import TaskRecord
    from agent.throttle import LogThrottle

FRAME_LIMIT_BYTES: Final = 2 * 1024 * 1024
"""An agent sends at most 1 MiB of metrics."""
HEARTBEAT_S: Final = 30.0
SILENT_S: Final = 600.0
"""An agent publishes every 20 seconds, even when it is idle."""
_REMEMBERED_TASKS: Final = 4096
_ACKS: Final = {
    "PublishMetricsRequest": "AckPublishMetric",
    "PublishHealthRequest": "AckPublishHealth",
    "PublishInstanceStatusRequest": "AckPublishInstanceStatus",
}


class Tcs:
    """Serves TCS; one per control endpoint, for one event loop."""

    def __init__(self, agent_parts: AgentParts, troubles: LogThrottle) -> None:
        self.agent_parts = agent_parts
        self.troubles = troubles
        self._newest = NewestConnection()

    def close(self) -> None:
        """End all connections; the server stops."""
        self._newest.close()

    async def serve(self, request: web.Request, admitted: Admitted) -> web.StreamResponse:
        """Serve one connection until it ends, or its agent is no longer admitted."""
        socket = Socket(
            admitted.instance, frame_limit_bytes=FRAME_LIMIT_BYTES, shown=admitted.shown
        )
        await socket.open(request)
        watching = self.agent_parts.agent_tokens.watching(admitted.admission, socket.cut_off)
        with self._newest.entered(socket), watching:
            await _Session(self, socket).run()
        return socket.response


class _Session:
    """One connection."""

    def __init__(self, tcs: Tcs, socket: Socket) -> None:
        self._tcs = tcs
        self._agent_parts = tcs.agent_parts
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._renewed_at = self._loop.time()
        self._usage = TcsUsage(socket.instance.resources.cpu_units)
        self._told: dict[str, dict[str, Health]] = {}
        """The last health of each task: most publications repeat it."""

    async def run(self) -> None:
        """Read, and send heartbeats, until either side ends the connection."""
        await self._socket.run(self._read, self._beat)

    async def _beat(self) -> None:
        socket = self._socket
        wait_s = HEARTBEAT_S * random.uniform(0.5, 1.0)  # noqa: S311 - not all at the same moment
        while socket.ended is None:
            try:
                async with asyncio.timeout(wait_s):
                    await socket.wake.wait()
            except TimeoutError:
                if self._loop.time() - self._heard_at > SILENT_S:
                    socket.end(GOING_AWAY, "nothing was published")
                else:
                    await socket.send(shapes.write("HeartbeatMessage", {"healthy": True}))
            wait_s = HEARTBEAT_S

    async def _read(self) -> None:
        async for frame in self._socket.frames():
            try:
                kind, message = shapes.read(shapes.split_signed(frame))
                await self._take(kind, message)
            except shapes.FrameError as error:
                self._trouble(str(error))
            except StoreFailure as error:
                self._trouble(f"control cannot do it now: {error}")

    def _trouble(self, why: str) -> None:
        self._tcs.troubles.note(
            "telemetry of an agent not taken", instance=self._socket.instance.arn, why=why
        )

    async def _take(self, kind: str, message: Any) -> None:
        ack = _ACKS.get(kind)
        if ack is None:
            raise shapes.FrameError(f"{kind} is not a message of TCS")
        if message.metadata.container_instance != self._socket.instance.arn:
            raise shapes.FrameError("the message is from another container instance")
        self._heard_at = self._loop.time()
        await self._renew()
        if isinstance(message, shapes.PublishHealth):
            for task in message.tasks:
                await self._take_health(task)
        elif isinstance(message, shapes.PublishMetrics):
            self._take_metrics(message)
        await self._socket.send(shapes.write(ack, {"message": "OK"}))

    def _take_metrics(self, message: shapes.PublishMetrics) -> None:
        metrics = self._agent_parts.parts.metrics
        if metrics is not None and message.task_metrics:
            metrics.take(self._socket.instance.id, self._usage.of(message))

    async def _renew(self) -> None:
        if self._heard_at - self._renewed_at >= self._agent_parts.leases.ttl_s / 6:
            await self._agent_parts.leases.renew(self._socket.instance)
            self._renewed_at = self._heard_at

    async def _take_health(self, task: shapes.TaskHealth) -> None:
        health = {
            container.container_name: Health(container.health_status)
            for container in task.containers
            if container.health_status in set(Health)
        }
        if self._told.get(task.task_arn) == health:
            return

        def decide(record: TaskRecord) -> TaskRecord:
            if record.instance_id != self._socket.instance.id:
                raise NoSuchTask("this container instance has no such task")
            return task_changes.with_health(record, health)

        try:
            await change_task(self._agent_parts.parts, task.task_arn, decide)
        except NoSuchTask as error:
            self._trouble(f"{task.task_arn[:200]}: {error}")
            return
        if len(self._told) >= _REMEMBERED_TASKS:
            self._told.clear()
        self._told[task.task_arn] = health
