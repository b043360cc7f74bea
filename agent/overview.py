"""The agent as operators see it, assembled from its parts, which the daemon fills in.

Implements ``endpoints.source.AgentSource``. Works from the start: a missing part is reported as
something that the agent waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent import __version__
from agent.errors import EngineUnavailable
from agent.model.views import AgentView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.config import Settings
    from agent.endpoints.operator import OperatorSocket
    from agent.engine.engine import Engine
    from agent.metrics.sampler import Sampler
    from agent.model.views import RepairView, TaskView
    from agent.network.pool import TaskNetworks
    from agent.resources.ledger import Ledger
    from agent.runtime.protocol import ContainerEngine
    from agent.state import StateStore
    from agent.upstream.protocol import Control


_REPAIRS = 20
"""How many repairs are shown."""


class Overview:
    """Answers operators' queries from the parts of the running agent that exist so far."""

    def __init__(
        self, settings: Settings, store: StateStore, started_at: float, control_endpoint: str
    ) -> None:
        self.engine: Engine | None = None
        self.control: Control | None = None
        self.networks: TaskNetworks | None = None
        self.ledger: Ledger | None = None
        self.sampler: Sampler | None = None
        self.runtime: ContainerEngine | None = None
        self.operator: OperatorSocket | None = None
        self.engine_version = ""
        self.trouble: dict[str, str] = {}
        """What does not work now, by part; a part that recovers removes its entry."""
        self._settings = settings
        self._store = store
        self._started_at = started_at
        self._control_endpoint = control_endpoint

    def agent_view(self) -> AgentView:
        """Return the current state of the agent."""
        statuses = [task.status for task in self.engine.views()] if self.engine else []
        status = self.control.status if self.control else None
        return AgentView(
            version=__version__,
            cluster=self._settings.cluster,
            instance_arn=status.instance_arn if status else "",
            instance_status=status.instance_status if status else "",
            control_endpoint=self._control_endpoint,
            control_connected=status.connected if status else False,
            control_since=status.since if status else 0.0,
            control_error=status.error if status else "",
            control_next_try=status.next_try if status else 0.0,
            unsent_changes=self._store.outbox.size,
            engine_version=self.engine_version,
            engine_connected=self.engine is not None and self.engine.engine_up,
            degraded=self._degraded(),
            started_at=self._started_at,
            running=statuses.count("RUNNING"),
            pending=statuses.count("PENDING"),
            stopped=statuses.count("STOPPED"),
            resources=self.ledger.used() if self.ledger else [],
            repairs=self._repairs(),
        )

    def headline(self) -> str:
        """Return the current state of the agent in one line, for the service manager."""
        view = self.agent_view()
        if self.engine is None:
            return "; ".join(view.degraded) or "starting"
        waiting = f", {view.pending} pending" if view.pending else ""
        tasks = f"{view.running} {'task' if view.running == 1 else 'tasks'} running{waiting}"
        if view.control_error:
            link = f"control: {view.control_error}"
        elif view.control_connected:
            link = "control connected"
        else:
            link = f"connecting to control at {view.control_endpoint}"
        if view.instance_status not in {"", "ACTIVE"}:
            link = f"{link}, instance {view.instance_status}"
        return "; ".join([tasks, link, *view.degraded])

    def _degraded(self) -> list[str]:
        found = [*self.trouble.values(), *self._store.problems]
        if self.control is not None and self.control.status.notice:
            found.append(self.control.status.notice)
        if self.operator is not None and self.operator.problem:
            found.append(self.operator.problem)
        if self.networks is not None:
            found.extend(self.networks.problems)
        if self.engine is not None:
            found.extend(self.engine.problems)
        if self._engine_is_away():
            found.append(self._engine_away())
        return found

    def _repairs(self) -> list[RepairView]:
        parts = (self.networks, self.engine, self.operator)
        found = [repair for part in parts if part is not None for repair in part.repairs]
        return sorted(found, key=lambda repair: repair.at)[-_REPAIRS:]

    def _engine_is_away(self) -> bool:
        return self.engine is not None and not self.engine.engine_up

    def _engine_away(self) -> str:
        where = self._settings.docker_host
        return f"the container engine at {where} does not answer; run 'systemctl status docker'"

    def task_views(self) -> list[TaskView]:
        """Return every task that the agent holds, oldest first, with its newest figures.

        Raises:
            EngineUnavailable: the tasks are not known yet, because the container engine has not
                answered since the agent started.
        """
        if self.engine is None:
            raise EngineUnavailable(self._still_starting())
        batch = self.sampler.latest if self.sampler else None
        samples = {s.task_arn: s for s in batch.tasks} if batch else {}
        return [
            msgspec.structs.replace(view, sample=samples[view.arn]) if view.arn in samples else view
            for view in self.engine.views()
        ]

    async def stop_task(self, task_arn: str, reason: str) -> None:
        """Order a task to stop; the order is durable when this returns."""
        if self.engine is not None:
            await self.engine.stop_task(task_arn, reason)

    def container_logs(
        self, runtime_id: str, *, tail: int | None, follow: bool
    ) -> AsyncIterator[bytes]:
        """Yield stdout and stderr of a container; raises ``RuntimeFailure``."""
        if self.runtime is None:
            raise EngineUnavailable(self._still_starting())
        if self._engine_is_away():
            raise EngineUnavailable(self._engine_away())
        return self.runtime.logs(runtime_id, tail=tail, follow=follow)

    def _still_starting(self) -> str:
        return "; ".join(self.trouble.values()) or "the agent is starting; try again in a moment"
