from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network import other_firewalls
from agent.network.other_firewalls import Doorway, FirewallFacts

if TYPE_CHECKING:
    from pathlib import Path

DOOR = Doorway("ecs-br0", "169.254.170.2", 51679)


def chain(family: str, table: str, name: str, **base: object) -> dict[str, Any]:
    return {"family": family, "table": table, "name": name, "handle": 1, **base}


INPUT = chain("ip", "filter", "INPUT", type="filter", hook="input", prio=0, policy="drop")
UFW = chain("ip", "filter", "ufw-before-input")
FIREWALLD = chain("inet", "firewalld", "filter_INPUT", type="filter", hook="input", prio=10)
TRUSTING = 'chain filter_INPUT_ZONES {\n\tiifname "ecs-br0" goto filter_IN_trusted\n}'


def names(
    *chains: dict[str, Any],
    firewalld: str = "",
    legacy: tuple[str, ...] = (),
    version: str = "nf_tables",
) -> list[str]:
    facts = FirewallFacts(list(chains), firewalld, legacy, f"iptables v1.8.9 ({version})")
    return [each.name for each in other_firewalls.recognised(facts, DOOR)]


def test_each_firewall_is_recognised() -> None:
    assert names() == []
    assert names({**INPUT, "policy": "accept"}, UFW) == []
    assert names(INPUT, UFW) == ["ufw"]
    assert names(INPUT) == ["the INPUT chain of iptables"]
    assert names(FIREWALLD) == ["firewalld"]
    assert names(FIREWALLD, firewalld=TRUSTING) == []
    assert names(FIREWALLD, firewalld=TRUSTING.replace("ecs-br0", "ecs-br01")) == ["firewalld"]
    assert names(legacy=("filter",)) == ["iptables-legacy"]
    # Where iptables itself is the old one, its rules are found as any others.
    assert names(legacy=("filter",), version="legacy") == []


def test_the_mend_names_bridge_address_and_port() -> None:
    facts = FirewallFacts([INPUT, UFW], "", (), "")
    (found,) = other_firewalls.recognised(facts, DOOR)
    assert found.command == "ufw allow in on ecs-br0 to 169.254.170.2 port 51679 proto tcp"
    assert "169.254.170.2" in found.does


@given(st.one_of(st.text(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_any_listing_is_read(text: str) -> None:
    other_firewalls.chains_of(text)


@pytest.mark.parametrize(("text", "tables"), [("filter\nnat\n", ("filter", "nat")), ("", ())])
def test_tables_of_the_old_kind(tmp_path: Path, text: str, tables: tuple[str, ...]) -> None:
    assert other_firewalls.legacy_tables(tmp_path) == ()
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/ip_tables_names").write_text(text)
    assert other_firewalls.legacy_tables(tmp_path) == tables
