"""Turns CreateService and UpdateService requests into records: all checks that need no instance.

Error texts are those of Amazon ECS where they are known. Reads the store (cluster, task definition),
writes nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from agent.controlplane.api.ecs import (
    deployment_settings,
    external_services,
    service_alarms,
    service_balancers,
    service_connect,
    service_registries,
    task_orders,
)
from agent.controlplane.api.ecs.tags import check_service_tags, read_tags
from agent.controlplane.authorization import caller
from agent.controlplane.definition import support
from agent.controlplane.front.errors import InvalidParameterException, UnsupportedFeatureException
from agent.controlplane.scheduler import placement
from agent.controlplane.scheduler.placement import PlacementError
from agent.controlplane.scheduler.query import QueryError
from agent.controlplane.services import launching, wording
from agent.controlplane.services.record import (
    DAEMON,
    ECS,
    EXTERNAL,
    REPLICA,
    DeploymentRecord,
    ServiceRecord,
)
from agent.controlplane.tasks import capacity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.parts import Parts
    from agent.controlplane.records import ClusterRecord

TASKS_LIMIT = 5000
"""Of one service; Amazon's quota."""
TOKEN_LENGTH = 36

_STRATEGY_NEEDS_FORCE = (
    "When switching from launch type to capacity provider strategy on an existing service, or making "
    "a change to a capacity provider strategy on a service that is already using one, you must force "
    "a new deployment."
)


def fingerprint(request: Mapping[str, Any]) -> str:
    """Return what makes two CreateService requests the same one."""
    body = {name: value for name, value in request.items() if name != "clientToken"}
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()


async def new_service(
    parts: Parts, cluster: ClusterRecord, name: str, request: Mapping[str, Any]
) -> ServiceRecord:
    """Return the record of a new service.

    Raises:
        ApiError: with the code that ECS would return.
    """
    refuse(request)
    scheduling: str = request.get("schedulingStrategy") or REPLICA
    controller: str = (request.get("deploymentController") or {}).get("type") or ECS
    if controller == EXTERNAL:
        external_services.check_new(request)
    service = ServiceRecord(
        name=name,
        arn=parts.names.service(cluster.name, name),
        cluster=cluster.name,
        scheduling=scheduling,
        desired_count=_desired_count(request, scheduling, controller),
        controller=controller,
        deployments=(
            [] if controller == EXTERNAL else [await new_deployment(parts, cluster, request)]
        ),
        deployment_configuration=deployment_settings.merged(request, scheduling, {}),
        placement_constraints=request.get("placementConstraints", []),
        placement_strategy=request.get("placementStrategy", []),
        grace_s=_grace_s(request),
        propagate_tags=request.get("propagateTags") or "NONE",
        managed_tags=bool(request.get("enableECSManagedTags")),
        enable_execute_command=bool(request.get("enableExecuteCommand")),
        tags=_tags(request),
        client_token=client_token(request),
        fingerprint=fingerprint(request),
        created_at=parts.clock(),
        created_by=caller.principal(parts.names),
    )
    service = deployment_settings.begun(service, parts.clock())
    if controller != EXTERNAL:
        connect = service_connect.configuration(cluster, request, None)
        service = await service_connect.connected(parts, service, connect)
    checked = await _checked(parts, service, is_new=True)
    return await service_alarms.begun(parts, checked)


async def updated_service(
    parts: Parts, cluster: ClusterRecord, old: ServiceRecord, request: Mapping[str, Any]
) -> ServiceRecord:
    """Return the record after an UpdateService request; with a new deployment if it begins one.

    Raises:
        ApiError: with the code that ECS would return.
    """
    refuse(request)
    external_services.check_update(old, request)
    if old.is_daemon and "desiredCount" in request:
        raise InvalidParameterException(
            "The daemon scheduling strategy does not support a desired count for services."
        )
    changed = replace(
        old,
        desired_count=(
            _desired_count(request, REPLICA, old.controller)
            if "desiredCount" in request
            else old.desired_count
        ),
        deployment_configuration=deployment_settings.merged(
            request, old.scheduling, old.deployment_configuration
        ),
        placement_constraints=request.get("placementConstraints", old.placement_constraints),
        placement_strategy=request.get("placementStrategy", old.placement_strategy),
        grace_s=_grace_s(request) if "healthCheckGracePeriodSeconds" in request else old.grace_s,
        propagate_tags=request.get("propagateTags") or old.propagate_tags,
        managed_tags=request.get("enableECSManagedTags", old.managed_tags),
        enable_execute_command=request.get("enableExecuteCommand", old.enable_execute_command),
    )
    deployment = None
    if not old.is_external:
        connect = service_connect.configuration(cluster, request, old.primary.service_connect)
        deployment = await _next_deployment(parts, cluster, old.primary, request, connect)
    if deployment is not None:
        changed = replace(changed, deployments=[deployment, *old.deployments])
        changed = deployment_settings.begun(changed, parts.clock())
        changed = await service_connect.connected(parts, changed, connect)
    checked = await _checked(parts, changed, is_new=deployment is not None)
    return await service_alarms.begun(parts, checked) if deployment is not None else checked


def refuse(request: Mapping[str, Any]) -> None:
    """Raise ``UnsupportedFeatureException`` for what services cannot do here."""
    refusal = support.refusal_of_service(request)
    if refusal is not None:
        error = InvalidParameterException if refusal.by_ecs else UnsupportedFeatureException
        raise error(refusal.text)


async def _checked(parts: Parts, service: ServiceRecord, *, is_new: bool) -> ServiceRecord:
    """Return the service; raises ``ApiError`` if RunTask would refuse its tasks.

    The load balancers and the registries of a deployment are only checked while it ``is_new``: who scales a
    service down need not mend them.
    """
    deployment_settings.check(service)
    service_alarms.check(parts, service.deployment_configuration["alarms"])
    if service.is_daemon and service.placement_strategy:
        raise InvalidParameterException(
            "Placement strategies are not supported with the daemon scheduling strategy."
        )
    if service.is_daemon and service.primary.platform_version:
        raise InvalidParameterException(
            "The daemon scheduling strategy is not supported with launch type FARGATE."
        )
    if service.is_daemon and service.primary.capacity_provider_strategy:
        raise InvalidParameterException(
            "The daemon scheduling strategy does not support a capacity provider strategy: it runs a "
            "task on every host."
        )
    try:
        if service.is_external:
            placement.parse_constraints(service.placement_constraints)
            placement.parse_strategies(service.placement_strategy)
            return service
        order = await launching.read_order(parts, service, service.primary)
    except (PlacementError, QueryError) as error:
        raise InvalidParameterException(str(error)) from None
    if is_new and service.primary.load_balancers:
        definition = order.task.definition.definition
        strategy = service.deployment_configuration["strategy"]
        await service_balancers.check(parts, service.primary.load_balancers, definition, strategy)
    service_connect.check(service)
    if service.primary.service_registries:
        service_registries.check_count(service)
        if is_new:
            await service_registries.check(parts, service, order.task)
    return service


def client_token(request: Mapping[str, Any]) -> str:
    """Return the client token of a request; raises ``InvalidParameterException`` if it is too long."""
    token: str = request.get("clientToken") or ""
    if len(token) > TOKEN_LENGTH:
        raise InvalidParameterException(f"clientToken is longer than {TOKEN_LENGTH} characters.")
    return token


async def new_deployment(
    parts: Parts, cluster: ClusterRecord, request: Mapping[str, Any]
) -> DeploymentRecord:
    """Return the deployment of a new service or a new task set.

    Raises:
        ApiError: the definition does not exist, or what it is to run on does not go together.
    """
    if not request.get("taskDefinition"):
        raise InvalidParameterException("TaskDefinition can not be blank.")
    strategy = capacity.with_defaults(request.get("capacityProviderStrategy") or ())
    launch_type: str = request.get("launchType") or ""
    if strategy and launch_type:
        raise InvalidParameterException(
            "Specifying both a launch type and capacity provider strategy is not supported. "
            "Remove one and try again."
        )
    is_daemon = request.get("schedulingStrategy") == DAEMON
    if not strategy and not launch_type and not is_daemon:
        strategy = capacity.with_defaults(cluster.default_strategy)
    return await _new_deployment(
        parts,
        request["taskDefinition"],
        launch_type="" if strategy else launch_type or "EC2",
        capacity_provider_strategy=strategy,
        platform_version=request.get("platformVersion") or "",
        network_configuration=request.get("networkConfiguration") or {},
        load_balancers=request.get("loadBalancers") or [],
        service_registries=request.get("serviceRegistries") or [],
    )


async def _next_deployment(
    parts: Parts,
    cluster: ClusterRecord,
    old: DeploymentRecord,
    request: Mapping[str, Any],
    connect: Mapping[str, Any],
) -> DeploymentRecord | None:
    """Return the deployment that an update begins, or None; ``connect`` configures its Service Connect."""
    force = bool(request.get("forceNewDeployment"))
    known = capacity.with_defaults(old.capacity_provider_strategy)
    strategy = capacity.with_defaults(request.get("capacityProviderStrategy", known))
    if strategy != known and not force:
        raise InvalidParameterException(_STRATEGY_NEEDS_FORCE)
    wanted = old.task_definition_arn
    if request.get("taskDefinition"):
        found = await task_orders.active_task_definition(parts, request["taskDefinition"])
        wanted = found.arn
    network = request.get("networkConfiguration", old.network_configuration)
    balancers = request.get("loadBalancers", old.load_balancers)
    launch_type = "" if strategy else old.launch_type or "EC2"
    version = request.get("platformVersion") or (
        old.platform_version if _is_fargate(launch_type, strategy) else ""
    )
    registries = request.get("serviceRegistries", old.service_registries)
    known_connect = old.service_connect.configuration if old.service_connect is not None else {}
    is_new = connect != known_connect or (
        (wanted, network, balancers, registries, _number(version))
        != (
            old.task_definition_arn,
            old.network_configuration,
            old.load_balancers,
            old.service_registries,
            _number(old.platform_version),
        )
    )
    if not is_new and not force:
        return None
    return await _new_deployment(
        parts,
        wanted,
        launch_type=launch_type,
        capacity_provider_strategy=strategy,
        platform_version=version,
        network_configuration=network,
        load_balancers=balancers,
        service_registries=registries,
        or_inactive=not request.get("taskDefinition"),
    )


def _is_fargate(launch_type: str, strategy: Sequence[Mapping[str, Any]]) -> bool:
    return launch_type == capacity.FARGATE or capacity.is_of_fargate(capacity.shares_of(strategy))


def _number(version: str) -> str:
    """Return the platform version that is meant; LATEST is one of them."""
    return "" if version == "LATEST" else version


async def _new_deployment(
    parts: Parts, definition: str, *, or_inactive: bool = False, **runs_on: Any
) -> DeploymentRecord:
    found = await task_orders.active_task_definition(parts, definition, or_inactive=or_inactive)
    now = parts.clock()
    deployment_id = f"ecs-svc/{secrets.randbelow(10**19):019d}"
    is_fargate = _is_fargate(runs_on["launch_type"], runs_on["capacity_provider_strategy"])
    family = (found.definition.get("runtimePlatform") or {}).get("operatingSystemFamily", "LINUX")
    if is_fargate:
        runs_on["platform_version"] = runs_on["platform_version"] or "LATEST"
        runs_on["platform_family"] = str(family).capitalize()
    return DeploymentRecord(
        id=deployment_id,
        task_definition_arn=found.arn,
        created_at=now,
        updated_at=now,
        rollout_reason=wording.in_progress(deployment_id),
        **runs_on,
    )


def _desired_count(request: Mapping[str, Any], scheduling: str, controller: str) -> int:
    """Return the desired count of a service; without one, its task sets have no tasks yet if it is EXTERNAL."""
    given: int | None = request.get("desiredCount", 0 if controller == EXTERNAL else None)
    if scheduling == DAEMON:
        if given is not None:
            raise InvalidParameterException(
                "The daemon scheduling strategy does not support a desired count for services."
            )
        return 0
    if given is None:
        raise InvalidParameterException("Desired count cannot be null or empty.")
    if not 0 <= given <= TASKS_LIMIT:
        raise InvalidParameterException(f"desiredCount must be between 0 and {TASKS_LIMIT}.")
    return given


def _tags(request: Mapping[str, Any]) -> dict[str, str]:
    tags = read_tags(request.get("tags", ()))
    check_service_tags(tags)
    return tags


def _grace_s(request: Mapping[str, Any]) -> int | None:
    given: int | None = request.get("healthCheckGracePeriodSeconds")
    if given is not None and given < 0:
        raise InvalidParameterException("healthCheckGracePeriodSeconds must be at least 0.")
    return given
