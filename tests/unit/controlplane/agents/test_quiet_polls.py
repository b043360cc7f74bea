"""Polls that are repeated without news: they wait without being read, and miss nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from agent.controlplane.agents.assignments import Poller
from agent.controlplane.agents.held_polls import POLLS_MOST
from agent.controlplane.agents.incumbents import Incumbents
from agent.controlplane.agents.leases import Leases
from agent.controlplane.agents.wakeups import WakeUps
from agent.model.wire import Register
from tests.support.control_endpoint import ScriptedAgent, control_endpoint, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

LEASE_S = 6.0
TOKEN = "token-of-the-tests-0123456789"  # noqa: S105 - of tests
OTHER = "another-of-the-tests-012345678"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """A control endpoint that holds polls for 3 s."""
    async with control_endpoint(tmp_path, lease_s=LEASE_S) as endpoint:
        await endpoint.call("CreateCluster")
        await endpoint.call("RegisterTaskDefinition", **definition())
        yield endpoint


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of these was called."""
    counts: Counter[str] = Counter()
    for kind, name in ((Poller, "poll"), (Incumbents, "heard"), (Leases, "renew_soon")):
        original = getattr(kind, name)

        def noted(
            self: Any, *args: Any, _of: Any = original, _name: str = name, **more: Any
        ) -> Any:
            counts[_name] += 1
            return _of(self, *args, **more)

        monkeypatch.setattr(kind, name, noted)
    return counts


async def _quiet_agent(endpoint: Endpoint, **more: Any) -> ScriptedAgent:
    """Return an agent whose next poll for 1 s is the same as the one before."""
    agent = ScriptedAgent(endpoint, **more)
    await agent.register()
    assert await agent.poll() is not None
    assert await agent.poll(wait_s=1) is None
    return agent


async def test_a_repeated_poll_is_not_read_and_renews_the_lease(
    running: Endpoint, counted: Counter[str]
) -> None:
    agent = await _quiet_agent(running)
    counted.clear()
    began = time.monotonic()
    for _ in range(2):
        assert await agent.poll(wait_s=1) is None
    assert 1.8 < time.monotonic() - began < 10
    assert counted == {"renew_soon": 2, "heard": 2}


async def test_an_order_reaches_a_poll_that_waits_so(
    running: Endpoint, counted: Counter[str]
) -> None:
    agent = await _quiet_agent(running)
    for _ in range(3):
        assert await agent.poll(wait_s=1) is None
        held = asyncio.create_task(agent.poll(wait_s=1))
        await asyncio.sleep(0.3)
        counted.clear()
        ordered = await running.call("RunTask", taskDefinition="web")
        answer = await held
        assert answer is not None
        assert [task.task_arn for task in answer.tasks] == [ordered["tasks"][0]["taskArn"]]
        # It is the same poll: the host has not shown itself anew.
        assert counted == {"poll": 1}
        assert await agent.poll(wait_s=1) is None


async def test_one_that_is_woken_for_nothing_is_held_for_the_rest_of_its_time(
    running: Endpoint, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await _quiet_agent(running)
    known: list[WakeUps] = []
    rest = WakeUps.rest

    def noted(self: WakeUps, *args: Any) -> None:
        known.append(self)
        rest(self, *args)

    monkeypatch.setattr(WakeUps, "rest", noted)
    began = time.monotonic()
    assert await agent.poll(wait_s=2) is None  # another poll than before: it is read
    held = asyncio.create_task(agent.poll(wait_s=2))
    began = time.monotonic()
    await asyncio.sleep(0.3)
    counted.clear()
    known[-1].wake(agent.id)
    assert await held is None
    assert counted == {"poll": 1}
    assert 1.8 < time.monotonic() - began < 2.8
    # And the one after it waits unread again.
    counted.clear()
    assert await agent.poll(wait_s=2) is None
    assert counted == {"renew_soon": 1, "heard": 1}


@pytest.mark.parametrize("goes_on", [False, True], ids=["is gone", "goes on"])
async def test_a_second_host_has_a_poll_answered_that_waits_so(
    running: Endpoint, counted: Counter[str], *, goes_on: bool
) -> None:
    first = await _quiet_agent(running, process_id="p1")
    held = asyncio.create_task(first.poll(wait_s=1))
    await asyncio.sleep(0.2)
    counted.clear()
    copy = ScriptedAgent(running)
    copy.info = first.info | {"process_id": "p2"}
    registers = asyncio.create_task(copy.send("POST", "/v1/instances", Register(**copy.info)))
    assert await held is None
    # Being woken is no sign of life; only another poll is.
    assert counted["heard"] == 0
    if goes_on:
        assert await first.poll(wait_s=1) is None
    status, _ = await registers
    assert status == (409 if goes_on else 200)


async def test_a_token_that_is_taken_back_ends_a_poll_that_waits(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.touch(mode=0o600)
    file.write_text(f"{TOKEN}\n{OTHER}\n")
    reload = asyncio.Event()
    async with control_endpoint(
        tmp_path / "data", lease_s=LEASE_S, token_file=file, reload=reload
    ) as endpoint:
        await endpoint.call("CreateCluster")
        agent = await _quiet_agent(endpoint, token=TOKEN, key="k" * 64)
        held = asyncio.create_task(
            agent.send("GET", f"/v1/instances/{agent.id}/assignments?after={agent.revision}&wait=1")
        )
        await asyncio.sleep(0.2)
        file.write_text(f"{OTHER}\n")
        reload.set()
        status, _ = await held
        assert status == 401
        # And one that comes later is not let in either.
        status, _ = await agent.send("GET", f"/v1/instances/{agent.id}/assignments?after=0&wait=0")
        assert status == 401


async def test_stopping_answers_polls_that_wait_so(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, lease_s=60.0) as endpoint:
        await endpoint.call("CreateCluster")
        agent = ScriptedAgent(endpoint)
        await agent.register()
        await agent.poll()
        assert await agent.poll(wait_s=3) is None
        held = asyncio.create_task(agent.poll(wait_s=3))
        await asyncio.sleep(0.2)
        assert not held.done()
    # The endpoint stops within two seconds, before the poll would end.
    assert await held is None


async def test_no_more_polls_of_one_host_are_held_than_may_be(running: Endpoint) -> None:
    agents = [ScriptedAgent(running) for _ in range(POLLS_MOST + 1)]
    first = agents[0]
    await first.register()
    assert await first.poll() is not None
    path = f"/v1/instances/{first.id}/assignments?after={first.revision}&wait=1"

    async def poll(session: aiohttp.ClientSession) -> float:
        began = time.monotonic()
        async with session.get(f"{running.url}{path}", headers=first.shown) as answer:
            assert answer.status == 204
        return time.monotonic() - began

    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(aiohttp.ClientSession()) for _ in agents]
        await asyncio.gather(*map(poll, sessions))
        took = await asyncio.gather(*map(poll, sessions))
    assert min(took) < 0.5
    assert sorted(took)[1] > 0.8
