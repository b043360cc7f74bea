"""From placements to tasks: creates the records of new tasks and commits them, all or none.

The transaction compares the guards of the instances (see ``fleet``), so two calls never use the same
CPU, memory, port or GPU. A task, its assignment and the guard are put in one transaction: an agent's
held poll sees the assignment at once, or never.

Tests: ``tests/unit/controlplane/api/ecs/test_tasks.py``, ``tests/unit/controlplane/test_races.py``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.definition import gpus, payload
from agent.controlplane.definition.needs import needs_of
from agent.controlplane.names import Names, new_id
from agent.controlplane.records import (
    AssignRecord,
    AttachmentRecord,
    ConnectedPort,
    ContainerRecord,
    RoleRecord,
    RunTokenRecord,
    TaskDefinitionRecord,
    TaskRecord,
)
from agent.controlplane.roles.needed import needed
from agent.controlplane.scheduler.instance import TaskNeeds
from agent.controlplane.security_groups import group_records, stored
from agent.controlplane.security_groups.users import groups_of
from agent.controlplane.store.contract import Compare, Op, Put, absent, present
from agent.controlplane.tasks.capacity import Capacity
from agent.controlplane.tasks.changes import ENI
from agent.controlplane.vpc import layout
from agent.model.resources import Needs
from agent.model.security_groups import GROUPS_DETAIL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.roles.needed import NeededRole
    from agent.controlplane.scheduler.fleet import FleetHost
    from agent.controlplane.scheduler.placement import Placed
    from agent.controlplane.store.contract import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """What all copies of one RunTask or StartTask call have in common; already checked."""

    cluster: str
    """Name of the cluster."""
    definition: TaskDefinitionRecord
    overrides: Mapping[str, Any]
    body: Mapping[str, Any]
    """The definition with overrides applied."""
    group: str
    started_by: str = ""
    capacity: Capacity = field(default_factory=Capacity)
    network_configuration: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    client_token: str = ""
    fingerprint: str = ""
    kept_here: frozenset[str] = frozenset()
    """Each ``valueFrom`` of its secrets whose value control keeps."""
    keeps_logs: bool = True
    """Whether control keeps the logs of the driver ``awslogs``."""
    execute_command: bool = False
    """Whether commands may be run in its containers by ``ExecuteCommand``."""
    registry_id: str = ""
    """The registry of its service; empty if there is none."""
    registry_port: int = 0
    connect_namespace: str = ""
    """Id of the namespace of Service Connect; empty without."""
    connected_ports: tuple[ConnectedPort, ...] = ()

    @property
    def roles(self) -> list[NeededRole]:
        """The roles that each copy needs credentials of."""
        return needed(self.body, self.kept_here, keeps_logs=self.keeps_logs)

    def security_groups(self, names: Names) -> list[str]:
        """Return the ids of each copy's security groups, the default one if it names none."""
        if not self.is_awsvpc:
            return []
        named = groups_of(self.network_configuration)
        return list(dict.fromkeys(named)) or [group_records.default_group_id(names)]

    @property
    def is_awsvpc(self) -> bool:
        """Whether each copy gets its own network interface."""
        return payload.network_mode(self.body) == "awsvpc"


def needs(order: TaskRequest, attributes: Mapping[str, str]) -> TaskNeeds:
    """Return what each copy needs, computed exactly as its agent computes it.

    Raises:
        OverrideError: a GPU count is not a number.
    """
    counted = needs_of(order.body)
    wanted = gpus.of(order.body)
    return TaskNeeds(
        cpu_units=counted.cpu_units,
        memory_mib=counted.memory_mib,
        tcp_ports=counted.tcp_ports,
        udp_ports=counted.udp_ports,
        gpus=wanted.counts,
        all_gpus=wanted.all_for,
        gpu_shares={name: share.memory_mib for name, share in wanted.shares.items()},
        attributes=attributes,
        group=order.group,
    )


def place_task(
    order: TaskRequest,
    task_needs: TaskNeeds,
    placed: Placed,
    host: FleetHost,
    *,
    provider: str,
    names: Names,
    now: float,
) -> TaskRecord:
    """Return the record of a new task on the chosen host.

    ``provider`` is its capacity provider; empty if there is none.
    """
    task = new_task(order, task_needs, provider=provider, names=names, now=now)
    return on_host(task, task_needs, placed, host, names=names)


def new_task(
    order: TaskRequest, task_needs: TaskNeeds, *, provider: str, names: Names, now: float
) -> TaskRecord:
    """Return the record of a new task that has no host yet.

    ``provider`` is its capacity provider; empty if there is none.
    """
    task_id = new_id()
    attachments = []
    if order.is_awsvpc:
        details = {GROUPS_DETAIL: ",".join(order.security_groups(names))}
        attachments.append(AttachmentRecord(id=str(uuid.uuid4()), type=ENI, details=details))
    return TaskRecord(
        id=task_id,
        arn=names.task(order.cluster, task_id),
        cluster=order.cluster,
        task_definition_arn=order.definition.arn,
        family=order.definition.family,
        revision=order.definition.revision,
        last_status="PROVISIONING",
        containers=[
            _container(c, names, order.cluster, task_id) for c in order.body["containerDefinitions"]
        ],
        attachments=attachments,
        overrides=dict(order.overrides),
        roles={
            role.role_type: RoleRecord(arn=role.arn, credentials_id=str(uuid.uuid4()))
            for role in order.roles
        },
        kept_here=sorted(order.kept_here),
        network_configuration=dict(order.network_configuration),
        cpu=str(task_needs.cpu_units),
        memory=str(task_needs.memory_mib),
        group=order.group,
        started_by=order.started_by,
        launch_type=order.capacity.launch_type,
        capacity_provider=provider,
        platform_version=order.capacity.platform_version,
        platform_family=order.capacity.platform_family,
        created_at=now,
        tags=dict(order.tags),
        client_token=order.client_token,
        enable_execute_command=order.execute_command,
        registry_id=order.registry_id,
        registry_port=order.registry_port,
        connect_namespace=order.connect_namespace,
        connected_ports=list(order.connected_ports),
    )


def on_host(
    task: TaskRecord, task_needs: TaskNeeds, placed: Placed, host: FleetHost, *, names: Names
) -> TaskRecord:
    """Return a task that has no host yet as it is on the chosen one."""
    given = frozenset(gpu for ids in placed.gpus.values() for gpu in ids)
    shares: dict[str, int] = {}
    for container, mib in task_needs.gpu_shares.items():
        (gpu,) = placed.gpus[container]
        shares[gpu] = shares.get(gpu, 0) + mib
    values = host.instance.attributes
    architecture = values.get("ecs.cpu-architecture", "")
    zone = values.get("ecs.availability-zone", "")
    return replace(
        task,
        # ECS only starts with PROVISIONING if there is something to provision.
        last_status="PROVISIONING" if task.attachments else "PENDING",
        containers=[
            replace(c, gpu_ids=list(placed.gpus[c.name])) if c.name in placed.gpus else c
            for c in task.containers
        ],
        attachments=[_in_zone(each, task, names, zone) for each in task.attachments],
        instance_id=host.record.id,
        instance_arn=host.record.arn,
        needs=Needs(
            cpu_units=task_needs.cpu_units,
            memory_mib=task_needs.memory_mib,
            tcp_ports=task_needs.tcp_ports,
            udp_ports=task_needs.udp_ports,
            gpus=given - shares.keys(),
            gpu_shares=shares,
        ),
        attributes={"ecs.cpu-architecture": architecture} if architecture else {},
        availability_zone=zone,
        waiting=None,
    )


def _in_zone(
    attachment: AttachmentRecord, task: TaskRecord, names: Names, zone: str
) -> AttachmentRecord:
    """Return the interface of a task in the subnet of its host's zone."""
    vpc = task.network_configuration.get("awsvpcConfiguration", {})
    subnet = layout.subnet_of(names, vpc.get("subnets", ()), zone)
    return replace(attachment, details={**attachment.details, "subnetId": subnet})


async def commit(
    store: Store,
    names: Names,
    order: TaskRequest,
    tasks: Sequence[TaskRecord],
    hosts: Mapping[str, FleetHost],
    *,
    compares: Sequence[Compare] = (),
    also: Sequence[Op] = (),
) -> bool:
    """Create the tasks, those that have no host yet without an assignment; durable if it returns True.

    False means that an instance, the cluster or the client token has changed since it was read, or
    one of ``compares`` does not hold, and that nothing was done: read again. What is in ``also`` is
    done in the same transaction.
    """
    touched = {
        host.record.id: host
        for host in (hosts[task.instance_arn] for task in tasks if task.instance_arn)
    }
    # A group may have been deleted meanwhile.
    exist, uses = stored.use(names, order.security_groups(names))
    conditions: list[Compare] = [present(records.cluster_key(order.cluster)), *exist, *compares]
    then: list[Op] = [*also, *uses]
    for host in touched.values():
        conditions.extend(host.compares)
        then.append(host.guard())
    for task in tasks:
        then += task_ops(task)
    if order.client_token:
        key = records.run_token_key(order.cluster, order.client_token)
        token = RunTokenRecord(
            fingerprint=order.fingerprint,
            task_arns=[task.arn for task in tasks],
            at=tasks[0].created_at,
        )
        conditions.append(absent(key))
        then.append(Put(key, records.encode(token)))
    return (await store.txn(conditions, then)).succeeded


def task_ops(task: TaskRecord) -> list[Op]:
    """Return what puts a task, and assigns it to its host if it has one."""
    put: list[Op] = [Put(records.task_key(task.cluster, task.id), records.encode(task))]
    if task.instance_id:
        key = records.assignment_key(task.instance_id, task.id)
        put.append(Put(key, records.encode(AssignRecord.of(task))))
    return put


def _container(
    definition: Mapping[str, Any], names: Names, cluster: str, task_id: str
) -> ContainerRecord:
    return ContainerRecord(
        name=definition["name"],
        arn=names.container(cluster, task_id),
        image=definition["image"],
        essential=definition.get("essential", True),
        health_check=bool(definition.get("healthCheck")),
        cpu=definition.get("cpu") or 0,
        memory=definition.get("memory"),
        memory_reservation=definition.get("memoryReservation"),
    )
