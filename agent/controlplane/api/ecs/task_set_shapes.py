"""Task sets in responses of the ECS API: ``TaskSet``. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.api.ecs.service_shapes import counts, runs_on
from agent.controlplane.api.ecs.tags import show_tags
from agent.controlplane.services.record import DRAINING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.names import Names
    from agent.controlplane.services.observed import SeenTask
    from agent.controlplane.services.record import ServiceRecord, TaskSetRecord


def task_set(
    service: ServiceRecord,
    one: TaskSetRecord,
    tasks: Iterable[SeenTask],
    names: Names,
    *,
    with_tags: bool,
) -> dict[str, Any]:
    """Return a ``TaskSet``; ``tasks`` are those of the service."""
    own = [task for task in tasks if task.started_by == one.id]
    status = "PRIMARY" if one.is_primary else one.status
    shown: dict[str, Any] = {
        "id": one.id,
        "taskSetArn": names.task_set(service.cluster, service.name, one.digits),
        "serviceArn": service.arn,
        "clusterArn": names.cluster(service.cluster),
        "externalId": one.external_id or None,
        "status": DRAINING if service.status == DRAINING else status,
        "taskDefinition": one.deployment.task_definition_arn,
        "computedDesiredCount": one.desired_count(service),
        **counts(own),
        "createdAt": one.deployment.created_at,
        "updatedAt": one.updated_at,
        **runs_on(one.deployment),
        "loadBalancers": [],
        "serviceRegistries": [],
        "scale": {"value": one.scale_percent, "unit": "PERCENT"},
        "stabilityStatus": "STEADY_STATE" if one.is_steady(service) else "STABILIZING",
        "stabilityStatusAt": one.stability_at,
    }
    return shown | {"tags": show_tags(one.tags)} if with_tags else shown
