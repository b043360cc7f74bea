"""Where the containers of a task are on this host, for whoever must tell from where a call comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.engine.live import LiveState
    from agent.model.status import NetworkMode
    from agent.model.task import AgentTask


class ContainerPlace(NamedTuple):
    """One container that was made; it may not run yet, or not any more."""

    name: str
    runtime_id: str
    """Its engine id."""
    pid: int = 0
    """Its first process as the engine last said; 0 if unknown."""
    group: str = ""
    """Path of its task's control group from the top of a hierarchy; empty if it has none."""


class TaskPlace(NamedTuple):
    """One task that has not stopped."""

    task_arn: str
    mode: NetworkMode
    ipv4: str
    """In ``awsvpc`` mode, the address from which it reaches the agent while it holds one; else empty."""
    containers: tuple[ContainerPlace, ...]


def place_of(record: AgentTask, live: LiveState, group: str) -> TaskPlace:
    """Return where a task is; ``group`` is the path of its control group."""
    network = record.network if record.network_held else None
    return TaskPlace(
        record.arn,
        record.payload.mode,
        network.asks_from if network is not None else "",
        tuple(
            ContainerPlace(c.name, c.runtime_id, live.pids.get(c.name, 0), group)
            for c in record.containers.values()
            if c.runtime_id
        ),
    )
