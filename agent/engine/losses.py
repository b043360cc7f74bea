"""The effect on a record of a network or of namespaces that died under a task. Pure.

What has started nothing gets others; what has started ends.

Tests: ``tests/unit/engine/test_engine_lost_state.py``, ``tests/unit/engine/test_engine_trouble.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.live import NETWORK, StepKind
from agent.engine.settle import has_run
from agent.model import reasons
from agent.model.status import ContainerStatus, DesiredStatus

if TYPE_CHECKING:
    from agent.engine.live import LiveState
    from agent.model.task import AgentTask


def network(record: AgentTask, live: LiveState, reason: str) -> None:
    """The task's sandbox can no longer be used; ``settle`` concludes what follows."""
    if not record.network_held and NETWORK not in live.inflight:
        return
    live.network_lost = reason
    containers = record.containers.values()
    live.recheck.update(c.name for c in containers if c.known is ContainerStatus.CREATED)


def namespaces(record: AgentTask, live: LiveState, reason: str) -> None:
    """The container that holds the task's namespaces has stopped; a task that has run ends."""
    starting = any(step.kind is StepKind.START for step in live.inflight.values())
    if record.is_done or not (starting or has_run(record)):
        return
    record.reason = record.reason or reasons.clip(reason)
    record.desired = DesiredStatus.STOPPED


def container_network(record: AgentTask, live: LiveState, name: str, reason: str) -> None:
    """The sandbox of one container has stopped; if the container has started, its task ends."""
    container = record.containers.get(name)
    if container is None or container.known is ContainerStatus.STOPPED:
        return
    starting = any(s.kind is StepKind.START and s.key == name for s in live.inflight.values())
    if starting or container.started_at:
        record.reason = record.reason or reasons.named(reasons.NETWORKING, reason)
        record.desired = DesiredStatus.STOPPED
