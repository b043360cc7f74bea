"""Security groups with real packets between real sandboxes of one host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import NetworkFailure
from agent.model.security_groups import GroupRule, GroupUpdate, GroupUpdates, SecurityGroup
from agent.network.host.firewall import groups_table
from agent.network.kernel import namespaces
from agent.network.sandboxes.recovery import Holder
from tests.integration.network.conftest import SETTINGS
from tests.integration.network.drivers.site import HOST, OUTSIDE, ROUTER, Site, site
from tests.integration.network.drivers.test_drivers import CONNECT
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.model.task import TaskNetwork
    from agent.network.pool import TaskNetworks
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

TABLE = groups_table(SETTINGS.table)
SOON_S = 0.5
"""Longer than any packet takes on one host: what has not come by then was dropped."""
EVERYWHERE = GroupRule(id="sgr-out", protocol="-1", is_egress=True, cidr_ipv4="0.0.0.0/0")
HTTP = GroupRule(id="sgr-http", protocol="tcp", from_port=80, to_port=80, group="sg-clients")
TO_WEB = GroupRule(
    id="sgr-web", protocol="tcp", is_egress=True, from_port=80, to_port=81, group="sg-web"
)
INSIDE = GroupRule(id="sgr-in", protocol="-1", group="sg-default")
OUT_OF_DEFAULT = GroupRule(id="sgr-all", protocol="-1", is_egress=True, cidr_ipv4="0.0.0.0/0")
WEB = SecurityGroup(id="sg-web", rules=(HTTP, EVERYWHERE))
CLIENTS = SecurityGroup(id="sg-clients", rules=(TO_WEB,))
DEFAULT = SecurityGroup(id="sg-default", rules=(INSIDE, OUT_OF_DEFAULT), is_default=True)


def updates(*groups: SecurityGroup, full: bool = False) -> GroupUpdates:
    whole = [GroupUpdate(group=group, whole=True) for group in groups]
    return GroupUpdates(groups=whole, full=full)


class Task:
    """A task's namespace, and what its programs do there."""

    def __init__(self, network: TaskNetwork) -> None:
        self.address = network.ipv4
        self._pid = network.sandbox_pid

    def _inside(self, work: Callable[[], socket.socket]) -> socket.socket:
        netns = os.open(f"/proc/{self._pid}/ns/net", os.O_RDONLY)
        try:
            return namespaces.inside(netns, work)
        finally:
            os.close(netns)

    async def listening(self, port: int) -> socket.socket:
        create = partial(socket.create_server, (self.address, port))
        return await asyncio.to_thread(self._inside, create)

    async def connected(self, address: str, port: int) -> socket.socket | None:
        """Return a connection to an address, or None if packets there are dropped."""
        made = await asyncio.to_thread(self._inside, socket.socket)
        return await asyncio.to_thread(_connected, made, address, port)

    def asks(self, address: str, port: int) -> bool:
        """Return whether a closed port of an address answers, which takes a packet each way."""
        with self._inside(socket.socket) as made:
            made.settimeout(SOON_S)
            try:
                made.connect((address, port))
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                return False
        raise AssertionError(f"port {port} of {address} is open")


def _accepted(listener: socket.socket) -> socket.socket:
    """Return the newest connection of those that wait, of which the others have ended."""
    while True:
        made, _ = listener.accept()
        made.settimeout(0.1)
        try:
            if made.recv(1, socket.MSG_PEEK) == b"":
                made.close()
                continue
        except TimeoutError:
            pass
        return made


def _connected(made: socket.socket, address: str, port: int) -> socket.socket | None:
    made.settimeout(SOON_S)
    try:
        made.connect((address, port))
    except TimeoutError:
        made.close()
        return None
    return made


async def reaches(task: Task, target: Task, port: int) -> bool:
    connection = await task.connected(target.address, port)
    if connection is not None:
        connection.close()
    return connection is not None


async def host_reaches(target: Task, port: int) -> bool:
    made = await asyncio.to_thread(_connected, socket.socket(), target.address, port)
    if made is not None:
        made.close()
    return made is not None


async def rules() -> str:
    return await asyncio.to_thread(listed_rules)


def listed_rules() -> str:
    listed = subprocess.run(
        ["nft", "-s", "list", "table", "inet", TABLE], capture_output=True, text=True, check=False
    )
    return "\n".join(sorted(listed.stdout.splitlines()))  # objects have no order of their own


def nft(*arguments: str) -> None:
    subprocess.run(["nft", *arguments], check=True)


def counted(name: str) -> int:
    command = ["nft", "-j", "list", "counter", "inet", TABLE, name]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    (packets,) = (o["counter"]["packets"] for o in listed["nftables"] if "counter" in o)
    return int(packets)


async def claimed(networks: TaskNetworks, name: str, *groups: str) -> Task:
    return Task(await networks.claim(f"arn:aws:ecs:r:0:task/c/{name}", name, groups))


@pytest.fixture
async def networks(host: Host) -> AsyncIterator[TaskNetworks]:
    networks = await host.networks()
    await networks.take_groups(updates(WEB, CLIENTS, DEFAULT, full=True))
    upkeep = asyncio.create_task(networks.run(on_lost=lambda _arn, _why: None))
    yield networks
    upkeep.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await upkeep


async def test_what_rules_allow_passes_in_both_directions_and_nothing_else(
    networks: TaskNetworks,
) -> None:
    web = await claimed(networks, "web", "sg-web")
    client = await claimed(networks, "client", "sg-clients")
    stranger = await claimed(networks, "stranger", "sg-default")
    friend = await claimed(networks, "friend", "sg-default")
    with (
        await web.listening(80),
        await web.listening(81),
        await stranger.listening(80),
        await client.listening(80),
    ):
        assert await reaches(client, web, 80)  # by a group that the rules of both ends name
        assert not await reaches(client, web, 81)  # allowed out, but not in
        assert not await reaches(
            stranger, web, 80
        )  # allowed out; the source is not in the named group
        assert not await reaches(client, stranger, 80)  # not allowed out
        assert not await reaches(web, client, 80)  # the other way round
        assert await reaches(friend, stranger, 80)  # the default group lets its members in
        assert await host_reaches(stranger, 80)  # and the host
        assert not await host_reaches(web, 80)
    assert await asyncio.to_thread(counted, "sgr-http") == 1
    assert await asyncio.to_thread(counted, "dropped-in") > 0
    assert await asyncio.to_thread(counted, "dropped-out") > 0


async def test_the_driver_routed_filters_in_both_directions(host: Host) -> None:
    """Between tasks, towards the host, and towards another machine, which has no masquerading before it."""
    with site() as wire:
        wire.at_router("ip", "route", "add", "192.0.3.0/28", "via", HOST)
        networks = await host.networks(driver="routed", pool_cidr="192.0.3.0/28")
        outside = GroupRule(
            id="sgr-lan", protocol="tcp", from_port=81, to_port=81, cidr_ipv4=f"{ROUTER}/32"
        )
        web_rules = SecurityGroup(id="sg-web", rules=(HTTP, outside))
        await networks.take_groups(updates(web_rules, CLIENTS, DEFAULT, full=True))
        web = await claimed(networks, "web", "sg-web")
        client = await claimed(networks, "client", "sg-clients")
        stranger = await claimed(networks, "stranger", "sg-default")
        try:
            await _routed_is_filtered(networks, wire, web, client, stranger)
        finally:
            for name in ("web", "client", "stranger"):
                await networks.release(f"arn:aws:ecs:r:0:task/c/{name}")
            assert await rules() == ""
            await networks.remove_host_objects()


async def _routed_is_filtered(
    networks: TaskNetworks, wire: Site, web: Task, client: Task, stranger: Task
) -> None:
    async def from_router(target: Task, port: int) -> bool:
        said = await asyncio.to_thread(
            wire.at_router, sys.executable, "-c", CONNECT, target.address, str(port)
        )
        return said.strip() == "open"

    with (
        await web.listening(80) as listener,
        await web.listening(81),
        await stranger.listening(80),
    ):
        assert await reaches(client, web, 80)
        assert not await reaches(client, web, 81)
        assert not await reaches(stranger, web, 80)
        assert not await reaches(client, stranger, 80)
        assert await host_reaches(stranger, 80)  # the host is in the default group
        assert not await host_reaches(web, 80)
        assert await from_router(web, 81)
        assert not await from_router(web, 80)
        assert not await from_router(stranger, 80)
        for task, expected in ((stranger, True), (client, False), (web, False)):  # who may send out
            sent = await asyncio.to_thread(task.asks, OUTSIDE, 9)
            assert sent is expected, task.address
        living = await client.connected(web.address, 80)
        assert living is not None
        served = await asyncio.to_thread(_accepted, listener)
        await networks.take_groups(updates(SecurityGroup(id="sg-web")))
        assert not await reaches(client, web, 80)
        served.settimeout(SOON_S)
        living.sendall(b"still here")
        assert await asyncio.to_thread(served.recv, 64) == b"still here"
        served.close()
        living.close()


async def test_a_connection_outlives_its_rule_and_new_ones_are_dropped(
    networks: TaskNetworks,
) -> None:
    web = await claimed(networks, "web", "sg-web")
    client = await claimed(networks, "client", "sg-clients")
    with await web.listening(80) as listener:
        living = await client.connected(web.address, 80)
        assert living is not None
        served, _ = await asyncio.to_thread(listener.accept)
        await networks.take_groups(updates(SecurityGroup(id="sg-web", rules=(EVERYWHERE,))))
        assert not await reaches(client, web, 80)
        served.settimeout(SOON_S)
        for sender, receiver in ((living, served), (served, living)):
            sender.sendall(b"still here")
            assert await asyncio.to_thread(receiver.recv, 64) == b"still here"
        await networks.take_groups(updates(WEB))
        assert await reaches(client, web, 80)
        served.close()
        living.close()


async def test_members_on_other_hosts_and_ranges_count_from_one_update_to_the_next(
    networks: TaskNetworks,
) -> None:
    web = await claimed(networks, "web", "sg-web")
    plain = await claimed(networks, "plain")
    with await web.listening(80):
        assert not await reaches(plain, web, 80)
        # For this host, a task that it gave no groups is like one of another host.
        joined = SecurityGroup(id="sg-clients", rules=(TO_WEB,), members=frozenset({plain.address}))
        await networks.take_groups(GroupUpdates(groups=[GroupUpdate(group=joined)]))
        assert await reaches(plain, web, 80)
        left = GroupUpdate(group=CLIENTS, left=frozenset({plain.address}))
        await networks.take_groups(GroupUpdates(groups=[left]))
        assert not await reaches(plain, web, 80)
        ranged = GroupRule(
            id="sgr-cidr", protocol="tcp", from_port=79, to_port=81, cidr_ipv4=SETTINGS.pool_cidr
        )
        await networks.take_groups(updates(SecurityGroup(id="sg-web", rules=(ranged, EVERYWHERE))))
        assert await reaches(plain, web, 80)


async def test_rules_stay_over_a_restart_and_are_repaired_and_removed(host: Host) -> None:
    networks = await host.networks()
    await networks.take_groups(updates(WEB, CLIENTS, DEFAULT, full=True))
    web = await claimed(networks, "web", "sg-web")
    stranger = await claimed(networks, "stranger", "sg-default")
    before = await rules()
    networks = await host.networks()  # control has said nothing to this process yet
    assert await rules() == before
    for table in (TABLE, SETTINGS.table):  # not the ruleset, where Docker's own rules are, too
        await asyncio.to_thread(nft, "delete", "table", "inet", table)
    switch = Path(f"/sys/class/net/{SETTINGS.bridge}/bridge/nf_call_iptables")
    await asyncio.to_thread(switch.write_text, "0", encoding="ascii")
    await networks.reassert()
    assert await rules() == before
    assert (await asyncio.to_thread(switch.read_text, encoding="ascii")).strip() == "1"
    with await web.listening(80):
        assert not await reaches(stranger, web, 80)
    await networks.release("arn:aws:ecs:r:0:task/c/web")
    assert web.address not in await rules()
    await networks.release("arn:aws:ecs:r:0:task/c/stranger")
    assert await rules() == ""


@pytest.mark.parametrize("flushed", [False, True], ids=["alone", "and the table"])
async def test_lost_state_opens_no_task_before_control_has_said_what_is_allowed(
    host: Host, flushed: bool
) -> None:
    """The kernel's rules stay as they were; without them, a task that is taken over is closed."""
    networks = await host.networks()
    await networks.take_groups(updates(WEB, CLIENTS, DEFAULT, full=True))
    names = {"web": "sg-web", "client": "sg-clients", "stranger": "sg-default"}
    held = {
        n: await networks.claim(f"arn:aws:ecs:r:0:task/c/{n}", n, [g]) for n, g in names.items()
    }
    web, client, stranger = (Task(held[name]) for name in names)
    before = await rules()
    await host.lose_state()
    if flushed:
        await asyncio.to_thread(nft, "delete", "table", "inet", TABLE)
    holders = {held[n].sandbox_id: Holder(f"arn:aws:ecs:r:0:task/c/{n}", n) for n in names}
    networks = await host.networks(holders)
    await networks.reassert()
    with await web.listening(80):
        assert (await rules() == before) is not flushed
        assert await reaches(client, web, 80) is not flushed
        assert not await reaches(stranger, web, 80)
        await networks.take_groups(updates(WEB, CLIENTS, DEFAULT, full=True))
        assert not await reaches(stranger, web, 80)
        for name, group in names.items():
            await claimed(networks, name, group)
        assert await reaches(client, web, 80)
        assert not await reaches(stranger, web, 80)
    assert await rules() == before
    networks = await host.networks()  # and they are in the rows again
    assert await rules() == before
    for name in names:
        await networks.release(f"arn:aws:ecs:r:0:task/c/{name}")
    assert await rules() == ""


async def test_a_task_without_groups_is_open_again_once_its_order_is_here(host: Host) -> None:
    """As control before it had groups gave them."""
    networks = await host.networks()
    one = await networks.claim("arn:aws:ecs:r:0:task/c/one", "one")
    assert await rules() == ""
    await host.lose_state()
    networks = await host.networks({one.sandbox_id: Holder("arn:aws:ecs:r:0:task/c/one", "one")})
    with await Task(one).listening(80):
        assert not await host_reaches(Task(one), 80)
        await claimed(networks, "one")
        assert await host_reaches(Task(one), 80)
    assert await rules() == ""
    await networks.release("arn:aws:ecs:r:0:task/c/one")


async def test_a_flushed_table_is_noticed_by_the_kernels_news(networks: TaskNetworks) -> None:
    await claimed(networks, "web", "sg-web")
    before = await rules()
    assert before
    await asyncio.to_thread(nft, "delete", "table", "inet", TABLE)
    await asyncio.to_thread(eventually, lambda: listed_rules() == before)


async def test_where_nothing_can_be_filtered_only_tasks_without_a_named_group_run(
    networks: TaskNetworks,
) -> None:
    networks.filters_tasks = False  # as on a kernel without br_netfilter
    await claimed(networks, "stranger", "sg-default")
    assert await rules() == ""
    with pytest.raises(NetworkFailure, match="cannot enforce the security groups sg-web;"):
        await claimed(networks, "web", "sg-default", "sg-web")
    with pytest.raises(NetworkFailure, match="sg-unknown"):
        await claimed(networks, "other", "sg-unknown")
