"""Validates network interfaces and volumes of Amazon ECS. Pure.

The texts about interfaces are sent to ECS as part of a task's reason.
Source: Amazon ECS agent 1.105.1, ``ecs-agent/netlib/model/networkinterface`` and
``ecs-agent/acs/session`` (validation of attach messages).

Tests: ``tests/unit/upstream/amazon/acs/test_messages.py``.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from agent.upstream.amazon.acs import fields as f
from agent.upstream.amazon.acs.fields import Fields, UnusableMessage

EBS: Final = "amazonebs"

_NEEDED: Final = ("volumeId", "volumeSizeGib", "deviceName", "sourceVolumeHostPath", "volumeName")
_FILE_SYSTEMS: Final = frozenset({"xfs", "ext2", "ext3", "ext4", "ntfs"})
_LEGACY: Final = {
    "EphemeralStorage": (
        "volumeID",
        "deviceName",
        "volumeSizeInGiB",
        "requestedSizeInGiB",
        "resourceID",
    ),
    "ElasticBlockStorage": ("volumeID", "deviceName"),
}
"""Properties that a volume of the older form must have, by its ``resourceType``."""


class Interface(Struct, frozen=True, kw_only=True):
    """A network interface that is being attached."""

    mac: str
    """In lower case."""
    attachment_arn: str
    trunk_mac: str = ""
    """Of the device that carries a branch interface; empty for any other."""
    details: dict[str, str]
    """With the names of ``model.changes.AttachmentChange``."""


class Volume(Struct, frozen=True, kw_only=True):
    """A volume that is being attached."""

    volume_id: str
    attachment_arn: str
    details: dict[str, str]


def interface(fields: Fields) -> Interface:
    """Parse a network interface.

    Raises:
        UnusableMessage: it is invalid; the text is one that Amazon ECS knows.
    """
    address = _addressed(fields)
    mac = f.text(fields, "macAddress").lower()
    if not mac:
        raise UnusableMessage(_bad("empty eni mac address in the message"))
    interface_id = f.text(fields, "ec2Id")
    if not interface_id:
        raise UnusableMessage(_bad("empty eni id in the message"))
    trunk_mac = _trunk_of(fields)
    details = {
        "networkInterfaceId": interface_id,
        "macAddress": mac,
        "privateIPv4Address": address,
        "privateDnsName": f.text(fields, "privateDnsName"),
    }
    return Interface(
        mac=mac,
        attachment_arn=f.text(fields, "attachmentArn"),
        trunk_mac=trunk_mac,
        details={name: value for name, value in details.items() if value},
    )


def volume(fields: Fields) -> Volume | None:
    """Parse an attachment to be confirmed; None if it is only to be acknowledged.

    Raises:
        UnusableMessage: it is invalid.
    """
    (attachment_arn,) = f.needed(fields, "attachmentArn")
    arn("attachmentArn", attachment_arn)
    properties = _properties(fields)
    if f.text(fields, "attachmentType") != EBS:
        kind = properties.get("resourceType", "")
        if kind not in _LEGACY:
            raise UnusableMessage(f"resourceType {kind[:100]!r} is unknown")
        _check_present(properties, _LEGACY[kind])
        return None
    _check_present(properties, _NEEDED)
    file_system = properties.get("fileSystem", "")
    if file_system and file_system not in _FILE_SYSTEMS:
        raise UnusableMessage(f"fileSystem {file_system[:100]!r} is unknown")
    return Volume(
        volume_id=properties["volumeId"], attachment_arn=attachment_arn, details=properties
    )


def arn(name: str, value: str) -> None:
    """Check that a text has the form of an ARN; raises ``UnusableMessage``."""
    if not value.startswith("arn:") or value.count(":") < 5:
        raise UnusableMessage(f"{name} {value[:100]!r} is not an ARN")


def _addressed(fields: Fields) -> str:
    """Check addresses and gateway; return the primary IPv4 address, empty if there is none."""
    addresses = f.parts(fields, "ipv4Addresses")
    if not addresses and f.parts(fields, "ipv6Addresses"):
        _check_gateway(fields, "subnetGatewayIpv6Address", "ipv6")
        return ""
    if not addresses:
        raise UnusableMessage(_bad("no ipv4 addresses in the message"))
    _check_gateway(fields, "subnetGatewayIpv4Address", "ipv4")
    read = [f.read(address, "ipv4Addresses") for address in addresses]
    primary = next((one for one in read if bytes(one.get("primary", b"")) == b"true"), read[0])
    return f.text(primary, "privateAddress")


def _check_gateway(fields: Fields, name: str, version: str) -> None:
    gateway = f.text(fields, name)
    if not gateway:
        raise UnusableMessage(_bad(f"no subnet gateway {version} address in the message"))
    address, slash, prefix = gateway.partition("/")
    if not (address and slash and prefix) or "/" in prefix:
        raise UnusableMessage(_bad(f"invalid subnet gateway {version} address {gateway[:100]}"))


def _trunk_of(fields: Fields) -> str:
    """Check the protocol; return the MAC of the trunk, in lower case, empty without one."""
    protocol = f.text(fields, "interfaceAssociationProtocol")
    if protocol not in {"", "default", "vlan"}:
        raise UnusableMessage(f"invalid interface association protocol: {protocol[:100]}")
    if protocol != "vlan":
        return ""
    told: Fields = {}
    if "interfaceVlanProperties" in fields:
        told = f.read(fields["interfaceVlanProperties"], "interfaceVlanProperties")
    if not f.text(told, "vlanId") or not f.text(told, "trunkInterfaceMacAddress"):
        raise UnusableMessage("vlan interface properties missing")
    return f.text(told, "trunkInterfaceMacAddress").lower()


def _properties(fields: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in f.parts(fields, "attachmentProperties"):
        name, value = f.needed(f.read(part, "attachmentProperties"), "name", "value")
        found[name] = value
    return found


def _check_present(properties: dict[str, str], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in properties]
    if missing:
        raise UnusableMessage(f"{', '.join(missing)} missing from the properties")


def _bad(what: str) -> str:
    return f"eni message validation: {what}"
