"""The WireGuard device of the fleet: a link with this host's key, and a peer per host.

A peer may send only with addresses of its own range, and what is for its range goes to it: the kernel sees
to both. Each call opens a netlink socket of its own in the lane.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.wireguard import AsyncWireGuard

from agent.errors import NetworkFailure
from agent.network.fleet.peer_state import PeerState
from agent.network.fleet.wanted import DEVICE
from agent.network.kernel.netlink import failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.network.fleet.wanted import Tunnel
    from agent.network.kernel.netlink import NetlinkLane

T = TypeVar("T")

_KIND: Final = "wireguard"
_UP: Final = 1


class DeviceState(NamedTuple):
    """The device as the kernel has it."""

    public_key: str
    port: int
    peers: dict[str, PeerState]
    """By public key."""


async def ensure_link(lane: NetlinkLane, mtu: int) -> None:
    """Create the link, or correct it. Idempotent.

    Raises:
        NetworkFailure: the kernel lacks WireGuard, or another link has the name.
    """

    async def work(host: Any) -> None:
        found = await _link(host)
        if found is not None:
            _check_kind(found)
        else:
            try:
                await host.link("add", ifname=DEVICE, kind=_KIND)
            except NetlinkError as error:
                if error.code == errno.EOPNOTSUPP:
                    raise NetworkFailure(
                        "ECS_FLEET_NETWORK=wireguard: this kernel lacks the module wireguard; install the "
                        "kernel's extra modules"
                    ) from None
                raise failure(f"creating the link {DEVICE}", error) from error
            found = await _link(host)
        if found is None:
            raise NetworkFailure(f"the link {DEVICE} was removed at once")
        if not _is_right(found, mtu):
            await host.link("set", index=found["index"], mtu=mtu, state="up")

    await lane.call(work)


async def listed(lane: NetlinkLane) -> DeviceState | None:
    """Return the device; None if there is no such link.

    Raises:
        NetworkFailure: the kernel did not answer.
    """

    async def work(wg: Any) -> DeviceState | None:
        key, port = "", 0
        peers: dict[str, PeerState] = {}
        try:
            # A device with many peers comes in several parts, which may go on with the same peer.
            async for part in await wg.info(DEVICE):
                key = _text(part.get_attr("WGDEVICE_A_PUBLIC_KEY")) or key
                port = part.get_attr("WGDEVICE_A_LISTEN_PORT") or port
                for peer in part.get_attr("WGDEVICE_A_PEERS") or ():
                    public, state = _peer(peer)
                    known = peers.get(public)
                    if known is not None:
                        both = sorted([*known.range.split(), *state.range.split()])
                        state = known._replace(range=" ".join(both))
                    peers[public] = state
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        return DeviceState(key, port, peers)

    return await _with_socket(lane, work)


async def configure(lane: NetlinkLane, private_key: str, port: int) -> None:
    """Set key and port of the device; sessions with peers end if the key is another.

    Raises:
        NetworkFailure: the kernel refused: the port may be in use.
    """

    async def work(wg: Any) -> None:
        await wg.set(DEVICE, private_key=private_key, listen_port=port)

    await _with_socket(lane, work)


async def apply(lane: NetlinkLane, put: Mapping[str, Tunnel], remove: list[str]) -> dict[str, str]:
    """Change peers, by their public keys; return why one could not be put, by its key. Idempotent.

    Raises:
        NetworkFailure: a peer could not be removed.
    """

    async def work(wg: Any) -> dict[str, str]:
        for public_key in remove:
            with contextlib.suppress(FileNotFoundError):
                await wg.set(DEVICE, peer={"public_key": public_key, "remove": True})
        failing = {}
        for public_key, tunnel in put.items():
            try:
                await wg.set(
                    DEVICE,
                    peer={
                        "public_key": public_key,
                        "endpoint_addr": tunnel.address,
                        "endpoint_port": tunnel.port,
                        "replace_allowed_ips": True,
                        "allowed_ips": tunnel.range.split(),
                    },
                )
            except NetlinkError as error:
                failing[public_key] = str(failure("adding it to WireGuard", error))
        return failing

    return await _with_socket(lane, work)


async def is_up(lane: NetlinkLane, mtu: int) -> bool:
    """Return whether the link is there, up, and has its MTU.

    Raises:
        NetworkFailure: the kernel did not answer.
    """

    async def work(host: Any) -> bool:
        found = await _link(host)
        return found is not None and _is_right(found, mtu)

    return await lane.call(work)


async def _link(host: Any) -> Any:
    try:
        (found,) = await host.link("get", ifname=DEVICE)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return found


def _is_right(found: Any, mtu: int) -> bool:
    return bool(found["flags"] & _UP) and found.get("mtu") == mtu


def _check_kind(found: Any) -> None:
    kind = found.get(("linkinfo", "kind"))
    if kind != _KIND:
        raise NetworkFailure(
            f"the link {DEVICE}, which ECS_FLEET_NETWORK=wireguard needs, is of another kind "
            f"({kind or 'none'}); rename it"
        )


def _peer(peer: Any) -> tuple[str, PeerState]:
    handshake = peer.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME")
    allowed = peer.get_attr("WGPEER_A_ALLOWEDIPS") or ()
    return _text(peer.get_attr("WGPEER_A_PUBLIC_KEY")), PeerState(
        range=" ".join(sorted(each["addr"] for each in allowed)),
        last_handshake=float(handshake["tv_sec"]) if handshake else 0.0,
        rx_bytes=peer.get_attr("WGPEER_A_RX_BYTES") or 0,
        tx_bytes=peer.get_attr("WGPEER_A_TX_BYTES") or 0,
    )


def _text(key: Any) -> str:
    value = key["value"] if isinstance(key, dict) else key
    return value.decode() if isinstance(value, bytes) else str(value or "")


async def _with_socket(lane: NetlinkLane, work: Callable[[Any], Awaitable[T]]) -> T:
    async def with_socket(_: Any) -> T:
        wg = AsyncWireGuard()
        try:
            await wg.setup_endpoint()
            return await work(wg)
        finally:
            wg.close()

    return await lane.call(with_socket)
