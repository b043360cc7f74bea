"""The elastic network interface (ENI) that Amazon ECS orders for a task. Pure.

Field names follow the ACS model of Amazon ECS agent 1.105.1 (``elasticNetworkInterfaces``), and so
do the rules: one interface per task, IPv6 addresses with a prefix of 64 bits, the length of the
IPv4 prefix in the gateway.

Tests: ``tests/unit/model/test_eni.py``.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.errors import PayloadError
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Sequence

IPV6_PREFIX_LEN: Final = 64
_MAC: Final = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_VLANS: Final = range(1, 4095)


class TaskEni(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One interface: its identity, its addresses, and how it arrives on the host."""

    mac: str
    """In lower case."""
    eni_id: str
    attachment_arn: str = ""
    ipv4: tuple[str, ...] = ()
    """Primary address first; empty for an interface with IPv6 alone."""
    ipv4_prefix_len: int = 0
    ipv4_gateway: str = ""
    ipv6: tuple[str, ...] = ()
    ipv6_gateway: str = ""
    """Empty if the kernel learns it from router advertisements, as with both families."""
    hostname: str = ""
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    vlan_id: int = 0
    """Of a branch interface; 0 for one that is a device of its own."""
    trunk_mac: str = ""
    """Of the device that carries a branch interface."""

    @property
    def is_branch(self) -> bool:
        """Whether it is a VLAN of a trunk."""
        return bool(self.vlan_id)


class _Address(Struct, rename="camel"):
    private_address: str = ""
    address: str = ""
    primary: bool = False


class _Vlan(Struct, rename="camel"):
    vlan_id: str = ""
    trunk_interface_mac_address: str = ""


class _Interface(Struct, rename="camel"):
    mac_address: str = ""
    ec2_id: str = msgspec.field(name="ec2Id", default="")
    attachment_arn: str = ""
    interface_association_protocol: str = ""
    interface_vlan_properties: _Vlan | None = None
    ipv4_addresses: list[_Address] = msgspec.field(name="ipv4Addresses", default_factory=list)
    ipv6_addresses: list[_Address] = msgspec.field(name="ipv6Addresses", default_factory=list)
    subnet_gateway_ipv4_address: str = msgspec.field(name="subnetGatewayIpv4Address", default="")
    subnet_gateway_ipv6_address: str = msgspec.field(name="subnetGatewayIpv6Address", default="")
    domain_name: list[str] = []
    domain_name_servers: list[str] = []
    private_dns_name: str = ""


def read(interfaces: Sequence[dict[str, Any]]) -> TaskEni:
    """Return the interface of a task from its payload.

    Raises:
        PayloadError: it is not exactly one, or it cannot be set up as it is described; the text
            names the field.
    """
    if len(interfaces) != 1:
        raise _refusal(f"the task has {len(interfaces)} network interfaces; it can have one")
    try:
        wire = msgspec.convert(interfaces[0], _Interface)
    except msgspec.ValidationError as error:
        raise _refusal(f"elasticNetworkInterfaces: {error}") from None
    try:
        return _read(wire)
    except (AddressValueError, ValueError) as error:
        raise _refusal(f"elasticNetworkInterfaces: {error}") from None


def _read(wire: _Interface) -> TaskEni:
    ipv4 = [str(IPv4Address(a.private_address)) for a in _primary_first(wire.ipv4_addresses)]
    ipv6 = [str(IPv6Address(a.address)) for a in _primary_first(wire.ipv6_addresses)]
    if not ipv4 and not ipv6:
        raise ValueError("the interface has no address")
    gateway = IPv4Interface(wire.subnet_gateway_ipv4_address) if ipv4 else None
    told = wire.subnet_gateway_ipv6_address if ipv6 else ""
    if not ipv4 and not told:
        raise ValueError("subnetGatewayIpv6Address is missing")
    vlan_id, trunk_mac = _branch(wire)
    return TaskEni(
        mac=_mac("macAddress", wire.mac_address),
        eni_id=wire.ec2_id,
        attachment_arn=wire.attachment_arn,
        ipv4=tuple(dict.fromkeys(ipv4)),
        ipv4_prefix_len=gateway.network.prefixlen if gateway else 0,
        ipv4_gateway=str(gateway.ip) if gateway else "",
        ipv6=tuple(dict.fromkeys(ipv6)),
        ipv6_gateway=str(IPv6Interface(told).ip) if told else "",
        hostname=wire.private_dns_name,
        dns_servers=tuple(filter(None, wire.domain_name_servers)),
        dns_search=tuple(filter(None, wire.domain_name)),
        vlan_id=vlan_id,
        trunk_mac=trunk_mac,
    )


def _primary_first(addresses: list[_Address]) -> list[_Address]:
    return sorted(addresses, key=lambda address: not address.primary)


def _branch(wire: _Interface) -> tuple[int, str]:
    if wire.interface_association_protocol in ("", "default"):
        return 0, ""
    if wire.interface_association_protocol != "vlan" or wire.interface_vlan_properties is None:
        raise ValueError(
            f"interfaceAssociationProtocol {wire.interface_association_protocol[:100]!r} is not "
            "supported, or lacks its properties"
        )
    told = wire.interface_vlan_properties
    if not told.vlan_id.isdecimal() or int(told.vlan_id) not in _VLANS:
        raise ValueError(f"vlanId {told.vlan_id[:100]!r} is not a number from 1 to 4094")
    return int(told.vlan_id), _mac("trunkInterfaceMacAddress", told.trunk_interface_mac_address)


def _mac(name: str, told: str) -> str:
    mac = told.lower()
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{name} {told[:100]!r} is not a MAC address")
    return mac


def _refusal(text: str) -> PayloadError:
    return PayloadError(text, name=reasons.NETWORKING)
