"""What operators see of task networks, and what a check on order finds and mends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from agent.model.network_views import NetworkCheckView
from agent.network.addresses import container_name_of, link_name_of
from agent.network.sandboxes.sandbox import ADDRESS_LABEL, SANDBOX_LABEL
from tests.integration.network.conftest import SETTINGS
from tests.integration.network.test_repairs import DAMAGES, sh, state

if TYPE_CHECKING:
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

NOTHING = NetworkCheckView(repair=False)


async def test_a_check_finds_every_damage_and_mends_it_only_on_order(host: Host) -> None:
    networks = await host.networks()
    claimed = await networks.claim("arn:task/one", "")
    intact = state()
    assert await networks.inspection.check(repair=False) == NOTHING
    for name, damage in DAMAGES.items():
        sh(*damage.command.replace("LINK", claimed.host_interface).split())
        broken = state()
        found = await networks.inspection.check(repair=False)
        words = damage.found.replace("LINK", claimed.host_interface)
        assert any(words in each.found for each in found.differences), (name, found)
        assert not any(each.repaired for each in found.differences), name
        assert state() == broken, name
        mended = await networks.inspection.check(repair=True)
        assert all(each.repaired for each in mended.differences), (name, mended)
        assert await networks.inspection.check(repair=False) == NOTHING, name
        sh("ip", "link", "del", "renamed0")
        assert state() == intact, name


async def test_what_nobody_holds_is_found_and_removed(host: Host) -> None:
    networks = await host.networks()
    await networks.claim("arn:task/one", "")
    free = "10.218.77.33"
    sh("ip", "link", "add", link_name_of(free), "type", "veth", "peer", "name", "strayed0")
    body = {
        "Image": host.image,
        "Labels": {SANDBOX_LABEL: SETTINGS.owner, ADDRESS_LABEL: free},
        "HostConfig": {"NetworkMode": "none"},
    }
    await host.engine.create_container(container_name_of(free), body)
    found = await networks.inspection.check(repair=False)
    assert [each.found for each in found.differences] == [
        f"container {container_name_of(free)} belongs to no sandbox",
        f"link {link_name_of(free)} belongs to no sandbox",
    ]
    mended = await networks.inspection.check(repair=True)
    assert [each.repaired for each in mended.differences] == [True, True]
    assert link_name_of(free) not in sh("ip", "-br", "link")
    assert await networks.inspection.check(repair=False) == NOTHING


async def test_a_sandbox_that_differs_inside_is_set_up_again(host: Host) -> None:
    networks = await host.networks()
    claimed = await networks.claim("arn:task/one", "")
    inside = ("nsenter", "-t", str(claimed.sandbox_pid), "-n")
    sh(*inside, "ip", "addr", "flush", "dev", "eth0")
    found = await networks.inspection.check(repair=False)
    words = f"the network of {claimed.ipv4} differs inside its namespace"
    assert [each.found for each in found.differences] == [words]
    mended = await networks.inspection.check(repair=True)
    assert [each.repaired for each in mended.differences] == [True]
    assert claimed.ipv4 in sh(*inside, "ip", "-br", "addr")


async def test_pools_sandboxes_links_and_rules_are_shown(host: Host) -> None:
    networks = await host.networks()
    claimed = await networks.claim("arn:task/one", "")
    send = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{claimed.gateway}', 9))"
    sh("nsenter", "-t", str(claimed.sandbox_pid), "-n", sys.executable, "-c", send)
    view = await networks.inspection.view()
    (pool,) = view.pools
    assert (pool.cidr, pool.gateway, pool.held) == (SETTINGS.pool_cidr, claimed.gateway, 1)
    (sandbox,) = view.sandboxes
    assert (sandbox.state, sandbox.task, sandbox.ipv4) == ("CLAIMED", "arn:task/one", claimed.ipv4)
    bridge, port = view.devices
    assert (bridge.name, bridge.state) == (SETTINGS.bridge, "UP")
    assert (port.name, port.state, port.ipv4) == (claimed.host_interface, "UP", claimed.ipv4)
    assert port.rx_packets > 0
    assert {(rule.family, rule.chain) for rule in view.rules} >= {
        ("inet", "sources"), ("inet", "between"), ("bridge", "from_task"),
    }  # fmt: skip
