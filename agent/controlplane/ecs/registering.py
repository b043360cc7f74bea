"""RegisterContainerInstance: from the request of Amazon's agent to a ``Register``, and the answer. Pure.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/api/ecs/client`` and ``agent/app/agent_capability.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.controlplane.api.errors import InvalidParameterException
from agent.controlplane.api.tags import read_tags
from agent.model.resources import Gpu, HostResources
from agent.model.wire import Register

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CONTROL_ATTRIBUTE: Final = "ecs-host-agent.control"
"""In the answer alone; its value is control's id. An agent that knows it may use our extensions."""
NETWORK_ATTRIBUTE: Final = "ecs-host-agent.task-network"
"""The host gives ``awsvpc`` tasks an address of their own, without an ENI."""
TASK_ENI: Final = "ecs.capability.task-eni"
ZONE_ATTRIBUTE: Final = "ecs.availability-zone"
ATTRIBUTE_LIMIT: Final = 512
"""Amazon's agent has about a hundred capabilities and ten attributes of its own."""
_NAME_LIMIT: Final = 256
_VALUE_LIMIT: Final = 1024
_ARCHITECTURE: Final = "ecs.cpu-architecture"


class _Identity(Struct, frozen=True):
    """What is read of an EC2 instance identity document; its signature is not verified."""

    architecture: str = ""


_identity = msgspec.json.Decoder(_Identity)


def read(request: Mapping[str, Any], client_token: str) -> Register:
    """Return what a checked request says of its host.

    Raises:
        InvalidParameterException: resources, attributes or tags cannot be.
    """
    attributes = _attributes(request.get("attributes", ()))
    if NETWORK_ATTRIBUTE in attributes:
        attributes[TASK_ENI] = ""
    else:
        # It means that ECS may attach an ENI, which nobody here does.
        attributes.pop(TASK_ENI, None)
    document = request.get("instanceIdentityDocument", "")
    architecture = attributes.get(_ARCHITECTURE) or _architecture(document)
    return Register(
        cluster=request.get("cluster", ""),
        client_token=client_token,
        instance_arn=request.get("containerInstanceArn", ""),
        resources=_resources(request, architecture),
        attributes=attributes,
        tags=read_tags(request.get("tags", ())),
        agent_version=(request.get("versionInfo") or {}).get("agentVersion", ""),
    )


def answer_attributes(
    shown: Iterable[Mapping[str, Any]],
    asked: Iterable[Mapping[str, str]],
    *,
    control_id: str,
    zone: str,
) -> list[dict[str, Any]]:
    """Return the attributes of an answer.

    The agent stops for good when a value that it asked for does not come back as it was, so it is
    told its own words, whatever an operator put in their place.
    """
    values: dict[str, str | None] = {a["name"]: a.get("value") for a in shown}
    values[ZONE_ATTRIBUTE] = zone
    values |= {a["name"]: a.get("value") for a in asked}
    values[CONTROL_ATTRIBUTE] = control_id
    return [{"name": name, "value": value} for name, value in values.items()]


def _attributes(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    if len(given) > ATTRIBUTE_LIMIT:
        raise InvalidParameterException(f"attributes can have at most {ATTRIBUTE_LIMIT} items.")
    attributes: dict[str, str] = {}
    for attribute in given:
        name, value = attribute["name"], attribute.get("value", "")
        if not 0 < len(name) <= _NAME_LIMIT or len(value) > _VALUE_LIMIT:
            raise InvalidParameterException(f"The attribute '{name[:64]}' is too long or nameless.")
        attributes[name] = value
    return attributes


def _resources(request: Mapping[str, Any], architecture: str) -> HostResources:
    given = {item.get("name", ""): item for item in request.get("totalResources", ())}
    for name in ("CPU", "MEMORY"):
        if name not in given:
            raise InvalidParameterException(f"totalResources must hold {name}.")
    return HostResources(
        cpu_units=_number(given["CPU"]),
        memory_mib=_number(given["MEMORY"]),
        reserved_tcp=_ports(given.get("PORTS", {})),
        reserved_udp=_ports(given.get("PORTS_UDP", {})),
        gpus=tuple(
            Gpu(uuid=device["id"])
            for device in request.get("platformDevices", ())
            if device["type"] == "GPU"
        ),
        architecture=architecture,
    )


def _number(resource: Mapping[str, Any]) -> int:
    number: int = resource.get("integerValue", 0)
    if number < 0:
        raise InvalidParameterException(f"{resource['name']} must not be negative.")
    return number


def _ports(resource: Mapping[str, Any]) -> frozenset[int]:
    ports: set[int] = set()
    for text in resource.get("stringSetValue", ()):
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
            raise InvalidParameterException(f"{resource['name']}: '{text[:32]}' is no port.")
        ports.add(int(text))
    return frozenset(ports)


def _architecture(document: str) -> str:
    try:
        return _identity.decode(document).architecture if document else ""
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return ""
