"""Service deployments: how updates went, StopServiceDeployment, and ContinueServiceDeployment for hooks.

A service that is purged takes its deployments with it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent.controlplane import access, records
from agent.controlplane.api.ecs.naming import active_cluster
from agent.controlplane.api.ecs.service_shapes import runs_on
from agent.controlplane.api.ecs.services import find_service
from agent.controlplane.api.ecs.task_definitions import find_task_definition
from agent.controlplane.front import pages
from agent.controlplane.front.errors import (
    ConflictException,
    InvalidParameterException,
    ServiceDeploymentNotFoundException,
)
from agent.controlplane.names import parse_arn
from agent.controlplane.services import acts, lifecycle, rollout, rollouts, wording
from agent.controlplane.services.record import ACTIVE
from agent.controlplane.services.rollouts import RolloutRecord, RolloutsRecord
from agent.controlplane.services.view import ServiceKey
from agent.controlplane.store.contract import Put, unchanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.services.observed import SeenTask
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord

DESCRIBE_LIMIT = 20
_LIST_SIZE = 20
_ROLLBACK = "ROLLBACK"
_HOOK_ID = re.compile(r"ecs-[A-Za-z_]{1,32}-[A-Za-z0-9]{1,64}")
_SHORT = (
    *("serviceDeploymentArn", "serviceArn", "clusterArn", "startedAt", "createdAt"),
    *("finishedAt", "status", "statusReason"),
)
"""The members of a service deployment that a list shows too."""


async def list_service_deployments(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the service deployments of a service, newest first, in pages."""
    cluster = await active_cluster(parts, request)
    service = (await find_service(parts, cluster.name, request["service"])).record
    size = pages.page_size({"maxResults": _LIST_SIZE, **request})
    last = pages.start_after("ListServiceDeployments", request)
    known = await _known(parts, service.cluster, service.name)
    left = [one for one in known if _is_listed(one, request)]
    if last is not None:
        ids = [one.id for one in left]
        left = left[ids.index(last) + 1 :] if last in ids else []
    shown = [_show(parts, service, one, ()) for one in left[:size]]
    answer: dict[str, Any] = {
        "serviceDeployments": [
            {name: one.get(name) for name in _SHORT}
            | {"targetServiceRevisionArn": one["targetServiceRevision"]["arn"]}
            for one in shown
        ]
    }
    if len(left) > size:
        answer["nextToken"] = pages.token("ListServiceDeployments", request, left[size - 1].id)
    return answer


def _is_listed(one: RolloutRecord, request: dict[str, Any]) -> bool:
    created = request.get("createdAt", {})
    return (
        (not request.get("status") or one.status in request["status"])
        and one.deployment.created_at > created.get("after", 0)
        and one.deployment.created_at < created.get("before", float("inf"))
    )


async def describe_service_deployments(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe up to 20 service deployments; those that do not exist are MISSING."""
    shown, failures = [], []
    await parts.services.read()
    for arn in _asked(request["serviceDeploymentArns"], "serviceDeploymentArns"):
        found = await _find(parts, arn, "service-deployment")
        if found is None:
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            service, one = found
            key = ServiceKey(service.cluster, service.name)
            shown.append(_show(parts, service, one, tuple(parts.services.tasks(key))))
    return {"serviceDeployments": shown, "failures": failures}


async def describe_service_revisions(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe up to 20 service revisions; those that do not exist are MISSING."""
    shown, failures = [], []
    for arn in _asked(request["serviceRevisionArns"], "serviceRevisionArns"):
        found = await _find(parts, arn, "service-revision")
        if found is None:
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            shown.append(await _show_revision(parts, *found))
    return {"serviceRevisions": shown, "failures": failures}


async def stop_service_deployment(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Stop a deployment and roll back to the last one that was completed.

    Works whether or not the circuit breaker is set to roll back, and does so once: a deployment that is over, or is
    being rolled back, is not stopped again.
    """
    arn = request["serviceDeploymentArn"]
    if request.get("stopType", _ROLLBACK) != _ROLLBACK:
        raise InvalidParameterException(
            f"The stopType {request['stopType']} is not valid: use {_ROLLBACK}."
        )
    tries = access.ConflictRetries("the service")
    while True:
        found = await _find(parts, arn, "service-deployment")
        if found is None:
            raise ServiceDeploymentNotFoundException
        service, one = await _stoppable(parts, *found)
        now = parts.clock()
        done = rollout.stopped(service.record, now)
        if done is None or service.record.primary.id != one.deployment.id:
            raise ConflictException(
                "The service deployment cannot be stopped: no earlier deployment of the service was "
                "completed that it could be rolled back to. Update or delete the service."
            )
        changed, events = done
        then = [
            Put(service.kv.key, records.encode(changed)),
            *await acts.event_ops(parts.store, changed, events, now),
            *await acts.rollout_ops(parts.store, service.record, changed, now),
        ]
        if (await parts.store.txn([unchanged(service.kv)], then, urgent=True)).succeeded:
            return {"serviceDeploymentArn": arn}
        await tries.again()


async def _stoppable(
    parts: Parts, service: ServiceRecord, one: RolloutRecord
) -> tuple[Found[ServiceRecord], RolloutRecord]:
    """Return the newest record of the service; raises ``ConflictException`` if the deployment is over."""
    if one.status != rollouts.IN_PROGRESS or service.status != ACTIVE:
        raise ConflictException(
            f"The service deployment cannot be stopped: its status is {one.status}."
        )
    return await find_service(parts, service.cluster, service.name), one


async def continue_service_deployment(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Let a deployment go on that waits at a PAUSE hook, or roll it back."""
    arn, hook_id = request["serviceDeploymentArn"], request["hookId"]
    if not _HOOK_ID.fullmatch(hook_id):
        raise InvalidParameterException(
            "Invalid hookId: hookId must follow the format: ecs-{hookType}-{id}"
        )
    tries = access.ConflictRetries("the service")
    while True:
        found = await _find(parts, arn, "service-deployment")
        if found is None:
            raise ServiceDeploymentNotFoundException
        one = found[1]
        if one.status not in rollouts.ONGOING or found[0].status != ACTIVE:
            raise InvalidParameterException(
                "Continuing a service deployment is not allowed for service deployment in terminal states."
            )
        service = await find_service(parts, found[0].cluster, found[0].name)
        now = parts.clock()
        changed, events = _continued(service.record, one, request, now)
        then = [
            Put(service.kv.key, records.encode(changed)),
            *await acts.event_ops(parts.store, changed, events, now),
            *await acts.rollout_ops(parts.store, service.record, changed, now),
        ]
        if (await parts.store.txn([unchanged(service.kv)], then, urgent=True)).succeeded:
            return {"serviceDeploymentArn": arn}
        await tries.again()


def _continued(
    service: ServiceRecord, one: RolloutRecord, request: dict[str, Any], now: float
) -> tuple[ServiceRecord, list[str]]:
    """Return the service and its events after an operator has decided about a hook."""
    is_current = service.primary.id == one.deployment.id
    waits = lifecycle.waiting(service.primary) if is_current else []
    wait = next((each for each in waits if each.id == request["hookId"]), None)
    if wait is None:
        raise InvalidParameterException(
            "Provided hookId is either completed, unavailable, or not associated with the given "
            "Resource ARN"
        )
    if request.get("action", "CONTINUE") == _ROLLBACK:
        service = lifecycle.with_status(service, wait.id, lifecycle.FAILED)
        return rollout.given_up(service, wording.hook_was_refused(wait.stage), now)
    return lifecycle.with_status(service, wait.id, lifecycle.SUCCEEDED), []


def _asked(arns: Sequence[str], member: str) -> list[str]:
    if not 1 <= len(arns) <= DESCRIBE_LIMIT:
        raise InvalidParameterException(f"{member} must have 1 to {DESCRIBE_LIMIT} items.")
    return list(dict.fromkeys(arns))


async def _known(parts: Parts, cluster: str, name: str) -> list[RolloutRecord]:
    key = records.service_rollouts_key(cluster, name)
    found = await access.find(parts.store, RolloutsRecord, key)
    return found.record.rollouts if found is not None else []


async def _find(parts: Parts, text: str, kind: str) -> tuple[ServiceRecord, RolloutRecord] | None:
    """Return the service and the service deployment of an ARN, or of a revision's ARN."""
    arn = parse_arn(text)
    if arn is None or arn.kind != kind or len(arn.path) != 3:
        raise InvalidParameterException(
            f"Invalid identifier: {text[:255]} is not the ARN of a {kind}"
        )
    if not parts.names.owns(arn):
        return None
    cluster, name, wanted = arn.path
    await parts.services.read()
    service = parts.services.service(ServiceKey(cluster, name))
    if service is None:
        return None
    for one in await _known(parts, cluster, name):
        if wanted == (one.id if kind == "service-deployment" else one.deployment.digits):
            return service.record, one
    return None


def _show(
    parts: Parts, service: ServiceRecord, one: RolloutRecord, tasks: Sequence[SeenTask]
) -> dict[str, Any]:
    names, where = parts.names, (service.cluster, service.name)

    def revision(digits: str) -> dict[str, Any]:
        own = [t for t in tasks if t.started_by == f"ecs-svc/{digits}" and t.is_wanted]
        is_primary = service.primary.digits == digits
        return {
            "arn": names.service_revision(*where, digits),
            "requestedTaskCount": service.desired_count if is_primary else len(own),
            "runningTaskCount": sum(task.is_running for task in own),
            "pendingTaskCount": sum(not task.is_running for task in own),
        }

    target = one.deployment.digits
    shown: dict[str, Any] = {
        "serviceDeploymentArn": names.service_deployment(*where, one.id),
        "serviceArn": service.arn,
        "clusterArn": names.cluster(service.cluster),
        "createdAt": one.deployment.created_at,
        "startedAt": one.deployment.created_at,
        "finishedAt": one.finished_at or None,
        "updatedAt": one.updated_at,
        "targetServiceRevision": revision(target) | _weights(one, is_target=True),
        "sourceServiceRevisions": [
            revision(digits) | _weights(one, is_target=False) for digits in one.sources
        ],
        "status": one.status,
        "statusReason": one.reason or None,
        "lifecycleStage": _stage(one),
        "lifecycleHookDetails": _hooks(one),
        "deploymentConfiguration": service.deployment_configuration,
        "deploymentCircuitBreaker": _breaker(service, one),
        "alarms": _alarms(one),
    }
    if one.rolled_back_at:
        shown["rollback"] = {
            "reason": one.reason,
            "startedAt": one.rolled_back_at,
            "serviceRevisionArn": names.service_revision(*where, one.rolled_back_to),
        }
    return shown


def _weights(one: RolloutRecord, *, is_target: bool) -> dict[str, float]:
    """Return how much of the traffic a revision is to have; nothing where none is shifted."""
    advanced = [each.get("advancedConfiguration") or {} for each in one.deployment.load_balancers]
    if one.lifecycle is None or not any(advanced):
        return {}
    has_new = not one.rolled_back_at
    shares = {
        "requestedProductionTrafficWeight": lifecycle.production_percent(one.lifecycle) * has_new
    }
    if any(each.get("testListenerRule") for each in advanced):
        shares["requestedTestTrafficWeight"] = lifecycle.test_percent(one.lifecycle) * has_new
    return {name: share if is_target else 100.0 - share for name, share in shares.items()}


def _stage(one: RolloutRecord) -> str:
    if one.lifecycle is not None and one.status == rollouts.IN_PROGRESS:
        return lifecycle.shown_stage(one.lifecycle)
    if one.alarms is not None and one.alarms.steady_at and one.status == rollouts.IN_PROGRESS:
        return lifecycle.BAKE_TIME
    return lifecycle.SCALE_UP if one.status in rollouts.ONGOING else lifecycle.CLEAN_UP


def _hooks(one: RolloutRecord) -> list[dict[str, Any]] | None:
    if one.lifecycle is None:
        return None
    return [
        {
            "hookId": wait.id,
            "targetType": "PAUSE",
            "status": wait.status,
            "expiresAt": wait.expires_at,
            "timeoutAction": wait.on_timeout,
        }
        for wait in one.lifecycle.waits
    ]


def _breaker(service: ServiceRecord, one: RolloutRecord) -> dict[str, Any]:
    if not service.breaker.get("enable"):
        return {"status": "DISABLED"}
    own = next((d for d in service.deployments if d.id == one.deployment.id), None)
    is_ongoing = one.status == rollouts.IN_PROGRESS
    status = "MONITORING" if is_ongoing else "MONITORING_COMPLETE"
    if one.reason in (rollouts.BREAKER_REASON, rollouts.FAILED_REASON):
        status = "TRIGGERED"
    return {
        "status": status,
        "failureCount": own.failed_tasks if own is not None and is_ongoing else one.failures,
        "threshold": service.breaker_threshold,
    }


def _alarms(one: RolloutRecord) -> dict[str, Any]:
    watch = one.alarms
    if watch is None:
        return {"status": "DISABLED", "alarmNames": [], "triggeredAlarmNames": []}
    has_baked = one.lifecycle is not None and one.lifecycle.stage == lifecycle.CLEAN_UP
    status = "MONITORING"
    if one.status != rollouts.IN_PROGRESS or has_baked:
        status = "MONITORING_COMPLETE"
    if watch.already:
        status = "DISABLED"
    return {
        "status": "TRIGGERED" if watch.triggered else status,
        "alarmNames": watch.names,
        "triggeredAlarmNames": watch.triggered,
    }


def _resolved(deployment: DeploymentRecord) -> dict[str, Any]:
    """Return the target group in which the tasks of a deployment are, of two, and the rule that forwards to it."""
    pairs = zip(deployment.load_balancers, deployment.used_balancers, strict=True)
    return {
        "loadBalancers": [
            {
                "targetGroupArn": used["targetGroupArn"],
                "productionListenerRule": given["advancedConfiguration"]["productionListenerRule"],
            }
            for given, used in pairs
            if given.get("advancedConfiguration")
        ]
    }


async def _show_revision(
    parts: Parts, service: ServiceRecord, one: RolloutRecord
) -> dict[str, Any]:
    deployment = one.deployment
    connect = deployment.service_connect
    definition = await find_task_definition(parts, deployment.task_definition_arn)
    containers = definition.definition["containerDefinitions"] if definition is not None else []
    return {
        "serviceRevisionArn": parts.names.service_revision(
            service.cluster, service.name, deployment.digits
        ),
        "serviceArn": service.arn,
        "clusterArn": parts.names.cluster(service.cluster),
        "taskDefinition": deployment.task_definition_arn,
        **runs_on(deployment),
        "loadBalancers": deployment.load_balancers,
        "resolvedConfiguration": _resolved(deployment),
        "serviceRegistries": deployment.service_registries,
        "containerImages": [{"containerName": c["name"], "image": c["image"]} for c in containers],
        "guardDutyEnabled": False,
        "serviceConnectConfiguration": (
            connect.configuration if connect is not None else {"enabled": False}
        ),
        "createdAt": deployment.created_at,
    }


HANDLERS: Handlers = {
    "ListServiceDeployments": list_service_deployments,
    "DescribeServiceDeployments": describe_service_deployments,
    "DescribeServiceRevisions": describe_service_revisions,
    "StopServiceDeployment": stop_service_deployment,
    "ContinueServiceDeployment": continue_service_deployment,
}
