"""169.254.170.2, where the host's own processes find the agent's server: above all the engine.

A rule leads what they send there to the server's port on the loopback (``firewall``). A route through the
loopback sees to it that it goes out to nobody, and that there is a way at all on a host without a default
route. Nothing of this is reached from another host, or from a network of containers.

Source of address and port: Amazon ECS agent 1.105.1, ``ecs-init/exec/iptables``.
Tests: ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from pyroute2.netlink.exceptions import NetlinkError

from agent.network import nft
from agent.network.netlink import failure

if TYPE_CHECKING:
    from agent.network.netlink import NetlinkLane

ADDRESS: Final = "169.254.170.2"
PORT: Final = 80
LOOPBACK_INDEX: Final = 1
"""The kernel's index of the loopback, in every namespace."""
_SOURCE: Final = "127.0.0.1"
_ON_LINK: Final = 253
"""``RT_SCOPE_LINK``."""


def to_server(port: int) -> list[dict[str, Any]]:
    """Return the expressions of the rule that leads the host's processes to a port. Pure."""
    return [
        nft.match(nft.field("ip", "daddr"), ADDRESS),
        nft.match(nft.field("tcp", "dport"), PORT),
        {"redirect": {"port": port}},
    ]


class AgentRoute:
    """The route of one host. Safe for concurrent use by tasks of one event loop."""

    def __init__(self, lane: NetlinkLane) -> None:
        """Nothing is touched before ``ensure``."""
        self._lane = lane

    async def ensure(self) -> bool:
        """Make the route where it is missing, and return whether it was. Repeatable.

        Raises:
            NetworkFailure: the kernel refused.
        """

        async def work(host: Any) -> bool:
            try:
                (found,) = await host.route("get", dst=ADDRESS)
                if found.get("oif") == LOOPBACK_INDEX and found.get("prefsrc") == _SOURCE:
                    return False
            except NetlinkError:
                pass  # there is no way at all
            try:
                await host.route(
                    "replace",
                    dst=f"{ADDRESS}/32",
                    oif=LOOPBACK_INDEX,
                    prefsrc=_SOURCE,
                    scope=_ON_LINK,
                )
            except NetlinkError as error:
                raise failure(f"making the route to {ADDRESS}", error) from error
            return True

        return await self._lane.call(work)

    async def remove(self) -> None:
        """Remove the route; an absent one is success.

        Raises:
            NetworkFailure: the kernel refused.
        """

        async def work(host: Any) -> None:
            try:
                await host.route("del", dst=f"{ADDRESS}/32", oif=LOOPBACK_INDEX, scope=_ON_LINK)
            except NetlinkError as error:
                if error.code not in (errno.ESRCH, errno.ENOENT):
                    raise failure(f"removing the route to {ADDRESS}", error) from error

        await self._lane.call(work)
