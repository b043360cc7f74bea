"""Rules for what is between tasks of two hosts. Pure."""

from __future__ import annotations

from agent.network.kernel import nft


def sources(fleet: str, own: str) -> list[nft.Rule]:
    """Return the rule that drops a task's address that comes from the wrong host.

    A packet with an address of the fleet must come by the link by which the kernel reaches that address.
    Addresses of tasks here have rules of their own.

    Args:
        fleet: network of tasks on all hosts; without it, there is no rule.
        own: link of tasks here.
    """
    if not fleet:
        return []
    way = {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}
    return [
        (
            "a task's address of another host from elsewhere",
            [
                nft.match(nft.meta("iifname"), {"set": sorted({own, "lo"})}, "!="),
                nft.match(nft.field("ip", "saddr"), nft.prefix(fleet)),
                nft.match(way, "0"),
                *nft.COUNTED_DROP,
            ],
        )
    ]


def not_masqueraded(fleet: str) -> list[nft.Rule]:
    """Return the rule that lets tasks of two hosts see each other's addresses."""
    if not fleet:
        return []
    ends = [nft.match(nft.field("ip", end), nft.prefix(fleet)) for end in ("saddr", "daddr")]
    return [("task to task of another host", [*ends, {"accept": None}])]
