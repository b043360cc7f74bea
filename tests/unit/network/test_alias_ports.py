"""The rules that lead ports of aliases to ports of containers."""

from __future__ import annotations

from typing import Any

import pytest

from agent.errors import NetworkFailure
from agent.model.payload import AliasPort
from agent.model.task import TaskNetwork
from agent.network import alias_ports

PORTS = [AliasPort(port=80, container_port=8080), AliasPort(port=5432, container_port=15432)]


def network(**more: Any) -> TaskNetwork:
    values: dict[str, Any] = {
        "attachment_id": "a",
        "mac": "0a:58:00:00:00:09",
        "ipv4": "10.0.0.9",
        "prefix_len": 24,
        "gateway": "10.0.0.1",
        "hostname": "h",
        "sandbox_pid": 2**22 + 1,
    }
    return TaskNetwork(**(values | more))


def led(of: TaskNetwork) -> list[tuple[str, str, int, str, int]]:
    """Return chain, address and port, and where they lead."""
    found = []
    for command in alias_ports.commands(of, PORTS):
        rule = command["add"].get("rule") if "add" in command else None
        if rule is not None:
            daddr, dport, change = rule["expr"]
            to = change["dnat"]
            assert daddr["match"]["left"]["payload"]["protocol"] == to["family"]
            found.append(
                (
                    rule["chain"],
                    daddr["match"]["right"],
                    dport["match"]["right"],
                    to["addr"],
                    to["port"],
                )
            )
    return found


def test_ports_lead_to_the_task_itself_from_outside_and_inside() -> None:
    assert led(network()) == [
        (chain, "10.0.0.9", port, "10.0.0.9", to)
        for chain in ("prerouting", "output")
        for port, to in ((80, 8080), (5432, 15432))
    ]
    both = led(network(ipv6="fd00::9"))
    assert len(both) == 8
    assert ("output", "fd00::9", 80, "fd00::9", 8080) in both


def test_a_sandbox_that_has_ended_is_told() -> None:
    with pytest.raises(NetworkFailure, match="has ended"):
        alias_ports.lead(network(), PORTS)
