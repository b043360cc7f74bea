"""The table of faults."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from agent.network.faults import rules
from agent.network.faults.fault import Blackhole, Impairment, Kind

HOLE = Blackhole(
    port=53,
    protocol="udp",
    direction="egress",
    spared=(ip_network("10.0.0.0/8"), ip_network("::/0")),
)
TABLE: list[dict[str, Any]] = [{"table": {"name": "t"}}]


def listed(*chains: str) -> list[dict[str, Any]]:
    return [*TABLE, *({"chain": {"name": name}} for name in chains)]


def test_a_black_hole_spares_first_and_drops_last() -> None:
    commands = rules.blackhole("t", HOLE)
    verdicts = [c["add"]["rule"]["expr"][-1] for c in commands if "rule" in c["add"]]
    assert verdicts == [{"accept": None}, {"accept": None}, {"drop": None}]
    chain = commands[1]["add"]["chain"]
    assert (chain["name"], chain["hook"]) == ("egress-udp-53", "output")


def test_a_share_of_flows_is_chosen_by_hash_and_all_flows_without() -> None:
    fault = Impairment(kind=Kind.LOSS, destinations=(ip_network("fd00::/8"),), loss_percent=1)
    assert "jhash" not in str(rules.impairment("t", fault))
    some = Impairment(kind=Kind.LOSS, destinations=(ip_network("fd00::/8"),), flows_percent=5)
    assert str(rules.impairment("t", some)).count("jhash") == 2  # with ports, and without


def test_the_table_goes_with_its_last_fault() -> None:
    assert rules.removal("t", "a", listed("a")) == [
        {"delete": {"table": {"family": "inet", "name": "t"}}}
    ]
    assert [next(iter(c)) for c in rules.removal("t", "a", listed("a", "b"))] == ["flush", "delete"]


def test_which_fault_runs_is_read_from_the_chains() -> None:
    assert rules.running(None) is None
    assert rules.running(listed("egress-udp-53")) is None
    assert rules.running(listed("egress-udp-53", "network-latency")) is Kind.LATENCY
    assert rules.running(listed("network-packet-loss")) is Kind.LOSS
