"""The agent's page of metrics: the agent itself, its host, its containers. Pure.

Views and samples in, families out; ``exposition`` makes a page of them. A metric without a value is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.metrics import agent_families, container_families, host_families

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.exposition import Family
    from agent.model.figures import AgentFigures
    from agent.model.metrics import MetricsBatch
    from agent.model.views import AgentView, TaskView


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that a page is made of, as it was at one moment."""

    at: float
    """Unix time."""
    agent: AgentView
    tasks: Sequence[TaskView] = ()
    """Samples of other tasks are left out."""
    batch: MetricsBatch | None = None
    """The newest samples; None before the first round, and if metrics are off."""
    figures: AgentFigures | None = None
    """None while the agent starts."""
    loop_lag_s: float | None = None
    """How late the event loop was at the last timer of the sampler."""
    round_s: float | None = None
    """How long the last sampling round took."""


def families(snapshot: Snapshot) -> Iterator[Family]:
    """Yield every metric of the page."""
    agent, batch, figures = snapshot.agent, snapshot.batch, snapshot.figures
    yield from agent_families.of_agent(agent)
    if figures is not None:
        yield from agent_families.of_figures(figures, snapshot.at)
    yield from agent_families.of_sampler(
        snapshot.loop_lag_s, snapshot.round_s, batch.cost if batch else None
    )
    yield from host_families.of_resources(agent.resources)
    if batch is not None:
        yield from host_families.of_host(batch.host)
    yield from container_families.of_tasks(agent.cluster, snapshot.tasks, batch)
