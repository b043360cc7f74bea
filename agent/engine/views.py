"""Tasks as seen by operators, the sampler and the local endpoint. Pure copies of records.

Tests: ``tests/unit/engine/test_task_host.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.metrics.targets import SampleTarget
from agent.model import ids
from agent.model.status import ContainerStatus, NetworkMode
from agent.model.telemetry import ContainerFacts, TaskFacts
from agent.model.views import ContainerUsage, ContainerView, TaskUsage, TaskView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.engine.live import LiveState
    from agent.model.resources import Wait
    from agent.model.task import AgentContainer, AgentTask


def targets_of(record: AgentTask, live: LiveState, cgroup: str) -> Iterator[SampleTarget]:
    """Yield the containers of a task that run, and those that their restart policy may start again.

    ``cgroup`` is the path of the task's control group.
    """
    mode = record.payload.mode
    for container in record.containers.values():
        if not container.runtime_id:
            continue
        restarts = _restarts(record, container)
        running = container.known is ContainerStatus.RUNNING
        if not running and restarts is None:
            continue
        pid = live.pids.get(container.name, 0)
        network_pid = 0
        if mode is NetworkMode.AWSVPC and record.network is not None:
            network_pid = record.network.sandbox_pid
        elif mode is NetworkMode.BRIDGE:
            network_pid = pid
        yield SampleTarget(
            task_arn=record.arn,
            name=container.name,
            runtime_id=container.runtime_id,
            pid=pid,
            network_pid=network_pid,
            cgroup=cgroup,
            restarts=restarts,
            running=running,
        )


def _restarts(record: AgentTask, container: AgentContainer) -> int | None:
    """Return how often its policy restarted a container; None without an enabled policy."""
    definition = record.payload.container(container.name)
    policy = definition.restart_policy if definition else None
    return container.restart_count if policy and policy.enabled else None


def task_view(record: AgentTask, waits: tuple[Wait, ...]) -> TaskView:
    """Return one task in its current state."""
    payload = record.payload
    return TaskView(
        arn=record.arn,
        id=ids.task_id(record.arn),
        family=payload.family,
        revision=payload.version,
        status=record.known.wire(),
        desired=record.desired.value,
        network_mode=payload.mode.value,
        ipv4=record.network.any_address if record.network and record.network_held else "",
        reason=record.reason,
        stop_code=record.stop_code,
        accepted_at=record.accepted_at,
        started_at=record.started_at,
        stopped_at=record.stopped_at,
        containers=[_container(record, c) for c in record.containers.values()],
        waits=list(waits),
    )


def task_usage(record: AgentTask) -> TaskUsage:
    """Return a task for a list of what uses the host, without its sample."""
    return TaskUsage(
        arn=record.arn,
        id=ids.task_id(record.arn),
        family=record.payload.family,
        revision=record.payload.version,
        status=record.known.wire(),
        accepted_at=record.accepted_at,
        containers=[
            ContainerUsage(
                name=container.name,
                status=container.known.name,
                health=container.health,
                restart_count=container.restart_count,
                started_at=max(container.started_at, container.last_restart_at),
            )
            for container in record.containers.values()
        ],
    )


def task_facts(record: AgentTask) -> TaskFacts:
    """Return the facts for telemetry of a task, other than its metrics.

    Health is included only for containers for which control asked for it (Source: Amazon ECS
    agent 1.105.1, ``healthCheckType`` ``docker``).
    """
    payload = record.payload
    return TaskFacts(
        arn=record.arn,
        origin=record.origin,
        family=payload.family,
        revision=payload.version,
        network_mode=payload.mode.value,
        containers=tuple(_facts(record, c) for c in record.containers.values()),
    )


def _facts(record: AgentTask, container: AgentContainer) -> ContainerFacts:
    definition = record.payload.container(container.name)
    return ContainerFacts(
        name=container.name,
        runtime_id=container.runtime_id,
        running=ContainerStatus.RUNNING <= container.known < ContainerStatus.STOPPED,
        reports_health=definition is not None and definition.health_check_type == "docker",
        health=container.health,
        health_since=container.health_since,
        restart_count=_restarts(record, container),
    )


def _container(record: AgentTask, container: AgentContainer) -> ContainerView:
    definition = record.payload.container(container.name)
    return ContainerView(
        name=container.name,
        image=definition.image if definition else "",
        status=container.known.name,
        desired=container.desired.name,
        essential=definition.essential if definition else True,
        runtime_id=container.runtime_id,
        engine_name=container.engine_name,
        exit_code=container.exit_code,
        reason=container.reason,
        health=container.health,
        created_at=container.created_at,
        started_at=container.started_at,
        finished_at=container.finished_at,
        restart_count=container.restart_count,
        bindings=container.bindings,
    )
