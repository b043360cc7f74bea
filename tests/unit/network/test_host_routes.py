"""Which networks of the host clash with the pool."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from agent.network import host_routes
from agent.network.host_routes import Route

POOL = IPv4Network("10.207.0.0/20")


def route(network: str, interface: str = "eth0", *, via_gateway: bool = False) -> Route:
    return Route(IPv4Network(network), interface, via_gateway)


@pytest.mark.parametrize(
    "taken",
    [
        route("10.207.3.0/24"),
        route("10.207.3.0/24", via_gateway=True),
        route("10.207.0.0/20", via_gateway=True),
        route("10.0.0.0/8"),
        route("10.207.15.7/32", ""),
    ],
)
def test_what_claims_addresses_of_the_pool_is_a_clash(taken: Route) -> None:
    assert host_routes.clash(POOL, "ecs-br0", [route("192.0.2.0/24"), taken]) == taken


@pytest.mark.parametrize(
    "harmless",
    [
        route("0.0.0.0/0", via_gateway=True),
        route("0.0.0.0/0"),
        route("10.0.0.0/8", via_gateway=True),
        route("10.0.0.0/8", ""),
        route("10.207.0.0/20", "ecs-br0"),
        route("172.17.0.0/16", "docker0"),
    ],
)
def test_what_only_passes_by_is_none(harmless: Route) -> None:
    assert host_routes.clash(POOL, "ecs-br0", [harmless]) is None
