"""Pure decisions about the host: clashes of the pool, shape of bridge and rules."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from agent.network import firewall, host
from agent.network.addresses import AddressPool
from agent.network.links import Route
from agent.network.resolvers import Resolvers
from agent.network.sandbox import container_body

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
    assert host.clash(POOL, "ecs-br0", [route("192.0.2.0/24"), taken]) == taken


@pytest.mark.parametrize(
    "harmless",
    [
        route("0.0.0.0/0", via_gateway=True),
        route("0.0.0.0/0"),
        route("10.0.0.0/8", via_gateway=True),
        route("10.207.0.0/20", "ecs-br0"),
        route("172.17.0.0/16", "docker0"),
    ],
)
def test_what_only_passes_by_is_none(harmless: Route) -> None:
    assert host.clash(POOL, "ecs-br0", [harmless]) is None


def test_the_shape_knows_the_pool_even_without_tasks() -> None:
    shape = host.shape_of(AddressPool("10.207.0.0/20", quarantine_s=1), [])
    assert shape.bridge_addresses == {"10.207.0.1/20"}
    assert shape.pools == {"10.207.0.0/20"}


def rules(*pools: str) -> list[dict[str, Any]]:
    return firewall.ruleset("t", "br", pools)


def test_the_ruleset_replaces_the_table_and_marks_every_rule() -> None:
    first, second, third, *rest = rules("10.207.0.0/20")
    assert [*first, *second, *third] == ["add", "delete", "add"]
    comments = [c["add"]["rule"]["comment"] for c in rest if "rule" in c["add"]]
    assert len(comments) == 2
    assert len({comment.split()[-1] for comment in comments}) == 1


def test_the_digest_follows_the_content_and_not_the_order() -> None:
    assert rules("10.1.0.0/24", "10.2.0.0/24") == rules("10.2.0.0/24", "10.1.0.0/24")
    assert rules("10.1.0.0/24") != rules("10.1.0.0/25")


def test_the_pause_container_carries_what_its_task_shares() -> None:
    dns = Resolvers(servers=("192.0.2.1",), search=("a.example",), options=("ndots:1",))
    body = container_body("pause:1", "10.207.0.5", dns, {"k": "v"})
    assert body["Image"] == "pause:1"
    assert body["Hostname"] == "ip-10-207-0-5"
    assert body["Labels"] == {"k": "v"}
    config = body["HostConfig"]
    assert config["NetworkMode"] == "none"
    assert config["Dns"] == ["192.0.2.1"]
    assert config["DnsSearch"] == ["a.example"]
    assert config["DnsOptions"] == ["ndots:1"]
    assert config["ExtraHosts"] == ["ip-10-207-0-5:10.207.0.5"]
