"""The end of a sandbox's link in its namespace: its addresses and routes, as netlink requests."""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.config.addresses import TASK_ADDRESS
from agent.errors import NetworkFailure
from agent.network.addresses import mac_of
from agent.network.kernel import namespaces, route_talk
from agent.network.kernel.netlink import LINK_SCOPE, NO_DAD, PERMANENT, failure, refused
from agent.network.kernel.route_requests import RouteRequests

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyroute2.netlink.exceptions import NetlinkError

    from agent.network.bridge.links import SandboxLink
    from agent.network.kernel.route_requests import Request

TASK_INDEX: Final = 100
"""Index of the task's interface. Set by us, so that it need not be looked up; far from 1, because
tunnel modules may have added their own devices to a new namespace."""
_HOST_ROUTE_IPV6: Final = 128


def make_task_end(netns: int, spec: SandboxLink) -> None:
    """Create the pair from inside the namespace and configure the inner end, in one datagram. Blocks.

    Raises:
        NetworkFailure: the kernel refused, or the namespace cannot be entered.
    """
    task = RouteRequests()
    for last_try in (False, True):
        added, silenced, *errors = _exchange_in(
            netns,
            [
                task.link(
                    "add", ifname=spec.interface, kind="veth", index=TASK_INDEX,
                    address=spec.mac, mtu=spec.mtu,
                    peer={
                        "ifname": spec.host_interface, "mtu": spec.mtu, "net_ns_pid": os.getpid(),
                    },
                ),
                task.link("set", index=TASK_INDEX, no_ipv6_address=True),
                task.link("set", index=TASK_INDEX, state="up"),
                *(_agent_only(task, spec) if spec.agent_only else _address_and_routes(task, spec)),
            ],
        )  # fmt: skip
        if added is None:
            break
        if last_try or added.code != errno.EEXIST:
            raise link_failure("creating the link", spec, added)
        # One end may have been renamed or moved; removing either end removes the pair.
        route_talk.once([task.link("del", ifname=spec.host_interface)])
        _exchange_in(netns, [task.link("del", ifname=spec.interface)])
    worst = next((error for error in errors if error is not None), None)
    if worst is not None or refused(silenced, errno.EAFNOSUPPORT):
        raise link_failure("configuring the interface", spec, worst or silenced)


def _exchange_in(netns: int, requests: Sequence[Request]) -> list[NetlinkError | None]:
    try:
        return namespaces.inside(netns, partial(route_talk.once, requests))
    except OSError as error:
        raise NetworkFailure(f"a network namespace cannot be entered: {error}") from None


def _address_and_routes(task: Any, spec: SandboxLink) -> list[Any]:
    blocked = blackholes(task, spec.blocked)
    by_ipv6 = way_out_by_ipv6(task, spec, mac_of(spec.gateway))
    if spec.ipv6_only:
        return [*_agent_only(task, spec), *by_ipv6, *blocked]
    return [
        task.addr("add", index=TASK_INDEX, address=spec.ipv4, prefixlen=spec.prefix_len),
        task.route("replace", dst="0.0.0.0/0", gateway=spec.gateway, oif=TASK_INDEX),
        *by_ipv6,
        *blocked,
    ]


def way_out_by_ipv6(task: Any, spec: SandboxLink, gateway_mac: str = "") -> list[Any]:
    """Return the requests for address, gateway and default route by IPv6; none without it.

    Args:
        task: the socket in the namespace.
        spec: the link.
        gateway_mac: of the gateway, if it is known: then nothing is asked or learned of it.
    """
    ipv6 = spec.ipv6
    if ipv6 is None:
        return []
    inet6: dict[str, Any] = {"family": socket.AF_INET6, "oif": TASK_INDEX}
    requests = [
        task.addr(
            "add", index=TASK_INDEX, address=ipv6.address, prefixlen=ipv6.prefix_len, flags=NO_DAD
        )
    ]
    if gateway_mac:
        requests.append(
            task.neigh(
                "replace", dst=ipv6.gateway, lladdr=gateway_mac, ifindex=TASK_INDEX,
                state=PERMANENT,
            )
        )  # fmt: skip
    if ipv6.gateway and ipv6.prefix_len == _HOST_ROUTE_IPV6:
        requests.append(task.route("replace", dst=f"{ipv6.gateway}/128", **inet6))
    through = {"gateway": ipv6.gateway} if ipv6.gateway else {}
    return [*requests, task.route("replace", dst="::/0", **through, **inet6)]


def blackholes(task: Any, blocked: Iterable[str]) -> list[Any]:
    """Return the requests for routes that lead nowhere."""
    return [
        task.route(
            "replace", dst=prefix, type="blackhole",
            family=socket.AF_INET6 if ":" in prefix else socket.AF_INET,
        )
        for prefix in blocked
    ]  # fmt: skip


def _agent_only(task: Any, spec: SandboxLink) -> list[Any]:
    """Return the requests for an address without a network, so that nothing else goes this way."""
    return [
        task.addr("add", index=TASK_INDEX, address=spec.ipv4, prefixlen=32),
        task.route("replace", dst=f"{spec.gateway}/32", oif=TASK_INDEX, scope=LINK_SCOPE),
        task.route(
            "replace", dst=f"{TASK_ADDRESS}/32", gateway=spec.gateway, oif=TASK_INDEX,
            prefsrc=spec.ipv4,
        ),
    ]  # fmt: skip


def link_failure(what: str, spec: SandboxLink, error: NetlinkError) -> NetworkFailure:
    """Return the failure of a request about the link of a sandbox."""
    return failure(f"{what} {spec.host_interface} of {spec.ipv4}", error)
