"""What others break of task networks: noticed by the kernel's news, put right, and logged once.

The regular look is set to once a minute, so that only news can be what asks for these repairs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from structlog.testing import capture_logs

from agent.network.bridge import bridge_port_rules
from agent.network.host import firewall
from agent.network.host.kernel_messages import Part
from agent.network.sandboxes import link_repair
from tests.integration.network.conftest import SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.model.task import TaskNetwork
    from agent.network.host.repair_loop import RepairResult
    from agent.network.pool import TaskNetworks
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

BRIDGE, TABLE = SETTINGS.bridge, SETTINGS.table
PUT_RIGHT = "task networks were changed by others; repaired"


def sh(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout


def links() -> list[tuple[str, str, str, bool]]:
    """Return name, bridge, MAC and whether it is up, of each link of ours."""
    listed = json.loads(sh("ip", "-j", "link"))
    return sorted(
        (link["ifname"], link.get("master", ""), link["address"], "UP" in link["flags"])
        if link["ifname"] == BRIDGE
        else (link["ifname"], link.get("master", ""), "", "UP" in link["flags"])
        for link in listed
        if link["ifname"] == BRIDGE or link["ifname"].startswith("ecs0ada")
    )


def state() -> dict[str, object]:
    """Return everything of the host that tasks' networks need, as the kernel has it."""
    docker = sh("iptables", "-w", "5", "-S", "DOCKER-USER").splitlines()
    return {
        "links": links(),
        "addresses": sorted(
            info["local"]
            for link in json.loads(sh("ip", "-j", "-4", "addr", "show", "dev", BRIDGE) or "[]")
            for info in link.get("addr_info", [])
        ),
        "routes": sh("ip", "route", "show", "dev", BRIDGE).replace("linkdown", "").split(),
        "address of the agent": sh("ip", "-br", "-4", "addr", "show", "dev", "lo").split(),
        "table": sh("nft", "-s", "list", "table", "inet", TABLE),
        "bridge table": sh("nft", "-s", "list", "table", "bridge", TABLE),
        "ports": sh("bridge", "-d", "link", "show", "master", BRIDGE).count(
            "learning off flood off"
        ),
        "neighbours": sorted(
            sh("ip", "neigh", "show", "dev", BRIDGE, "nud", "permanent").splitlines()
        ),
        "docker": sorted(line for line in docker if f" {BRIDGE} " in line),
        "jump": "-A FORWARD -j DOCKER-USER"
        in sh("iptables", "-w", "5", "-S", "FORWARD").splitlines(),
        "forwarding": [
            Path(f"/proc/sys/net/ipv4/{name}").read_text(encoding="ascii").strip()
            for name in ("ip_forward", f"conf/{BRIDGE}/forwarding")
            if Path(f"/proc/sys/net/ipv4/{name}").exists()
        ],
    }


class Damage(NamedTuple):
    """A command, with LINK for the link of a task, and what the log says of it."""

    command: str
    found: str


DAMAGES = {
    "bridge deleted": Damage(f"ip link del {BRIDGE}", f"bridge {BRIDGE} was gone"),
    "bridge down": Damage(f"ip link set {BRIDGE} down", f"bridge {BRIDGE} was down"),
    "bridge without address": Damage(f"ip addr flush dev {BRIDGE}", "was without 10.218.77.1/26"),
    "bridge with another MAC": Damage(
        f"ip link set {BRIDGE} address 02:00:00:00:00:01", "with another MAC address"
    ),
    "route deleted": Damage(f"ip route del 10.218.77.0/26 dev {BRIDGE}", "without its route to"),
    "address of the agent deleted": Damage(
        "ip addr del 169.254.170.2/32 dev lo", "the address 169.254.170.2 was gone"
    ),
    "link deleted": Damage("ip link del LINK", "link LINK was gone"),
    "link down": Damage("ip link set LINK down", "link LINK was down"),
    "link off the bridge": Damage("ip link set LINK nomaster", "link LINK was off the bridge"),
    "link renamed": Damage("ip link set LINK name renamed0", "link LINK was gone"),
    "ip_forward off": Damage("sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward"),
    "forwarding of the bridge off": Damage(
        f"sysctl -qw net.ipv4.conf.{BRIDGE}.forwarding=0",
        f"net.ipv4.conf.{BRIDGE}.forwarding was 0",
    ),
    "table deleted": Damage(
        f"nft delete table inet {TABLE}", f"table {TABLE} was changed or removed"
    ),
    "chain emptied": Damage(
        f"nft flush chain inet {TABLE} outside", f"table {TABLE} was changed or removed"
    ),
    "set emptied": Damage(
        f"nft flush set inet {TABLE} {firewall.POOLS_SET}", f"table {TABLE} was changed or removed"
    ),
    "DOCKER-USER emptied": Damage(
        "iptables -w 5 -F DOCKER-USER", f"rules for {BRIDGE} were missing from DOCKER-USER"
    ),
    "bridge table deleted": Damage(f"nft delete table bridge {TABLE}", "bridge table"),
    "bridge chain emptied": Damage(f"nft flush chain bridge {TABLE} from_task", "bridge table"),
    "bridge hook deleted": Damage(f"nft flush chain bridge {TABLE} frames", "bridge table"),
    "addresses of tasks removed": Damage(
        f"nft flush set bridge {TABLE} {bridge_port_rules.PORTS_SET}", "addresses of tasks"
    ),
}


@pytest.fixture
async def guarded(host: Host, lost: dict[str, str]) -> AsyncIterator[TaskNetworks]:
    """Networks that guard themselves, and look by the clock only once a minute."""
    networks = await host.networks(check_interval_s=60.0)
    async with guarding(networks, lost):
        yield networks


@pytest.fixture
def lost() -> dict[str, str]:
    """Tasks whose network was lost, and why."""
    return {}


@contextlib.asynccontextmanager
async def guarding(
    networks: TaskNetworks, lost: dict[str, str] | None = None
) -> AsyncIterator[None]:
    told: dict[str, str] = {} if lost is None else lost
    run = asyncio.create_task(networks.run(on_lost=told.__setitem__))
    await asyncio.sleep(0.5)  # what was made at the start has been told of
    try:
        yield
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


async def repaired(networks: TaskNetworks, command: str) -> float:
    """Break something; return the seconds from the command's start until it was put right."""
    before = networks.repairs
    began = time.monotonic()
    done = await asyncio.to_thread(
        subprocess.run, command.split(), capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    async with asyncio.timeout(10):
        while networks.repairs == before:  # noqa: ASYNC110 - no event in the test's reach
            await asyncio.sleep(0.005)
    return time.monotonic() - began


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - no event in the test's reach
            await asyncio.sleep(0.02)


async def answers(network: TaskNetwork) -> bool:
    """Tell whether the task's address answers; a link that just came up may lose first packets."""
    ping = ("busybox", "ping", "-c", "1", "-W", "1", network.ipv4)
    for _ in range(5):
        done = await asyncio.to_thread(subprocess.run, ping, capture_output=True, check=False)
        if done.returncode == 0:
            return True
    return False


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_it_is_put_right_at_once_and_told_once(guarded: TaskNetworks, damage: Damage) -> None:
    one = await guarded.claim("a", "eni-1")
    two = await guarded.claim("b", "eni-2")
    whole = await asyncio.to_thread(state)
    with capture_logs() as logs:
        took_s = await repaired(guarded, damage.command.replace("LINK", one.host_interface))
        await asyncio.sleep(0.5)  # whatever our own repair makes the kernel tell
    assert took_s < 5
    (line,) = [line for line in logs if line["event"] == PUT_RIGHT]
    assert damage.found.replace("LINK", one.host_interface) in line["found"]
    assert line["noticed"] == "at once"
    assert await asyncio.to_thread(state) == whole
    assert await answers(one)
    assert await answers(two)
    assert guarded.problems == []


async def test_a_link_that_comes_up_leads_tasks_out_by_itself(guarded: TaskNetworks) -> None:
    """A VPN that is there after the agent; that does no damage, and nothing is said about it."""
    await guarded.claim("a", "eni-1")
    listed = ("iptables", "-w", "5", "-S", "DOCKER-USER")
    assert "ecst-vpn0" not in await asyncio.to_thread(sh, *listed)
    await asyncio.to_thread(
        sh, "ip", "link", "add", "ecst-vpn0", "type", "veth", "peer", "ecst-vpn1"
    )
    try:
        await asyncio.to_thread(sh, "ip", "addr", "add", "198.51.100.9/32", "dev", "ecst-vpn0")
        await asyncio.to_thread(sh, "ip", "link", "set", "ecst-vpn0", "up")
        members = ("nft", "list", "set", "inet", TABLE, firewall.OUTSIDE_SET)
        rules = outside = ""
        async with asyncio.timeout(10):  # both are changed side by side
            while f"-i {BRIDGE} -o ecst-vpn0 " not in rules or "ecst-vpn0" not in outside:
                rules = await asyncio.to_thread(sh, *listed)
                outside = await asyncio.to_thread(sh, *members)
        assert "ecst-vpn1" not in rules
        assert guarded.repairs == []
    finally:
        await asyncio.to_thread(sh, "ip", "link", "del", "ecst-vpn0")


async def test_all_rules_of_the_host_flushed(guarded: TaskNetworks) -> None:
    """Docker's chain is gone with the rest and is Docker's to make; ours are there again."""
    await guarded.claim("a", "eni-1")
    saved = await asyncio.to_thread(sh, "iptables-save")
    whole = await asyncio.to_thread(state)
    try:
        assert await repaired(guarded, "nft flush ruleset") < 5
        assert (await asyncio.to_thread(state))["table"] == whole["table"]
        await until(lambda: guarded.problems)
        assert "restart Docker" in guarded.problems[0]
    finally:
        await asyncio.to_thread(
            subprocess.run, ["iptables-restore"], input=saved, text=True, check=True, timeout=20
        )
    await until(lambda: not guarded.problems)


@pytest.mark.parametrize("flush", ["iptables -w 5 -F", "iptables -w 5 -F FORWARD"])
async def test_the_rules_that_lead_to_ours_flushed(guarded: TaskNetworks, flush: str) -> None:
    """Docker drops what nobody accepts: without the jump to its chain no task has a way out."""
    await guarded.claim("a", "eni-1")
    saved = await asyncio.to_thread(sh, "iptables-save")
    whole = await asyncio.to_thread(state)
    assert whole["jump"]
    try:
        with capture_logs() as logs:
            assert await repaired(guarded, flush) < 5
            await asyncio.sleep(0.3)
        told = [line["found"] for line in logs if line["event"] == PUT_RIGHT]
        assert any("FORWARD no longer jumped to DOCKER-USER" in found for found in told)
        assert await asyncio.to_thread(state) == whole
        assert "restart Docker" in guarded.problems[0]
    finally:
        await asyncio.to_thread(
            subprocess.run, ["iptables-restore"], input=saved, text=True, check=True, timeout=20
        )
    await until(lambda: not guarded.problems)


async def test_many_links_at_once_are_one_line(guarded: TaskNetworks) -> None:
    held = [await guarded.claim(str(n), f"eni-{n}") for n in range(8)]
    whole = await asyncio.to_thread(state)

    def cut(how: str) -> None:
        for network in held:
            sh("ip", "link", *how.replace("LINK", network.host_interface).split())

    with capture_logs() as logs:
        await asyncio.to_thread(cut, "set LINK down")
        await asyncio.to_thread(cut, "del LINK")
        async with asyncio.timeout(10):
            while await asyncio.to_thread(state) != whole:  # noqa: ASYNC110 - the kernel's state
                await asyncio.sleep(0.05)
    lines = [line for line in logs if line["event"] == PUT_RIGHT]
    assert 1 <= len(lines) < len(held)
    assert all([await answers(network) for network in held])


async def test_a_link_that_cannot_be_made_ends_its_task_with_the_reason(
    guarded: TaskNetworks, lost: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody inside has put another interface in the place of the task's own."""
    monkeypatch.setattr(link_repair, "GIVE_UP_S", 0.5)
    one = await guarded.claim("a", "eni-1")
    two = await guarded.claim("b", "eni-2")
    enter = ["nsenter", "-t", str(one.sandbox_pid), "-n", "ip", "-batch", "-"]
    taken = "link del eth0\nlink add other0 index 100 type veth peer other1\n"
    await asyncio.to_thread(subprocess.run, enter, input=taken, text=True, check=True, timeout=20)
    async with asyncio.timeout(10):
        while not lost:  # noqa: ASYNC110 - no event in the test's reach
            await asyncio.sleep(0.05)
    assert list(lost) == ["a"]
    assert f"link {one.host_interface} was deleted and cannot be recreated" in lost["a"]
    assert await answers(two)


async def test_what_a_task_does_inside_is_its_own_affair(guarded: TaskNetworks) -> None:
    one = await guarded.claim("a", "eni-1")
    enter = ("nsenter", "-t", str(one.sandbox_pid), "-n")
    await asyncio.to_thread(sh, *enter, "ip", "link", "set", "eth0", "down")
    await asyncio.sleep(0.5)
    assert guarded.repairs == []
    assert "UP" not in await asyncio.to_thread(
        sh, *enter, "ip", "link", "show", "up", "dev", "eth0"
    )
    # Without its link, it may be the host who cut it off: that is made anew, whoever it was.
    assert await repaired(guarded, f"{' '.join(enter)} ip link del eth0") < 5
    assert await answers(one)


async def test_launches_and_ends_of_tasks_are_no_damage(guarded: TaskNetworks) -> None:
    """What the agent itself changes is told by the kernel too, and must not make it look."""
    looked: list[Part] = []
    upkeep = guarded._upkeep
    look = upkeep._look

    async def counted(parts: Part) -> RepairResult:
        looked.append(parts)
        return await look(parts)

    upkeep._loop._look = counted
    for _ in range(2):
        await asyncio.gather(*(guarded.claim(str(n), f"eni-{n}") for n in range(20)))
        await asyncio.gather(*(guarded.release(str(n)) for n in range(20)))
    await asyncio.sleep(0.5)
    assert guarded.repairs == []
    assert len(looked) <= 4


async def test_links_and_rules_of_others_wake_nobody(guarded: TaskNetworks) -> None:
    """Every container that the engine starts makes links and rules: that must cost nothing."""
    looked: list[Part] = []

    def others() -> None:
        sh("ip", "link", "add", "ecst-other", "type", "bridge")
        sh("ip", "addr", "add", "10.218.99.1/24", "dev", "ecst-other")
        sh("ip", "link", "set", "ecst-other", "up")
        sh("ip", "link", "del", "ecst-other")
        sh("nft", "add", "table", "inet", "ecs_test_others")
        sh("nft", "delete", "table", "inet", "ecs_test_others")

    upkeep = guarded._upkeep
    look = upkeep._look

    async def counted(parts: Part) -> RepairResult:
        looked.append(parts)
        return await look(parts)

    upkeep._loop._look = counted
    await asyncio.to_thread(others)
    await asyncio.sleep(0.3)
    # A link that comes up may lead outside; to see that it does not costs a list of names.
    assert set(looked) <= {Part.OUTSIDE}
