"""From a RunTask or StartTask request to an ``Order``: every check that needs no instance.

The texts are those of Amazon ECS. Reads the store (cluster, task definition), writes nothing.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane import overrides, payload
from agent.controlplane.api.errors import (
    ClientException,
    InvalidParameterException,
    UnsupportedFeatureException,
)
from agent.controlplane.api.naming import active_cluster
from agent.controlplane.api.tags import read_tags
from agent.controlplane.api.task_definitions import find_task_definition
from agent.controlplane.launch import Order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.api.services import Services
    from agent.controlplane.records import ClusterRecord, TaskDefinitionRecord

MAX_SUBNETS = 16
MAX_SECURITY_GROUPS = 5
TOKEN_LENGTH = 64

_STARTED_BY = re.compile(r"[A-Za-z0-9_/-]{0,128}")
_LAUNCH_TYPES = {"EC2", "EXTERNAL"}


async def active_task_definition(services: Services, given: str) -> TaskDefinitionRecord:
    """Return the ACTIVE revision that is meant by ``family``, ``family:revision`` or an ARN.

    Raises:
        ClientException: there is none, or it was deregistered.
    """
    try:
        record = await find_task_definition(services, given)
    except InvalidParameterException:
        record = None
    if record is None:
        raise ClientException("TaskDefinition not found.")
    if record.status != "ACTIVE":
        raise ClientException("TaskDefinition is inactive")
    return record


async def read_order(services: Services, request: Mapping[str, Any]) -> Order:
    """Check a request and return what it orders.

    Raises:
        ApiError: as ECS would.
    """
    _refuse_unsupported(request)
    cluster = await active_cluster(services, request)
    definition = await active_task_definition(services, request["taskDefinition"])
    launch_type = _launch_type(request, definition)
    asked = request.get("overrides") or {}
    try:
        body = overrides.effective(definition.definition, asked)
        for container in body["containerDefinitions"]:
            overrides.gpu_count(container)
    except overrides.OverrideError as error:
        raise InvalidParameterException(str(error)) from None
    token = request.get("clientToken") or ""
    if len(token) > TOKEN_LENGTH:
        raise InvalidParameterException(f"clientToken is longer than {TOKEN_LENGTH} characters.")
    return Order(
        cluster=cluster.name,
        definition=definition,
        overrides=asked,
        body=body,
        group=_group(request, definition),
        started_by=_started_by(request),
        launch_type=launch_type,
        network_configuration=_network(request, payload.network_mode(body)),
        tags=_tags(request, cluster, definition),
        client_token=token,
        fingerprint=_fingerprint(request),
    )


def required_attributes(order: Order) -> dict[str, str]:
    """Return the attributes that an instance must have for the task, by the ECS rules."""
    wanted = dict.fromkeys(order.definition.requires_attributes, "")
    platform = order.body.get("runtimePlatform") or {}
    architecture = platform.get("cpuArchitecture")
    if architecture:
        wanted["ecs.cpu-architecture"] = architecture.lower()
    if platform.get("operatingSystemFamily"):
        wanted["ecs.os-type"] = platform["operatingSystemFamily"].lower()
    return wanted


def _refuse_unsupported(request: Mapping[str, Any]) -> None:
    if request.get("enableExecuteCommand"):
        raise UnsupportedFeatureException(
            "Execute command is not supported by this control endpoint."
        )
    if request.get("volumeConfigurations"):
        raise UnsupportedFeatureException(
            "Volumes configured at launch are not supported by this control endpoint."
        )
    if request.get("propagateTags") == "SERVICE":
        raise InvalidParameterException(
            "Tags can be propagated from a service only by the service."
        )
    providers = request.get("capacityProviderStrategy")
    if providers and request.get("launchType"):
        raise InvalidParameterException(
            "Specifying both a launch type and capacity provider strategy is not supported. "
            "Remove one and try again."
        )
    if providers:
        name = providers[0].get("capacityProvider", "")[:255]
        raise InvalidParameterException(f"The specified capacity provider '{name}' was not found.")


def _launch_type(request: Mapping[str, Any], definition: TaskDefinitionRecord) -> str:
    launch_type = request.get("launchType") or "EC2"
    if launch_type in _LAUNCH_TYPES:
        return launch_type
    if definition.compatibilities and launch_type not in definition.compatibilities:
        raise InvalidParameterException(
            f"Task definition does not support launch_type {launch_type}."
        )
    raise ClientException(
        "Capacity is unavailable at this time. Please try again later or in a different "
        "availability zone"
    )


def _group(request: Mapping[str, Any], definition: TaskDefinitionRecord) -> str:
    group: str = request.get("group") or f"family:{definition.family}"
    if group.startswith("service:"):
        raise InvalidParameterException("Invalid namespace for group.")
    if len(group) > 255:
        raise InvalidParameterException("group is longer than 255 characters.")
    return group


def _started_by(request: Mapping[str, Any]) -> str:
    started_by: str = request.get("startedBy") or ""
    if not _STARTED_BY.fullmatch(started_by):
        raise InvalidParameterException(
            "startedBy must have at most 128 letters, numbers, hyphens, forward slashes and "
            "underscores."
        )
    return started_by


def _network(request: Mapping[str, Any], mode: str) -> dict[str, Any]:
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
    if len(vpc["subnets"]) > MAX_SUBNETS:
        raise InvalidParameterException(f"subnets can have at most {MAX_SUBNETS} items.")
    if len(vpc.get("securityGroups", ())) > MAX_SECURITY_GROUPS:
        raise InvalidParameterException(
            f"securityGroups can have at most {MAX_SECURITY_GROUPS} items."
        )
    if vpc.get("assignPublicIp") == "ENABLED":
        raise InvalidParameterException("Assign public IP is not supported for this launch type.")
    return given


def _tags(
    request: Mapping[str, Any], cluster: ClusterRecord, definition: TaskDefinitionRecord
) -> dict[str, str]:
    own = read_tags(request.get("tags", ()))
    inherited = definition.tags if request.get("propagateTags") == "TASK_DEFINITION" else {}
    managed = {"aws:ecs:clusterName": cluster.name} if request.get("enableECSManagedTags") else {}
    return {**inherited, **own, **managed}


def _fingerprint(request: Mapping[str, Any]) -> str:
    body = {name: value for name, value in request.items() if name != "clientToken"}
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()
