from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.model.network_views import RuleView
from agent.network.bridge.bridge_port_rules import Layout
from agent.network.host.agent_address import Doors
from agent.network.host.firewall import Wanted, ruleset
from agent.network.inspection import devices, rules

if TYPE_CHECKING:
    from pathlib import Path


def listing() -> list[dict[str, Any]]:
    """Return our rules as the kernel would list them, with a handle and counts."""
    wanted = Wanted(Layout(frozenset({"10.9.0.0/24"}), frozenset({"10.9.0.1"})), frozenset())
    commands = ruleset("t", wanted, doors=Doors(51679, "docker0", "ecs-br0"))
    listed = []
    ours = [each["add"]["rule"] for each in commands if "rule" in each.get("add", {})]
    for handle, command in enumerate(ours):
        expr = [
            {"counter": {"packets": handle, "bytes": 60 * handle}} if "counter" in e else e
            for e in command["expr"]
        ]
        listed.append({"rule": {**command, "handle": handle, "expr": expr}})
    return listed


def test_rules_have_their_comment_without_digest_and_their_counters() -> None:
    found = rules.rules_of(listing())
    texts = [view.rule for view in found]
    assert "blocked address" in texts
    assert "into other networks of this host" in texts
    assert found[0] == RuleView(
        family="inet", table="t", chain="sources", rule="past the bridge", packets=None, bytes=None
    )
    (dropped,) = [view for view in found if view.rule == "into other networks of this host"]
    assert dropped.packets is not None
    assert dropped.packets > 0
    assert dropped.bytes == 60 * dropped.packets


def test_a_rule_without_a_comment_is_told_by_its_handle() -> None:
    bare = {"family": "inet", "table": "t", "chain": "c", "handle": 7, "expr": [{"drop": None}]}
    assert [view.rule for view in rules.rules_of([{"rule": bare}])] == ["handle 7"]


@pytest.mark.parametrize(
    ("name", "ours"), [("ecs", True), ("ecs_groups", True), ("ecsx", False), ("other", False)]
)
def test_only_tables_of_this_agent_are_shown(name: str, *, ours: bool) -> None:
    listed: list[dict[str, Any]] = [
        {"metainfo": {}},
        {"table": {"family": "inet", "name": name, "handle": 1}},
    ]
    assert rules.tables_of(listed, "ecs") == ([("inet", name)] if ours else [])


def test_a_link_is_read_with_its_counters(tmp_path: Path) -> None:
    link = tmp_path / "ecs0a090002"
    (link / "statistics").mkdir(parents=True)
    for name, text in {
        "flags": "0x1003", "mtu": "1400", "statistics/rx_bytes": "10",
        "statistics/rx_packets": "1", "statistics/tx_bytes": "20", "statistics/tx_packets": "2",
    }.items():  # fmt: skip
        (link / name).write_text(f"{text}\n")
    ports = [("ecs0a090002", "10.9.0.2")]
    bridge, port = devices.devices("ecs-br0", "bridge", ports, links=tmp_path)
    assert (bridge.state, bridge.kind, bridge.mtu) == ("GONE", "bridge", 0)
    assert (port.state, port.mtu, port.ipv4) == ("UP", 1400, "10.9.0.2")
    assert (port.rx_bytes, port.rx_packets, port.tx_bytes, port.tx_packets) == (10, 1, 20, 2)


@pytest.mark.parametrize(
    ("driver", "kind"),
    [("bridge", "bridge"), ("routed", "gateway"), ("macvlan", "parent"), ("ipvlan-l3", "parent")],
)
def test_the_link_of_all_tasks_is_called_what_it_is(tmp_path: Path, driver: str, kind: str) -> None:
    (shared,) = devices.devices("eth0", driver, [], links=tmp_path)
    assert (shared.name, shared.kind) == ("eth0", kind)
