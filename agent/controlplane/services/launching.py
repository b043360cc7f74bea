"""Starts tasks of a service with the code, the checks and the refusals of RunTask."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.api.ecs import task_orders
from agent.controlplane.api.ecs.tags import show_tags
from agent.controlplane.discovery.record import registry_id_of
from agent.controlplane.scheduler import placement
from agent.controlplane.services import acts, split, task_sets, wording
from agent.controlplane.services.observed import SeenHost, Wanted
from agent.controlplane.services.step import notice
from agent.controlplane.store.contract import Put, unchanged
from agent.controlplane.tasks import launch, waiting

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Mapping, Sequence

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import TaskRecord
    from agent.controlplane.scheduler.fleet import FleetHost, Places
    from agent.controlplane.scheduler.instance import TaskNeeds
    from agent.controlplane.scheduler.placement import Constraint, Placed, Rejection
    from agent.controlplane.services.observed import Observed
    from agent.controlplane.services.plan import Plan
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord
    from agent.controlplane.tasks.launch import TaskRequest

_DEFAULT_STRATEGY_ITEMS = (
    {"type": "spread", "field": "attribute:ecs.availability-zone"},
    {"type": "spread", "field": "instanceId"},
)
"""What Amazon ECS does for a service without strategies."""


class Launched(Enum):
    """How a launch went."""

    ALL = "all tasks were placed"
    SOME = "there was no room for some of them"
    CONFLICT = "something has changed, so nothing was done"


@dataclass(frozen=True, slots=True)
class Order:
    """What a deployment's tasks are, and where they may be placed."""

    task: TaskRequest
    needs: TaskNeeds
    constraints: Sequence[Constraint]
    strategies: Sequence[placement.Strategy]


async def read_order(parts: Parts, service: ServiceRecord, deployment: DeploymentRecord) -> Order:
    """Check a deployment as RunTask would, and return what to launch.

    Raises:
        ApiError: RunTask would refuse it.
        PlacementError, QueryError: a constraint or a strategy is malformed.
    """
    request = _request(service, deployment)
    task = await task_orders.read_order(parts, request, service=service.name)
    for registry in deployment.service_registries:
        task = dataclasses.replace(
            task,
            registry_id=registry_id_of(parts.names, registry.get("registryArn", "")),
            registry_port=registry.get("port") or registry.get("containerPort") or 0,
        )
    connect = deployment.service_connect
    if connect is not None:
        task = dataclasses.replace(
            task,
            connect_namespace=connect.namespace_id,
            connected_ports=tuple(
                records.ConnectedPort(
                    registry_id=one.registry_id,
                    port=one.port,
                    alias_port=one.alias_port if one.alias_port != one.port else 0,
                )
                for one in connect.endpoints
            ),
        )
    constraints = task_orders.constraints(task, service.placement_constraints)
    strategies = placement.parse_strategies(service.placement_strategy or _DEFAULT_STRATEGY_ITEMS)
    needs = launch.needs(task, task_orders.required_attributes(task))
    return Order(task, needs, constraints, strategies)


def _request(service: ServiceRecord, deployment: DeploymentRecord) -> dict[str, Any]:
    """Return the RunTask request of a deployment."""
    request: dict[str, Any] = {
        "cluster": service.cluster,
        "taskDefinition": deployment.task_definition_arn,
        "startedBy": deployment.id,
        "placementConstraints": service.placement_constraints,
        "enableECSManagedTags": service.managed_tags,
        "enableExecuteCommand": service.enable_execute_command,
    }
    if service.placement_strategy:
        request["placementStrategy"] = service.placement_strategy
    if deployment.capacity_provider_strategy:
        request["capacityProviderStrategy"] = deployment.capacity_provider_strategy
    else:
        request["launchType"] = deployment.launch_type
    if deployment.platform_version:
        request["platformVersion"] = deployment.platform_version
    if deployment.network_configuration:
        request["networkConfiguration"] = deployment.network_configuration
    if service.propagate_tags == "SERVICE":
        request["tags"] = show_tags(service.tags)
    elif service.propagate_tags == "TASK_DEFINITION":
        request["propagateTags"] = "TASK_DEFINITION"
    return request


def seen_hosts(
    order: Order | None, hosts: Mapping[str, FleetHost], seen: Observed, daemons: Collection[str]
) -> dict[str, SeenHost]:
    """Return the hosts of a cluster as a DAEMON service sees them, by id.

    Without an order, because RunTask refuses the deployment, active hosts keep the tasks that they have.

    A host that is cut off and has no task of the service is left out: none could be started. Tasks of the groups
    ``daemons``, all DAEMON services of the cluster, are not waited for: they would wait for each other.
    """
    used = {task.instance_id for task in seen.tasks.values() if task.is_wanted}
    found: dict[str, SeenHost] = {}
    for host in hosts.values():
        instance, id_ = host.instance, host.record.id
        known = seen.hosts.get(id_)
        is_there = instance.agent_connected or id_ in used
        lost_since = known.lost_since if known is not None else None
        found[id_] = SeenHost(
            id_,
            instance.active,
            None if instance.agent_connected else lost_since or 0.0,
            takes_daemon=is_there
            and instance.active
            and (
                id_ in used
                if order is None
                else placement.suits(instance, order.needs, order.constraints)
            ),
            other_tasks=sum(n for name, n in instance.task_groups.items() if name not in daemons),
        )
    return found


def roomy_hosts(hosts: Mapping[str, FleetHost], seen: Observed) -> dict[str, SeenHost]:
    """Return the hosts of a service's tasks with what placement strategies look at, by id."""
    found: dict[str, SeenHost] = {}
    for host in hosts.values():
        known = seen.hosts.get(host.record.id)
        if known is not None:
            found[known.id] = SeenHost(
                known.id,
                known.is_active,
                known.lost_since,
                attributes=host.instance.attributes,
                free_memory_mib=host.instance.memory_mib,
                free_cpu_units=host.instance.cpu_units,
            )
    return found


async def start(
    parts: Parts,
    found: Found[ServiceRecord],
    plan: Plan,
    order: Order,
    seen: Observed,
    rng: random.Random,
) -> Launched:
    """Start the tasks of a plan where there is room, and say why if there is none.

    The service of the plan is the one that was ``found``, or one of its task sets (``task_sets.facing``).

    Raises:
        StoreFailure: it may or may not have been done; planning again is safe.
    """
    service, now = plan.service, parts.clock()
    is_fargate = order.task.capacity.is_fargate
    own = Wanted.of(replace(service, deployments=[plan.deployment]), seen, now).good
    providers = split.of_new(order.task.capacity, service.desired_count, own, plan.start)
    if service.is_daemon:
        hosts: Mapping[str, FleetHost] = await parts.fleet.read(service.cluster)
        placed, refused = _place_daemons(order, plan, hosts)
    else:
        places = await parts.fleet.places(service.cluster, borrows=is_fargate)
        placed, refused, hosts = _place(order, plan, places, providers, rng)
    tasks = [
        launch.place_task(
            order.task,
            order.needs,
            p,
            hosts[p.instance_arn],
            provider=p.provider,
            names=parts.names,
            now=now,
        )
        for p in placed
    ]
    late, is_full = await _waiting(parts, plan, order, providers, placed)
    tasks += late
    is_short = len(tasks) < plan.start
    message = ""
    if is_full:
        message = wording.cannot_launch(service.name, waiting.LIMIT_REACHED)
    elif is_short:
        message = wording.cannot_place(service.name, refused, is_fargate=is_fargate)
    changed, events = notice(service, wording.PLACEMENT, message, now)
    if tasks:
        ids = [task.id for task in tasks]
        unhealthy = min(len(ids), plan.replaces_unhealthy)
        events.insert(0, wording.has_started(service.name, ids, unhealthy=unhealthy))
    elif changed == service:
        return Launched.SOME
    changed = replace(changed, turn=service.turn + 1)
    compares = [unchanged(found.kv)]
    then = [
        Put(found.kv.key, records.encode(task_sets.whole(found.record, changed, now))),
        *await acts.event_ops(parts.store, found.record, events, now),
    ]
    if tasks:
        done = await launch.commit(
            parts.store, parts.names, order.task, tasks, hosts, compares=compares, also=then
        )
    else:
        done = (await parts.store.txn(compares, then)).succeeded
    if not done:
        return Launched.CONFLICT
    return Launched.SOME if is_short else Launched.ALL


async def _waiting(
    parts: Parts,
    plan: Plan,
    order: Order,
    providers: Sequence[str] | None,
    placed: Sequence[Placed],
) -> tuple[list[TaskRecord], bool]:
    """Return the tasks that wait for a host, and whether there are more of them than may wait."""
    missing = [] if plan.service.is_daemon else waiting.unplaced(providers, placed)
    if not missing:
        return [], False
    may_wait = await waiting.MayWait.of(parts.store, parts.fleet, parts.names, order.task)
    late = may_wait.new_tasks(
        order.task,
        order.needs,
        missing,
        placement={
            "placementConstraints": plan.service.placement_constraints,
            "placementStrategy": plan.service.placement_strategy or _DEFAULT_STRATEGY_ITEMS,
        },
        now=parts.clock(),
    )
    return late, len(late) < sum(name in may_wait.providers for name in missing)


async def explain(
    parts: Parts, found: Found[ServiceRecord], service: ServiceRecord, reason: str
) -> None:
    """Write the event of a service whose tasks RunTask would refuse; once while that lasts."""
    now = parts.clock()
    message = wording.cannot_launch(service.name, reason)
    changed, events = notice(service, wording.PLACEMENT, message, now)
    if events:
        changed = replace(changed, turn=service.turn + 1)
        put = Put(found.kv.key, records.encode(task_sets.whole(found.record, changed, now)))
        ops = await acts.event_ops(parts.store, found.record, events, now)
        await parts.store.txn([unchanged(found.kv)], [put, *ops])


def _place_daemons(
    order: Order, plan: Plan, hosts: Mapping[str, FleetHost]
) -> tuple[list[Placed], list[Rejection]]:
    by_id = {host.record.id: host for host in hosts.values()}
    answers = [
        placement.place_on(by_id[name].instance, order.needs, order.constraints)
        for name in plan.hosts
        if name in by_id
    ]
    placed = [answer for answer in answers if isinstance(answer, placement.Placed)]
    return placed, [a for a in answers if isinstance(a, placement.Rejection)]


def _place(
    order: Order,
    plan: Plan,
    places: Places,
    providers: Sequence[str] | None,
    rng: random.Random,
) -> tuple[list[Placed], list[Rejection], Mapping[str, FleetHost]]:
    try:
        outcome, hosts = places.choose(
            order.needs,
            plan.start,
            constraints=order.constraints,
            strategies=order.strategies,
            providers=providers,
            rng=rng,
        )
    except placement.PlacementError:
        return [], [], {}  # there are no hosts
    return outcome.placed, outcome.refused, hosts
