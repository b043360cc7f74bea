from __future__ import annotations

from agent.config import Settings
from agent.doctor.checks import firewalls
from agent.doctor.findings import Level
from agent.network.other_firewalls import FirewallFacts
from tests.support.findings import levels, only


def test_a_firewall_that_drops_what_tasks_send_here() -> None:
    chain = {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}
    facts = FirewallFacts([chain], "", (), "")
    found = only(firewalls.judge(Settings(), facts), Level.WARNING)
    assert "169.254.170.2" in found.seen
    assert found.command.startswith("iptables -I INPUT -i ecs-br0 ")
    accepting = FirewallFacts([{**chain, "policy": "accept"}], "", (), "")
    assert levels(firewalls.judge(Settings(), accepting)) == {"ok"}
