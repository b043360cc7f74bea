"""JSON Schemas of task metadata, written from the reference of Amazon ECS and not from the code."""

from __future__ import annotations

from typing import Any, Final

import jsonschema

TIME: Final = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$",
}
_TEXT: Final = {"type": "string"}
_FILLED: Final = {"type": "string", "minLength": 1}
_NUMBER: Final = {"type": "integer", "minimum": 1}
_TEXTS: Final = {"type": "array", "items": _TEXT, "minItems": 1}
_MAP: Final = {"type": "object", "additionalProperties": _TEXT, "minProperties": 1}
_TASK_STATUS: Final = {"enum": ["NONE", "MANIFEST_PULLED", "CREATED", "RUNNING", "STOPPED"]}
_CONTAINER_STATUS: Final = {
    "enum": [
        *("NONE", "MANIFEST_PULLED", "PULLED", "CREATED", "RUNNING"),
        *("RESOURCES_PROVISIONED", "STOPPED"),
    ]
}


def _object(required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


_HEALTH: Final = _object(
    {},
    {
        "status": {"enum": ["HEALTHY", "UNHEALTHY"]},
        "statusSince": TIME,
        "exitCode": {"type": "integer", "not": {"const": 0}},
        "output": _FILLED,
    },
)
_VOLUME: Final = _object({}, {"DockerName": _FILLED, "Source": _FILLED, "Destination": _FILLED})


def _port(version: int) -> dict[str, Any]:
    address = {"HostIp": _FILLED} if version == 4 else {}
    fields = {"ContainerPort": _NUMBER, "Protocol": {"enum": ["tcp", "udp"]}, "HostPort": _NUMBER}
    return _object({}, {**fields, **address})


def _network(version: int) -> dict[str, Any]:
    optional: dict[str, Any] = {"IPv4Addresses": _TEXTS, "IPv6Addresses": _TEXTS}
    if version == 4:
        optional |= {
            "AttachmentIndex": {"const": 0},
            "MACAddress": {"type": "string", "pattern": "^([0-9a-f]{2}:){5}[0-9a-f]{2}$"},
            "IPv4SubnetCIDRBlock": {"type": "string", "pattern": r"^[0-9.]+/[0-9]+$"},
            "DomainNameServers": _TEXTS,
            "DomainNameSearchList": _TEXTS,
            "PrivateDNSName": _FILLED,
            "SubnetGatewayIpv4Address": {"type": "string", "pattern": r"^[0-9.]+/[0-9]+$"},
        }
    return _object({"NetworkMode": _FILLED}, optional)


def container(version: int) -> dict[str, Any]:
    """Return the schema of a container."""
    required: dict[str, Any] = {
        "DockerId": _TEXT if version == 4 else _FILLED,
        "Name": _FILLED,
        "DockerName": _TEXT if version == 4 else _FILLED,
        "Image": _FILLED,
        "ImageID": _TEXT,
        "DesiredStatus": _CONTAINER_STATUS,
        "KnownStatus": _CONTAINER_STATUS,
        "Limits": _object(
            {
                "CPU": {"type": "integer", "minimum": 2},
                "Memory": {"type": "integer", "minimum": 0},
            },
            {},
        ),
        "Type": {
            "enum": [
                *("NORMAL", "EMPTY_HOST_VOLUME", "CNI_PAUSE"),
                *("NAMESPACE_PAUSE", "MANAGED_DAEMON"),
            ]
        },
    }
    optional: dict[str, Any] = {
        "Ports": {"type": "array", "items": _port(version), "minItems": 1},
        "Labels": _MAP,
        "ExitCode": {"type": "integer"},
        "CreatedAt": TIME,
        "StartedAt": TIME,
        "FinishedAt": TIME,
        "Networks": {"type": "array", "items": _network(version), "minItems": 1},
        "Health": _HEALTH,
        "Volumes": {"type": "array", "items": _VOLUME, "minItems": 1},
    }
    if version == 4:
        optional |= {
            "LogDriver": _FILLED,
            "LogOptions": _MAP,
            "ContainerARN": _FILLED,
            "RestartCount": {"type": "integer", "minimum": 0},
        }
    return _object(required, optional)


def task(version: int, *, with_tags: bool = False) -> dict[str, Any]:
    """Return the schema of a task."""
    required: dict[str, Any] = {
        "Cluster": _FILLED,
        "TaskARN": _FILLED,
        "Family": _FILLED,
        "Revision": _FILLED,
        "DesiredStatus": _TASK_STATUS,
        "KnownStatus": _TASK_STATUS,
    }
    optional: dict[str, Any] = {
        "Containers": {"type": "array", "items": container(version), "minItems": 1},
        "Limits": {
            **_object({}, {"CPU": {"type": "number", "exclusiveMinimum": 0}, "Memory": _NUMBER}),
            "minProperties": 1,
        },
        "PullStartedAt": TIME,
        "PullStoppedAt": TIME,
        "ExecutionStoppedAt": TIME,
        "AvailabilityZone": _FILLED,
    }
    if with_tags:
        optional |= {"TaskTags": _MAP, "ContainerInstanceTags": _MAP}
    if version == 4:
        required["FaultInjectionEnabled"] = {"type": "boolean"}
        optional |= {
            "LaunchType": {"enum": ["EC2", "FARGATE", "EXTERNAL"]},
            "VPCID": _FILLED,
            "ServiceName": _FILLED,
            "AvailabilityZoneID": _FILLED,
        }
        if with_tags:
            error = _object(
                {
                    "ErrorField": {"enum": ["ContainerInstanceTags", "TaskTags"]},
                    "ErrorMessage": _FILLED,
                    "ResourceARN": _FILLED,
                },
                {"ErrorCode": _FILLED, "StatusCode": _NUMBER, "RequestId": _FILLED},
            )
            optional["Errors"] = {"type": "array", "items": error, "minItems": 1}
    return _object(required, optional)


FILE: Final = _object(
    {
        "Cluster": _FILLED,
        "TaskARN": _FILLED,
        "TaskDefinitionFamily": _FILLED,
        "TaskDefinitionRevision": _FILLED,
        "ContainerName": _FILLED,
    },
    {
        "ContainerInstanceARN": _FILLED,
        "AvailabilityZone": _FILLED,
        "HostPrivateIPv4Address": _FILLED,
        "ContainerID": _FILLED,
        "DockerContainerName": {"type": "string", "pattern": "^/"},
        "ImageID": _FILLED,
        "ImageName": _FILLED,
        "MetadataFileStatus": {"const": "READY"},
        "PortMappings": {
            "type": "array",
            "items": _object(
                {
                    "ContainerPort": _NUMBER,
                    "ContainerPortRange": _TEXT,
                    "HostPort": _NUMBER,
                    "BindIp": _FILLED,
                    "Protocol": {"enum": ["tcp", "udp"]},
                },
                {},
            ),
        },
        "Networks": {
            "type": "array",
            "items": _object(
                {"NetworkMode": _FILLED}, {"IPv4Addresses": _TEXTS, "IPv6Addresses": _TEXTS}
            ),
        },
    },
)


def check(value: Any, schema: dict[str, Any]) -> None:
    """Raise ``jsonschema.ValidationError`` where a value is not as a schema says."""
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)
