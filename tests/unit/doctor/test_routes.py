from __future__ import annotations

import sys
from ipaddress import IPv4Network

import pytest

from agent.doctor import routes
from agent.network.host_routes import Route

TABLE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
*\t0000CF0A\t00000000\t0201\t0\t0\t4294901760\t00F0FFFF\t0\t0\t0
down0\t0002A8C0\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def route(network: str, *, gateway: bool = False, interface: str = "eth0") -> Route:
    return Route(network=IPv4Network(network), interface=interface, via_gateway=gateway)


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is of such a machine")
def test_the_kernels_table() -> None:
    assert routes.parse(TABLE) == [
        route("0.0.0.0/0", gateway=True),
        route("172.17.0.0/16", interface="docker0"),
        route("192.168.1.0/24"),
        route("10.207.0.0/20", interface=""),
    ]
    assert routes.parse("") == []


def test_a_free_pool_touches_no_route() -> None:
    taken = [route("0.0.0.0/0"), route("10.0.0.0/8"), route("172.24.0.0/13")]
    free = IPv4Network(routes.free_pool(taken, 20))
    assert free.is_private
    assert free.prefixlen == 20
    assert not any(free.overlaps(r.network) for r in taken[1:])
    everything = [route("10.0.0.0/8"), route("172.16.0.0/12"), route("192.168.0.0/16")]
    assert routes.free_pool(everything, 20) == ""
    assert routes.free_pool([], 8) == "10.0.0.0/8"
