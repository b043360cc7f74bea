from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import msgspec
import pytest

from agent.config import Settings
from agent.doctor.checks import forwarding
from agent.doctor.findings import Finding, Level
from agent.network.host_routes import Route
from tests.support.findings import levels, only

LAN = Route(network=IPv4Network("192.168.1.0/24"), interface="eth0", via_gateway=False)
DOCKER0 = forwarding.Bridge(mtu=1500)
PATHS = forwarding.Paths(
    forwards=True, routes=(LAN,), default_link="eth0", default_mtu=1500, bridge=DOCKER0
)


def bridge(**changes: Any) -> dict[str, Any]:
    return {"bridge": msgspec.structs.replace(DOCKER0, **changes)}


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({"forwards": False}, "warning", "ip_forward=1"),
        (
            {"forwards": False, "agent_runs": True, "task_bridge_exists": True},
            "error",
            "ip_forward=1",
        ),
        ({"forward_drops": True}, "error", "ecs-br0"),
        ({"dropping_chains": ("inet mine forward",)}, "warning", "nft insert rule inet mine"),
        ({"default_mtu": 0, "default_link": ""}, "warning", "gateway"),
        ({"default_mtu": 1400}, "warning", '"mtu": 1400'),
        ({"default_mtu": 1000, **bridge(mtu=0)}, "warning", "MTU"),
        (bridge(exists=False, mtu=0), "error", "systemctl restart docker"),
        (bridge(exists=False, mtu=0, name="lan0"), "error", "create lan0 again"),
        (bridge(is_up=False), "error", "ip link set docker0 up"),
        (bridge(none=True, mtu=0), "warning", '"bridge": "none"'),
        ({"agent_runs": True}, "error", "wait for the agent to create it again"),
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


def test_whether_ipv6_reaches_other_hosts_is_told_where_tasks_reach_them() -> None:
    without = msgspec.structs.replace(PATHS, fleet_without_ipv6="IPv6 is off")
    assert forwarding.judge(Settings(), without) == forwarding.judge(Settings(), PATHS)
    fleet = Settings(fleet_network="routes")
    assert "and, where control has it, by IPv6" in _last(fleet, PATHS).seen
    told = _last(fleet, without)
    assert (told.level, told.seen.endswith("IPv4 alone: IPv6 is off")) == (Level.OK, True)
    alone = Settings(fleet_network="routes", task_pool_cidr="", task_pool_ipv6_cidr="fd00::/64")
    assert _last(alone, without).level == Level.ERROR


def _last(settings: Settings, found: forwarding.Paths) -> Finding:
    return forwarding.judge(settings, found)[-1]


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
    assert forwarding.dropping_chains('{"nftables": []}', "ecs_agent") == ()
    assert forwarding.dropping_chains("", "ecs_agent") is None


@pytest.mark.parametrize(
    ("changes", "unknown", "not_ok"),
    [
        ({"forwards": None}, "net.ipv4.ip_forward", "ip_forward is on"),
        (
            {"forward_drops": None, "policy_trouble": "you must be root", "bridge_filter": True},
            "whether iptables lets forwarded packets pass is not known (you must be root)",
            "iptables lets",
        ),
        ({"forward_drops": True, "docker_chain": None}, "DOCKER-USER", "accept those of tasks"),
        ({"dropping_chains": None, "chains_trouble": "not permitted"}, "not permitted", "nftables"),
        ({"routes": None}, "uses the task addresses", "no route"),
        ({"default_mtu": 0}, "the MTU of eth0", "on the default route"),
        (bridge(exists=False, mtu=0, unasked="only root may"), "only root may", "docker0"),
    ],
)
def test_what_cannot_be_found_out_is_neither_ok_nor_wrong(
    changes: dict[str, Any], unknown: str, not_ok: str
) -> None:
    findings = forwarding.judge(Settings(), msgspec.structs.replace(PATHS, **changes))
    assert unknown in only(findings, Level.WARNING).seen
    assert not [f for f in findings if f.level is Level.OK and not_ok in f.seen]


def test_sizes_of_packets_are_always_told() -> None:
    seen = [finding.seen for finding in forwarding.judge(Settings(), PATHS)]
    assert "MTU 1500 on the default route, 1500 on docker0" in seen
    gone = msgspec.structs.replace(PATHS, **bridge(exists=False, mtu=0))
    seen = [finding.seen for finding in forwarding.judge(Settings(), gone)]
    assert "MTU 1500 on the default route" in seen


def test_the_bridge_that_the_engine_names() -> None:
    answer = b'{"Options": {"com.docker.network.bridge.name": "lan0"}}'
    assert forwarding.bridge_of(answer) == "lan0"
    for other in (b"{}", b"[]", b"nonsense", b'{"Options": null}'):
        assert forwarding.bridge_of(other) == "docker0"
