"""Pure decisions about the host: shape of bridge and rules."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from agent.network.address_pool import AddressPool
from agent.network.bridge.bridge_port_rules import Layout
from agent.network.bridge.driver import shape_of
from agent.network.host import firewall
from agent.network.host.agent_address import Doors, guard
from agent.network.host.fleet_rules import FleetNetworks, of_containers
from agent.network.host.kernel_messages import Part
from agent.network.host.shared import HostNetwork
from agent.network.names.resolvers import Resolvers
from agent.network.sandboxes.sandbox import container_body

if TYPE_CHECKING:
    import pytest

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


def test_between_hosts_nothing_is_masqueraded_and_addresses_come_the_right_way() -> None:
    wanted = firewall.Wanted(Layout(frozenset({"10.208.1.0/24"}), frozenset()), frozenset({"eth0"}))
    fleet = FleetNetworks("10.208.0.0/16", "", "10.208.1.1")
    commands = firewall.ruleset("t", wanted, doors=DOORS, fleet=fleet)
    placed = [c["add"]["rule"] for c in commands if "rule" in c.get("add", {})]
    comments = {
        chain: [r["comment"].rpartition(" ")[0] for r in placed if r["chain"] == chain]
        for chain in ("sources", "outside", "to_other_hosts")
    }
    assert comments["to_other_hosts"] == ["containers to tasks of other hosts"]
    assert comments["outside"] == ["task to task of another host", "tasks to outside"]
    assert comments["sources"][-1] == "a task's address of another host from elsewhere"


def test_without_other_hosts_or_an_engine_bridge_containers_have_no_rules() -> None:
    fleet = FleetNetworks("10.208.0.0/16", "fd00:208::/48", "10.208.1.1", "fd00:208:0:1::1")
    assert of_containers(FleetNetworks(), "docker0") == of_containers(fleet, "") == []
    given = [expressions[-1]["snat"] for _, expressions in of_containers(fleet, "docker0")]
    assert given == [
        {"family": "ip", "addr": "10.208.1.1"}, {"family": "ip6", "addr": "fd00:208:0:1::1"}
    ]  # fmt: skip


def test_between_hosts_ipv6_has_the_same_rules_before_those_that_masquerade() -> None:
    layout = Layout(
        frozenset({"10.208.1.0/24"}), frozenset(), ipv6_pools=frozenset({"fd00:208:0:1::/64"}),
        ipv6_masquerade=True,
    )  # fmt: skip
    fleet = FleetNetworks("10.208.0.0/16", "fd00:208::/48")
    commands = firewall.ruleset(
        "t", firewall.Wanted(layout, frozenset({"eth0"})), doors=DOORS, fleet=fleet
    )
    placed = [c["add"]["rule"] for c in commands if "rule" in c.get("add", {})]
    outside = [rule for rule in placed if rule["chain"] == "outside"]
    assert [r["comment"].rpartition(" ")[0] for r in outside] == [
        "task to task of another host", "task to task of another host",
        "tasks to outside", "tasks to outside by IPv6",
    ]  # fmt: skip
    assert outside[1]["expr"][0]["match"]["right"] == {"prefix": {"addr": "fd00:208::", "len": 48}}
    assert "a task's IPv6 address of another host from elsewhere" in [
        rule["comment"].rpartition(" ")[0] for rule in placed if rule["chain"] == "sources"
    ]


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


def test_ports_of_control_are_closed_to_bridges_alone() -> None:
    closing = DOORS._replace(closed_ports=(6821, 6820))
    ((comment, expressions),) = [each for each in guard(closing) if each not in guard(DOORS)]
    assert comment == "tasks to ports of control and agent"
    assert [e["match"]["right"] for e in expressions if "match" in e] == [
        {"set": ["br", "docker0"]}, {"set": [6820, 6821]},
    ]  # fmt: skip
    nobody = closing._replace(engine_bridge="", task_bridge="")
    assert comment not in [comment for comment, _ in guard(nobody)]


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


class Rules:
    """Rules that somebody removes while they are compared, after they were read."""

    def __init__(self) -> None:
        self.generation = 1
        self.are_there = True
        self.looks = 0
        self.groups = SimpleNamespace(mend_bridge=list)

    def ensure(self, *_: object) -> None:
        if not self.are_there:
            self.generation += 1
        self.are_there = True

    def differences(self, _: object) -> list[str]:
        self.looks += 1
        found = [] if self.are_there else ["removed"]
        if self.looks == 1:
            self.are_there = False
            self.generation += 1
        return found


async def test_rules_that_are_removed_during_a_check_are_found_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Rules()
    monkeypatch.setattr(firewall, "generation", lambda: made.generation)
    layout = Layout(frozenset({"10.207.0.0/20"}), frozenset(), is_routed=False)

    async def nothing(*_: object) -> None:
        pass

    with ThreadPoolExecutor(1) as files:
        host = HostNetwork(
            driver=cast("Any", SimpleNamespace(layout=lambda _: layout, ensure=nothing)),
            links=cast("Any", None),
            agent_address=cast("Any", SimpleNamespace(ensure=nothing)),
            rules=cast("Any", made),
            files=files,
        )
        await host.repair([], Part.RULES)
        assert made.looks == 1
        assert not made.are_there
        assert (await host.repair([], Part.RULES))[0] == ["removed"]
        assert (made.are_there, made.looks) == (True, 2)
        for _ in range(3):
            assert (await host.repair([], Part.RULES))[0] == []
        assert made.looks == 3  # once after the repair, and then not without a change
