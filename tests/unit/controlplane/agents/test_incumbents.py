"""A second host with the identity of one that is connected is refused; a host that comes back is not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from msgspec.structs import replace

from agent.controlplane.agents import incumbents
from agent.model.wire import Register
from tests.support.control_endpoint import ScriptedAgent, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

FILES = {"client_token": "of-the-state-file", "machine_id": "m" * 32, "machine_key": "k" * 64}
KEY = "h" * 64


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        yield running


def a_process(
    endpoint: Endpoint, process_id: str, *, boot: str = "boot-1", host: str = "first", **more: Any
) -> ScriptedAgent:
    agent = ScriptedAgent(endpoint, key=KEY, process_id=process_id, **(FILES | more))
    agent.info["resources"] = replace(agent.info["resources"], boot_id=boot, hostname=host)
    return agent


@contextlib.asynccontextmanager
async def connected(agent: ScriptedAgent) -> AsyncIterator[list[int]]:
    """Poll like an agent does until the end of the block; collects the statuses of the answers."""
    statuses: list[int] = []

    async def poll() -> None:
        while not statuses or statuses[-1] < 400:
            path = f"/v1/instances/{agent.id}/assignments?after={agent.revision}&wait=20"
            statuses.append((await agent.send("GET", path))[0])

    await agent.poll(after=0)
    polling = asyncio.create_task(poll())
    await asyncio.sleep(0.1)  # let it be held; the rule does not depend on it
    try:
        yield statuses
    finally:
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling


async def try_to_register(agent: ScriptedAgent, arn: str = "") -> tuple[int, str]:
    call = Register(**(agent.info | {"instance_arn": arn}))
    status, said = await agent.send("POST", "/v1/instances", call)
    return status, said.decode()


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
async def test_a_copy_of_a_connected_host_is_refused_and_named(
    endpoint: Endpoint, boot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that pretends to be the same boot of the same machine."""
    monkeypatch.setattr(incumbents, "WAIT_S", 20.0)  # a busy machine must not decide it
    first = a_process(endpoint, "p1")
    await first.register()
    copy = a_process(endpoint, "p2", boot=boot, host="second")
    async with connected(first) as statuses:
        with structlog.testing.capture_logs() as logs:
            status, said = await try_to_register(copy, first.arn)
        assert (status, "StaleGeneration" in said) == (409, True)
        assert "another host is connected as this container instance, first" in said
        (told,) = [line for line in logs if "used on a second host" in line["event"]]
        assert (told["instance"], told["hostname"]) == (first.arn, "second")
        # It goes on to be refused, without more questions to the first one.
        polls = len(statuses)
        assert (await try_to_register(copy))[0] == 409
        assert len(statuses) == polls
        # Nor can it go on with the registration that it found in the files.
        copy.arn, copy.generation = first.arn, first.generation
        answer = await copy.send("GET", f"/v1/instances/{first.id}/assignments?after=0")
        assert answer[0] == 404
        assert set(statuses) <= {200, 204}
    async with endpoint.session.get(f"{endpoint.url}/healthz") as answer_:
        assert f"in the name of {first.arn}" in await answer_.text()


async def test_a_restarted_agent_takes_its_place_at_once(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incumbents, "WAIT_S", 3600.0)  # which nobody waits for here
    first = a_process(endpoint, "p1")
    await first.register()
    await first.poll(after=0)
    again = a_process(endpoint, "p2")
    await again.register(instance_arn=first.arn)
    assert again.arn == first.arn
    assert await again.poll(after=0) is not None
    path = f"/v1/instances/{first.id}/assignments?after=0"
    assert (await first.send("GET", path))[0] == 409


async def test_the_same_process_may_register_again(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a cut, with its earlier poll still held by control."""
    monkeypatch.setattr(incumbents, "WAIT_S", 3600.0)  # which nobody waits for here
    first = a_process(endpoint, "p1")
    await first.register()
    async with connected(first):
        before = first.generation
        await first.register(instance_arn=first.arn)
        assert first.generation == before + 1


async def test_a_host_whose_power_was_cut_takes_its_place(endpoint: Endpoint) -> None:
    """Its connection looks alive to control, and nobody answers at the other end."""
    first = a_process(endpoint, "p1")
    await first.register()
    await first.poll(after=0)
    path = f"/v1/instances/{first.id}/assignments?after={first.revision}&wait=20"
    held = asyncio.create_task(first.send("GET", path))
    await asyncio.sleep(0.1)  # let it be held; the rule does not depend on it
    booted = a_process(endpoint, "p2", boot="boot-2")
    await booted.register(instance_arn=first.arn)
    assert booted.arn == first.arn
    assert (await held)[0] == 204  # control asked, and the poll was not repeated
    assert await booted.poll(after=0) is not None


async def test_an_agent_without_a_process_id_gives_way_as_before(endpoint: Endpoint) -> None:
    older = ScriptedAgent(endpoint, **FILES)
    await older.register()
    newer = ScriptedAgent(endpoint, **FILES)
    await newer.register(instance_arn=older.arn)
    assert newer.arn == older.arn
    assert (await older.send("GET", f"/v1/instances/{older.id}/assignments"))[0] == 409
