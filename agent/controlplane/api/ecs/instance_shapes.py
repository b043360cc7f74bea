"""Container instances in responses: registered and remaining resources, and task counts.

Source: the Amazon ECS API reference, ContainerInstance and Resource. In ``remainingResources`` the
ports are those in use, as the service shows them; all other values are what is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.controlplane import access, records
from agent.controlplane.api.ecs.tags import show_tags
from agent.controlplane.records import AssignRecord, TaskRecord
from agent.controlplane.scheduler.placement import CAPACITY_PROVIDER
from agent.model.resources import room_to_share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import Store

_GPU_MPS = "ecs-host-agent.gpu-mps"
"""The attribute of hosts that share GPUs, ``resources.attributes.GPU_MPS``."""


@dataclass(frozen=True, slots=True)
class InstanceLoad:
    """The connection and the tasks of an instance at the moment."""

    connected: bool
    """Whether the lease of its agent is valid."""
    tasks: tuple[TaskRecord, ...]
    """Tasks that are not STOPPED."""

    @classmethod
    async def read(cls, store: Store, record: InstanceRecord) -> InstanceLoad:
        """Return the load of an instance."""
        alive = await store.get(records.alive_key(record.id))
        keys = [
            records.task_key(assignment.cluster, records.last_element(kv.key))
            async for kv, assignment in access.scan(
                store, AssignRecord, records.assignments_prefix(record.id)
            )
        ]
        found = await access.find_many(store, TaskRecord, keys)
        tasks = (item.record for item in found.values())
        return cls(alive is not None, tuple(t for t in tasks if t.last_status != "STOPPED"))


def show_instance(record: InstanceRecord, load: InstanceLoad, *, with_tags: bool) -> dict[str, Any]:
    """Return an instance as the API shows it."""
    running = sum(task.last_status == "RUNNING" for task in load.tasks)
    engine = record.resources.engine_version
    return {
        "containerInstanceArn": record.arn,
        "ec2InstanceId": record.shown_ec2_id,
        "version": record.version,
        "versionInfo": {
            "agentVersion": record.agent_version,
            "agentHash": record.agent_hash or None,
            "dockerVersion": f"DockerVersion: {engine}" if engine else None,
        },
        "registeredResources": _registered(record),
        "remainingResources": _remaining(record, load),
        "status": record.status,
        "statusReason": record.status_reason or None,
        "agentConnected": load.connected and record.status != "INACTIVE",
        "runningTasksCount": running,
        "pendingTasksCount": len(load.tasks) - running,
        "attributes": [
            {"name": name, "value": attribute.value or None}
            for name, attribute in sorted(record.attributes.items())
        ],
        "gpuDevices": _gpu_devices(record, load),
        "registeredAt": record.registered_at,
        "capacityProviderName": record.attribute_values.get(CAPACITY_PROVIDER) or None,
        "attachments": [],
        "tags": show_tags(record.tags) if with_tags else [],
    }


def _registered(record: InstanceRecord) -> list[dict[str, Any]]:
    resources = record.resources
    shown = [
        _integer("CPU", resources.cpu_units),
        _integer("MEMORY", resources.memory_mib),
        _strings("PORTS", map(str, sorted(resources.reserved_tcp))),
        _strings("PORTS_UDP", map(str, sorted(resources.reserved_udp))),
    ]
    if resources.gpus:
        shown.append(_strings("GPU", [gpu.uuid for gpu in resources.gpus]))
    return shown


def _remaining(record: InstanceRecord, load: InstanceLoad) -> list[dict[str, Any]]:
    resources = record.resources
    needs = [task.needs for task in load.tasks]
    tcp = resources.reserved_tcp.union(*(n.tcp_ports for n in needs))
    udp = resources.reserved_udp.union(*(n.udp_ports for n in needs))
    shown = [
        _integer("CPU", resources.cpu_units - sum(n.cpu_units for n in needs)),
        _integer("MEMORY", resources.memory_mib - sum(n.memory_mib for n in needs)),
        _strings("PORTS", map(str, sorted(tcp))),
        _strings("PORTS_UDP", map(str, sorted(udp))),
    ]
    if resources.gpus:
        taken = frozenset[str]().union(*(n.gpus | n.gpu_shares.keys() for n in needs))
        free = [gpu.uuid for gpu in resources.gpus if gpu.uuid not in taken]
        shown.append(_strings("GPU", free))
    return shown


def _gpu_devices(record: InstanceRecord, load: InstanceLoad) -> list[dict[str, Any]] | None:
    """Return how each GPU is shared; None for an instance that shares none, as in ECS."""
    if _GPU_MPS not in record.attributes:
        return None
    needs = [task.needs for task in load.tasks]
    users = [gpu for task in load.tasks for c in task.containers for gpu in c.gpu_ids]
    shown = []
    for gpu in record.resources.gpus:
        is_shared = any(gpu.uuid in n.gpu_shares for n in needs)
        is_taken = any(gpu.uuid in n.gpus for n in needs)
        shown.append(
            {
                "gpuId": gpu.uuid,
                "sharingMode": "NVIDIA_MPS" if is_shared else "DEDICATED" if is_taken else "IDLE",
                "totalMemoryInMiB": gpu.memory_mib,
                "remainingMemoryInMiB": room_to_share(gpu, needs) or 0,
                "containerCount": users.count(gpu.uuid),
            }
        )
    return shown


def _integer(name: str, value: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "INTEGER",
        "doubleValue": 0.0,
        "longValue": 0,
        "integerValue": value,
    }


def _strings(name: str, values: Iterable[str]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STRINGSET",
        "doubleValue": 0.0,
        "longValue": 0,
        "integerValue": 0,
        "stringSetValue": list(values),
    }
