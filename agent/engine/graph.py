"""Dependencies between the containers of a task, and whether they can be met.

Pure. Source of the rules: Amazon ECS agent 1.105.1, ``agent/engine/dependencygraph``. Two cases
differ: a HEALTHY dependency that has stopped, and one that never ran at all, fail at once instead
of leaving the task PENDING for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.engine.firelens import order as firelens
from agent.errors import PayloadError
from agent.model import reasons
from agent.model.status import Condition, ContainerStatus, Health

if TYPE_CHECKING:
    from agent.model.payload import Container, TaskPayload
    from agent.model.task import AgentContainer, AgentTask


@dataclass(frozen=True, slots=True)
class Edge:
    """One container waits for a condition of another."""

    target: str
    condition: Condition


Graph = dict[str, tuple[Edge, ...]]
"""The dependencies of each container: explicit ones, then those implied by links, volumesFrom and
the log driver ``awsfirelens``."""


When = Callable[[float], float]


def _as_recorded(at: float) -> float:
    return at


def graph_of(payload: TaskPayload) -> Graph:
    """Return all dependencies of a task, with those implied by links, ``volumesFrom`` and FireLens."""
    graph = {c.name: tuple(dict.fromkeys(_edges(c))) for c in payload.containers}
    router = firelens.router_of(payload)
    if router is None or graph[router.name]:
        return graph  # a router that waits for others cannot be waited for
    for container in payload.containers:
        waits_for = {edge.target for edge in graph[container.name]}
        if firelens.is_routed(container) and router.name not in waits_for | {container.name}:
            graph[container.name] += (Edge(router.name, Condition.START),)
    return graph


def _edges(container: Container) -> list[Edge]:
    explicit = [Edge(d.container_name, d.condition) for d in container.depends_on]
    links = [Edge(link.partition(":")[0], Condition.START) for link in container.links]
    volumes = [Edge(v.source_container, Condition.CREATE) for v in container.volumes_from]
    return explicit + links + volumes


def check(payload: TaskPayload, graph: Graph) -> None:
    """Check that the containers can be started in some order.

    Raises:
        PayloadError: a cycle, a missing container, HEALTHY on a container without a health check,
            or an invalid link. The text is the task's reason.
    """
    for container in payload.containers:
        for link in container.links:
            if link.count(":") > 1:
                cause = f"invalid link {link!r} of container {container.name}"
                raise PayloadError(reasons.resource_unusable(payload.arn, cause))
            _check_known(payload, link.partition(":")[0], f"links of container {container.name}")
        for source in container.volumes_from:
            where = f"volumesFrom of container {container.name}"
            _check_known(payload, source.source_container, where)
    names = graph.keys()
    for edges in graph.values():
        for edge in edges:
            target = payload.container(edge.target)
            if target is None or edge.target not in names:
                raise PayloadError(reasons.dependencies_unresolvable(payload.arn))
            if edge.condition is Condition.HEALTHY and not has_health_check(target):
                raise PayloadError(reasons.dependencies_unresolvable(payload.arn))
    if start_order(graph) is None:
        raise PayloadError(reasons.dependencies_unresolvable(payload.arn))


def _check_known(payload: TaskPayload, name: str, where: str) -> None:
    if payload.container(name) is None:
        cause = f"{where}: the task has no container {name!r}"
        raise PayloadError(reasons.resource_unusable(payload.arn, cause))


def has_health_check(container: Container) -> bool:
    """Return whether the engine will check this container's health."""
    if container.health_check_type:
        return True
    config = container.docker_config.config
    if not isinstance(config, dict):
        return False
    return any(key.casefold() == "healthcheck" and value for key, value in config.items())


def start_order(graph: Graph) -> list[str] | None:
    """Return the containers so that each comes after its dependencies; None if there is a cycle."""
    remaining = {name: {e.target for e in edges} for name, edges in graph.items()}
    order: list[str] = []
    while remaining:
        ready = [name for name, targets in remaining.items() if not targets & remaining.keys()]
        if not ready:
            return None
        order.extend(ready)
        for name in ready:
            del remaining[name]
    return order


def dependents(graph: Graph, name: str) -> list[str]:
    """Return the containers that depend on this one; they are stopped before it."""
    return [other for other, edges in graph.items() if any(e.target == name for e in edges)]


def is_met(edge: Edge, record: AgentTask) -> bool:
    """Return whether a dependency is met now."""
    dependency = record.containers[edge.target]
    known = dependency.known
    match edge.condition:
        case Condition.CREATE:
            return known >= ContainerStatus.CREATED
        case Condition.START:
            return known in (ContainerStatus.RUNNING, ContainerStatus.STOPPED)
        case Condition.COMPLETE:
            return known is ContainerStatus.STOPPED and dependency.exit_code is not None
        case Condition.SUCCESS:
            return known is ContainerStatus.STOPPED and dependency.exit_code == 0
        case Condition.HEALTHY:
            running = known is ContainerStatus.RUNNING
            return running and dependency.health is Health.HEALTHY


def failure(
    edge: Edge, record: AgentTask, name: str, now: float, when: When = _as_recorded
) -> str | None:
    """Return why a dependency can never be met any more, or None if it still may be.

    ``when`` converts a recorded time to the clock that ``now`` was read from.
    """
    dependency = record.containers[edge.target]
    text = f"dependency graph: failed to resolve container ordering dependency [{edge.target}]"
    text += f" for target [{name}]"
    if _never_ran(dependency):
        return f"{text}: container will never start"
    stopped = dependency.known is ContainerStatus.STOPPED
    if stopped and edge.condition is Condition.SUCCESS and dependency.exit_code != 0:
        return f"{text}: it exited with code {dependency.exit_code}"
    if stopped and edge.condition is Condition.HEALTHY:
        return f"{text}: it stopped before it was healthy"
    if stopped and edge.condition is Condition.COMPLETE and dependency.exit_code is None:
        return f"{text}: it is gone and left no exit code"
    if stopped or is_met(edge, record) or edge.condition in (Condition.START, Condition.CREATE):
        return None
    deadline = start_deadline(record, edge, when)
    if deadline is not None and now >= deadline:
        return f"{text}: dependency did not reach {edge.condition} within its start timeout"
    return None


def start_deadline(record: AgentTask, edge: Edge, when: When = _as_recorded) -> float | None:
    """Return when a dependency's ``startTimeout`` ends; None if it has none or never started."""
    container = record.payload.container(edge.target)
    dependency = record.containers[edge.target]
    if container is None or container.start_timeout <= 0 or not dependency.started_at:
        return None
    return when(dependency.started_at) + container.start_timeout


def _never_ran(dependency: AgentContainer) -> bool:
    stopping = ContainerStatus.STOPPED in (dependency.known, dependency.desired)
    return (
        stopping and not dependency.started_at and dependency.known is not ContainerStatus.RUNNING
    )
