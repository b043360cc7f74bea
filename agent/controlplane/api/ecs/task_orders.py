"""Turns a RunTask or StartTask request into a ``TaskRequest``: all checks that need no instance.

Error texts are those of Amazon ECS. Reads the store (cluster, task definition), writes nothing.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from agent.controlplane.api.ecs.naming import active_cluster
from agent.controlplane.api.ecs.tags import read_tags
from agent.controlplane.api.ecs.task_definitions import find_task_definition
from agent.controlplane.definition import (
    fargate,
    overrides,
    payload,
    rules,
    secret_refs,
    support,
)
from agent.controlplane.front.errors import (
    ClientException,
    InvalidParameterException,
    UnsupportedFeatureException,
)
from agent.controlplane.roles import words
from agent.controlplane.roles.needed import asked_of_aws
from agent.controlplane.scheduler import placement
from agent.controlplane.secrets import task_values
from agent.controlplane.security_groups import stored
from agent.controlplane.security_groups.users import groups_of
from agent.controlplane.services import record as services
from agent.controlplane.tasks import capacity
from agent.controlplane.tasks.launch import TaskRequest
from agent.controlplane.tasks.protection import OF_SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.parts import Parts
    from agent.controlplane.records import ClusterRecord, TaskDefinitionRecord
    from agent.controlplane.scheduler.placement import Constraint
    from agent.controlplane.tasks.capacity import Capacity

MAX_SUBNETS = 16
MAX_SECURITY_GROUPS = 5
TOKEN_LENGTH = 64

CONTROL_SECRETS = "ecs-host-agent.control-secrets"
"""Attribute of hosts whose agent takes secrets that control keeps; Amazon's agent does not."""
SERVICE_CONNECT = "ecs-host-agent.service-connect"
"""Attribute of hosts whose tasks find names of Service Connect."""
EXECUTE_COMMAND = "ecs-host-agent.execute-command"
"""Attribute of hosts whose agent connects to control for commands in containers."""
SECURITY_GROUPS = "ecs-host-agent.security-groups"
"""Attribute of hosts that enforce security groups; needed by tasks that name some."""
_SHOWN = 64

_STARTED_BY = re.compile(r"[A-Za-z0-9_/-]{0,128}")

_log = structlog.get_logger(__name__)


async def active_task_definition(
    parts: Parts, given: str, *, or_inactive: bool = False
) -> TaskDefinitionRecord:
    """Return the ACTIVE revision that ``family``, ``family:revision`` or an ARN names.

    Args:
        parts: the store.
        given: which one.
        or_inactive: also take one that was deregistered.

    Raises:
        ClientException: it does not exist, or was deregistered.
        InvalidParameterException: the name is malformed.
    """
    record = await find_task_definition(parts, given)
    if record is None:
        raise ClientException("TaskDefinition not found.")
    if record.status != "ACTIVE" and not or_inactive:
        raise ClientException("TaskDefinition is inactive")
    return record


def constraints(order: TaskRequest, others: Iterable[Mapping[str, Any]] = ()) -> list[Constraint]:
    """Return the placement constraints of the task definition and others.

    Raises:
        PlacementError, QueryError: one is malformed.
    """
    own = order.definition.definition.get("placementConstraints", ())
    return placement.parse_constraints([*own, *others])


async def read_order(parts: Parts, request: Mapping[str, Any], *, service: str = "") -> TaskRequest:
    """Check a request and return what it orders.

    Args:
        parts: the store, and what is known of roles and secrets.
        request: of RunTask or StartTask, checked against the service model.
        service: the name of the service that the tasks are for; its definition may have been
            deregistered meanwhile, as on Amazon ECS.

    Raises:
        ApiError: with the code that ECS would return.
    """
    cluster = await active_cluster(parts, request)
    definition = await active_task_definition(
        parts, request["taskDefinition"], or_inactive=bool(service)
    )
    body = _effective(request, definition)
    runs_on = _capacity(request, cluster, definition, body)
    token = request.get("clientToken") or ""
    if len(token) > TOKEN_LENGTH:
        raise InvalidParameterException(f"clientToken is longer than {TOKEN_LENGTH} characters.")
    order = TaskRequest(
        cluster=cluster.name,
        definition=definition,
        overrides=request.get("overrides") or {},
        body=body,
        group=services.group(service) if service else _group(request, definition),
        started_by=_started_by(request),
        capacity=runs_on,
        network_configuration=await _network(parts, request, payload.network_mode(body), runs_on),
        tags=_tags(request, cluster, definition, service),
        client_token=token,
        fingerprint=_fingerprint(request),
        kept_here=await _kept_here(parts, body),
        keeps_logs=parts.keeps_logs,
        execute_command=bool(request.get("enableExecuteCommand")),
    )
    _check_fetched(order)
    await _check_roles(parts, order)
    return order


async def _kept_here(parts: Parts, body: Mapping[str, Any]) -> frozenset[str]:
    """Return each ``valueFrom`` of a definition whose value control keeps, or is to keep."""
    if parts.secrets is None:
        return frozenset()
    names = await task_values.kept_names(parts.secrets, secret_refs.bare_names(body))
    kept = secret_refs.kept_here(body, parts.names, names)
    for value_from in sorted(kept):
        if not await task_values.exists(parts.secrets, value_from):
            _log.warning("a task names a secret that is not stored yet", value_from=value_from)
    return kept


def _check_fetched(order: TaskRequest) -> None:
    """Return where all that the task's agent fetches can be had.

    Raises:
        InvalidParameterException: something is asked of AWS, and nobody's role is to ask for it.
    """
    used_by = asked_of_aws(order.body, order.kept_here)
    if used_by and not order.body.get("executionRoleArn"):
        raise InvalidParameterException(
            "When you are specifying container secrets, you must also specify a value for "
            f"'executionRoleArn': {used_by} is fetched by that role."
        )


async def _check_roles(parts: Parts, order: TaskRequest) -> None:
    """Return where credentials of all roles can be had, as far as is known before STS is asked.

    Raises:
        UnsupportedFeatureException: control has no keys to assume a role with.
    """
    for role in order.roles:
        problem = await parts.roles.problem(role.role_type, role.arn)
        if problem:
            member = words.MEMBERS[role.role_type]
            raise UnsupportedFeatureException(words.cannot_run(member, role.used_by, problem))


def required_attributes(order: TaskRequest) -> dict[str, str]:
    """Return the attributes that an instance must have for the task, by the ECS rules."""
    wanted = dict.fromkeys(support.required_attributes(order.body), "")
    if order.kept_here:
        wanted[CONTROL_SECRETS] = ""
    if groups_of(order.network_configuration):
        wanted[SECURITY_GROUPS] = ""
    if order.execute_command:
        wanted[EXECUTE_COMMAND] = ""
    if order.connect_namespace:
        wanted[SERVICE_CONNECT] = ""
    platform = order.body.get("runtimePlatform") or {}
    architecture = platform.get("cpuArchitecture")
    if architecture:
        wanted["ecs.cpu-architecture"] = architecture.lower()
    if platform.get("operatingSystemFamily"):
        wanted["ecs.os-type"] = platform["operatingSystemFamily"].lower()
    if order.capacity.is_fargate:
        wanted |= {capacity.ATTRIBUTE: "", capacity.TASK_LIMITS: ""}
    return wanted


def _effective(request: Mapping[str, Any], definition: TaskDefinitionRecord) -> dict[str, Any]:
    """Return the definition with the request's overrides, checked like a registration.

    Raises:
        UnsupportedFeatureException: the request or the definition needs something unsupported.
        InvalidParameterException: an override breaks a rule.
    """
    asked = request.get("overrides") or {}
    try:
        overrides.check_length(asked)
        body = overrides.effective(definition.definition, asked)
        refusal = support.refusal_of_run(request, body)
        if refusal is not None:
            error = InvalidParameterException if refusal.by_ecs else UnsupportedFeatureException
            raise error(refusal.text)
        rules.check_effective(body)
    except (overrides.OverrideError, ClientException) as error:
        raise InvalidParameterException(str(error)) from None
    return body


def _capacity(
    request: Mapping[str, Any],
    cluster: ClusterRecord,
    definition: TaskDefinitionRecord,
    body: Mapping[str, Any],
) -> Capacity:
    named_hosts = "containerInstances" in request  # StartTask, which no strategy is about
    found = capacity.of_request(
        request,
        body,
        known=cluster.capacity_providers,
        default=[] if named_hosts else cluster.default_strategy,
    )
    if not found.is_fargate:
        return found
    if capacity.FARGATE not in rules.compatibilities(definition.definition):
        raise InvalidParameterException("Task definition does not support launch_type FARGATE.")
    for member in ("placementConstraints", "placementStrategy"):
        if request.get(member) or body.get(member):
            raise InvalidParameterException(
                f"'{member}' is not supported with launch type FARGATE."
            )
    try:
        fargate.check(body)
    except ClientException as error:
        raise InvalidParameterException(str(error)) from None
    return found


def _group(request: Mapping[str, Any], definition: TaskDefinitionRecord) -> str:
    group: str = request.get("group") or ""
    if group.startswith(OF_SERVICES):
        raise InvalidParameterException("Invalid namespace for group.")
    if len(group) > 255:
        raise InvalidParameterException("group is longer than 255 characters.")
    # The limit is for the value of a client: a family alone may have 255 characters.
    return group or f"family:{definition.family}"


def _started_by(request: Mapping[str, Any]) -> str:
    started_by: str = request.get("startedBy") or ""
    if not _STARTED_BY.fullmatch(started_by):
        raise InvalidParameterException(
            "startedBy must have at most 128 letters, numbers, hyphens, forward slashes and "
            "underscores."
        )
    return started_by


async def _network(
    parts: Parts, request: Mapping[str, Any], mode: str, runs_on: Capacity
) -> dict[str, Any]:
    given: dict[str, Any] = request.get("networkConfiguration") or {}
    if mode != "awsvpc":
        if given:
            raise InvalidParameterException(
                "Network Configuration is not valid for the given networkMode of this task "
                "definition."
            )
        return {}
    vpc = given.get("awsvpcConfiguration")
    if not vpc:
        raise InvalidParameterException(
            "Network Configuration must be provided when networkMode 'awsvpc' is specified."
        )
    if not vpc.get("subnets"):
        raise InvalidParameterException("subnets can not be empty.")
    if vpc.get("assignPublicIp") == "ENABLED" and not runs_on.is_fargate:
        raise InvalidParameterException("Assign public IP is not supported for this launch type.")
    if len(vpc["subnets"]) > MAX_SUBNETS:
        raise InvalidParameterException(f"subnets can have at most {MAX_SUBNETS} items.")
    if len(vpc.get("securityGroups", ())) > MAX_SECURITY_GROUPS:
        raise InvalidParameterException(
            f"securityGroups can have at most {MAX_SECURITY_GROUPS} items."
        )
    for group in groups_of(given):
        if await stored.find(parts.store, parts.names, group) is None:
            raise InvalidParameterException(
                f"Error retrieving security group information for [{group[:_SHOWN]}]: The security "
                f"group '{group[:_SHOWN]}' does not exist (ErrorCode: InvalidGroup.NotFound)"
            )
    return given


def _tags(
    request: Mapping[str, Any],
    cluster: ClusterRecord,
    definition: TaskDefinitionRecord,
    service: str,
) -> dict[str, str]:
    own = read_tags(request.get("tags", ()))
    inherited = definition.tags if request.get("propagateTags") == "TASK_DEFINITION" else {}
    managed = {}
    if request.get("enableECSManagedTags"):
        managed["aws:ecs:clusterName"] = cluster.name
        if service:
            managed["aws:ecs:serviceName"] = service
    return {**inherited, **own, **managed}


def _fingerprint(request: Mapping[str, Any]) -> str:
    body = {name: value for name, value in request.items() if name != "clientToken"}
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()
