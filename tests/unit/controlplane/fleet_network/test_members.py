"""Hosts get ranges when they register, over the real wire, and others learn of it at once."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.controlplane.fleet_network.ranges import RangePlan
from agent.model.fleet import ROUTES, WIREGUARD, FleetHost, FleetPeer, FleetUpdate
from agent.model.wire import ErrorBody, Register
from tests.support.control_endpoint import Endpoint, ScriptedAgent, control_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOLD_S = 5
"""How long a poll of these agents is held if there is no news."""
KEY = "A" * 43 + "="
PLAN = RangePlan.parse("10.208.0.0/22", 24)
DUAL = RangePlan.parse("10.208.0.0/22", 24, "fd00:208::/48")
ALONE = RangePlan.parse("", 24, "fd00:208::/48")


def host(number: int, **more: Any) -> FleetHost:
    return FleetHost(**({"driver": ROUTES, "address": f"192.0.2.{number}"} | more))


async def joined(endpoint: Endpoint, number: int, **more: Any) -> tuple[ScriptedAgent, FleetUpdate]:
    agent = ScriptedAgent(endpoint, fleet=host(number, **more))
    await agent.register()
    return agent, await told(agent, after=0)


async def hears(agent: ScriptedAgent, wanted: Callable[[FleetUpdate], bool]) -> FleetUpdate:
    """Poll until there is news; what came just before may come once more."""
    while True:
        update = await told(agent)
        if wanted(update):
            return update


async def told(agent: ScriptedAgent, after: int | None = None) -> FleetUpdate:
    answer = await agent.poll(after=after, wait_s=HOLD_S)
    assert answer is not None
    assert answer.fleet is not None
    return answer.fleet


async def refusal(endpoint: Endpoint, said: FleetHost) -> str:
    agent = ScriptedAgent(endpoint)
    status, body = await agent.send("POST", "/v1/instances", Register(**agent.info, fleet=said))
    assert status == 400
    return msgspec.json.decode(body, type=ErrorBody).message


async def test_hosts_come_change_and_leave(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        one, first = await joined(endpoint, 1)
        assert first == FleetUpdate(range="10.208.0.0/24", fleet_range="10.208.0.0/22", full=True)
        held = asyncio.create_task(hears(one, lambda update: bool(update.peers)))
        two, second = await joined(endpoint, 2)
        assert second.range == "10.208.1.0/24"
        assert [(p.id, p.host.range, p.host.address) for p in second.peers] == [
            (one.id, "10.208.0.0/24", "192.0.2.1")
        ]
        assert [peer.id for peer in (await held).peers] == [two.id]

        moved = [FleetPeer(id=two.id, host=host(22, range=second.range))]
        held = asyncio.create_task(hears(one, lambda update: update.peers == moved))
        await two.register(fleet=host(22))
        await held
        assert (await told(two, after=0)).range == "10.208.1.0/24"

        held = asyncio.create_task(hears(one, lambda update: bool(update.gone)))
        began = time.monotonic()
        status, _ = await two.send("DELETE", f"/v1/instances/{two.id}")
        assert status == 204
        assert (await held).gone == [two.id]
        assert time.monotonic() - began < HOLD_S, "it was told when the poll ended by itself"

        three, third = await joined(endpoint, 3)
        assert third.range == "10.208.2.0/24"  # that of the second rests for as long as possible
        await endpoint.call("DeregisterContainerInstance", containerInstance=three.arn, force=True)
        await hears(one, lambda update: update.gone == [three.id])


async def test_ranges_stay_over_a_restart_of_control(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        one, first = await joined(endpoint, 1)
        _, second = await joined(endpoint, 2)
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        again = ScriptedAgent(endpoint, **(one.info | {"client_token": "new", "fleet": host(1)}))
        await again.register(instance_arn=one.arn)
        assert (await told(again, after=0)).range == first.range
        assert (await joined(endpoint, 3))[1].range not in {first.range, second.range}


async def test_all_ranges_can_be_given_at_once_and_no_more(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        found = await asyncio.gather(*(joined(endpoint, number) for number in range(1, 5)))
        assert len({update.range for _, update in found}) == 4
        assert "no range is free: all 4 of 10.208.0.0/22" in await refusal(endpoint, host(9))
        gone = found[2][0]
        await gone.send("DELETE", f"/v1/instances/{gone.id}")
        assert (await joined(endpoint, 9))[1].range == found[2][1].range


async def test_a_host_that_has_a_range_gets_it_again_from_a_control_that_forgot_it(
    tmp_path: Path,
) -> None:
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        assert (await joined(endpoint, 1, range="10.208.3.0/24"))[1].range == "10.208.3.0/24"
        assert (await joined(endpoint, 2, range="10.208.3.0/24"))[1].range == "10.208.0.0/24"


async def test_a_host_that_takes_part_no_more_keeps_its_range_and_is_no_peer(
    tmp_path: Path,
) -> None:
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        one, _ = await joined(endpoint, 1)
        two, before = await joined(endpoint, 2)
        held = asyncio.create_task(hears(one, lambda update: update.gone == [two.id]))
        await two.register(fleet=None)
        await held
        answer = await two.poll(after=0)
        assert answer is not None
        assert answer.fleet is None
        await two.register()
        assert (await told(two, after=0)).range == before.range


async def test_a_fleet_gets_ipv6_and_hosts_keep_their_places(tmp_path: Path) -> None:
    able = {"has_ipv6": True, "ipv6_address": "2001:db8::2"}
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        old, _ = await joined(endpoint, 1)
        new, _ = await joined(endpoint, 2, **able)
    async with control_endpoint(tmp_path, fleet=DUAL) as endpoint:
        again = [ScriptedAgent(endpoint, **agent.info) for agent in (old, new)]
        for agent, before in zip(again, (old, new), strict=True):
            agent.arn, agent.generation = before.arn, before.generation
        # They need not register again.
        without, with_ipv6 = [await told(agent, after=0) for agent in again]
        assert (without.range, without.ipv6_range) == ("10.208.0.0/24", "")
        assert without.ipv6_fleet_range == "fd00:208::/48"
        assert (with_ipv6.range, with_ipv6.ipv6_range) == ("10.208.1.0/24", "fd00:208:0:1::/64")
        (peer,) = without.peers
        assert (peer.host.ipv6_range, peer.host.ipv6_address) == ("fd00:208:0:1::/64", "2001:db8::2")  # fmt: skip
        alone, third = await joined(endpoint, 3, **able | {"ipv6_only": True})
        assert third.ipv6_range == "fd00:208:0:2::/64"
        seen = await hears(again[0], lambda update: bool(update.peers))
        assert [(each.id, each.host.ipv6_only) for each in seen.peers] == [(alone.id, True)]


async def test_a_fleet_may_have_ipv6_alone_and_get_ipv4_later(tmp_path: Path) -> None:
    able = {"has_ipv6": True, "ipv6_address": "2001:db8::2"}
    async with control_endpoint(tmp_path, fleet=ALONE) as endpoint:
        said = host(1)
        assert "--fleet-ipv6-range alone" in await refusal(endpoint, said)
        await joined(endpoint, 2, **able)
        one, first = await joined(endpoint, 3, **able)
        assert (first.range, first.fleet_range) == ("", "")
        assert first.ipv6_range == "fd00:208:0:1::/64"
        (peer,) = first.peers
        assert (peer.host.range, peer.host.ipv6_range) == ("", "fd00:208::/64")
    async with control_endpoint(tmp_path, fleet=DUAL) as endpoint:
        again = ScriptedAgent(
            endpoint,
            **(one.info | {"client_token": "new", "fleet": host(3, **able)}),
        )
        await again.register(instance_arn=one.arn)
        update = await told(again, after=0)
        assert (update.range, update.ipv6_range) == ("10.208.1.0/24", first.ipv6_range)
        assert (await joined(endpoint, 4))[1].range == "10.208.2.0/24"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"ipv6_only": True, "has_ipv6": True}, "start it with --fleet-ipv6-range"),
        ({"has_ipv6": True, "ipv6_address": "here"}, "not an IPv6 address"),
        ({"driver": "carrier-pigeon"}, "does not know the fleet network 'carrier-pigeon'"),
        ({"address": ""}, "set ECS_HOST_ADDRESS"),
        ({"address": "localhost"}, "set ECS_HOST_ADDRESS"),
        ({"address": "127.0.0.1"}, "set ECS_HOST_ADDRESS"),
        ({"address": "10.208.1.1"}, "--fleet-range"),
        ({"address": "2001:db8::1"}, "needs an IPv4 address"),
        ({"driver": WIREGUARD, "port": 1}, "no public key"),
        ({"driver": WIREGUARD, "port": 1, "public_key": "AAAA"}, "no public key"),
        ({"driver": WIREGUARD, "public_key": KEY}, "no port"),
    ],
)
async def test_what_cannot_be_is_refused(tmp_path: Path, said: dict[str, str], says: str) -> None:
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        assert says in await refusal(endpoint, host(1, **said))


async def test_without_a_network_nobody_takes_part(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        assert "--fleet-range" in await refusal(endpoint, host(1))
        agent = ScriptedAgent(endpoint)
        await agent.register()
        answer = await agent.poll(after=0)
        assert answer is not None
        assert answer.fleet is None


async def test_a_public_key_reaches_the_others_and_is_that_of_one_host(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        told_key = {"driver": WIREGUARD, "port": 51820, "public_key": KEY}
        one, _ = await joined(endpoint, 1, **told_key)
        assert "another host has the same WireGuard key" in await refusal(
            endpoint, host(2, **told_key)
        )
        two, seen = await joined(endpoint, 2, **(told_key | {"public_key": "B" * 43 + "="}))
        assert [(peer.host.public_key, peer.host.port) for peer in seen.peers] == [(KEY, 51820)]
        new = "C" * 43 + "="
        held = asyncio.create_task(told(two))
        await one.register(fleet=host(1, **(told_key | {"public_key": new})))
        (peer,) = (await held).peers
        assert (peer.id, peer.host.public_key) == (one.id, new)

        # The old key, and that of a host that left, are nobody's.
        await joined(endpoint, 3, **told_key)
        await two.send("DELETE", f"/v1/instances/{two.id}")
        await joined(endpoint, 4, **(told_key | {"public_key": "B" * 43 + "="}))


async def test_of_hosts_that_come_with_one_key_at_once_one_is_admitted(tmp_path: Path) -> None:
    said = {"driver": WIREGUARD, "port": 51820, "public_key": KEY}
    async with control_endpoint(tmp_path, fleet=PLAN) as endpoint:
        agents = [ScriptedAgent(endpoint) for _ in range(4)]
        answers = await asyncio.gather(
            *(
                agent.send(
                    "POST", "/v1/instances", Register(**agent.info, fleet=host(number, **said))
                )
                for number, agent in enumerate(agents, 1)
            )
        )
        assert sorted(status for status, _ in answers) == [200, 400, 400, 400]
