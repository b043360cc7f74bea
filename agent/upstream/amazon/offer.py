"""The host's description in RegisterContainerInstance, and whether Amazon ECS kept it. Pure.

Source of names, order and rules: Amazon ECS agent 1.105.1, ``agent/api/ecsclient``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from agent.errors import ControlUnavailable
from agent.upstream.amazon.ec2.facts import Ec2Facts, IdentityProof

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from agent.model.resources import HostResources
    from agent.upstream.protocol import RegisterInfo

OURS: Final = "ecs-host-agent."
"""Prefix of attributes that only our own control endpoint interprets."""
CONTROL_IS_OURS: Final = f"{OURS}control"
AVAILABILITY_ZONE: Final = "ecs.availability-zone"
TASK_ENI: Final = "ecs.capability.task-eni"

TAGS_LIMIT: Final = 50
_TAG_PUNCTUATION: Final = frozenset("_.:/=+-@")
_ZONE: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_ARN_LIMIT: Final = 2048
_VALUE_LIMIT: Final = 1024


class Registrant(Struct, frozen=True, kw_only=True):
    """What a registration contains besides the host's resources."""

    cluster: str
    client_token: str
    instance_arn: str = ""
    """The instance that this host was before; empty for a new one."""
    custom: dict[str, str] = {}
    """``ECS_INSTANCE_ATTRIBUTES``, checked; sent only for a new instance, so that changes made
    through the API are kept."""
    proof: IdentityProof = IdentityProof()
    facts: Ec2Facts = Ec2Facts()
    tags: dict[str, str] = {}


class Answer(Struct, frozen=True, kw_only=True):
    """The fields that are read from the answer to a registration."""

    arn: str
    attributes: dict[str, str]
    """By name; empty values are capabilities."""

    @property
    def availability_zone(self) -> str:
        """The instance's zone according to Amazon ECS; empty if it has none, or an invalid one."""
        zone = self.attributes.get(AVAILABILITY_ZONE, "")
        return zone if _ZONE.fullmatch(zone) else ""

    @property
    def control_is_ours(self) -> bool:
        """Whether our own control endpoint answered."""
        return CONTROL_IS_OURS in self.attributes


def request(info: RegisterInfo, registrant: Registrant) -> dict[str, Any]:
    """Return the RegisterContainerInstance request."""
    body: dict[str, Any] = {
        "cluster": registrant.cluster,
        "clientToken": registrant.client_token,
        "instanceIdentityDocument": registrant.proof.document,
        "instanceIdentityDocumentSignature": registrant.proof.signature,
        "totalResources": total_resources(info.resources),
        "attributes": [
            {"name": name, "value": value} if value else {"name": name}
            for name, value in attributes(info.attributes, registrant).items()
        ],
    }
    if registrant.instance_arn:
        body["containerInstanceArn"] = registrant.instance_arn
    if info.resources.gpus:
        body["platformDevices"] = [{"id": gpu.uuid, "type": "GPU"} for gpu in info.resources.gpus]
    if registrant.tags:
        body["tags"] = [{"key": key, "value": value} for key, value in registrant.tags.items()]
    return body


def total_resources(host: HostResources) -> list[dict[str, Any]]:
    """Return processors, memory and ports; GPUs are devices, not resources."""
    return [
        _integer("CPU", host.cpu_units),
        _integer("MEMORY", host.memory_mib),
        _ports("PORTS", host.reserved_tcp),
        _ports("PORTS_UDP", host.reserved_udp),
    ]


def attributes(offered: Mapping[str, str], registrant: Registrant) -> dict[str, str]:
    """Return all attributes in the order of Amazon's agent; a capability has an empty value.

    The order: custom ones, capabilities, the host's network if tasks get interfaces of it, system
    and processor, outpost. A custom attribute does not replace one of ours with the same name.
    Outside of a VPC no interface can be attached, so what needs one is left out.
    """
    if not registrant.facts.vpc_id:
        offered = {name: value for name, value in offered.items() if not name.startswith(TASK_ENI)}
    custom = {} if registrant.instance_arn else registrant.custom
    facts = registrant.facts
    network = {"ecs.vpc-id": facts.vpc_id, "ecs.subnet-id": facts.subnet_id}
    system = {name: value for name, value in offered.items() if _is_system(name)}
    return {
        **{name: value for name, value in custom.items() if name not in offered},
        **{name: value for name, value in offered.items() if not _is_system(name)},
        **(
            {name: value for name, value in network.items() if value} if TASK_ENI in offered else {}
        ),
        **system,
        **({"ecs.outpost-arn": facts.outpost_arn} if facts.outpost_arn else {}),
    }


def tags(own: Mapping[str, str], of_ec2: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the tags to register, and the keys of the EC2 tags that are left out.

    Own tags win. Amazon ECS allows fewer characters than EC2, and 50 tags; one invalid tag would
    make it refuse the whole registration.
    """
    chosen = dict(own)
    left: list[str] = []
    for key, value in of_ec2.items():
        if key in own:
            continue
        if len(chosen) < TAGS_LIMIT and _is_tag(key, value):
            chosen[key] = value
        else:
            left.append(key)
    return chosen, left


def read_answer(answer: Mapping[str, Any]) -> Answer:
    """Parse the answer to a registration; invalid parts of it are left out.

    Raises:
        ControlUnavailable: it names no container instance.
    """
    instance = answer.get("containerInstance")
    arn = instance.get("containerInstanceArn") if isinstance(instance, dict) else None
    if not isinstance(instance, dict) or not isinstance(arn, str) or not is_instance_arn(arn):
        raise ControlUnavailable(
            "RegisterContainerInstance: the answer names no container instance; is"
            " ECS_BACKEND_HOST an ECS API?"
        )
    listed = instance.get("attributes")
    return Answer(arn=arn, attributes=_by_name(listed) if isinstance(listed, list) else {})


def is_instance_arn(text: str) -> bool:
    """Return whether a text can be the ARN of a container instance."""
    shaped = text.startswith("arn:") and ":container-instance/" in text and len(text) <= _ARN_LIMIT
    return shaped and text.isascii() and text.isprintable() and not (set(" /") & set(text[-1]))


def unmet(
    requested: Mapping[str, str], returned: Mapping[str, str], custom: Container[str]
) -> list[str]:
    """Return the requested attributes for which Amazon ECS has another value, in order.

    Names without a value are never reported, and neither are our own, which mean nothing to Amazon
    ECS. A missing name counts as another value. But a server that returns none of our capabilities
    does not store attributes at all. Then a missing name counts only if it is ``custom``, because
    an operator may use it to place tasks.
    """
    keeps = any(name in returned for name, value in requested.items() if not value)
    return [
        name
        for name, value in requested.items()
        if value
        and not name.startswith(OURS)
        and returned.get(name, "" if keeps or name in custom else value) != value
    ]


def _is_system(name: str) -> bool:
    return name.startswith("ecs.os-") or name == "ecs.cpu-architecture"


def _integer(name: str, value: int) -> dict[str, Any]:
    # A zero is left out, as the SDK of Amazon's agent does it.
    return {"name": name, "type": "INTEGER"} | ({"integerValue": value} if value else {})


def _ports(name: str, ports: Iterable[int]) -> dict[str, Any]:
    return {"name": name, "type": "STRINGSET", "stringSetValue": [str(p) for p in sorted(ports)]}


def _by_name(listed: list[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in listed:
        if isinstance(item, dict) and isinstance(name := item.get("name"), str):
            value = item.get("value")
            found[name[:_VALUE_LIMIT]] = value[:_VALUE_LIMIT] if isinstance(value, str) else ""
    return found


def _is_tag(key: str, value: str) -> bool:
    return (
        0 < len(key) <= 128
        and len(value) <= 256
        and not key.lower().startswith("aws:")
        and all(_is_tag_character(character) for character in key + value)
    )


def _is_tag_character(character: str) -> bool:
    return character in _TAG_PUNCTUATION or unicodedata.category(character)[0] in "LZN"
