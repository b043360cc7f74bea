"""Routes of the host as the kernel describes them."""

from __future__ import annotations

import socket
from ipaddress import IPv6Network

from agent.network.bridge import links
from agent.network.host_routes import Route, clash


def test_a_route_by_ipv6_that_leads_nowhere_clashes_with_no_pool_inside_it() -> None:
    message = {"family": socket.AF_INET6, "dst": "fd00::", "dst_len": 8, "type": 7, "oif": 1}
    found = links._route(message, {1: "lo"})
    assert found == Route(IPv6Network("fd00::/8"), "", via_gateway=False)
    assert clash(IPv6Network("fd12:3456:789a::/64"), "ecs-br0", [found]) is None
