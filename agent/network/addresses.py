"""Every name that is derived from a task's address. Pure.

An address identifies its sandbox: link, MAC, host name and container name are derived from it, so
that leftovers of a crash can be matched by name alone.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv4Network, IPv6Address

_LINK_PREFIX = "ecs"
_MAC_PREFIX = "0a:58"


def mac_of(ipv4: str) -> str:
    """Return the MAC of a task's interface.

    It is derived, so that an old neighbour entry for the address is still right for the next task.
    """
    return ":".join([_MAC_PREFIX, *(f"{byte:02x}" for byte in IPv4Address(ipv4).packed)])


def mac_of_ipv6(ipv6: str) -> str:
    """Return the MAC of a task's interface on a shared network whose tasks have IPv6 alone.

    It tells the whole address, because on such a network the IPv4 addresses of two hosts' tasks are the same.
    """
    digest = hashlib.sha256(IPv6Address(ipv6).packed).digest()
    return ":".join(["0a", *(f"{byte:02x}" for byte in digest[:5])])


def hostname_of(ipv4: str) -> str:
    """Return the host name of a task, ``ip-a-b-c-d``, in the form of EC2."""
    return "ip-" + ipv4.replace(".", "-")


def container_name_of(ipv4: str) -> str:
    """Return the engine's name for the pause container of a sandbox."""
    return "ecs-sandbox-" + ipv4.replace(".", "-")


def link_name_of(ipv4: str) -> str:
    """Return the name of the host's end of a sandbox's link; 11 of the 15 characters allowed."""
    return f"{_LINK_PREFIX}{int(IPv4Address(ipv4)):08x}"


def address_of_link(name: str) -> str | None:
    """Return the address that a link name was derived from, or None for a foreign name."""
    digits = name.removeprefix(_LINK_PREFIX)
    if digits == name or len(digits) != 8:
        return None
    try:
        address = str(IPv4Address(int(digits, 16)))
    except ValueError:
        return None
    return address if link_name_of(address) == name else None


def link_prefixes(pool: str) -> list[str]:
    """Return the name prefixes that cover the links of a pool's addresses, and no others.

    A digit stands for four bits, so there are up to eight prefixes.
    """
    network = IPv4Network(pool)
    digits = -(-network.prefixlen // 4)
    step = 1 << (32 - 4 * digits)
    first = int(network.network_address)
    values = range(first, first + network.num_addresses, step)
    return [f"{_LINK_PREFIX}{value:08x}"[: len(_LINK_PREFIX) + digits] for value in values]
