"""Draws conclusions from what is known of a task; the first half of each turn.

Changes only the record and ``LiveState``, and cannot fail. Examples: an essential container has
exited, so the task stops; a dependency can never be met, so its dependent fails. ``planner``
decides what to do then. Source of the rules: Amazon ECS agent 1.105.1,
``agent/engine/task_manager.go`` (derivation of statuses).

Tests: ``tests/unit/engine/test_planner.py``, ``tests/unit/engine/test_planner_properties.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine import graph as dependency_graph
from agent.engine.live import StepKind
from agent.model import reasons
from agent.model.status import ContainerStatus, DesiredStatus, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.engine.graph import Graph
    from agent.engine.live import LiveState
    from agent.model.task import AgentContainer, AgentTask


NETWORKS_REPLACED = 4
"""After this many lost sandboxes, a task that has started nothing fails: the host has a problem."""


def settle(record: AgentTask, graph: Graph, live: LiveState, now: float) -> None:
    """Draw every conclusion from what is known; idempotent."""
    live.mark(_awaited(record), now)
    _compare_networks(record, live)
    _stop_when_essential_stopped(record, now)
    if not is_stopping(record):
        _fail_unreachable(record, graph, live, now)
        _stop_when_essential_stopped(record, now)
    if is_stopping(record):
        record.stopping_at = record.stopping_at or now
        for container in record.containers.values():
            container.desired = ContainerStatus.STOPPED
    for container in record.containers.values():
        if container.desired is ContainerStatus.STOPPED:
            live.restarting.discard(container.name)
            _stop_unstarted(record, container, live, now)
    _stop_when_essential_stopped(record, now)
    _advance_task(record, live, now)
    live.mark(_awaited(record), now)  # includes times recorded just now


def _awaited(record: AgentTask) -> Iterator[float]:
    """Yield the recorded times that a timeout, the restart policy or the clean-up counts from."""
    yield record.stopped_at
    for container in record.containers.values():
        yield container.started_at
        yield container.last_restart_at


def is_stopping(record: AgentTask) -> bool:
    """Return whether the task should stop or has stopped."""
    return record.desired is DesiredStatus.STOPPED


def has_run(record: AgentTask) -> bool:
    """Return whether a container of the task has started."""
    return any(
        c.started_at or c.known is ContainerStatus.RUNNING for c in record.containers.values()
    )


def _compare_networks(record: AgentTask, live: LiveState) -> None:
    """Handle a lost sandbox, and containers that are in another sandbox.

    A task that has started nothing claims another sandbox. Others cannot, because containers stay
    in the network that they were created in.
    """
    if record.is_done:
        return
    if live.network_lost:
        if has_run(record) or live.networks_replaced >= NETWORKS_REPLACED:
            _stop_without_network(record, live.network_lost)
        return
    if record.network is None or not record.network_held or is_stopping(record):
        return
    for name, sandbox in list(live.joined.items()):
        container = record.containers[name]
        if sandbox == record.network.sandbox_id:
            continue
        if container.known is ContainerStatus.RUNNING:
            _stop_without_network(
                record,
                f"container {name} is in the network of sandbox {sandbox[:12]}, but its task has "
                f"{record.network.sandbox_id[:12]}",
            )
        elif container.known is ContainerStatus.CREATED and name not in live.inflight:
            forget_creation(container, live)


def _stop_without_network(record: AgentTask, why: str) -> None:
    record.reason = record.reason or reasons.named(reasons.NETWORKING, why)
    record.desired = DesiredStatus.STOPPED


def forget_creation(container: AgentContainer, live: LiveState) -> None:
    """Mark a container that never ran to be created again: it is removed, since it could never start."""
    container.known = ContainerStatus.PULLED
    container.runtime_id = ""
    live.joined.pop(container.name, None)


def _stop_when_essential_stopped(record: AgentTask, now: float) -> None:
    _note_end_of_execution(record, now)
    for definition in record.payload.containers:
        container = record.containers[definition.name]
        if not definition.essential:
            continue
        if ContainerStatus.STOPPED in (container.known, container.desired):
            record.desired = DesiredStatus.STOPPED


def _note_end_of_execution(record: AgentTask, now: float) -> None:
    """Record when the task's execution stopped: at the end of the first essential container.

    The time is the engine's, not the time at which the agent noticed. Amazon's agent uses the
    latter, which is minutes late if the agent or the engine hung. Recorded once.
    """
    if record.execution_stopped_at:
        return
    ends = [
        container.finished_at or now
        for definition in record.payload.containers
        if definition.essential
        and (container := record.containers[definition.name]).known is ContainerStatus.STOPPED
    ]
    if ends:
        record.execution_stopped_at = min(now, *ends)


def _fail_unreachable(record: AgentTask, graph: Graph, live: LiveState, now: float) -> None:
    """Stop containers whose dependency can never be met; repeat until nothing changes."""
    changed = True
    while changed:
        changed = False
        for name, edges in graph.items():
            container = record.containers[name]
            if container.known >= ContainerStatus.RUNNING:
                continue
            if container.desired is ContainerStatus.STOPPED:
                continue
            texts = (dependency_graph.failure(edge, record, name, now, live.when) for edge in edges)
            text = next((t for t in texts if t), None)
            if text:
                container.desired = ContainerStatus.STOPPED
                container.exit_code = reasons.DEPENDENCY_EXIT_CODE
                set_reason(container, reasons.named(reasons.CANNOT_START, text))
                changed = True


def _stop_unstarted(
    record: AgentTask, container: AgentContainer, live: LiveState, now: float
) -> None:
    """Stop a container that does not run, without asking the engine.

    A create or start in flight is awaited first: its result decides what there is to stop.
    """
    if container.known in (ContainerStatus.RUNNING, ContainerStatus.STOPPED):
        return
    step = live.inflight.get(container.name)
    if step is not None and step.kind is not StepKind.PULL:
        return
    is_doubtful = container.name in live.retries and container.known >= ContainerStatus.PULLED
    if is_doubtful and container.name not in live.recheck:  # else it is the look that is retried
        # Its create or start failed without an answer: only the engine knows the result.
        del live.retries[container.name]
        live.recheck.add(container.name)
    if container.name in live.recheck:
        return
    ordered_to_run = record.payload.desired_status is DesiredStatus.RUNNING
    if container.known < ContainerStatus.PULLED and is_stopping(record) and ordered_to_run:
        _explain_missing_image(record, container, live)
    pull_ended(record, live, container.name, now)
    mark_stopped(container, now)


def _explain_missing_image(record: AgentTask, container: AgentContainer, live: LiveState) -> None:
    """For a stop before the image was there, record whether its pull had started or failed."""
    trouble = live.own_trouble(container.name)
    if trouble:
        set_reason(container, trouble)
    elif container.name not in live.pulling_since:
        set_reason(container, reasons.stopped_before_pull(record.arn))


def pull_ended(record: AgentTask, live: LiveState, name: str, now: float) -> None:
    """Record the end of a pull, successful or not, unless it never contacted a registry.

    Of a task's pulls, the first start and the last end are recorded.
    """
    live.failed_pulls.pop(name, None)
    began = live.pulling_since.pop(name, 0.0)
    if began:
        record.pull_started_at = record.pull_started_at or began
        record.pull_stopped_at = now


def set_reason(container: AgentContainer, reason: str) -> None:
    """Set the reason of a container if it has none: later ones are consequences of the first."""
    if not container.reason:
        container.reason = reasons.clip(reason)


def mark_stopped(container: AgentContainer, now: float) -> None:
    """Move a container to STOPPED, once."""
    if container.known is ContainerStatus.STOPPED:
        return
    container.known = ContainerStatus.STOPPED
    container.desired = ContainerStatus.STOPPED
    container.finished_at = container.finished_at or now


_CONTRIBUTION = {
    ContainerStatus.NONE: TaskStatus.NONE,
    ContainerStatus.MANIFEST_PULLED: TaskStatus.MANIFEST_PULLED,
    ContainerStatus.PULLED: TaskStatus.MANIFEST_PULLED,
    ContainerStatus.CREATED: TaskStatus.CREATED,
    ContainerStatus.RUNNING: TaskStatus.RUNNING,
    ContainerStatus.RESOURCES_PROVISIONED: TaskStatus.RUNNING,
    ContainerStatus.STOPPED: TaskStatus.STOPPED,
}


def _advance_task(record: AgentTask, live: LiveState, now: float) -> None:
    """Raise the task's status to that of its least advanced container; it never goes back."""
    least = min(
        (_CONTRIBUTION[c.known] for c in record.containers.values()), default=TaskStatus.STOPPED
    )
    if not record.containers and not is_stopping(record):
        return
    if least is TaskStatus.STOPPED:
        record.desired = DesiredStatus.STOPPED
        record.stopping_at = record.stopping_at or now
        if holds_network(record, live) and not live.release_tried:
            return
    elif least is TaskStatus.RUNNING and record.execution_stopped_at:
        return  # not before the other containers have stopped
    if least <= record.known:
        return
    record.known = least
    if least is TaskStatus.RUNNING:
        record.started_at = record.started_at or now
    if least is TaskStatus.STOPPED:
        record.stopped_at = record.stopped_at or now


def holds_network(record: AgentTask, live: LiveState) -> bool:
    """Return whether the task has, or may have, a sandbox that must be released."""
    return record.network_held or live.network_doubtful
