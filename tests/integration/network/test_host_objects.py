"""Bridge, rules and forwarding: made, put right after others changed them, and removed."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.errors import NetworkFailure
from agent.network.host import firewall
from tests.integration.network.conftest import SETTINGS

if TYPE_CHECKING:
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

BRIDGE = SETTINGS.bridge


def sh(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def reaches(ipv4: str, *, tries: int = 5) -> bool:
    """Tell whether the address answers: a link that just came up may lose the first packets."""
    ping = ("busybox", "ping", "-c", "1", "-W", "1", ipv4)
    return any(sh(*ping).returncode == 0 for _ in range(tries))


def docker_rules() -> list[str]:
    listed = sh("iptables", "-w", "5", "-S", "DOCKER-USER").stdout.splitlines()
    return [line for line in listed if f" {BRIDGE} " in line]


async def test_what_others_break_is_put_right(host: Host) -> None:
    networks = await host.networks()
    one = await networks.claim("a", "eni-1")
    two = await networks.claim("b", "eni-2")
    rules = docker_rules()
    assert len(rules) == 2
    table = sh("nft", "list", "table", "inet", SETTINGS.table).stdout

    sh("nft", "delete", "table", "inet", SETTINGS.table)
    sh("iptables", "-w", "5", "-D", "DOCKER-USER", "-i", BRIDGE, "-o", BRIDGE, "-m", "comment",
       "--comment", f"ecs-host-agent {BRIDGE}", "-j", "ACCEPT")  # fmt: skip
    assert len(docker_rules()) == 1
    await networks.reassert()
    assert sorted(docker_rules()) == sorted(rules)
    assert sh("nft", "list", "table", "inet", SETTINGS.table).stdout == table

    sh("ip", "link", "set", one.host_interface, "nomaster")
    sh("ip", "link", "del", two.host_interface)
    assert not reaches(one.ipv4, tries=1)
    await networks.reassert()
    assert reaches(one.ipv4)
    assert reaches(two.ipv4)

    sh("ip", "link", "del", BRIDGE)
    await networks.reassert()
    assert reaches(one.ipv4)
    assert reaches(two.ipv4)

    sh("ip", "addr", "flush", "dev", BRIDGE)
    sh("ip", "link", "set", BRIDGE, "down")
    await networks.reassert()
    assert reaches(one.ipv4)


async def test_the_guard_does_it_on_its_own(host: Host) -> None:
    networks = await host.networks(check_interval_s=0.1)
    run = asyncio.create_task(networks.run(on_lost=lambda *_: None))
    sh("nft", "delete", "table", "inet", SETTINGS.table)
    async with asyncio.timeout(5):
        while sh("nft", "list", "table", "inet", SETTINGS.table).returncode:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_forwarding_that_somebody_turns_off_is_turned_on(host: Host) -> None:
    networks = await host.networks()
    await networks.claim("a", "eni-1")
    await networks.reassert()
    assert (await asyncio.to_thread(sh, "sysctl", "-w", "net.ipv4.ip_forward=0")).returncode == 0
    await networks.reassert()
    shown = await asyncio.to_thread(sh, "sysctl", "-n", "net.ipv4.ip_forward")
    assert shown.stdout.strip() == "1"


async def test_repeated_starts_do_not_pile_up_rules(host: Host) -> None:
    def rules(family: str) -> int:
        listed = json.loads(sh("nft", "-j", "list", "table", family, SETTINGS.table).stdout)
        return len([o for o in listed["nftables"] if "rule" in o])

    await host.networks()
    first = {family: rules(family) for family in ("inet", "bridge")}
    for _ in range(2):
        await host.networks()
    assert len(docker_rules()) == 2
    assert min(first.values()) > 10
    assert {family: rules(family) for family in first} == first


async def test_the_generation_grows_with_any_change(host: Host) -> None:
    await host.networks()
    before = await asyncio.to_thread(firewall.generation)
    assert before is not None
    sh("nft", "add", "chain", "inet", SETTINGS.table, "extra")
    after = await asyncio.to_thread(firewall.generation)
    assert after is not None
    assert after > before


@pytest.mark.usefixtures("leak_check")
async def test_a_pool_that_the_host_uses_is_refused(host: Host) -> None:
    sh("ip", "link", "add", "ecst-clash0", "type", "veth", "peer", "name", "ecst-clash1")
    try:
        sh("ip", "addr", "add", "10.218.77.40/30", "dev", "ecst-clash0")
        sh("ip", "link", "set", "ecst-clash0", "up")
        with pytest.raises(NetworkFailure, match=r"ECS_TASK_POOL_CIDR.*10\.218\.77\.40/30.*ecst"):
            await host.networks()
    finally:
        sh("ip", "link", "del", "ecst-clash0")


async def test_a_bridge_name_that_is_taken_is_refused(host: Host) -> None:
    sh("ip", "link", "add", BRIDGE, "type", "veth", "peer", "name", "ecst-net1")
    try:
        with pytest.raises(NetworkFailure, match=f"ECS_TASK_BRIDGE={BRIDGE} is a link of kind"):
            await host.networks()
    finally:
        sh("ip", "link", "del", BRIDGE)


async def test_removal_refuses_while_a_task_holds_a_network(host: Host) -> None:
    networks = await host.networks()
    await networks.claim("a", "eni-1")
    with pytest.raises(NetworkFailure, match="1 tasks still hold a network"):
        await networks.remove_host_objects()
    assert sh("ip", "link", "show", BRIDGE).returncode == 0
    await networks.release("a")
    await networks.remove_host_objects()
    assert sh("ip", "link", "show", BRIDGE).returncode != 0
    assert docker_rules() == []
    await networks.remove_host_objects()
