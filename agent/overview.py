"""The agent as operators see it, assembled from its parts.

Implements ``endpoints.source.AgentSource``. Works from the start: until the daemon hands over the parts
of an agent that runs, it tells what the start waits for.
"""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from agent import __version__
from agent.engine.labels import LABEL_TASK
from agent.errors import EngineRefused, EngineUnavailable
from agent.model.figures import AgentFigures
from agent.model.status import NetworkMode
from agent.model.views import AgentView, DrainView, LogsView, UsageView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.awslogs.spool import Spool
    from agent.cgroups.groups import TaskGroups
    from agent.config import Settings
    from agent.endpoints.operator import OperatorSocket
    from agent.engine.engine import Engine
    from agent.images import Images
    from agent.metrics.sampler import Sampler
    from agent.model.exec import ExecCommand
    from agent.model.task import AgentTask
    from agent.model.views import LaunchView, RepairView, TaskView
    from agent.network.container_sandboxes.sandboxes import ContainerSandboxes
    from agent.network.inspection.inspection import NetworkInspection
    from agent.network.pool import TaskNetworks
    from agent.resources.ledger import Ledger
    from agent.runtime.protocol import (
        ContainerEngine,
        ContainerSummary,
        ExecSession,
        LogSelection,
    )
    from agent.state import StateStore
    from agent.upstream.draining import Drain
    from agent.upstream.protocol import Control


_REPAIRS = 20
"""How many repairs are shown."""


class LocalServer(Protocol):
    """A server that the agent runs on this host."""

    @property
    def name(self) -> str:
        """What it serves."""

    @property
    def problem(self) -> str:
        """Why it does not listen; empty when it does."""

    async def run(self) -> None:
        """Serve until cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningParts:
    """The parts of an agent that runs."""

    engine: Engine
    control: Control
    networks: TaskNetworks
    container_sandboxes: ContainerSandboxes
    groups: TaskGroups
    ledger: Ledger
    sampler: Sampler | None
    """None where metrics are off."""
    runtime: ContainerEngine
    operator: OperatorSocket
    logs: Spool
    servers: Sequence[LocalServer]
    drain: Drain
    images: Images
    task_requests: Mapping[tuple[str, int], int]
    """Answers to tasks, by kind of path and HTTP status."""


class Overview:
    """Answers operators' queries; from ``run_with`` on from the parts of the running agent."""

    def __init__(
        self, settings: Settings, store: StateStore, started_at: float, control_endpoint: str
    ) -> None:
        self._settings = settings
        self._store = store
        self._started_at = started_at
        self._control_endpoint = control_endpoint
        self._parts: RunningParts | None = None
        self._engine_version = ""
        self._waits_for = ""

    def wait_for(self, what: str) -> None:
        """Tell operators what the start waits for, in a sentence that names the mend."""
        self._waits_for = what

    def engine_answered(self, version: str) -> None:
        """Tell operators the version of the container engine, which is waited for no longer."""
        self._waits_for = ""
        self._engine_version = version

    def run_with(self, parts: RunningParts) -> None:
        """Answer from these parts from now on: the agent has started."""
        self._parts = parts

    def agent_view(self) -> AgentView:
        """Return the current state of the agent."""
        parts, policy = self._parts, self._settings.host_policy
        statuses = parts.engine.tasks.statuses() if parts else Counter()
        status = parts.control.status if parts else None
        return AgentView(
            version=__version__,
            cluster=self._settings.cluster,
            host_policy=policy.source if policy is not None else "",
            instance_arn=status.instance_arn if status else "",
            instance_status=status.instance_status if status else "",
            control_endpoint=self._control_endpoint,
            control_connected=status.connected if status else False,
            control_since=status.since if status else 0.0,
            control_error=status.error if status else "",
            control_next_try=status.next_try if status else 0.0,
            unsent_changes=self._store.outbox.size,
            engine_version=self._engine_version,
            engine_connected=parts is not None and parts.engine.engine_up,
            degraded=self._degraded(),
            started_at=self._started_at,
            running=statuses["RUNNING"],
            pending=statuses["PENDING"],
            stopped=statuses["STOPPED"],
            resources=parts.ledger.used() if parts else [],
            repairs=self._repairs(),
            logs=parts.logs.view if parts else LogsView(),
            drain=parts.drain.view if parts else DrainView(),
        )

    def figures(self) -> AgentFigures | None:
        """Return what the agent counts about itself; None while it starts."""
        parts = self._parts
        if parts is None:
            return None
        return AgentFigures(
            pulls=parts.images.figures,
            comparisons=parts.engine.comparisons,
            sandboxes=parts.networks.figures,
            container_sandboxes=parts.container_sandboxes.figures,
            launches=parts.engine.launches.by_phase,
            steps=parts.engine.tasks.running_steps(),
            tasks_waiting=parts.ledger.waiting,
            connects=parts.control.status.connects,
            unsent_since=self._store.outbox.oldest_at,
            task_requests=dict(parts.task_requests),
        )

    @property
    def holds_network(self) -> bool:
        """Whether there are tasks with a network that have not stopped."""
        parts = self._parts
        places = parts.engine.tasks.places() if parts is not None else ()
        return any(place.mode is not NetworkMode.NONE for place in places)

    def headline(self) -> str:
        """Return the current state of the agent in one line, for the service manager."""
        view = self.agent_view()
        if self._parts is None:
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
        found = [self._waits_for] if self._waits_for else []
        found += self._store.problems
        parts = self._parts
        if parts is None:
            return found
        found += [text for text in (parts.control.status.notice, parts.operator.problem) if text]
        found += [*parts.networks.problems, *parts.groups.problems]
        if parts.container_sandboxes.problem:
            found.append(parts.container_sandboxes.problem)
        found += parts.engine.tasks.problems
        found += parts.logs.problems
        found += [server.problem for server in parts.servers if server.problem]
        if not parts.engine.engine_up:
            found.append(self._engine_away())
        return found

    def _repairs(self) -> list[RepairView]:
        parts = self._parts
        if parts is None:
            return []
        found = [
            *parts.networks.repairs,
            *parts.container_sandboxes.repairs,
            *parts.engine.repairs,
            *parts.operator.repairs,
        ]
        return sorted(found, key=lambda repair: repair.at)[-_REPAIRS:]

    def _engine_away(self) -> str:
        where = self._settings.docker_host
        return f"the container engine at {where} does not answer; run 'systemctl status docker'"

    def task_views(self) -> list[TaskView]:
        """Return every task that the agent holds, oldest first, with its newest figures.

        Raises:
            EngineUnavailable: the tasks are not known yet, because the container engine has not
                answered since the agent started.
        """
        parts = self._started_parts()
        batch = parts.sampler.latest if parts.sampler else None
        views = parts.engine.tasks.views()
        if batch is None:
            return views
        samples = {sample.task_arn: sample for sample in batch.tasks}
        return [
            msgspec.structs.replace(view, sample=samples[view.arn], sampled_at=batch.at)
            if view.arn in samples
            else view
            for view in views
        ]

    def usage_view(self) -> UsageView:
        """Return the newest round of samples with the tasks that have not stopped.

        Raises:
            EngineUnavailable: the tasks are not known yet.
        """
        parts = self._started_parts()
        batch = parts.sampler.latest if parts.sampler else None
        samples = {s.task_arn: s for s in batch.tasks} if batch else {}
        return UsageView(
            host_name=socket.gethostname(),
            at=batch.at if batch else None,
            host=batch.host if batch else None,
            tasks=[
                msgspec.structs.replace(task, sample=samples.get(task.arn))
                for task in parts.engine.tasks.usage()
            ],
        )

    def samples(self) -> Sampler | None:
        """Return what takes the samples; None if metrics are off."""
        return self._started_parts().sampler

    def records(self) -> list[AgentTask]:
        """Return the records of all tasks, oldest first, to read at once.

        Raises:
            EngineUnavailable: they are not known yet.
        """
        return self._started_parts().engine.tasks.records()

    async def containers(self) -> list[ContainerSummary]:
        """Return the engine's list of the containers of tasks; raises ``RuntimeFailure``."""
        return await self._answering_runtime().list_containers(labels={LABEL_TASK: None})

    def launch_view(self, task_arn: str) -> LaunchView | None:
        """Return how a task was launched; None for one that the agent does not hold."""
        return self._started_parts().engine.tasks.launch(task_arn)

    def network(self) -> NetworkInspection:
        """Return what shows and checks task networks.

        Raises:
            EngineUnavailable: the agent is starting.
        """
        return self._started_parts().networks.inspection

    async def drain(self, *, wanted: bool, deadline: float) -> None:
        """Take an order to drain, or to take tasks again; durable when this returns.

        Raises:
            EngineUnavailable: the agent is starting.
            StateFailure: the order could not be stored.
        """
        await self._started_parts().drain.order(wanted=wanted, deadline=deadline)

    async def stop_task(self, task_arn: str, reason: str) -> None:
        """Order a task to stop; the order is durable when this returns.

        Raises:
            EngineUnavailable: the tasks are not known yet.
        """
        await self._started_parts().engine.stop_task(task_arn, reason)

    def container_logs(self, runtime_id: str, selection: LogSelection) -> AsyncIterator[bytes]:
        """Yield stdout and stderr of a container; raises ``RuntimeFailure``."""
        return self._answering_runtime().logs(runtime_id, selection)

    async def start_exec(self, runtime_id: str, command: ExecCommand) -> ExecSession:
        """Start a command in a running container; raises ``RuntimeFailure``."""
        policy = self._settings.host_policy
        if policy is not None and not policy.exec:
            text = f"host policy {policy.source}: rule exec: commands may not be run in containers"
            raise EngineRefused(text, operation="exec")
        return await self._answering_runtime().start_exec(runtime_id, command)

    def _answering_runtime(self) -> ContainerEngine:
        parts = self._started_parts()
        if not parts.engine.engine_up:
            raise EngineUnavailable(self._engine_away())
        return parts.runtime

    def _started_parts(self) -> RunningParts:
        if self._parts is None:
            text = self._waits_for or "the agent is starting; try again in a moment"
            raise EngineUnavailable(text)
        return self._parts
