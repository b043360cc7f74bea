"""What a request of the agent must look like: the service model of botocore, and the wire's own rules."""

from __future__ import annotations

import functools
import uuid
from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate

TARGET = "AmazonEC2ContainerServiceV20141113"
EXTERNAL_NEVER = frozenset(
    f"ecs.capability.{name}"
    for name in (
        "task-eni",
        "cni-plugin-version",
        "task-eni.ipv6",
        "task-eni-block-instance-metadata",
        "task-eni-trunking",
        "aws-appmesh",
        "task-eia",
        "task-eia.optimized-cpu",
        "service-connect-v1",
        "storage.ebs-task-volume-attach",
        "storage.ebsta-non-root-user",
        "fault-injection",
    )
)
"""Attributes that a host outside EC2 does not have."""

_PRIVATE = {
    "RegisterContainerInstance": {"clientToken"},
    "DiscoverPollEndpoint": {"zoneId"},
}
"""On the wire, but not in the public service model; all are strings."""
_NEEDED = {
    "RegisterContainerInstance": {
        "cluster",
        "clientToken",
        "instanceIdentityDocument",
        "instanceIdentityDocumentSignature",
        "totalResources",
        "attributes",
    },
    "DiscoverPollEndpoint": {"containerInstance", "cluster", "zoneId"},
    "SubmitTaskStateChange": {"cluster", "task"},
    "SubmitContainerStateChange": {"cluster", "task", "containerName", "status"},
    "SubmitAttachmentStateChanges": {"cluster", "attachments"},
    "UpdateContainerInstancesState": {"cluster", "containerInstances", "status"},
    "ListTagsForResource": {"resourceArn"},
    "CreateCluster": {"clusterName"},
}
OPERATIONS = frozenset(_NEEDED)
_STATUSES = {"PENDING", "RUNNING", "STOPPED"}
_REASON_BYTES = 1024
_ID_BYTES = 255


def faults_of(operation: str, request: dict[str, Any]) -> list[str]:
    """Return everything wrong with a request, in words."""
    private = _PRIVATE.get(operation, set())
    public = {k: v for k, v in request.items() if k not in private}
    shape = _service().operation_model(operation).input_shape
    assert shape is not None, operation
    report = botocore.validate.ParamValidator().validate(public, shape)
    found = []
    if report.has_errors():
        found.append(str(report.generate_report()))
    found += _odd_values(shape, public, operation)
    found += [f"{n} is not text" for n in private & set(request) if not isinstance(request[n], str)]
    found += [f"{n} is missing" for n in sorted(_NEEDED[operation] - set(request))]
    if not found:
        found = rule(request) if (rule := _RULES.get(operation)) else []
    return found


@functools.cache
def _service() -> botocore.model.ServiceModel:
    return botocore.model.ServiceModel(
        botocore.loaders.Loader().load_service_model("ecs", "service-2")
    )


def _odd_values(shape: Any, value: Any, path: str) -> list[str]:
    """Return what botocore lets pass: a boolean for a number, a word that is none of an enum."""
    if shape.type_name == "structure" and isinstance(value, dict):
        members = shape.members
        return [
            fault
            for key, child in value.items()
            if key in members
            for fault in _odd_values(members[key], child, f"{path}.{key}")
        ]
    if shape.type_name == "list" and isinstance(value, list):
        return [fault for child in value for fault in _odd_values(shape.member, child, f"{path}[]")]
    if shape.type_name in ("integer", "long", "double", "float", "timestamp") and (
        isinstance(value, bool | str)
    ):
        return [f"{path} is not a number: {value!r}"]
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        return [f"{path} is none of {shape.enum}: {value!r}"]
    return []


def _register(request: dict[str, Any]) -> list[str]:
    found = _resources(request["totalResources"])
    try:
        uuid.UUID(request["clientToken"])
    except ValueError:
        found.append(f"clientToken is not a UUID: {request['clientToken']!r}")
    if "versionInfo" in request:
        found.append("versionInfo is sent")
    if request.get("tags") == [] or request.get("platformDevices") == []:
        found.append("empty lists are left out")
    return found + _attributes(request)


def _attributes(request: dict[str, Any]) -> list[str]:
    names = [a["name"] for a in request["attributes"]]
    found = [f"attribute {n} twice" for n in sorted({n for n in names if names.count(n) > 1})]
    values = {a["name"]: a.get("value") for a in request["attributes"]}
    for name, value in {"ecs.os-type": "linux", "ecs.os-family": "LINUX"}.items():
        if values.get(name) != value:
            found.append(f"attribute {name} is {values.get(name)!r}, not {value!r}")
    if "ecs.availability-zone" in values:
        found.append("ecs.availability-zone is sent")
    if "ecs.capability.external" in values:
        found += [f"{n} of an external host" for n in sorted(EXTERNAL_NEVER & set(values))]
        if not values.get("ecs.cpu-architecture"):
            found.append("an external host names no ecs.cpu-architecture")
        if request["instanceIdentityDocument"] or request["instanceIdentityDocumentSignature"]:
            found.append("an external host has no identity document")
    elif "ecs.cpu-architecture" in values:
        found.append("ecs.cpu-architecture of an EC2 host")
    for name in names:
        is_capability = name.startswith(("com.amazonaws.ecs.capability.", "ecs.capability."))
        versions = ("plugin-version", "gpu-driver-version")
        if is_capability and values[name] is not None and not name.endswith(versions):
            found.append(f"capability {name} has a value")
    return found


def _resources(resources: list[dict[str, Any]]) -> list[str]:
    types = {
        "CPU": "INTEGER",
        "MEMORY": "INTEGER",
        "PORTS": "STRINGSET",
        "PORTS_UDP": "STRINGSET",
    }
    if [r.get("name") for r in resources] != list(types):
        return [f"totalResources are {[r.get('name') for r in resources]}, not {list(types)}"]
    found = []
    for resource in resources:
        name, kind = resource["name"], types[resource["name"]]
        field = "integerValue" if kind == "INTEGER" else "stringSetValue"
        if set(resource) != {"name", "type", field} or resource["type"] != kind:
            found.append(f"resource {name} is {resource}")
        elif kind == "STRINGSET" and not all(p.isdigit() for p in resource[field]):
            found.append(f"ports of {name} are {resource[field]}")
    return found


def _task_change(request: dict[str, Any]) -> list[str]:
    if "attachments" in request:
        extra = set(request) - {"cluster", "task", "attachments"}
        found = [f"an attachment's report carries {sorted(extra)}"] if extra else []
        return found + _attachments(request)
    found = [f"{n} is empty" for n in ("containers", "managedAgents") if request.get(n) == []]
    if request.get("status") not in _STATUSES or "reason" not in request:
        found.append(f"status {request.get('status')!r}, reason {request.get('reason')!r}")
    found += _too_long("task", request, reason=_REASON_BYTES)
    for container in request.get("containers", ()):
        found += _container(container)
    for managed in request.get("managedAgents", ()):
        if managed.get("status") not in {"CREATED", "RUNNING", "STOPPED"} or (
            "reason" not in managed
        ):
            found.append(f"managed agent {managed}")
        found += _too_long("managed agent", managed, reason=_REASON_BYTES)
    for name in ("pullStartedAt", "pullStoppedAt", "executionStoppedAt"):
        stamp = request.get(name)
        if stamp is not None and round(stamp, 3) != stamp:
            found.append(f"{name} is finer than a millisecond: {stamp!r}")
    return found


def _container(container: dict[str, Any]) -> list[str]:
    found = _too_long(
        "container", container, reason=_REASON_BYTES, runtimeId=_ID_BYTES, imageDigest=_ID_BYTES
    )
    if not container.get("containerName") or container.get("status") not in _STATUSES:
        found.append(f"container {container}")
    for name in ("runtimeId", "imageDigest", "reason", "networkBindings"):
        if name in container and not container[name]:
            found.append(f"container's {name} is sent empty")
    for binding in container.get("networkBindings", ()):
        if set(binding) not in (
            {"bindIP", "containerPort", "hostPort", "protocol"},
            {"bindIP", "containerPortRange", "hostPortRange", "protocol"},
        ):
            found.append(f"network binding {binding}")
        if binding.get("bindIP") == "::":
            found.append("a binding on :: is sent")
    return found


def _attachments(request: dict[str, Any]) -> list[str]:
    return [
        f"attachment {a}"
        for a in request["attachments"]
        if not a["attachmentArn"] or a["status"] != "ATTACHED"
    ]


def _too_long(what: str, record: dict[str, Any], **limits: int) -> list[str]:
    return [
        f"{what}'s {name} has more than {limit} bytes"
        for name, limit in limits.items()
        if len(str(record.get(name, "")).encode()) > limit
    ]


_RULES = {
    "RegisterContainerInstance": _register,
    "SubmitTaskStateChange": _task_change,
    "SubmitAttachmentStateChanges": _attachments,
}
