"""Services in responses of the ECS API: ``Service``, ``Deployment`` and ``ServiceEvent``. Pure.

Members that Terraform compares are always shown, also where nobody set them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.api.ecs.tags import show_tags
from agent.controlplane.services.record import INACTIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.controlplane.names import Names
    from agent.controlplane.services.observed import SeenTask
    from agent.controlplane.services.record import DeploymentRecord, EventsRecord, ServiceRecord


def service(
    record: ServiceRecord,
    tasks: Iterable[SeenTask],
    events: EventsRecord | None,
    names: Names,
    *,
    with_tags: bool = False,
) -> dict[str, Any]:
    """Return a ``Service``.

    Args:
        record: the service.
        tasks: its tasks.
        events: None if it has none.
        names: makes ARNs.
        with_tags: include the tags; ECS only does so on request.
    """
    seen = list(tasks)
    primary = record.primary
    deployments = [] if record.status == INACTIVE else record.deployments
    shown: dict[str, Any] = {
        "serviceArn": record.arn,
        "serviceName": record.name,
        "clusterArn": names.cluster(record.cluster),
        "loadBalancers": primary.load_balancers,
        "serviceRegistries": primary.service_registries,
        "status": record.status,
        "desiredCount": record.desired_count,
        **counts(seen),
        **runs_on(primary),
        "taskDefinition": primary.task_definition_arn or None,
        "deploymentConfiguration": record.deployment_configuration,
        "deployments": [_deployment(record, one, seen, names) for one in deployments],
        "events": [
            {"id": event.id, "createdAt": event.at, "message": event.message}
            for event in (events.events if events is not None else ())
        ],
        "createdAt": record.created_at,
        "createdBy": record.created_by or names.root(),
        "placementConstraints": record.placement_constraints,
        "placementStrategy": record.placement_strategy,
        "healthCheckGracePeriodSeconds": record.grace_s or 0,
        "schedulingStrategy": record.scheduling,
        "deploymentController": {"type": record.controller},
        "enableECSManagedTags": record.managed_tags,
        "propagateTags": record.propagate_tags,
        "enableExecuteCommand": record.enable_execute_command,
        "availabilityZoneRebalancing": "DISABLED",
        "resourceManagementType": "CUSTOMER",
    }
    if with_tags:
        shown["tags"] = show_tags(record.tags)
    return shown


def counts(tasks: Sequence[SeenTask]) -> dict[str, int]:
    """Return how many of the tasks run, and how many are to run."""
    return {
        "runningCount": sum(task.is_running for task in tasks),
        "pendingCount": sum(task.is_wanted and not task.is_running for task in tasks),
    }


def runs_on(deployment: DeploymentRecord) -> dict[str, Any]:
    """Return the members that say where a deployment's tasks run."""
    shown: dict[str, Any] = {
        "platformVersion": deployment.platform_version or None,
        "platformFamily": deployment.platform_family or None,
        "networkConfiguration": deployment.network_configuration or None,
    }
    if deployment.capacity_provider_strategy:
        return shown | {"capacityProviderStrategy": deployment.capacity_provider_strategy}
    return shown | {"launchType": deployment.launch_type or None}


def _deployment(
    record: ServiceRecord, deployment: DeploymentRecord, tasks: Sequence[SeenTask], names: Names
) -> dict[str, Any]:
    own = [task for task in tasks if task.started_by == deployment.id]
    is_primary = deployment is record.primary
    return {
        "id": deployment.id,
        "status": "PRIMARY" if is_primary else "ACTIVE",
        "taskDefinition": deployment.task_definition_arn,
        "desiredCount": (
            record.desired_count if is_primary else sum(task.is_wanted for task in own)
        ),
        **counts(own),
        "failedTasks": deployment.failed_tasks,
        "createdAt": deployment.created_at,
        "updatedAt": deployment.updated_at,
        **runs_on(deployment),
        "rolloutState": deployment.rollout_state,
        "rolloutStateReason": deployment.rollout_reason,
        **_service_connect(deployment, names),
    }


def _service_connect(deployment: DeploymentRecord, names: Names) -> dict[str, Any]:
    connect = deployment.service_connect
    if connect is None:
        return {}
    return {
        "serviceConnectConfiguration": connect.configuration,
        "serviceConnectResources": [
            {"discoveryName": one.discovery_name, "discoveryArn": names.registry(one.registry_id)}
            for one in connect.endpoints
        ],
    }
