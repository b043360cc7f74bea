"""Where the tasks of a service are reached, to register them as targets. Reads the store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access, host_ports, records
from agent.controlplane.definition import payload
from agent.controlplane.loadbalancing import balancer_records, naming
from agent.controlplane.loadbalancing.balancer_records import TargetGroupRecord, TargetRecord
from agent.controlplane.records import InstanceRecord, TaskDefinitionRecord, TaskRecord
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.parts import Parts
    from agent.controlplane.services.observed import Observed, SeenTask
    from agent.controlplane.services.record import ServiceRecord

READ_MOST: Final = 40
"""How many tasks are looked at in one step."""


class NoPlace(AgentError):
    """A task cannot be a target."""


async def with_places(parts: Parts, service: ServiceRecord, seen: Observed) -> Observed:
    """Return what is observed with the places of the tasks that are to be registered.

    Raises:
        StoreFailure: the store cannot be read.
    """
    balancers = {one.id: one.used_balancers for one in service.deployments}
    known = seen.balanced.targets
    arns = {each["targetGroupArn"] for listed in balancers.values() for each in listed}
    arns |= {each.target.group_arn for targets in known.values() for each in targets}
    if not arns:
        return seen
    groups = await _groups(parts, arns)
    new = [
        task
        for task in seen.tasks.values()
        if task.is_running
        and balancers.get(task.started_by)
        # Targets that others have deregistered are registered again once they are drained.
        and all(each.is_drained for each in known.get(task.id, ()))
    ]
    new = sorted(new, key=lambda task: task.id)[:READ_MOST] if service.status == "ACTIVE" else []
    found, problem = await _places(parts, service, new, groups, balancers)
    delays_s = {arn: group.deregistration_delay_s for arn, group in groups.items()}
    balanced = replace(seen.balanced, places=found, problem=problem, delays_s=delays_s)
    return replace(seen, balanced=balanced)


async def _groups(parts: Parts, arns: Iterable[str]) -> dict[str, TargetGroupRecord]:
    """Return the target groups that exist, by their ARNs."""
    named = {arn: naming.parse_target_group(parts.names, arn) for arn in arns}
    keys = [balancer_records.target_group_key(name) for name in named.values() if name is not None]
    found = await access.find_many(parts.store, TargetGroupRecord, keys)
    return {each.record.arn: each.record for each in found.values() if each.record.arn in named}


async def _places(
    parts: Parts,
    service: ServiceRecord,
    new: list[SeenTask],
    groups: Mapping[str, TargetGroupRecord],
    balancers: Mapping[str, list[dict[str, Any]]],
) -> tuple[dict[str, list[TargetRecord]], str]:
    """Return the targets that tasks will be, by task id, and why one of them cannot be a target."""
    cluster = service.cluster
    keys = [records.task_key(cluster, task.id) for task in new]
    tasks = [
        each.record for each in (await access.find_many(parts.store, TaskRecord, keys)).values()
    ]
    hosts = await access.find_many(
        parts.store,
        InstanceRecord,
        {records.key_of_instance(task.instance_arn) for task in tasks},
    )
    definitions = await access.find_many(
        parts.store,
        TaskDefinitionRecord,
        {records.task_definition_key(task.family, task.revision) for task in tasks},
    )
    places: dict[str, list[TargetRecord]] = {}
    problem = ""
    for task in tasks:
        host = hosts.get(records.key_of_instance(task.instance_arn))
        definition = definitions.get(records.task_definition_key(task.family, task.revision))
        try:
            if host is None or definition is None:
                raise NoPlace("its host or its task definition is gone")
            mode = payload.network_mode(definition.record.definition)
            places[task.id] = [
                target_of(task, mode, host.record, balancer, groups)
                for balancer in balancers[task.started_by]
            ]
        except NoPlace as error:
            problem = problem or f"(task {task.id}) {error}"
    return places, problem


def target_of(
    task: TaskRecord,
    mode: str,
    host: InstanceRecord,
    balancer: Mapping[str, Any],
    groups: Mapping[str, TargetGroupRecord],
) -> TargetRecord:
    """Return the target that a task is for one of its service's load balancers. Pure.

    Args:
        task: a task that runs.
        mode: its network mode.
        host: where it runs.
        balancer: as CreateService takes it.
        groups: target groups by their ARNs.

    Raises:
        NoPlace: it has no address or port, or the group is gone.
    """
    arn, port = balancer["targetGroupArn"], balancer["containerPort"]
    group = groups.get(arn)
    if group is None:
        raise NoPlace(f"(target-group {arn}) does not exist any more")
    address, host_port = host_ports.host_address(host), port
    if mode == "awsvpc":
        address = _task_address(task)
    elif mode != "host":
        name = balancer["containerName"]
        bindings = next((c.network_bindings for c in task.containers if c.name == name), [])
        found = host_ports.published(bindings, port, address)
        if found is None:
            raise NoPlace(f"(container {name}) has no host port for its port {port}")
        address, host_port = found
    if not address:
        who = "it" if mode == "awsvpc" else f"(container-instance {host.id})"
        raise NoPlace(f"{who} has reported no IPv4 address; ECS_HOST_ADDRESS sets that of a host")
    is_ip = group.target_type == "ip"
    return TargetRecord(
        group_arn=arn,
        id=address if is_ip else host.shown_ec2_id,
        port=host_port,
        address=address,
        task_id=task.id,
    )


def _task_address(task: TaskRecord) -> str:
    """Return the IPv4 address of a task in ``awsvpc`` mode; empty while it has none."""
    told = [
        interface.private_ipv4_address
        for container in task.containers
        for interface in container.network_interfaces
    ]
    # With Amazon's wire, only the attachment has it.
    told += [each.details.get("privateIPv4Address", "") for each in task.attachments]
    return next((address for address in told if address), "")
