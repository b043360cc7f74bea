"""Task sets: Create, Update, Delete and DescribeTaskSets, and UpdateServicePrimaryTaskSet.

They are part of the record of a service with the deployment controller EXTERNAL. The calls only write what
is wanted; ``services.task_sets`` makes it so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs import service_orders, task_set_shapes
from agent.controlplane.api.ecs.naming import active_cluster
from agent.controlplane.api.ecs.services import find_service
from agent.controlplane.api.ecs.tags import read_tags
from agent.controlplane.front.errors import (
    InvalidParameterException,
    LimitExceededException,
    ServiceNotActiveException,
    TaskSetNotFoundException,
    UnsupportedFeatureException,
)
from agent.controlplane.scheduler.placement import PlacementError
from agent.controlplane.scheduler.query import QueryError
from agent.controlplane.security_groups import stored
from agent.controlplane.security_groups.users import groups_of
from agent.controlplane.services import launching
from agent.controlplane.services.record import (
    ACTIVE,
    COMPLETED,
    DRAINING,
    ServiceRecord,
    TaskSetRecord,
)
from agent.controlplane.services.view import ServiceKey
from agent.controlplane.store.contract import Put, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.records import ClusterRecord

SETS_LIMIT = 5
"""Task sets of one service; Amazon's quota."""
_NOT_FOR_SETS = ("loadBalancers", "serviceRegistries")


async def create_task_set(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a task set; with the client token of an earlier call, return the one of that call."""
    tries = access.ConflictRetries("the service")
    while True:
        cluster = await active_cluster(parts, request)
        found = await _external(parts, cluster, request)
        known = _earlier(found.record, request)
        if known is not None:
            return await _answer(parts, found.record, known)
        new = await _new(parts, cluster, found.record, request)
        changed = replace(found.record, task_sets=[*found.record.task_sets, new])
        groups = groups_of(new.deployment.network_configuration)
        exist, uses = stored.use(parts.names, groups)
        then = [*uses, Put(found.kv.key, records.encode(changed))]
        if (await parts.store.txn([unchanged(found.kv), *exist], then)).succeeded:
            return await _answer(parts, changed, new)
        await tries.again()


async def update_task_set(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change the scale of a task set."""
    percent = _scale(request)

    def decide(service: ServiceRecord, one: TaskSetRecord) -> ServiceRecord:
        _check_alive(one)
        return _with(service, replace(one, scale_percent=percent, updated_at=parts.clock()))

    return await _change(parts, request, "taskSet", decide)


async def delete_task_set(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a task set; it is DRAINING until its tasks are being stopped, and then gone."""
    force = bool(request.get("force"))

    def decide(service: ServiceRecord, one: TaskSetRecord) -> ServiceRecord:
        if one.status == DRAINING:
            return service
        if not force and one.desired_count(service) > 0:
            raise InvalidParameterException(
                "The task set cannot be deleted while it is scaled above 0. Scale it to 0 with "
                "UpdateTaskSet, or use force."
            )
        gone = replace(
            one, status=DRAINING, scale_percent=0.0, is_primary=False, updated_at=parts.clock()
        )
        return _with(service, gone)

    return await _change(parts, request, "taskSet", decide)


async def update_service_primary_task_set(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make a task set the primary one, whose fields the service shows; all others become ACTIVE."""

    def decide(service: ServiceRecord, one: TaskSetRecord) -> ServiceRecord:
        _check_alive(one)
        if one.is_primary:
            return service
        now = parts.clock()
        sets = [
            replace(each, is_primary=each.id == one.id, updated_at=now)
            if each.is_primary or each.id == one.id
            else each
            for each in service.task_sets
        ]
        return replace(service, task_sets=sets)

    return await _change(parts, request, "primaryTaskSet", decide)


async def describe_task_sets(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe the named task sets of a service, or all; those that do not exist are MISSING."""
    cluster = await active_cluster(parts, request)
    service = (await _external(parts, cluster, request)).record
    arns = {
        parts.names.task_set(service.cluster, service.name, s.digits): s for s in service.task_sets
    }
    known = {one.id: one for one in service.task_sets} | arns
    asked = list(dict.fromkeys(request.get("taskSets") or [one.id for one in service.task_sets]))
    with_tags = "TAGS" in request.get("include", ())
    sets = {known[given].id: known[given] for given in asked if given in known}
    return {
        "taskSets": [
            (await _answer(parts, service, one, with_tags=with_tags))["taskSet"]
            for one in sets.values()
        ],
        "failures": [{"arn": given, "reason": "MISSING"} for given in asked if given not in known],
    }


async def _new(
    parts: Parts, cluster: ClusterRecord, service: ServiceRecord, request: Mapping[str, Any]
) -> TaskSetRecord:
    """Return the record of a new task set; raises ``ApiError`` if RunTask would refuse its tasks."""
    for member in _NOT_FOR_SETS:
        if request.get(member):
            raise UnsupportedFeatureException(
                f"'{member}' is not supported for task sets: give the tasks' addresses to what "
                "shifts the traffic; leave it out."
            )
    service_orders.refuse(request)
    if len(service.task_sets) >= SETS_LIMIT:
        raise LimitExceededException(
            f"The maximum number of task sets in a service, {SETS_LIMIT}, has been reached."
        )
    deployment = await service_orders.new_deployment(parts, cluster, request)
    try:
        await launching.read_order(parts, service, deployment)
    except (PlacementError, QueryError) as error:
        raise InvalidParameterException(str(error)) from None
    return TaskSetRecord(
        deployment=replace(deployment, rollout_state=COMPLETED, rollout_reason=""),
        scale_percent=_scale(request) if request.get("scale") else 0.0,
        external_id=request.get("externalId") or "",
        tags=read_tags(request.get("tags", ())),
        client_token=service_orders.client_token(request),
        fingerprint=service_orders.fingerprint(request),
        updated_at=deployment.created_at,
        stability_at=deployment.created_at,
    )


def _earlier(service: ServiceRecord, request: Mapping[str, Any]) -> TaskSetRecord | None:
    token = service_orders.client_token(request)
    same = [one for one in service.task_sets if token and one.client_token == token]
    if not same:
        return None
    if same[0].fingerprint != service_orders.fingerprint(request):
        raise InvalidParameterException("Creation of task set was not idempotent.")
    return same[0]


def _scale(request: Mapping[str, Any]) -> float:
    value = float(request["scale"].get("value") or 0.0)
    if not 0 <= value <= 100:
        raise InvalidParameterException("The value of scale must be between 0 and 100 per cent.")
    return value


def _check_alive(one: TaskSetRecord) -> None:
    if one.status != ACTIVE:
        raise InvalidParameterException(f"The task set {one.id} is being deleted.")


def _with(service: ServiceRecord, changed: TaskSetRecord) -> ServiceRecord:
    sets = [changed if one.id == changed.id else one for one in service.task_sets]
    return replace(service, task_sets=sets)


async def _external(
    parts: Parts, cluster: ClusterRecord, request: Mapping[str, Any]
) -> Found[ServiceRecord]:
    """Return the service of a request, which has task sets."""
    found = await find_service(parts, cluster.name, request["service"])
    if found.record.status != ACTIVE:
        raise ServiceNotActiveException
    if not found.record.is_external:
        raise InvalidParameterException(
            "Only services with the deployment controller EXTERNAL have task sets; that of the "
            f"service {found.record.name} is {found.record.controller}."
        )
    return found


async def _change(
    parts: Parts,
    request: Mapping[str, Any],
    member: str,
    decide: Callable[[ServiceRecord, TaskSetRecord], ServiceRecord],
) -> dict[str, Any]:
    """Change the task set that a member of a request names, and return the response."""
    cluster = await active_cluster(parts, request)
    found = await _external(parts, cluster, request)
    given = request[member]

    def apply(service: ServiceRecord) -> ServiceRecord:
        if service.status != ACTIVE:
            raise ServiceNotActiveException
        return decide(service, _named(parts, service, given))

    changed = await access.change(
        parts.store, ServiceRecord, found.kv.key, apply, urgent=member == "taskSet"
    )
    if changed is None:
        raise ServiceNotActiveException
    return await _answer(parts, changed, _named(parts, changed, given))


def _named(parts: Parts, service: ServiceRecord, given: str) -> TaskSetRecord:
    for one in service.task_sets:
        if given in (one.id, parts.names.task_set(service.cluster, service.name, one.digits)):
            return one
    raise TaskSetNotFoundException


async def _answer(
    parts: Parts, service: ServiceRecord, one: TaskSetRecord, *, with_tags: bool = True
) -> dict[str, Any]:
    await parts.services.read()
    tasks = parts.services.tasks(ServiceKey(service.cluster, service.name))
    shown = task_set_shapes.task_set(service, one, tasks, parts.names, with_tags=with_tags)
    return {"taskSet": shown}


HANDLERS: Handlers = {
    "CreateTaskSet": create_task_set,
    "UpdateTaskSet": update_task_set,
    "DeleteTaskSet": delete_task_set,
    "DescribeTaskSets": describe_task_sets,
    "UpdateServicePrimaryTaskSet": update_service_primary_task_set,
}
