"""The routes of the fleet in the kernel, recognized by their protocol number."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.network.fleet.wanted import DEVICE, UNREACHABLE
from agent.network.host.kernel_messages import FLEET_PROTOCOL
from agent.network.kernel.netlink import LINK_SCOPE, failure, pipelined, refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.network.fleet.wanted import Changes
    from agent.network.kernel.netlink import NetlinkLane

_UNICAST: Final = 1
_UNREACHABLE: Final = 7
"""``RTN_UNICAST``, ``RTN_UNREACHABLE``."""


class Sources(NamedTuple):
    """This host's own addresses towards tasks of others, which it must have; empty before it has a range."""

    ipv4: str = ""
    ipv6: str = ""

    def towards(self, network: str) -> str:
        """Return the one of the network's kind."""
        return self.ipv6 if ":" in network else self.ipv4


async def listed(lane: NetlinkLane, sources: Sources) -> dict[str, str]:
    """Return the routes of the fleet, as ``wanted.Wanted.routes``, and ``?`` for those that cannot be such.

    Args:
        lane: for netlink.
        sources: as for ``apply``.

    Raises:
        NetworkFailure: the kernel did not answer.
    """

    async def work(host: Any) -> dict[str, str]:
        device = _device_index() or -1
        found = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in await lane.dump(host.route, family=family):
                # A kernel without IPv6 answers with the routes of other families.
                if message["proto"] == FLEET_PROTOCOL and message["family"] == family:
                    network = f"{message.get_attr('RTA_DST')}/{message['dst_len']}"
                    found[network] = via(message, device, sources.towards(network))
        return found

    return await lane.call(work)


async def apply(lane: NetlinkLane, changes: Changes[str], sources: Sources) -> dict[str, str]:
    """Make changes; return why a route could not be made, by its network. Idempotent.

    Args:
        lane: for netlink.
        changes: what to change.
        sources: this host's own addresses towards tasks of others.

    Raises:
        NetworkFailure: a route could not be removed.
    """

    async def work(host: Any) -> dict[str, str]:
        device = _device_index()
        errors = await pipelined(
            *(host.route("del", **_named(network)) for network in changes.remove),
            *(
                host.route("replace", **request(network, way, device, sources.towards(network)))
                for network, way in changes.put.items()
            ),
        )
        removed, put = errors[: len(changes.remove)], errors[len(changes.remove) :]
        for network, error in zip(changes.remove, removed, strict=True):
            if refused(error, errno.ESRCH, errno.ENOENT):
                raise failure(f"removing the route to {network}", error)
        return {
            network: str(failure(f"a route to {network} by {way or 'nobody'}", error))
            for (network, way), error in zip(changes.put.items(), put, strict=True)
            if error is not None
        }

    return await lane.call(work)


async def remove_device(lane: NetlinkLane) -> None:
    """Remove the WireGuard link with its peers and routes. Idempotent; a link of another kind stays.

    Raises:
        NetworkFailure: the kernel refused.
    """

    async def work(host: Any) -> None:
        index = _device_index()
        if not index:
            return
        (found,) = await host.link("get", index=index)
        if found.get(("linkinfo", "kind")) == "wireguard":
            await host.link("del", index=index)

    await lane.call(work)


def _device_index() -> int:
    """Return the number of the WireGuard link; 0 if there is none."""
    try:
        return socket.if_nametoindex(DEVICE)
    except OSError:
        return 0


def _named(network: str) -> dict[str, Any]:
    """Return what names a route of the fleet."""
    family = socket.AF_INET6 if ":" in network else socket.AF_INET
    return {"dst": network, "family": family, "proto": FLEET_PROTOCOL}


def via(message: Any, device: int, source: str) -> str:
    """Return what is in the place of a route's gateway in ``wanted``; ``?`` if that has none such. Pure.

    Args:
        message: what the kernel says of the route.
        device: number of the WireGuard link.
        source: the host's own address of that kind, as for ``apply``.
    """
    if message["type"] == _UNREACHABLE:
        return UNREACHABLE
    if message["type"] != _UNICAST or (message.get_attr("RTA_PREFSRC") or "") != source:
        return "?"
    gateway = message.get_attr("RTA_GATEWAY")
    if gateway:
        return str(gateway)
    return DEVICE if message.get_attr("RTA_OIF") == device else "?"


def request(network: str, gateway: str, device: int, source: str) -> Mapping[str, Any]:
    """Return the request for a route, of which ``via`` reads the same gateway. Pure.

    What this host itself sends to tasks of another one has an address of this host's range. With any other, the peer
    would not take it through WireGuard, and its engine would not forward it: that drops all but the fleet's.
    """
    named = _named(network)
    if gateway == UNREACHABLE:
        return named | {"type": "unreachable"}
    made = named | ({"prefsrc": source} if source else {})
    if gateway == DEVICE:
        return made | {"oif": device} | ({} if ":" in network else {"scope": LINK_SCOPE})
    return made | {"gateway": gateway}
