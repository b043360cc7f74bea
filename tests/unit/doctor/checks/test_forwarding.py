from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import msgspec
import pytest

from agent.config import Settings
from agent.doctor.checks import forwarding
from agent.doctor.findings import Level
from agent.network.claims import Route
from tests.support.findings import levels, only

LAN = Route(network=IPv4Network("192.168.1.0/24"), interface="eth0", via_gateway=False)
PATHS = forwarding.Paths(forwards=True, routes=(LAN,), default_mtu=1500, docker_mtu=1500)


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({"forwards": False}, "warning", "ip_forward=1"),
        ({"forwards": False, "agent_runs": True}, "error", "ip_forward=1"),
        ({"forward_drops": True}, "error", "ecs-br0"),
        ({"dropping_chains": ("inet mine forward",)}, "warning", "nft insert rule inet mine"),
        ({"default_mtu": 0}, "warning", "gateway"),
        ({"default_mtu": 1400}, "warning", '"mtu": 1400'),
        ({"default_mtu": 1000, "docker_mtu": 0}, "warning", "MTU"),
    ],
)
def test_ways_that_are_closed(changes: dict[str, Any], level: str, word: str) -> None:
    findings = forwarding.judge(Settings(), msgspec.structs.replace(PATHS, **changes))
    finding = only(findings, Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_ways_that_are_open() -> None:
    assert levels(forwarding.judge(Settings(), PATHS)) == {"ok"}
    docker_way = msgspec.structs.replace(PATHS, forward_drops=True, docker_chain=True)
    assert levels(forwarding.judge(Settings(), docker_way)) == {"ok"}
    assert levels(forwarding.judge(Settings(task_mtu=9000), PATHS)) == {"ok", "warning"}


def test_a_pool_that_overlaps_is_told_with_one_that_does_not() -> None:
    taken = Route(network=IPv4Network("10.0.0.0/8"), interface="wg0", via_gateway=False)
    found = msgspec.structs.replace(PATHS, routes=(taken, LAN))
    finding = only(forwarding.judge(Settings(), found), Level.ERROR)
    assert "overlaps 10.0.0.0/8" in finding.seen
    assert "ECS_TASK_POOL_CIDR=172." in finding.command


def test_chains_that_drop_what_is_forwarded() -> None:
    def chain(family: str, table: str, **more: str) -> dict[str, Any]:
        return {"chain": {"family": family, "table": table, "name": "forward", **more}}

    hook = {"hook": "forward", "policy": "drop"}
    listed = {
        "nftables": [
            {"metainfo": {}},
            chain("inet", "mine", **hook),
            chain("ip", "filter", **hook),
            chain("ip6", "six", **hook),
            chain("inet", "ecs_agent", **hook),
            chain("inet", "open", hook="forward", policy="accept"),
        ]
    }
    text = msgspec.json.encode(listed).decode()
    assert forwarding.dropping_chains(text, "ecs_agent") == ("inet mine forward",)
    assert forwarding.dropping_chains("", "ecs_agent") == ()
