"""What needs a kernel with ``netem``, VLANs and WireGuard: latency and packet loss, branch ENIs, tunnels.

The agent's own code runs as scripts on a host with the package; no task runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm.one_host import compile_ahead, install

if TYPE_CHECKING:
    from tests.vm.machine import Vm

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

DELAY_MS = 700


def found_by(host: Vm, script: str, *, timeout_s: float = 300.0) -> dict[str, Any]:
    """Run a script with the agent's libraries; return what it printed."""
    host.put(Path(__file__).parent / script, f"/root/{script}")
    told = host.out(f"/opt/ecs-agent/bin/python3 -ISB /root/{script}", timeout_s=timeout_s)
    found: dict[str, Any] = json.loads(told)
    return found


def test_a_branch_interface_is_a_vlan_of_its_trunk(
    host: Vm, package: Path, compiled: Path | None
) -> None:
    compile_ahead(host, compiled)
    install(host, package)
    assert found_by(host, "branch_eni.py") == {
        "vlan": 12, "mac": "06:00:00:00:00:02", "mtu": 9001, "serves": True, "returned": True,
        "again": False, "left": 0,
    }  # fmt: skip


def test_packets_are_delayed_and_lost_as_ordered(host: Vm) -> None:
    found = found_by(host, "impaired_network.py")
    assert found["able"] == [True, True]
    assert min(found["delayed"]) >= 0.95 * DELAY_MS
    assert found["not_delayed"] < DELAY_MS / 2
    assert found["seen_by_another"] == found["refused_for"] == "network-latency"
    assert found["after_the_wrong_stop"] == "network-latency"
    assert (found["lost"], found["spared"]) == ([0, 0], 3)
    assert 0.55 < found["arriving_of_flows"] < 0.85
    assert 0.35 < found["arriving_of_packets"] < 0.65
    assert "somebody else" in found["foreign"]
    assert found["host"] == "network-packet-loss"
    assert found["after_host"] == [None, False]
    for left in ("after_latency", "after_loss", "after_foreign"):
        assert found[left] == []


def test_hosts_reach_each_other_by_wireguard(host: Vm) -> None:
    found = found_by(host, "fleet_network.py", timeout_s=600)
    assert "lacks the module wireguard" in found["without_module"]
    assert found["same_key_again"]
    assert found["mode"] == "0o600"
    assert not found["secret_told"]
    assert found["problems"] == [[], []]
    assert found["reached"] == found["reached_by_ipv6"] == [True, True, True]
    assert (found["mtu"], found["handshake"], found["bytes"]) == (1420, True, [True, True])
    assert found["bare"] == 2, "packets of tasks were on the wire as they are"
    assert not found["spoofed"]
    # Neither the end of an agent nor its start ends a session.
    assert (found["without_agent"], found["untold"]) == (True, True)
    assert found["session_kept"] == [True, True]
    assert found["new_key"]
    longest_wait_s, answers = found["rotation"]
    assert longest_wait_s < 20
    assert answers > 10
    assert found["peers_of_b"] == 1
    assert found["by_ipv6"] == [[], [], True, True]
    assert any("wg-ecs was removed" in text for text in found["repaired"])
    assert found["after_repair"] == [True, True]
    no_ipv6_route = ["the route to fd00:208:0:1::/64 of the fleet was gone or changed"]
    assert found["ipv6_route_repaired"] == [no_ipv6_route, True]
    no_route = ["the route to 10.208.1.0/24 of the fleet was gone or changed"]
    assert found["route_repaired"] == no_route
    assert found["source_repaired"] == [no_route, True]
    assert found["other_source_repaired"] == no_route
    assert found["peer_repaired"] == [["1 peers of wg-ecs were gone, changed or foreign"], True]
    assert found["nothing_left"] == []
    assert not found["after_it_left"]
    assert found["peers_left"] == []
    assert found["after_clear"] == [False, ""]
