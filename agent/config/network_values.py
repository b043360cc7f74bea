"""Value syntax of settings about networks: addresses, networks, ports, and names of links and tables.

Pure; parsers fail as those of ``values`` do. Tests: ``tests/unit/config/test_values.py``.
"""

from __future__ import annotations

import ipaddress
import re

from agent.config.values import Kind, parse_json, parse_string_list

_INTERFACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def parse_ports(text: str) -> tuple[int, ...]:
    """Parse a JSON list of port numbers."""
    value = parse_json(text, example="[22, 8080]")
    if not isinstance(value, list) or any(
        not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536
        for port in value
    ):
        raise ValueError("is not a JSON list of ports; write for example [22, 8080]")
    return tuple(value)


def parse_addresses(text: str) -> tuple[str, ...]:
    """Parse a JSON list of IP addresses."""
    addresses = parse_string_list(text, example='["192.0.2.53"]')
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(
                f'contains "{address}", which is not an IP address; '
                'write for example ["192.0.2.53"]'
            ) from None
    return addresses


def parse_address(text: str) -> str:
    """Parse one IP address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address; write for example 192.0.2.7") from None


def parse_ipv4_network(text: str) -> str:
    """Parse an IPv4 network in CIDR notation with room for a gateway and at least two tasks."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(
            f"is not an IPv4 network ({error}); write for example 10.20.0.0/16"
        ) from None
    if not 8 <= network.prefixlen <= 28:
        raise ValueError("is too small or too large for a task pool; write a prefix from /8 to /28")
    return str(network)


def parse_ipv4_pool(text: str) -> str:
    """Parse an IPv4 network for tasks, or ``none``, which becomes an empty text."""
    return "" if text.lower() == "none" else parse_ipv4_network(text)


def parse_ipv6_network(text: str) -> str:
    """Parse an IPv6 network in CIDR notation with room for a gateway and at least two tasks."""
    try:
        network = ipaddress.IPv6Network(text)
    except ValueError as error:
        raise ValueError(
            f"is not an IPv6 network ({error}); write for example fd12:3456:789a::/64"
        ) from None
    if not 16 <= network.prefixlen <= 124:
        raise ValueError(
            "is too small or too large for a task pool; write a prefix from /16 to /124"
        )
    if network.is_link_local or network.is_multicast or network.network_address.packed[0] == 0:
        raise ValueError("is not for hosts; write for example fd12:3456:789a::/64")
    return str(network)


def parse_network(text: str) -> str:
    """Parse an IPv4 or IPv6 network in CIDR notation."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"is not a network ({error}); write for example 10.20.0.128/25") from None


def parse_port_range(text: str) -> tuple[int, int]:
    """Parse ``first-last``, both ports."""
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text.replace(" ", ""))
    if match is None:
        raise ValueError("is not a port range; write for example 49153-65535")
    first, last = int(match[1]), int(match[2])
    if not 0 < first <= last < 65536:
        raise ValueError("is not a range within ports 1 to 65535; write the lower port first")
    return first, last


def parse_interface_name(text: str) -> str:
    """Parse the name of a network interface (at most 15 characters)."""
    if not _INTERFACE_NAME.fullmatch(text):
        raise ValueError(
            "is not an interface name; use at most 15 letters, digits, dots, dashes, underscores"
        )
    return text


def parse_table_name(text: str) -> str:
    """Parse the name of an nftables table."""
    if not _TABLE_NAME.fullmatch(text):
        raise ValueError("is not a table name; use letters, digits and underscores")
    return text


PORTS = Kind("JSON list of ports", parse_ports)
ADDRESSES = Kind("JSON list of addresses", parse_addresses)
ADDRESS = Kind("IP address", parse_address)
IPV4_POOL = Kind("IPv4 network \\| `none`", parse_ipv4_pool)
NETWORK = Kind("network", parse_network)
IPV6_NETWORK = Kind("IPv6 network", parse_ipv6_network)
PORT_RANGE = Kind("`first-last`", parse_port_range)
INTERFACE = Kind("interface name", parse_interface_name)
TABLE = Kind("table name", parse_table_name)
