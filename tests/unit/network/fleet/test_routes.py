"""Routes of the fleet, as they are asked for and as the kernel tells of them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from agent.model.fleet import ROUTES
from agent.network.fleet.routes import Sources, request, via
from agent.network.fleet.wanted import DEVICE, UNREACHABLE
from agent.network.settings import FleetSettings

SOURCE, LINK, TYPES = "10.208.1.1", 7, {"unreachable": 7}
ATTRIBUTES = {"RTA_GATEWAY": "gateway", "RTA_OIF": "oif", "RTA_PREFSRC": "prefsrc"}


class Told(dict[str, Any]):
    """What the kernel tells of a route that was asked for."""

    def __init__(self, asked: Any) -> None:
        super().__init__(type=TYPES.get(asked.get("type"), 1))
        self.asked = asked

    def get_attr(self, name: str) -> Any:
        return self.asked.get(ATTRIBUTES[name])


@pytest.mark.parametrize("gateway", ["192.0.2.2", DEVICE, UNREACHABLE])
def test_a_route_is_read_as_it_was_asked_for(gateway: str) -> None:
    for source in (SOURCE, ""):
        asked = request("10.208.2.0/24", gateway, LINK, source)
        assert via(Told(asked), LINK, source) == gateway


@pytest.mark.parametrize("gateway", ["2001:db8::2", DEVICE, UNREACHABLE])
def test_so_is_one_of_ipv6(gateway: str) -> None:
    settings = FleetSettings(driver=ROUTES, ipv6_range="fd00:208:0:1::/64")
    sources = Sources(settings.gateway, settings.ipv6_gateway)
    network = "fd00:208:0:2::/64"
    assert sources.towards(network) == "fd00:208:0:1::1"
    assert not sources.towards("10.208.2.0/24")
    for source in (sources.ipv6, ""):
        asked = request(network, gateway, LINK, source)
        assert asked["family"] == socket.AF_INET6
        assert via(Told(asked), LINK, source) == gateway


@pytest.mark.parametrize("gateway", ["192.0.2.2", DEVICE])
def test_the_host_itself_sends_with_an_address_of_its_range(gateway: str) -> None:
    """The peer drops what comes to its tasks with another one."""
    assert FleetSettings(driver=ROUTES, range="10.208.1.0/24").gateway == SOURCE
    asked = dict(request("10.208.2.0/24", gateway, LINK, SOURCE))
    assert asked["prefsrc"] == SOURCE
    for other in (None, "192.0.2.1"):
        assert via(Told(asked | {"prefsrc": other}), LINK, SOURCE) == "?", "it is written anew"
