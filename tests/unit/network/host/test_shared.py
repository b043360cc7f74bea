"""Pure decisions about the host: shape of bridge and rules."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from agent.network.address_pool import AddressPool
from agent.network.bridge.bridge_port_rules import Layout
from agent.network.bridge.driver import shape_of
from agent.network.host import firewall
from agent.network.host.agent_address import Doors, guard
from agent.network.names.resolvers import Resolvers
from agent.network.sandboxes.sandbox import container_body

POOL = IPv4Network("10.207.0.0/20")


def test_the_shape_knows_the_pool_even_without_tasks() -> None:
    shape = shape_of(AddressPool("10.207.0.0/20", quarantine_s=1), [])
    assert shape.bridge_addresses == {"10.207.0.1/20"}
    assert shape.pools == {"10.207.0.0/20"}


DOORS = Doors(51679, "docker0", "br", 51678)


def rules(*pools: str, doors: Doors = DOORS) -> list[dict[str, Any]]:
    wanted = firewall.Wanted(Layout(frozenset(pools), frozenset()), frozenset({"eth0"}))
    return firewall.ruleset("t", wanted, doors=doors)


def test_the_ruleset_replaces_the_table_and_marks_every_rule() -> None:
    first, second, third, *rest = rules("10.207.0.0/20")
    assert [*first, *second, *third] == ["add", "delete", "add"]
    comments = [c["add"]["rule"]["comment"] for c in rest if "rule" in c["add"]]
    assert len(comments) == 19
    assert len({comment.split()[-1] for comment in comments}) == 1


def test_only_this_host_and_containers_reach_the_agents_ports() -> None:
    closed = [comment for comment, _ in guard(DOORS)]
    assert closed == [
        "this host",
        "containers to the agent's server",
        "others to the agent's address",
        "containers to introspection",
        "others to introspection",
    ]
    assert [comment for comment, _ in guard(DOORS._replace(introspection_port=0))] == closed[:3]
    without = [comment for comment, _ in guard(DOORS._replace(engine_bridge=""))]
    assert without == [*closed[:3], closed[4]]


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
