"""Claims, releases, and what happens when pieces die, vanish or were left by an earlier process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.errors import EngineUnavailable, NetworkFailure, StateFailure
from agent.network import addresses, sandbox_record
from agent.network.sandboxes.recovery import Holder
from agent.network.sandboxes.sandbox import SANDBOX_LABEL
from agent.state import Batch
from tests.integration.network.conftest import SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.network.pool import TaskNetworks
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

ENI = "eni-1"


async def until(check: Callable[[], object], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not check():  # noqa: ASYNC110 - some of what is waited for is the kernel's
            await asyncio.sleep(0.01)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


@contextlib.asynccontextmanager
async def running(networks: TaskNetworks) -> AsyncIterator[list[tuple[str, str]]]:
    """Run networks; the list has who was told of a loss, and why."""
    lost: list[tuple[str, str]] = []
    run = asyncio.create_task(networks.run(on_lost=lambda arn, why: lost.append((arn, why))))
    try:
        yield lost
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


def links() -> dict[str, str]:
    """Names of our links, with their bridge."""
    listed = json.loads(ip("-j", "link"))
    return {
        link["ifname"]: link.get("master", "")
        for link in listed
        if (addresses.address_of_link(link["ifname"]) or "").startswith("10.218.77.")
    }


async def sandbox_ids(host: Host) -> set[str]:
    listed = await host.engine.list_containers(labels={SANDBOX_LABEL: SETTINGS.owner})
    return {summary.id for summary in listed}


async def rows(host: Host) -> dict[str, sandbox_record.SandboxRecord]:
    return await host.store.load(sandbox_record.KIND, sandbox_record.decode)


async def assert_empty(host: Host) -> None:
    assert links() == {}
    assert await sandbox_ids(host) == set()
    assert await rows(host) == {}


async def test_the_same_task_gets_the_same_answer_and_release_leaves_nothing(host: Host) -> None:
    networks = await host.networks()
    first, again = await asyncio.gather(networks.claim("a", ENI), networks.claim("a", ENI))
    assert first == again == await networks.claim("a", ENI)
    assert networks.networks() == {"a": first}
    assert links() == {first.host_interface: SETTINGS.bridge}
    assert (await rows(host))[first.ipv4].task_arn == "a"
    await asyncio.gather(networks.release("a"), networks.release("a"))
    await networks.release("a")
    await networks.release("never claimed")
    await assert_empty(host)
    other = await networks.claim("a", ENI)
    assert other.ipv4 != first.ipv4


async def test_a_warm_claim_takes_what_is_ready_and_the_pool_fills_up_again(host: Host) -> None:
    networks = await host.networks(warm_sandboxes=2)
    async with running(networks):
        await until(lambda: networks.warm == 2)
        before = await sandbox_ids(host)
        one, two = await asyncio.gather(networks.claim("a", ENI), networks.claim("b", ENI))
        assert {one.sandbox_id, two.sandbox_id} == before
        await until(lambda: networks.warm == 2)
        assert networks.problems == []


async def test_a_release_that_comes_during_the_claim_undoes_it(host: Host) -> None:
    networks = await host.networks()
    claim = asyncio.create_task(networks.claim("a", ENI))
    await asyncio.sleep(0.05)
    claim.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await claim
    await networks.release("a")
    await assert_empty(host)


async def test_release_survives_missing_pieces(host: Host) -> None:
    networks = await host.networks()
    one = await networks.claim("a", ENI)
    two = await networks.claim("b", ENI)
    ip("link", "del", one.host_interface)
    await host.engine.remove_container(two.sandbox_id, force=True)
    await asyncio.gather(networks.release("a"), networks.release("b"))
    await assert_empty(host)


async def test_many_links_are_removed_together(host: Host) -> None:
    networks = await host.networks()
    await asyncio.gather(*(networks.claim(str(n), ENI) for n in range(4)))
    assert len(links()) == 4
    await networks.reconcile(["2"])
    assert list(networks.networks()) == ["2"]
    assert list(links()) == [networks.networks()["2"].host_interface]


async def test_a_claim_that_cannot_be_written_gives_the_sandbox_back(host: Host) -> None:
    networks = await host.networks()
    await host.store.close()
    with pytest.raises(StateFailure):
        await networks.claim("a", ENI)
    assert networks.networks() == {}
    assert networks.warm == 1


async def test_the_death_of_a_sandbox_is_told_at_once(host: Host) -> None:
    networks = await host.networks()
    async with running(networks) as lost:
        network = await networks.claim("a", ENI)
        os.kill(network.sandbox_pid, signal.SIGKILL)
        await until(lambda: lost == [("a", "the task's network sandbox stopped")])
    assert networks.lost() == {"a"}
    with pytest.raises(NetworkFailure, match="has died"):
        await networks.claim("a", ENI)
    await networks.release("a")
    assert networks.lost() == frozenset()
    await assert_empty(host)


async def test_a_warm_sandbox_that_dies_is_replaced(host: Host) -> None:
    networks = await host.networks(warm_sandboxes=1)
    async with running(networks):
        await until(lambda: networks.warm == 1)
        (before,) = (await rows(host)).values()
        os.kill(before.pid, signal.SIGKILL)
        await until(lambda: networks.warm == 0)
        await until(lambda: networks.warm == 1)
        await until(lambda: before.host_interface not in links())
        network = await networks.claim("a", ENI)
        assert network.ipv4 != before.ipv4


async def test_a_new_process_takes_over(host: Host) -> None:
    networks = await host.networks(warm_sandboxes=1)
    kept = await networks.claim("kept", ENI)
    dies = await networks.claim("dies", ENI)
    vanishes = await networks.claim("vanishes", ENI)
    async with running(networks):
        await until(lambda: networks.warm == 1)
    (spare,) = [row for row in (await rows(host)).values() if not row.task_arn]
    await host.leave()

    os.kill(dies.sandbox_pid, signal.SIGKILL)
    await host.engine.remove_container(vanishes.sandbox_id, force=True)
    stray = await host.engine.create_container(
        "ecs-sandbox-stray",
        {"Image": host.image, "Labels": {SANDBOX_LABEL: SETTINGS.owner}},
    )
    stray_link = addresses.link_name_of("10.218.77.60")
    ip("link", "add", stray_link, "type", "veth")

    networks = await host.networks()
    assert await networks.claim("kept", "another id") == kept
    assert networks.lost() == {"dies", "vanishes"}
    assert networks.warm == 1
    assert (await networks.claim("next", ENI)).sandbox_id == spare.container_id
    assert stray in await sandbox_ids(host)
    assert stray_link in links()
    await networks.reconcile(["kept", "dies", "vanishes", "next"])
    assert stray not in await sandbox_ids(host)
    assert stray_link not in links()
    fresh = await networks.claim("fresh", ENI)
    used = {kept.ipv4, dies.ipv4, vanishes.ipv4, spare.ipv4}
    assert fresh.ipv4 not in used
    await networks.reconcile(["kept"])
    assert set(links()) == {kept.host_interface}
    assert set(await rows(host)) == {kept.ipv4}


async def test_an_unclaimed_row_without_a_container_frees_its_address(host: Host) -> None:
    networks = await host.networks()
    network = await networks.claim("a", ENI)
    row = (await rows(host))[network.ipv4]
    await networks.release("a")
    batch = Batch()
    batch.put(sandbox_record.KIND, row.ipv4, sandbox_record.encode(row.claimed("", "", 0.0)))
    await host.store.commit(batch)
    networks = await host.networks()
    assert await rows(host), "nothing is removed before control has said what it wants"
    await networks.reconcile(())
    await assert_empty(host)


async def test_a_container_that_was_restarted_is_not_taken_for_the_sandbox(host: Host) -> None:
    networks = await host.networks()
    network = await networks.claim("a", ENI)
    await host.leave()
    await host.engine.stop_container(network.sandbox_id, timeout_s=2)
    await host.engine.start_container(network.sandbox_id)
    networks = await host.networks()
    assert networks.lost() == {"a"}


async def test_a_left_over_of_the_same_name_is_replaced(host: Host) -> None:
    await host.networks()
    networks = await host.networks()
    name = addresses.container_name_of("10.218.77.2")
    labels = {SANDBOX_LABEL: SETTINGS.owner}
    await host.engine.create_container(name, {"Image": host.image, "Labels": labels})
    ip("link", "add", addresses.link_name_of("10.218.77.2"), "type", "veth")
    assert (await networks.claim("a", ENI)).ipv4 == "10.218.77.2"


async def test_what_a_claim_has_left_in_an_engine_that_died_goes_with_the_network(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = await host.networks()

    async def away(*_: object, **__: object) -> None:
        raise EngineUnavailable("killed")

    with monkeypatch.context() as engine:
        for call in ("start_container", "stop_container", "remove_container"):
            engine.setattr(host.engine, call, away)
        with pytest.raises(EngineUnavailable):
            await networks.claim("a", ENI)
        assert len(await sandbox_ids(host)) == 1
        await networks.release("a")
        with pytest.raises(NetworkFailure, match="1 sandboxes could not be removed"):
            await networks.remove_host_objects()
    await networks.remove_host_objects()
    await assert_empty(host)


async def test_tasks_of_an_earlier_pool_keep_their_network(host: Host) -> None:
    networks = await host.networks(pool_cidr="10.218.77.64/26")
    old = await networks.claim("old", ENI)
    networks = await host.networks()
    assert await networks.claim("old", ENI) == old
    new = await networks.claim("new", ENI)
    shown = json.loads(ip("-j", "-4", "addr", "show", SETTINGS.bridge))
    assert {info["local"] for info in shown[0]["addr_info"]} == {old.gateway, new.gateway}
    await networks.release("old")
    await networks.reassert()
    await networks.reconcile([])


async def damage_rows(host: Host, damage: str) -> None:
    """Do to all rows what a damaged or older state file does."""
    batch = Batch()
    for ipv4, row in (await rows(host)).items():
        if damage == "lost":
            batch.delete(sandbox_record.KIND, ipv4)
        elif damage == "unreadable":
            batch.put(sandbox_record.KIND, ipv4, b'{"ipv4": ')
        elif damage == "older":
            batch.put(sandbox_record.KIND, ipv4, sandbox_record.encode(row.claimed("", "", 0.0)))
        else:
            wrong = msgspec.structs.replace(row, pid=1, netns=1)
            batch.put(sandbox_record.KIND, ipv4, sandbox_record.encode(wrong))
    await host.store.commit(batch)


@pytest.mark.parametrize("damage", ["lost", "unreadable", "older", "wrong process"])
async def test_rows_are_made_anew_from_engine_and_kernel(host: Host, damage: str) -> None:
    networks = await host.networks(warm_sandboxes=1)
    kept = await networks.claim("kept", ENI)
    unknown = await networks.claim("unknown to all but its container", ENI)
    async with running(networks):
        await until(lambda: networks.warm == 1)
    await damage_rows(host, damage)
    before = (await sandbox_ids(host), links())
    await host.leave()

    # What the engine's containers and the records tell.
    holders = {
        kept.sandbox_id: Holder("kept", ENI),
        unknown.sandbox_id: Holder("unknown to all but its container"),
    }
    networks = await host.networks(holders)
    assert (await sandbox_ids(host), links()) == before, "nothing is removed"
    assert networks.networks()["kept"] == kept
    assert await networks.claim("unknown to all but its container", ENI) == unknown
    assert networks.lost() == frozenset()
    assert networks.warm == 1
    fresh = await networks.claim("fresh", ENI)
    assert fresh.ipv4 not in {kept.ipv4, unknown.ipv4}
    assert {row.task_arn for row in (await rows(host)).values()} >= {"kept", "fresh"}
    await networks.reconcile(["kept", "fresh"])
    assert set(networks.networks()) == {"kept", "fresh"}
    assert links().keys() == {kept.host_interface, fresh.host_interface}


@pytest.mark.parametrize(
    "damage",
    [
        ("address", "flush", "dev", "eth0"),
        ("route", "delete", "default"),
        ("link", "set", "eth0", "down"),
        ("link", "delete", "eth0"),
        ("link", "set", "eth0", "address", "0a:58:00:00:00:01"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
async def test_what_a_namespace_lacks_after_a_restart_is_made_anew(
    host: Host, damage: tuple[str, ...]
) -> None:
    networks = await host.networks()
    network = await networks.claim("a", ENI)
    await host.leave()
    inside = ("nsenter", "-t", str(network.sandbox_pid), "-n", "ip")
    assert command(*inside, *damage).returncode == 0

    networks = await host.networks()
    async with running(networks):
        ping = [*inside[:-1], "busybox", "ping", "-c1", "-W1", network.gateway]
        show = [*inside, "-j", "addr", "show", "eth0"]
        # The link may answer before it is replaced: the first try to create it sets up the one there.
        await until(lambda: network.host_interface in str(networks.repairs))
        await until(lambda: network.mac in command(*show).stdout and command(*ping).returncode == 0)
    assert networks.networks() == {"a": network}
    (link,) = json.loads(command(*show).stdout)
    assert [a["local"] for a in link["addr_info"] if a["family"] == "inet"] == [network.ipv4]


async def test_an_address_whose_name_somebody_else_took_is_passed_over(
    host: Host, pause_image: str
) -> None:
    """A claim does not wait for a person to remove a container that is not this agent's."""
    networks = await host.networks()
    taken = ["10.218.77.2", "10.218.77.3"]
    theirs = [
        await host.engine.create_container(
            addresses.container_name_of(ipv4),
            {"Image": pause_image, "Labels": {SANDBOX_LABEL: "another agent"}},
        )
        for ipv4 in taken
    ]
    try:
        async with running(networks):
            network = await networks.claim("arn:task/a", ENI)
            assert network.ipv4 not in taken
            await networks.release("arn:task/a")
        for container_id in theirs:
            assert (await host.engine.inspect_container(container_id)).id == container_id
    finally:
        for container_id in theirs:
            await host.engine.remove_container(container_id, force=True)


async def test_a_task_that_comes_while_leftovers_are_removed_keeps_its_network(host: Host) -> None:
    await host.networks()
    stray_link = addresses.link_name_of("10.218.77.60")
    ip("link", "add", stray_link, "type", "veth")
    networks = await host.networks()
    clearing = asyncio.create_task(networks.reconcile([]))
    await asyncio.sleep(0)
    network = await networks.claim("a", ENI)
    await clearing
    assert stray_link not in links()
    assert networks.networks() == {"a": network}
