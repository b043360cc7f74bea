"""Rules for what is between tasks of two hosts. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from agent.network.kernel import nft


class FleetNetworks(NamedTuple):
    """Networks of tasks on all hosts; empty without one of that kind."""

    ipv4: str = ""
    ipv6: str = ""

    @property
    def named(self) -> list[tuple[str, str]]:
        """Those that there are, with their names in rules."""
        return [pair for pair in (("ip", self.ipv4), ("ip6", self.ipv6)) if pair[1]]


NO_FLEET: Final = FleetNetworks()
_KINDS: Final = {"ip": "address", "ip6": "IPv6 address"}


def sources(fleet: FleetNetworks, own: str) -> list[nft.Rule]:
    """Return the rules that drop a task's address that comes from the wrong host.

    A packet with an address of the fleet must come by the link by which the kernel reaches that address.
    Addresses of tasks here have rules of their own.

    Args:
        fleet: networks of tasks on all hosts; without them, there is no rule.
        own: link of tasks here.
    """
    way = {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}
    return [
        (
            f"a task's {_KINDS[family]} of another host from elsewhere",
            [
                nft.match(nft.meta("iifname"), {"set": sorted({own, "lo"})}, "!="),
                nft.match(nft.field(family, "saddr"), nft.prefix(network)),
                nft.match(way, "0"),
                *nft.COUNTED_DROP,
            ],
        )
        for family, network in fleet.named
    ]


def not_masqueraded(fleet: FleetNetworks) -> list[nft.Rule]:
    """Return the rules that let tasks of two hosts see each other's addresses."""
    return [
        (
            "task to task of another host",
            [
                *(
                    nft.match(nft.field(family, end), nft.prefix(network))
                    for end in ("saddr", "daddr")
                ),
                {"accept": None},
            ],
        )
        for family, network in fleet.named
    ]
