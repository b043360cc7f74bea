"""Recognises other firewalls of the host and says what they do to tasks. Pure, except for ``look``.

A packet must pass every filter of the host, whoever made it, so the agent cannot accept for others
what they drop. The agent logs what it finds when it starts; ``ecs-agent doctor`` reports it as well.

Sources: ufw 0.36 (``before.rules``), firewalld 1.3 (its nftables backend), iptables 1.8.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Iterable

LEGACY_TABLES: Final = "proc/net/ip_tables_names"
"""Names of the tables of iptables-legacy that are in use, below the root."""
FIREWALLD: Final = ("inet", "firewalld")
_UFW_CHAIN: Final = "ufw-before-input"
_IPTABLES: Final = ("ip", "filter")


class OtherFirewall(NamedTuple):
    """One firewall beside the agent's rules."""

    name: str
    does: str
    """What it does to tasks."""
    mend: str
    command: str


class Doorway(NamedTuple):
    """What tasks must be able to reach."""

    bridge: str
    """Link of the tasks' bridge."""
    address: str
    """Of the agent's server, for tasks."""
    port: int
    """Port of the server that packets have when filters see them."""


class FirewallFacts(NamedTuple):
    """What was read from the host."""

    chains: list[dict[str, Any]]
    """From ``nft -j list chains``."""
    firewalld: str
    """The text of firewalld's table; empty if it has none."""
    legacy_tables: tuple[str, ...]
    iptables: str
    """The output of ``iptables --version``; empty if it is not installed."""


def chains_of(listing: str) -> list[dict[str, Any]]:
    """Return the chains in the output of ``nft -j list chains``; none if it is not such a list."""
    try:
        return [each["chain"] for each in json.loads(listing)["nftables"] if "chain" in each]
    except (ValueError, KeyError, TypeError):
        return []


def recognised(facts: FirewallFacts, door: Doorway) -> list[OtherFirewall]:
    """Return the other firewalls that affect tasks; none if tasks pass."""
    found = []
    if any((chain["family"], chain["table"]) == FIREWALLD for chain in facts.chains):
        found += _firewalld(facts.firewalld, door)
    drops = _drops_input(facts.chains, _IPTABLES)
    if any(chain["name"] == _UFW_CHAIN for chain in facts.chains):
        found += [_ufw(door)] if drops else []
    elif drops:
        found.append(_iptables(door))
    if facts.legacy_tables and "legacy" not in facts.iptables:
        found.append(_legacy(facts.legacy_tables))
    return found


def _drops_input(chains: Iterable[dict[str, Any]], table: tuple[str, str]) -> bool:
    return any(
        (chain["family"], chain["table"]) == table
        and chain.get("hook") == "input"
        and chain.get("policy") == "drop"
        for chain in chains
    )


def _refuses(door: Doorway) -> str:
    return (
        f"refuses what tasks send to this host, unless its rules accept it; among that is the agent's "
        f"server at {door.address}, which gives tasks their metadata and credentials"
    )


def _firewalld(text: str, door: Doorway) -> list[OtherFirewall]:
    if re.search(rf'iifname "{re.escape(door.bridge)}" (goto|jump) filter_IN_trusted\b', text):
        return []
    command = (
        f"firewall-cmd --permanent --zone=trusted --add-interface={door.bridge} && "
        "firewall-cmd --reload"
    )
    mend = f"add {door.bridge} to its trusted zone"
    return [OtherFirewall("firewalld", _refuses(door), mend, command)]


def _ufw(door: Doorway) -> OtherFirewall:
    command = f"ufw allow in on {door.bridge} to {door.address} port {door.port} proto tcp"
    return OtherFirewall("ufw", _refuses(door), "allow the agent's server", command)


def _iptables(door: Doorway) -> OtherFirewall:
    command = (
        f"iptables -I INPUT -i {door.bridge} -d {door.address} -p tcp --dport {door.port} -j ACCEPT"
    )
    return OtherFirewall(
        "the INPUT chain of iptables", _refuses(door), "accept the agent's server", command
    )


def _legacy(tables: Iterable[str]) -> OtherFirewall:
    return OtherFirewall(
        "iptables-legacy",
        f"has rules ({', '.join(sorted(tables))}) beside those of nftables; packets must pass both, "
        "the kernel does not report changes of them, and 'ecs-agent network trace' does not see them",
        "move them to nftables, or remove them",
        "iptables-legacy-save",
    )


def look(door: Doorway, root: Path = Path("/")) -> list[OtherFirewall]:
    """Read the facts of this host and return what ``recognised`` does. Blocks.

    Raises:
        NetworkFailure: ``nft`` is missing or did not answer.
    """
    chains = chains_of(nft.run("nft", "-j", "list", "chains").stdout)
    firewalld = ""
    if any((chain["family"], chain["table"]) == FIREWALLD for chain in chains):
        firewalld = nft.run("nft", "list", "table", *FIREWALLD).stdout
    legacy = legacy_tables(root)
    # Only asked where it matters: without rules of the old kind there is nothing to tell apart.
    iptables = nft.run("iptables", "--version").stdout if legacy else ""
    return recognised(FirewallFacts(chains, firewalld, legacy, iptables), door)


def legacy_tables(root: Path) -> tuple[str, ...]:
    """Return the names of the tables of iptables-legacy in use. Blocks on ``/proc``."""
    try:
        return tuple((root / LEGACY_TABLES).read_text(encoding="ascii").split())
    except OSError:
        return ()
