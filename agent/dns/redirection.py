"""The rule that redirects questions of tasks to their name servers to the agent: one nftables table. Blocks.

Only questions by UDP to the servers that tasks get from this host; what a task asks other servers is left alone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.config.addresses import TASK_ADDRESS
from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Iterable

FAMILY: Final = "inet"
DNS_PORT: Final = 53
_BEFORE: Final = -101
"""Before the rule that leads to the agent's server."""


def commands(
    table: str, bridges: Iterable[str], servers: Iterable[str], port: int
) -> list[dict[str, Any]]:
    """Return the commands that replace the table. Pure.

    Args:
        table: its name, ``firewall.names_table``.
        bridges: links on which tasks are.
        servers: IPv4 addresses of the name servers of tasks.
        port: UDP port at the agent's address.
    """
    place = {"family": FAMILY, "table": table}
    rule = partial(nft.rule, place)
    return nft.replacement(
        FAMILY,
        table,
        [
            nft.hooked(place, "names", "nat", "prerouting", _BEFORE),
            rule(
                "names",
                "questions of tasks",
                nft.match(nft.meta("iifname"), {"set": sorted(bridges)}),
                nft.match(nft.field("ip", "daddr"), {"set": sorted(servers)}),
                nft.match(nft.field("udp", "dport"), DNS_PORT),
                {"dnat": {"family": "ip", "addr": TASK_ADDRESS, "port": port}},
            ),
        ],
    )


def ensure(table: str, bridges: Iterable[str], servers: Iterable[str], port: int) -> None:
    """Write the rule unless it is there as it should be; idempotent. Raises ``NetworkFailure``."""
    wanted = commands(table, bridges, servers, port)
    listed = nft.listed(FAMILY, table)
    if listed is None or not nft.has_rules_of(wanted, listed):
        nft.apply(wanted)


def remove(table: str) -> None:
    """Remove the rule; succeeds without one, too. Raises ``NetworkFailure``."""
    nft.remove(FAMILY, table)
