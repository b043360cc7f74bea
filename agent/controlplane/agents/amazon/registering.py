"""RegisterContainerInstance: from the request of Amazon's agent to a ``Register``, and the answer. Pure.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/api/ecs/client`` and ``agent/app/agent_capability.go``.

Tests: ``tests/unit/controlplane/agents/amazon/test_registration.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.controlplane.agents import host_rules
from agent.controlplane.api.ecs.tags import read_tags
from agent.controlplane.bounds import OutOfBounds
from agent.controlplane.front.errors import InvalidParameterException
from agent.errors import BAD_JSON
from agent.model.resources import Gpu, HostResources
from agent.model.wire import Register

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTROL_ATTRIBUTE: Final = "ecs-host-agent.control"
"""In the answer alone; its value is control's id. An agent that knows it may use our extensions."""
NETWORK_ATTRIBUTE: Final = "ecs-host-agent.task-network"
"""The host gives ``awsvpc`` tasks an address of their own, without an ENI."""
TASK_ENI: Final = "ecs.capability.task-eni"
ZONE_ATTRIBUTE: Final = "ecs.availability-zone"
_ARCHITECTURE: Final = "ecs.cpu-architecture"
_OUR_ZONE: Final = "ecs-host-agent.availability-zone"
"""How an agent of ours says its zone by this wire, on which Amazon ECS would not be told it."""
_DOCUMENT_LIMIT: Final = 16 * 1024
_WORD: Final = re.compile(r"[A-Za-z0-9._-]{0,128}")


class _Identity(Struct, frozen=True, rename="camel"):
    """What is read of an EC2 instance identity document; its signature is not verified."""

    architecture: str = ""
    instance_id: str = ""
    instance_type: str = ""
    image_id: str = ""
    availability_zone: str = ""

    def attributes(self) -> dict[str, str]:
        """Return what Amazon ECS makes of it, as attributes of the instance."""
        said = {
            "ecs.instance-type": self.instance_type,
            "ecs.ami-id": self.image_id,
            ZONE_ATTRIBUTE: self.availability_zone,
        }
        return {name: value for name, value in said.items() if value}


_identity = msgspec.json.Decoder(_Identity)


def read(request: Mapping[str, Any], client_token: str) -> Register:
    """Return what a checked request says of its host.

    Raises:
        InvalidParameterException: resources, attributes or tags cannot be, or a field is beyond its
            bound (``host_rules``).
    """
    attributes = {a["name"]: a.get("value", "") for a in request.get("attributes", ())}
    if NETWORK_ATTRIBUTE in attributes:
        attributes[TASK_ENI] = ""
    else:
        # It means that ECS may attach an ENI, which nobody here does.
        attributes.pop(TASK_ENI, None)
    identity = _read_identity(request.get("instanceIdentityDocument", ""))
    zone = attributes.pop(_OUR_ZONE, "")
    attributes = identity.attributes() | attributes | ({ZONE_ATTRIBUTE: zone} if zone else {})
    versions = request.get("versionInfo") or {}
    call = Register(
        cluster=request.get("cluster", ""),
        client_token=client_token,
        instance_arn=request.get("containerInstanceArn", ""),
        resources=_resources(
            request,
            attributes.get(_ARCHITECTURE) or identity.architecture,
            # The agent of Amazon puts the name of the number before it.
            versions.get("dockerVersion", "").removeprefix("DockerVersion:").strip(),
        ),
        attributes=attributes,
        tags=read_tags(request.get("tags", ())),
        agent_version=versions.get("agentVersion", ""),
        agent_hash=versions.get("agentHash", ""),
        ec2_instance_id=identity.instance_id,
    )
    try:
        host_rules.check(call)
    except OutOfBounds as error:
        raise InvalidParameterException(f"{error}.") from None
    return call


def answer_attributes(
    shown: Iterable[Mapping[str, Any]],
    asked: Iterable[Mapping[str, str]],
    *,
    control_id: str,
) -> list[dict[str, Any]]:
    """Return the attributes of an answer.

    The agent stops for good when a value that it asked for does not come back as it was, so it is
    told its own words, whatever an operator put in their place.
    """
    values: dict[str, str | None] = {a["name"]: a.get("value") for a in shown}
    values |= {a["name"]: a.get("value") for a in asked}
    values[CONTROL_ATTRIBUTE] = control_id
    return [{"name": name, "value": value} for name, value in values.items()]


def _resources(request: Mapping[str, Any], architecture: str, engine_version: str) -> HostResources:
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
        engine_version=engine_version,
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
            raise InvalidParameterException(f"{resource['name']}: '{text[:32]}' is not a port.")
        ports.add(int(text))
    return frozenset(ports)


def _read_identity(document: str) -> _Identity:
    """Return what a document says; nothing for one that is invalid or too long."""
    if not 0 < len(document) <= _DOCUMENT_LIMIT:
        return _Identity()
    try:
        said = _identity.decode(document)
    except BAD_JSON:
        return _Identity()
    values = (said.instance_id, said.instance_type, said.image_id, said.availability_zone)
    return said if all(_WORD.fullmatch(value) for value in values) else _Identity()
