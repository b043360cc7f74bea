"""The routes of the fleet in the kernel, recognized by their protocol number."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Final

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


async def listed(lane: NetlinkLane, source: str) -> dict[str, str]:
    """Return the routes of the fleet, as ``wanted.Wanted.routes``, and ``?`` for those that cannot be such.

    Args:
        lane: for netlink.
        source: as for ``apply``.

    Raises:
        NetworkFailure: the kernel did not answer.
    """

    async def work(host: Any) -> dict[str, str]:
        device = _device_index() or -1
        return {
            f"{message.get_attr('RTA_DST')}/{message['dst_len']}": _via(message, device, source)
            for message in await lane.dump(host.route, family=socket.AF_INET)
            if message["proto"] == FLEET_PROTOCOL
        }

    return await lane.call(work)


async def apply(lane: NetlinkLane, changes: Changes[str], source: str) -> dict[str, str]:
    """Make changes; return why a route could not be made, by its network. Idempotent.

    Args:
        lane: for netlink.
        changes: what to change.
        source: this host's own address towards tasks of others by WireGuard.

    Raises:
        NetworkFailure: a route could not be removed.
    """

    async def work(host: Any) -> dict[str, str]:
        errors = await pipelined(
            *(host.route("del", dst=network, proto=FLEET_PROTOCOL) for network in changes.remove),
            *(
                host.route("replace", **_route(network, via, source))
                for network, via in changes.put.items()
            ),
        )
        removed, put = errors[: len(changes.remove)], errors[len(changes.remove) :]
        for network, error in zip(changes.remove, removed, strict=True):
            if refused(error, errno.ESRCH, errno.ENOENT):
                raise failure(f"removing the route to {network}", error)
        return {
            network: str(failure(f"a route by {via or 'nobody'}", error))
            for (network, via), error in zip(changes.put.items(), put, strict=True)
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


def _via(message: Any, device: int, source: str) -> str:
    """Return what is in the place of a route's gateway in ``wanted``; ``?`` if that has none such."""
    if message["type"] == _UNREACHABLE:
        return UNREACHABLE
    if message["type"] != _UNICAST:
        return "?"
    gateway = message.get_attr("RTA_GATEWAY")
    if gateway:
        return str(gateway)
    is_own = message.get_attr("RTA_OIF") == device and message.get_attr("RTA_PREFSRC") == source
    return DEVICE if is_own else "?"


def _route(network: str, via: str, source: str) -> Mapping[str, Any]:
    if via == UNREACHABLE:
        return {"dst": network, "type": "unreachable", "proto": FLEET_PROTOCOL}
    if via == DEVICE:
        # Without its own address, a packet of the host would not be one that the peer takes from it.
        return {
            "dst": network, "oif": _device_index(), "prefsrc": source, "scope": LINK_SCOPE,
            "proto": FLEET_PROTOCOL,
        }  # fmt: skip
    return {"dst": network, "gateway": via, "proto": FLEET_PROTOCOL}
