"""What a valid rule of a security group is, and which rules are the same. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.errors import AgentError
from agent.model.security_groups import ANY, EVERY_TYPE, ICMP_PROTOCOLS, PORT_PROTOCOLS, GroupRule

if TYPE_CHECKING:
    from collections.abc import Iterable

RULES_MOST: Final = 60
"""Per group and direction, counting each peer; the quota of Amazon VPC."""
PORT_MOST: Final = 65535
_TYPE_MOST: Final = 255
_NUMBERS: Final = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
_WORDS: Final = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP", "icmpv6": "ICMPv6", ANY: "ALL"}
_SHOWN: Final = 64


class RuleInvalid(AgentError):
    """A rule is not valid; the text says what is wrong."""


def rule(  # noqa: PLR0913 - all that makes a rule
    *,
    is_egress: bool,
    protocol: str,
    from_port: int | None,
    to_port: int | None,
    cidr_ipv4: str = "",
    cidr_ipv6: str = "",
    group: str = "",
    rule_id: str = "",
) -> GroupRule:
    """Return a rule in its normal form, as EC2 shows it.

    Args:
        is_egress: its direction.
        protocol: a name or a number; -1 for all.
        from_port: first port, or ICMP type.
        to_port: last port, or ICMP code.
        cidr_ipv4: one of the three peers; bits behind the prefix are cleared.
        cidr_ipv6: likewise.
        group: id of a group, which exists.
        rule_id: empty while it has none.

    Raises:
        RuleInvalid: it is not valid.
    """
    name = protocol_of(protocol)
    first, last = _ports(name, from_port, to_port)
    if len([peer for peer in (cidr_ipv4, cidr_ipv6, group) if peer]) != 1:
        raise RuleInvalid(
            "A rule must have exactly one of an IPv4 range, an IPv6 range and a group."
        )
    return GroupRule(
        id=rule_id,
        protocol=name,
        is_egress=is_egress,
        from_port=first,
        to_port=last,
        cidr_ipv4=_cidr(cidr_ipv4, IPv4Network),
        cidr_ipv6=_cidr(cidr_ipv6, IPv6Network),
        group=group,
    )


def protocol_of(given: str) -> str:
    """Return a protocol by the name that EC2 shows.

    Raises:
        RuleInvalid: there is no such protocol.
    """
    name = given.strip().lower()
    name = _NUMBERS.get(name, name)
    if name in (ANY, *PORT_PROTOCOLS, *ICMP_PROTOCOLS):
        return name
    if name.isascii() and name.isdecimal() and len(name) <= 3 and int(name) <= 255:
        return str(int(name))
    raise RuleInvalid(f"Invalid value '{given[:_SHOWN]}' for IP protocol. Unknown protocol.")


def same(one: GroupRule, other: GroupRule) -> bool:
    """Return whether two rules allow the same, whatever their ids are."""
    return replace(one, id="") == replace(other, id="")


def shown(given: GroupRule) -> str:
    """Return a rule in the words of EC2's errors."""
    peer = given.cidr_ipv4 or given.cidr_ipv6 or given.group
    words = [f"peer: {peer}", _WORDS.get(given.protocol, given.protocol)]
    if given.protocol in PORT_PROTOCOLS:
        words += [f"from port: {given.from_port}", f"to port: {given.to_port}"]
    elif given.protocol in ICMP_PROTOCOLS:
        words += [f"type: {given.from_port}", f"code: {given.to_port}"]
    return ", ".join([*words, "ALLOW"])


def too_many(rules: Iterable[GroupRule]) -> bool:
    """Return whether a group would have more rules in a direction than it may have."""
    directions = [each.is_egress for each in rules]
    return max(directions.count(True), directions.count(False)) > RULES_MOST


def _ports(protocol: str, first: int | None, last: int | None) -> tuple[int, int]:
    if protocol in PORT_PROTOCOLS:
        if first is None or last is None:
            raise RuleInvalid(f"A rule for {protocol} must have FromPort and ToPort.")
        if (first, last) == (-1, -1):
            first, last = 0, PORT_MOST
        if not 0 <= first <= PORT_MOST or not 0 <= last <= PORT_MOST:
            raise RuleInvalid(f"Invalid value for portRange: ports are 0 to {PORT_MOST}.")
        if first > last:
            raise RuleInvalid("Invalid TCP/UDP port range: FromPort must not exceed ToPort.")
        return first, last
    if protocol in ICMP_PROTOCOLS:
        kind = EVERY_TYPE if first is None else first
        code = EVERY_TYPE if last is None else last
        if not EVERY_TYPE <= kind <= _TYPE_MOST or not EVERY_TYPE <= code <= _TYPE_MOST:
            raise RuleInvalid(f"ICMP types and codes are -1 to {_TYPE_MOST}.")
        if kind == EVERY_TYPE and code != EVERY_TYPE:
            raise RuleInvalid("If all ICMP types are meant, all codes must be: ToPort must be -1.")
        return kind, code
    # As on EC2, ports have no meaning for other protocols.
    return -1, -1


def _cidr(given: str, kind: type[IPv4Network | IPv6Network]) -> str:
    if not given:
        return ""
    try:
        if "/" not in given:
            raise ValueError(given)
        return str(kind(given, strict=False))
    except ValueError:
        raise RuleInvalid(f"CIDR block {given[:_SHOWN]} is malformed") from None
