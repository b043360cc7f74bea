"""What the local endpoints need from the agent; the daemon implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.model.exec import ExecCommand
    from agent.model.figures import AgentFigures
    from agent.model.metrics import MetricsBatch
    from agent.model.network_views import NetworkCheckView, NetworkView
    from agent.model.views import AgentView, LaunchView, TaskView, UsageView
    from agent.runtime.protocol import ExecSession, LogSelection


class AgentSource(Protocol):
    """The agent as local clients may see and control it."""

    def agent_view(self) -> AgentView:
        """Return the current state of the agent."""

    def task_views(self) -> list[TaskView]:
        """Return every task that the agent holds, oldest first."""

    def usage_view(self) -> UsageView:
        """Return the newest round of samples with the tasks that have not stopped."""

    def samples(self) -> SampleSource | None:
        """Return what takes the samples; None if metrics are off."""

    def launch_view(self, task_arn: str) -> LaunchView | None:
        """Return how a task was launched; None for one that the agent does not hold."""

    def network(self) -> NetworkSource:
        """Return what shows and checks task networks; raises ``EngineUnavailable`` at the start."""

    async def stop_task(self, task_arn: str, reason: str) -> None:
        """Order a task to stop; durable when this returns. Does not change a stopped task."""

    async def drain(self, *, wanted: bool, deadline: float) -> None:
        """Take an order to drain, or to take tasks again; durable when this returns.

        ``deadline`` is the Unix time from which on the remaining tasks are stopped, 0 for never.
        """

    def container_logs(self, runtime_id: str, selection: LogSelection) -> AsyncIterator[bytes]:
        """Yield stdout and stderr of a container; raises ``RuntimeFailure``."""

    async def start_exec(self, runtime_id: str, command: ExecCommand) -> ExecSession:
        """Start a command in a running container; raises ``RuntimeFailure``."""


class NetworkSource(Protocol):
    """The task networks of this host; implemented by ``network.inspection``."""

    async def view(self) -> NetworkView:
        """Return pools, sandboxes, devices and rules; raises ``NetworkFailure``."""

    async def check(self, *, repair: bool) -> NetworkCheckView:
        """Compare records with kernel and engine; raises ``NetworkFailure``, ``RuntimeFailure``."""


class WatchedAgent(AgentSource, Protocol):
    """The agent as programs that watch it may see it."""

    def figures(self) -> AgentFigures | None:
        """Return what the agent counts about itself; None while it starts."""


class SampleSource(Protocol):
    """The newest metrics; implemented by ``metrics.sampler.Sampler``."""

    latest: MetricsBatch | None
    loop_lag_s: float
    round_s: float

    def subscribe(self, callback: Callable[[MetricsBatch], None]) -> Callable[[], None]:
        """Call ``callback`` after each round; return a function that ends this."""

    def poke(self) -> None:
        """Request a round now; at most one per second."""
