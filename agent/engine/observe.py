"""The effect of the container engine's answers on a record: pure, one function per answer.

Source of the rules: Amazon ECS agent 1.105.1, ``agent/engine`` (container reconciliation, restart
policy). One difference: there, the order of checks can kill healthy containers. Here a container
that runs is running, whatever its error or out-of-memory flag says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.settle import mark_stopped, set_reason
from agent.model import reasons
from agent.model.status import ContainerStatus, Health
from agent.runtime.protocol import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.engine.live import LiveState
    from agent.model.payload import RestartPolicy
    from agent.model.task import AgentContainer, AgentTask
    from agent.runtime.protocol import ContainerState


def created(container: AgentContainer, runtime_id: str, now: float) -> None:
    """The engine has created the container."""
    container.runtime_id = runtime_id
    container.created_at = container.created_at or now
    container.known = max(container.known, ContainerStatus.CREATED)


def running(container: AgentContainer, live: LiveState, now: float) -> None:
    """The container is running."""
    live.restarting.discard(container.name)
    if container.known is ContainerStatus.STOPPED:
        live.astray.setdefault(container.name, now)
        return
    container.started_at = container.started_at or now
    container.known = max(container.known, ContainerStatus.RUNNING)


def health(container: AgentContainer, value: Health, now: float) -> None:
    """The health check has a new result."""
    if container.health is not value:
        container.health = value
        container.health_since = now


def state(
    record: AgentTask, container: AgentContainer, seen: ContainerState, live: LiveState, now: float
) -> None:
    """Apply the result of an inspect."""
    live.unseen.discard(container.name)
    sandbox = joined(seen.network_mode)
    if sandbox:
        live.joined[container.name] = sandbox
    created(container, seen.id, seen.created_at or now)
    if container.known is ContainerStatus.STOPPED:
        if seen.running:
            running(container, live, now)
        else:
            live.astray.pop(container.name, None)
    elif seen.running:
        live.pids[container.name] = seen.pid
        running(container, live, seen.started_at or now)
        health(container, seen.health, now)
    elif seen.status in ("exited", "dead"):
        live.pids.pop(container.name, None)
        if not container.started_at and seen.started_at:
            container.started_at = seen.started_at
        exited(record, container, seen, live, now)


def exited(
    record: AgentTask, container: AgentContainer, seen: ContainerState, live: LiveState, now: float
) -> None:
    """The container has stopped: restart it by its policy, or record how it ended."""
    if container.known is ContainerStatus.STOPPED or container.name in live.restarting:
        return
    wanted = container.desired is not ContainerStatus.STOPPED
    if wanted and seen.finished_at and seen.finished_at == container.restarted_exit_at:
        live.restarting.add(container.name)  # decided by an earlier process, not yet done
        return
    definition = record.payload.container(container.name)
    policy = definition.restart_policy if definition else None
    if policy is not None and may_restart(container, policy, seen.exit_code, now, live.when):
        container.restart_count += 1
        container.last_restart_at = now
        container.restarted_exit_at = seen.finished_at
        live.restarting.add(container.name)
        return
    container.exit_code = seen.exit_code
    container.finished_at = seen.finished_at or now
    if seen.oom_killed and (wanted or not record.payload.memory):
        # With cgroup version 1, memory that runs out for the task marks all of its containers, also
        # those that only stop because another one was killed.
        container.oom_killed = True
        set_reason(container, reasons.named(reasons.OUT_OF_MEMORY, reasons.OUT_OF_MEMORY_TEXT))
    elif seen.error:
        set_reason(container, reasons.named(reasons.ENGINE_STATE, seen.error))
    mark_stopped(container, now)


def stopped_again(container: AgentContainer, live: LiveState, now: float) -> None:
    """A container that was started again has been stopped once more, which is done only once.

    Source: Amazon ECS agent 1.105.1, ``task_manager.go``: whoever starts it again after that may be
    debugging, and is not disturbed.
    """
    container.stopped_again_at = now
    live.astray.pop(container.name, None)


def may_restart(
    container: AgentContainer,
    policy: RestartPolicy,
    exit_code: int | None,
    now: float,
    when: Callable[[float], float],
) -> bool:
    """Return whether the restart policy wants this stopped container to be started again.

    All of these must hold: it is meant to run, its exit code is known and not ignored, and it has
    run for the attempt period since its last (re)start. ``when`` converts a recorded time to the
    clock that ``now`` was read from.
    """
    if not policy.enabled or container.desired is ContainerStatus.STOPPED:
        return False
    if exit_code is None or exit_code in policy.ignored_exit_codes:
        return False
    last = container.last_restart_at or container.started_at
    return now - when(last) >= policy.restart_attempt_period


def vanished(container: AgentContainer, live: LiveState, now: float) -> None:
    """The engine says that there is no such container.

    One that was never created still has to be created; one that was created is lost.
    """
    live.unseen.discard(container.name)
    live.joined.pop(container.name, None)
    live.restarting.discard(container.name)
    live.astray.pop(container.name, None)
    if container.known is ContainerStatus.STOPPED:
        return
    if not container.runtime_id and container.known < ContainerStatus.CREATED:
        return
    set_reason(container, reasons.named(reasons.VANISHED, reasons.VANISHED_TEXT))
    mark_stopped(container, now)
