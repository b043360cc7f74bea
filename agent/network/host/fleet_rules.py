"""Rules for what is between tasks of two hosts. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from agent.network.kernel import nft


class FleetNetworks(NamedTuple):
    """Networks of tasks on all hosts; empty without one of that kind."""

    ipv4: str = ""
    ipv6: str = ""
    ipv4_source: str = ""
    """This host's own address towards tasks of other hosts; empty where ``ipv4`` is."""
    ipv6_source: str = ""

    @property
    def named(self) -> list[tuple[str, str]]:
        """Those that there are, with their names in rules."""
        return [pair for pair in (("ip", self.ipv4), ("ip6", self.ipv6)) if pair[1]]


NO_FLEET: Final = FleetNetworks()
OF_CONTAINERS: Final = "to_other_hosts"
"""The chain of the rules of ``of_containers``; it is there only with them."""
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


def of_containers(fleet: FleetNetworks, engine_bridge: str) -> list[nft.Rule]:
    """Return the rules that give containers of the engine's bridge an address that other hosts let in.

    What a host itself sends to tasks of another has it, too. With the address that the engine would give them, that
    of the link, the other host's engine drops them, and WireGuard does not carry them.

    Args:
        fleet: networks of tasks on all hosts.
        engine_bridge: link of the engine's default bridge; empty if it has none.
    """
    if not engine_bridge:
        return []
    sources_of = {"ip": fleet.ipv4_source, "ip6": fleet.ipv6_source}
    return [
        (
            "containers to tasks of other hosts",
            [
                nft.match(nft.meta("iifname"), engine_bridge),
                nft.match(nft.field(family, "daddr"), nft.prefix(network)),
                {"snat": {"family": family, "addr": sources_of[family]}},
            ],
        )
        for family, network in fleet.named
    ]
