"""Tasks in responses of the ECS API: ``Task``, ``Container`` and ``Attachment``. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane.api.ecs.tags import show_tags
from agent.controlplane.tasks.changes import ENI
from agent.model.security_groups import GROUPS_DETAIL

if TYPE_CHECKING:
    from agent.controlplane.names import Names
    from agent.controlplane.records import AttachmentRecord, ContainerRecord, TaskRecord
    from agent.model.task import NetworkBinding

EXECUTE_COMMAND_AGENT = "ExecuteCommandAgent"

# The order in which ECS lists the details of an interface.
_DETAILS = (
    "subnetId",
    "networkInterfaceId",
    "macAddress",
    "privateDnsName",
    "privateIPv4Address",
    "privateIPv6Address",
)


def task(
    record: TaskRecord,
    names: Names,
    *,
    connected: bool,
    with_tags: bool = False,
    waits_for: str = "",
) -> dict[str, Any]:
    """Return a ``Task``.

    Args:
        record: the task.
        names: makes ARNs.
        connected: whether the agent of its instance is connected now.
        with_tags: include the tags; ECS only does so on request.
        waits_for: what the task waits for in control; shown as the reason of its waiting containers.
    """
    connectivity = record.connectivity
    if connectivity and not connected and record.last_status != "STOPPED":
        connectivity = "DISCONNECTED"
    return {
        "taskArn": record.arn,
        "clusterArn": names.cluster(record.cluster),
        "taskDefinitionArn": record.task_definition_arn,
        "containerInstanceArn": record.instance_arn or None,
        "desiredStatus": record.desired_status,
        "lastStatus": _last_status(record),
        "containers": [
            container(c, record, waits_for, connected=connected) for c in record.containers
        ],
        "attachments": [attachment(a) for a in record.attachments],
        "attributes": [{"name": n, "value": v} for n, v in record.attributes.items()],
        "overrides": _overrides(record),
        "cpu": record.cpu,
        "memory": record.memory,
        "group": record.group,
        "startedBy": record.started_by or None,
        "launchType": record.launch_type,
        "capacityProviderName": record.capacity_provider or None,
        "platformVersion": record.platform_version or None,
        "platformFamily": record.platform_family or None,
        "availabilityZone": record.availability_zone or None,
        "connectivity": connectivity or None,
        "connectivityAt": record.connectivity_at or None,
        "healthStatus": record.health_status,
        "enableExecuteCommand": record.enable_execute_command,
        "createdAt": record.created_at,
        "pullStartedAt": record.pull_started_at or None,
        "pullStoppedAt": record.pull_stopped_at or None,
        "startedAt": record.started_at or None,
        "stoppingAt": record.stopping_at or None,
        "executionStoppedAt": record.execution_stopped_at or None,
        "stoppedAt": record.stopped_at or None,
        "stopCode": record.stop_code or None,
        "stoppedReason": record.stopped_reason or None,
        "tags": show_tags(record.tags) if with_tags else [],
        "version": record.version,
    }


def _last_status(record: TaskRecord) -> str:
    """Return the status of a task; one that finishes its requests is DEACTIVATING, as on Amazon ECS."""
    is_leaving = record.drains_until > 0 and record.last_status == "RUNNING"
    return "DEACTIVATING" if is_leaving else record.last_status


def container(
    record: ContainerRecord, owner: TaskRecord, waits_for: str = "", *, connected: bool = True
) -> dict[str, Any]:
    """Return a ``Container``.

    Args:
        record: the container.
        owner: its task.
        waits_for: the reason of a container that waits and has no other.
        connected: whether the agent of its instance is connected now.
    """
    reason = record.reason or (waits_for if record.last_status == "PENDING" else "")
    return {
        "containerArn": record.arn,
        "taskArn": owner.arn,
        "name": record.name,
        "image": record.image,
        "imageDigest": record.image_digest or None,
        "runtimeId": record.runtime_id or None,
        "lastStatus": record.last_status,
        "exitCode": record.exit_code,
        "reason": reason or None,
        "networkBindings": [_binding(b) for b in record.network_bindings],
        "networkInterfaces": msgspec.to_builtins(record.network_interfaces),
        "healthStatus": record.health_status,
        "cpu": str(record.cpu),
        "memory": None if record.memory is None else str(record.memory),
        "memoryReservation": (
            None if record.memory_reservation is None else str(record.memory_reservation)
        ),
        "gpuIds": record.gpu_ids or None,
        "managedAgents": managed_agents(record, owner, connected=connected) or None,
    }


def managed_agents(
    record: ContainerRecord, owner: TaskRecord, *, connected: bool
) -> list[dict[str, Any]]:
    """Return the managed agents of a container: that of ExecuteCommand, if it is enabled.

    Nothing runs in the container for it: it has the status of the container, while the host's agent is
    connected.
    """
    if not owner.enable_execute_command:
        return []
    status = record.last_status if record.last_status in ("RUNNING", "STOPPED") else "PENDING"
    if status == "RUNNING" and not connected:
        return [
            {
                "name": EXECUTE_COMMAND_AGENT,
                "lastStatus": "STOPPED",
                "reason": "The agent of the task's host is not connected",
            }
        ]
    started_at = owner.started_at if status == "RUNNING" else None
    return [
        {"name": EXECUTE_COMMAND_AGENT, "lastStatus": status, "lastStartedAt": started_at or None}
    ]


def _binding(binding: NetworkBinding) -> dict[str, Any]:
    """Return a ``NetworkBinding``; ECS shows all of its members."""
    return {
        "bindIP": binding.bind_ip,
        "containerPort": binding.container_port,
        "hostPort": binding.host_port,
        "containerPortRange": binding.container_port_range,
        "hostPortRange": binding.host_port_range,
        "protocol": binding.protocol,
    }


def attachment(record: AttachmentRecord) -> dict[str, Any]:
    """Return an ``Attachment``, with its details in the order of ECS."""
    details = {name: value for name, value in record.details.items() if name != GROUPS_DETAIL}
    order = [*_DETAILS, *sorted(set(details) - set(_DETAILS))] if record.type == ENI else details
    return {
        "id": record.id,
        "type": record.type,
        "status": record.status,
        "details": [{"name": n, "value": details[n]} for n in order if details.get(n)],
    }


def _overrides(record: TaskRecord) -> dict[str, Any]:
    """Return the overrides; ECS lists every container, even those without overrides."""
    given = {o["name"]: o for o in record.overrides.get("containerOverrides", ())}
    shown = [given.get(c.name, {"name": c.name}) for c in record.containers]
    return {
        "inferenceAcceleratorOverrides": [],
        **record.overrides,
        "containerOverrides": shown,
    }
