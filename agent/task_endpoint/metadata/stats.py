"""Figures of containers in the engine's own shape, from the newest round of the sampler. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from agent.metrics.docker_stats import stats_of

if TYPE_CHECKING:
    from agent.metrics.cgroup import RawTexts
    from agent.model.metrics import MetricsBatch
    from agent.model.task import AgentContainer, AgentTask


class Samples(Protocol):
    """The newest rounds; ``metrics.sampler.Sampler``."""

    latest: MetricsBatch | None
    before: MetricsBatch | None

    def raw_texts(self, runtime_id: str) -> RawTexts:
        """Return the files of a container as last read."""


def of_container(
    samples: Samples | None, container: AgentContainer, *, extended: bool
) -> dict[str, Any] | None:
    """Return the figures of a container; None if it is not sampled.

    Args:
        samples: None where metrics are off.
        container: a container that was made.
        extended: whether for version 4, which has rates of the network too.
    """
    if samples is None:
        return None
    return stats_of(
        container.runtime_id,
        latest=samples.latest,
        before=samples.before,
        raw=samples.raw_texts(container.runtime_id),
        name=container.engine_name,
        with_rates=extended,
    )


def of_task(
    samples: Samples | None, record: AgentTask, *, extended: bool
) -> dict[str, dict[str, Any] | None]:
    """Return the figures of all containers of a task that were made, by engine id.

    One without figures has null, or an empty object in version 4; so has the pause container.
    """
    nothing: dict[str, Any] | None = {} if extended else None
    found = {
        each.runtime_id: of_container(samples, each, extended=extended) or nothing
        for each in record.containers.values()
        if each.runtime_id
    }
    network = record.network if record.network_held else None
    return found | ({network.sandbox_id: nothing} if network and network.sandbox_id else {})
