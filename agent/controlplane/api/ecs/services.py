"""Services: CreateService, UpdateService, DeleteService, DescribeServices and lists of services.

The calls only write what is wanted; ``controlplane.services`` makes it so. Both compare the record when
they write it, so neither loses what the other did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs import (
    service_balancers,
    service_connect,
    service_orders,
    service_shapes,
    task_set_shapes,
)
from agent.controlplane.api.ecs.naming import active_cluster, names_it, service_name
from agent.controlplane.front import pages
from agent.controlplane.front.errors import (
    InvalidParameterException,
    ServiceNotActiveException,
    ServiceNotFoundException,
)
from agent.controlplane.loadbalancing import stored as balancer_groups
from agent.controlplane.records import ClusterRecord
from agent.controlplane.security_groups import stored
from agent.controlplane.security_groups.users import groups_of
from agent.controlplane.services import acts
from agent.controlplane.services.record import (
    ACTIVE,
    DRAINING,
    INACTIVE,
    EventsRecord,
    ServiceRecord,
)
from agent.controlplane.services.view import ServiceKey
from agent.controlplane.store.contract import Delete, Put, as_read, unchanged

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.store.contract import Compare, Op

DESCRIBE_LIMIT = 10
"""Maximum number of services in one DescribeServices call."""
SERVICES_LIMIT = 5000
"""Of one cluster; Amazon's quota."""
_LIST_SIZE = 10
"""Amazon's default for lists of services."""


async def create_service(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a service; the same call again returns the service that it created."""
    name = request["serviceName"]
    if name.startswith("arn:"):
        raise InvalidParameterException("Invalid service name: an ARN is not a name.")
    tries = access.ConflictRetries(f"service {name[:255]}")
    while True:
        cluster = await active_cluster(parts, request)
        name = service_name(parts.names, name, cluster.name)
        key = records.service_key(cluster.name, name)
        cluster_read = await access.find(
            parts.store, ClusterRecord, records.cluster_key(cluster.name)
        )
        known = await access.find(parts.store, ServiceRecord, key)
        if known is not None and known.record.status != INACTIVE:
            return {"service": await _show(parts, _repeated(known.record, request))}
        service = await service_orders.new_service(parts, cluster, name, request)
        await parts.services.read()
        alive = [s for s in parts.services.services(cluster.name) if s.status != INACTIVE]
        if len(alive) >= SERVICES_LIMIT:
            raise InvalidParameterException(
                f"The maximum number of services in a cluster, {SERVICES_LIMIT}, has been reached."
            )
        if cluster_read is not None and cluster_read.record == cluster:
            exist, uses = await _others(parts, None, service)
            then = [
                *uses,
                Put(key, records.encode(service)),
                Delete(records.service_events_key(cluster.name, name)),
                Put(records.members_key(cluster.name), b""),
                *await acts.rollout_ops(parts.store, None, service, parts.clock()),
            ]
            done = await parts.store.txn(
                [unchanged(cluster_read.kv), as_read(key, known.kv if known else None), *exist],
                acts.each_key_once(then),
            )
            if done.succeeded:
                return {"service": await _show(parts, service, with_tags=True)}
        await tries.again()


async def _others(
    parts: Parts, before: ServiceRecord | None, service: ServiceRecord
) -> tuple[list[Compare], list[Op]]:
    """Return what the transaction of a service has to hold of what it uses: security groups, target groups, names.

    One may have been deleted since it was looked up, and of names of Service Connect, taken.
    """
    primary = service.primary
    exist, uses = stored.use(parts.names, groups_of(primary.network_configuration))
    balancers = service_balancers.groups(primary.load_balancers)
    more, begins = await balancer_groups.use_groups(parts.store, parts.names, balancers)
    holds, makes = await service_connect.uses(parts, before, service)
    return [*exist, *more, *holds], [*uses, *begins, *makes]


def _repeated(known: ServiceRecord, request: dict[str, Any]) -> ServiceRecord:
    """Return the existing service, if a request is the one that created it."""
    if known.status == DRAINING:
        raise InvalidParameterException("Unable to Start a service that is still Draining.")
    token = request.get("clientToken") or ""
    if (token, service_orders.fingerprint(request)) != (known.client_token, known.fingerprint):
        raise InvalidParameterException("Creation of service was not idempotent.")
    return known


async def update_service(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change what a service should be; some changes begin a new deployment."""
    tries = access.ConflictRetries("the service")
    while True:
        cluster = await active_cluster(parts, request)
        found = await find_service(parts, cluster.name, request["service"])
        if found.record.status != ACTIVE:
            raise ServiceNotActiveException
        changed = await service_orders.updated_service(parts, cluster, found.record, request)
        exist, uses = await _others(parts, found.record, changed)
        then = [
            *uses,
            Put(found.kv.key, records.encode(changed)),
            *await acts.rollout_ops(parts.store, found.record, changed, parts.clock()),
        ]
        if (
            changed == found.record
            or (
                await parts.store.txn([unchanged(found.kv), *exist], acts.each_key_once(then))
            ).succeeded
        ):
            return {"service": await _show(parts, changed, with_tags=True)}
        await tries.again()


async def delete_service(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a service; it is DRAINING until its tasks are being stopped, and then INACTIVE."""
    cluster = await active_cluster(parts, request)
    found = await find_service(parts, cluster.name, request["service"])
    if found.record.status == INACTIVE:
        raise ServiceNotFoundException
    force = bool(request.get("force"))

    def drain(old: ServiceRecord) -> ServiceRecord:
        if old.status != ACTIVE:
            return old
        if not force and not old.is_daemon and old.desired_count > 0:
            raise InvalidParameterException(
                "The service cannot be stopped while it is scaled above 0."
            )
        return replace(old, status=DRAINING, desired_count=0)

    gone = await access.change(parts.store, ServiceRecord, found.kv.key, drain, urgent=True)
    if gone is None:
        raise ServiceNotFoundException
    return {"service": await _show(parts, gone)}


async def describe_services(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe up to 10 services; those that do not exist are in ``failures`` as MISSING."""
    cluster = await active_cluster(parts, request)
    asked: list[str] = request["services"]
    if not asked:
        raise InvalidParameterException("Services cannot be empty.")
    if len(asked) > DESCRIBE_LIMIT:
        raise InvalidParameterException(f"services can have at most {DESCRIBE_LIMIT} items.")
    with_tags = "TAGS" in request.get("include", ())
    shown, failures = [], []
    await parts.services.read()
    for given in dict.fromkeys(asked):
        name = service_name(parts.names, given, cluster.name)
        found = parts.services.service(ServiceKey(cluster.name, name))
        if found is None or not names_it(given, found.record.arn):
            arn = parts.names.service(cluster.name, name)
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            shown.append(await _show(parts, found.record, with_tags=with_tags))
    return {"services": shown, "failures": failures}


async def list_services(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the ARNs of the ACTIVE services of a cluster by name, in pages."""
    cluster = await active_cluster(parts, request)
    size = pages.page_size({"maxResults": _LIST_SIZE, **request})
    after = pages.start_after("ListServices", request)
    await parts.services.read()
    chosen = [
        service
        for service in parts.services.services(cluster.name)
        if (after is None or service.name > after) and _is_listed(service, request)
    ]
    answer: dict[str, Any] = {"serviceArns": [service.arn for service in chosen[:size]]}
    if len(chosen) > size:
        answer["nextToken"] = pages.token("ListServices", request, chosen[size - 1].name)
    return answer


def _is_listed(service: ServiceRecord, request: dict[str, Any]) -> bool:
    return (
        service.status == ACTIVE
        and request.get("launchType") in (None, service.primary.launch_type)
        and request.get("schedulingStrategy") in (None, service.scheduling)
        and request.get("resourceManagementType") in (None, "CUSTOMER")
    )


async def list_services_by_namespace(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the ARNs of the ACTIVE services of all clusters whose Service Connect uses a namespace, in pages."""
    size = pages.page_size({"maxResults": _LIST_SIZE, **request})
    after = pages.start_after("ListServicesByNamespace", request) or ""
    await parts.services.read()
    arns = await service_connect.services_in(parts, request["namespace"])
    chosen = [arn for arn in arns if arn > after]
    answer: dict[str, Any] = {"serviceArns": chosen[:size]}
    if len(chosen) > size:
        answer["nextToken"] = pages.token("ListServicesByNamespace", request, chosen[size - 1])
    return answer


async def find_service(parts: Parts, cluster: str, given: str) -> Found[ServiceRecord]:
    """Return a service of the cluster by name or ARN.

    Raises:
        ServiceNotFoundException: there is none.
    """
    name = service_name(parts.names, given, cluster)
    found = await access.find(parts.store, ServiceRecord, records.service_key(cluster, name))
    if found is None or not names_it(given, found.record.arn):
        raise ServiceNotFoundException
    return found


async def _show(parts: Parts, service: ServiceRecord, *, with_tags: bool = False) -> dict[str, Any]:
    await parts.services.read()
    key = records.service_events_key(service.cluster, service.name)
    events = await access.find(parts.store, EventsRecord, key)
    tasks = tuple(parts.services.tasks(ServiceKey(service.cluster, service.name)))
    shown = service_shapes.service(
        service,
        tasks,
        events.record if events is not None else None,
        parts.names,
        with_tags=with_tags,
    )
    if service.is_external:
        shown["taskSets"] = [
            task_set_shapes.task_set(service, one, tasks, parts.names, with_tags=with_tags)
            for one in service.task_sets
            if service.status != INACTIVE
        ]
    return shown


HANDLERS: Handlers = {
    "CreateService": create_service,
    "UpdateService": update_service,
    "DeleteService": delete_service,
    "DescribeServices": describe_services,
    "ListServices": list_services,
    "ListServicesByNamespace": list_services_by_namespace,
}
