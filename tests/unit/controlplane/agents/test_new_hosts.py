"""Hosts that register for the first time where control asks for no token: few at once, few in all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.controlplane.agents import new_hosts
from agent.controlplane.agents.longpoll.errors import TooManyHosts
from agent.controlplane.agents.new_hosts import NewHosts, group_of
from agent.controlplane.parts import Parts
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import HostResources
from agent.model.wire import ErrorBody, Register
from tests.support.control_endpoint import (
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    control_endpoint,
    definition,
)
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent

if TYPE_CHECKING:
    from pathlib import Path


async def sham(endpoint: Endpoint, token: str) -> tuple[int, bytes]:
    """Register a host that does not exist."""
    agent = ScriptedAgent(endpoint)
    call = Register(
        cluster="default",
        client_token=token,
        resources=HostResources(cpu_units=4096, memory_mib=4096),
    )
    return await agent.send("POST", "/v1/instances", call)


async def count(endpoint: Endpoint) -> int:
    found: list[str] = []
    more: dict[str, Any] = {}
    while True:
        answer = await endpoint.call("ListContainerInstances", **more)
        found += answer["containerInstanceArns"]
        if not answer.get("nextToken"):
            return len(found)
        more = {"nextToken": answer["nextToken"]}


async def test_an_address_registers_so_many_new_hosts_and_is_told_why_no_more(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_hosts, "PER_S", 0.001)
    honest = ScriptedAgent(endpoint)
    await honest.register()
    answers = [await sham(endpoint, f"sham-{n}") for n in range(130)]
    refused = [body for status, body in answers if status == 429]
    taken = [body for status, body in answers if status == 200]
    assert len(taken) + len(refused) == len(answers)
    assert refused
    # One less than the burst, for the honest one was new too.
    assert len(taken) == new_hosts.BURST - 1
    error = msgspec.json.decode(refused[0], type=ErrorBody)
    assert error.code == "TooManyHosts"
    assert "127.0.0.1" in error.message
    assert "--token-file" in error.message
    # Those that are known go on, also with a new registration.
    await honest.register()
    assert await honest.poll(wait_s=0) is not None
    # By the other wire it is the same.
    with pytest.raises(ApiFailure, match="ThrottlingException"):
        await RawAgent(endpoint).register()


async def test_a_refused_host_is_told_when_to_try_again(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_hosts, "BURST", 2.0)
    monkeypatch.setattr(new_hosts, "PER_S", 0.1)
    agent = ScriptedAgent(endpoint)
    for n in range(3):
        call = Register(**(agent.info | {"client_token": f"t{n}"}))
        async with endpoint.session.post(
            f"{endpoint.url}/v1/instances", data=msgspec.json.encode(call)
        ) as answer:
            if answer.status == 429:
                assert 1 <= int(answer.headers["Retry-After"]) <= 10
                return
    raise AssertionError("never refused")


async def test_where_a_token_is_asked_for_there_is_no_limit(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = "token-of-the-fleet-0123456789"  # noqa: S105 - of tests
    file.write_text(token)
    file.chmod(0o600)
    async with control_endpoint(tmp_path / "data", token_file=file) as endpoint:
        agents = [ScriptedAgent(endpoint, token=token) for _ in range(120)]
        for agent in agents:
            await agent.register()
        assert await count(endpoint) == 120


async def test_unheard_hosts_are_limited_in_all_also_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_hosts, "UNHEARD_MOST", 5)
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        first = ScriptedAgent(endpoint)
        await first.register()
        assert [(await sham(endpoint, str(n)))[0] for n in range(6)] == [*[200] * 4, 429, 429]
    async with control_endpoint(tmp_path) as endpoint:
        status, body = await sham(endpoint, "more")
        assert status == 429
        assert b"made no call since" in body
        # The one that exists calls, and leaves its place to another.
        first._endpoint = endpoint
        await first.poll(wait_s=0)
        assert (await sham(endpoint, "one"))[0] == 200
        assert (await sham(endpoint, "two"))[0] == 429


async def test_a_host_that_opens_a_websocket_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_hosts, "UNHEARD_MOST", 1)
    async with control_endpoint(tmp_path) as endpoint:
        agent = RawAgent(endpoint)
        await agent.register()
        assert (await sham(endpoint, "one"))[0] == 429
        async with agent.acs() as session:
            await session.settled()
        assert (await sham(endpoint, "one"))[0] == 200


async def test_silent_hosts_are_taken_out_when_others_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_hosts, "UNHEARD_MOST", 3)
    monkeypatch.setattr(new_hosts, "PATIENCE_S", 0.5)
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("RegisterTaskDefinition", **definition())
        assert (await sham(endpoint, "with a task"))[0] == 200
        answer = await endpoint.call("RunTask", taskDefinition="web")
        assert len(answer["tasks"]) == 1
        assert [(await sham(endpoint, str(n)))[0] for n in range(3)] == [200, 200, 429]
        await asyncio.sleep(0.6)
        assert [(await sham(endpoint, f"new {n}"))[0] for n in range(3)] == [200, 200, 429]
        # The host with a task stays, two were taken out for two new ones.
        assert await count(endpoint) == 3
        task = await endpoint.task(answer["tasks"][0]["taskArn"])
        assert task["desiredStatus"] == "RUNNING"


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("x" * 1000, "x" * 64),
    ],
)
def test_what_counts_as_one_address(address: str, group: str) -> None:
    assert group_of(address) == group


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_what_an_address_may_comes_back_with_time_and_memory_stays_small(
    tmp_path: Path,
) -> None:
    store = await SqliteStore.open(tmp_path / "s.db")
    clock = Clock()
    hosts = NewHosts(Parts(store=store), note=lambda *_: None, clock=clock)
    try:
        for _ in range(int(new_hosts.BURST)):
            await hosts.admit("192.0.2.1")
        with pytest.raises(TooManyHosts) as caught:
            await hosts.admit("192.0.2.1")
        assert 0 < caught.value.retry_after_s <= 1 / new_hosts.PER_S
        await hosts.admit("192.0.2.2")
        clock.now += 1 / new_hosts.PER_S
        await hosts.admit("192.0.2.1")
        with pytest.raises(TooManyHosts):
            await hosts.admit("192.0.2.1")
        for n in range(6000):
            await hosts.admit(f"10.1.{n // 250}.{n % 250}")
        assert len(hosts._left) <= new_hosts._ADDRESSES_MOST
    finally:
        await store.close()
