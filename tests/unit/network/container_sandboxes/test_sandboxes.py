"""Sandboxes of single containers: who gets which, and what is left after an end of any kind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.errors import EngineRefused, EngineTimeout
from agent.network.container_sandboxes.creation import LABEL
from agent.network.container_sandboxes.owners import Containers, Owner, users
from agent.network.kernel.namespaces import identify
from agent.runtime.protocol import ContainerSummary
from tests.support.control_host import until as eventually
from tests.support.host_access import container_sandboxes
from tests.support.memory_engine import Fault, MemoryEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.network.container_sandboxes.sandboxes import ContainerSandboxes

PAUSE = "pause:1"
TASK = "arn:aws:ecs:eu-west-1:1:task/c/1"


class Losses(list[tuple[str, str]]):
    """What was told of lost networks."""

    def add(self, arn: str, reason: str) -> None:
        self.append((arn, reason))


@contextlib.asynccontextmanager
async def running(sandboxes: ContainerSandboxes) -> AsyncIterator[Losses]:
    losses = Losses()
    task = asyncio.create_task(sandboxes.run(losses.add))
    try:
        yield losses
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        sandboxes.close()


def names(runtime: MemoryEngine) -> set[str]:
    return {box.id for box in runtime.boxes.values()}


async def test_the_first_launch_of_a_mode_has_none_and_the_next_ones_do() -> None:
    runtime = MemoryEngine()
    sandboxes = container_sandboxes(runtime, least=2)
    async with running(sandboxes):
        await asyncio.sleep(0.05)
        assert not runtime.boxes, "sandboxes are made before anybody needs them"
        assert sandboxes.take(TASK, "a", "none") == ""
        await eventually(lambda: sandboxes.ready == 2)
        first, second = sandboxes.take(TASK, "a", "none"), sandboxes.take(TASK, "b", "none")
        assert first
        assert second not in ("", first), "two containers share a sandbox"
        assert sandboxes.take(TASK, "a", "none") == first
        assert sandboxes.of(TASK, "b") == second
        assert (sandboxes.hits, sandboxes.misses) == (2, 1)


async def test_a_released_sandbox_is_removed_and_never_used_again() -> None:
    runtime = MemoryEngine()
    sandboxes = container_sandboxes(runtime, least=1)
    async with running(sandboxes):
        sandboxes.take(TASK, "a", "none")
        await eventually(lambda: sandboxes.ready == 1)
        taken = sandboxes.take(TASK, "a", "none")
        sandboxes.release(TASK)
        await eventually(lambda: taken not in names(runtime) and sandboxes.ready > 0)
        assert sandboxes.held == 0
        assert sandboxes.take(TASK, "a", "none") != taken


async def test_none_are_made_if_turned_off() -> None:
    runtime = MemoryEngine()
    sandboxes = container_sandboxes(runtime, least=0)
    async with running(sandboxes):
        assert sandboxes.take(TASK, "a", "none") == ""
        await asyncio.sleep(0.05)
        assert not runtime.boxes


async def test_a_mode_without_sandboxes_takes_none() -> None:
    sandboxes = container_sandboxes(MemoryEngine(), least=2)

    assert sandboxes.take(TASK, "a", "host") == ""
    assert sandboxes.misses == 0


async def test_memory_that_gets_scarce_shrinks_the_pool() -> None:
    runtime, memory = MemoryEngine(), [16 << 30]
    sandboxes = container_sandboxes(runtime, least=3, available_bytes=lambda: memory[0])
    async with running(sandboxes):
        sandboxes.take(TASK, "a", "none")
        await eventually(lambda: sandboxes.ready == 3)
        memory[0] = 0
        sandboxes.take(TASK, "b", "none")
        await eventually(lambda: sandboxes.ready == 0)
        await eventually(lambda: len(runtime.boxes) == 1)


async def test_what_cannot_be_made_is_a_problem_until_it_can() -> None:
    runtime = MemoryEngine()
    runtime.fault("create", Fault(EngineRefused("no space left")))
    sandboxes = container_sandboxes(runtime, least=1)
    async with running(sandboxes):
        sandboxes.take(TASK, "a", "none")
        await eventually(lambda: "no space left" in sandboxes.problem)
        await eventually(lambda: sandboxes.ready == 1 and not sandboxes.problem)


async def test_one_that_could_not_be_removed_is_removed_later() -> None:
    runtime = MemoryEngine()
    sandboxes = container_sandboxes(runtime, least=1)
    async with running(sandboxes):
        sandboxes.take(TASK, "a", "none")
        await eventually(lambda: sandboxes.ready == 1)
        taken = sandboxes.take(TASK, "a", "none")
        runtime.fault("remove", Fault(EngineRefused("busy")))
        sandboxes.release(TASK)
        await eventually(lambda: taken not in names(runtime))


async def test_one_that_dies_is_no_longer_handed_out() -> None:
    runtime = MemoryEngine()
    program = await asyncio.create_subprocess_exec("sleep", "60")
    sandboxes = container_sandboxes(runtime, least=1, identify=lambda _pid: identify(program.pid))
    async with running(sandboxes) as losses:
        sandboxes.take(TASK, "a", "none")
        await eventually(lambda: sandboxes.ready == 1)
        taken = sandboxes.take(TASK, "a", "none")
        assert sandboxes.is_alive(taken)
        program.kill()
        await program.wait()
        await eventually(lambda: not sandboxes.is_alive(taken))
        assert sandboxes.of(TASK, "a") == taken
        assert sandboxes.take(TASK, "a", "none") != taken
        assert not losses, "a container without a link loses nothing"


async def test_a_new_process_takes_over_what_it_finds() -> None:
    runtime = MemoryEngine()
    before = container_sandboxes(runtime, least=3)
    async with running(before):
        before.take(TASK, "a", "none")
        await eventually(lambda: before.ready == 3)
        held = before.take(TASK, "a", "none")
        ended = before.take("gone", "b", "none")
    sandboxes = container_sandboxes(runtime, least=3)
    found = await runtime.list_containers(labels={LABEL: "owner-1"})
    who = {held: Owner(TASK, "a"), ended: Owner("gone", "b")}
    await sandboxes.take_over(Containers(found, who), stopped_tasks={"gone"})
    assert sandboxes.of(TASK, "a") == held
    assert sandboxes.ready >= 1
    async with running(sandboxes):
        await eventually(lambda: ended not in names(runtime))
        await sandboxes.reconcile([TASK])
        await asyncio.sleep(0.05)
        assert held in names(runtime)
        await sandboxes.reconcile([])
        await eventually(lambda: held not in names(runtime))
    await sandboxes.remove_ready()
    assert not runtime.boxes


@pytest.mark.parametrize("limit_s", [10.0, 0.01], ids=["waits", "gives up"])
async def test_one_that_is_being_made_at_the_end_is_not_left(limit_s: float) -> None:
    """The engine makes the container, whoever waits for its answer."""
    runtime = MemoryEngine((PAUSE,))
    sandboxes = container_sandboxes(runtime, least=1)
    runtime.fault("create", Fault(delay_s=0.3))
    async with running(sandboxes):
        sandboxes.take(TASK, "a", "none")
        await eventually(lambda: len(runtime.boxes) == 1)
        assert sandboxes.ready == 0
    await sandboxes.remove_ready(limit_s)
    assert not runtime.boxes


async def test_one_that_is_being_made_when_the_settings_change_is_ready_for_the_next() -> None:
    runtime = MemoryEngine((PAUSE,))
    sandboxes = container_sandboxes(runtime, least=1)
    runtime.fault("create", Fault(delay_s=0.1))
    async with running(sandboxes):
        sandboxes.take(TASK, "a", "none")
        await eventually(lambda: len(runtime.boxes) == 1)
    await sandboxes.finish(10.0)
    assert sandboxes.ready == 1
    assert [box.status for box in runtime.boxes.values()] == ["running"]


async def test_one_whose_answer_was_lost_is_removed() -> None:
    runtime = MemoryEngine((PAUSE,))
    sandboxes = container_sandboxes(runtime, least=1)
    runtime.fault("create", Fault(EngineTimeout("slow", operation="create", limit_s=1), done=True))
    async with running(sandboxes):
        sandboxes.take(TASK, "a", "none")
        await eventually(lambda: sandboxes.ready == 1)
        await eventually(lambda: len(runtime.boxes) == 1)


async def test_a_new_process_without_sandboxes_removes_the_ready_ones() -> None:
    runtime = MemoryEngine()
    before = container_sandboxes(runtime, least=1)
    async with running(before):
        before.take(TASK, "a", "none")
        await eventually(lambda: before.ready == 1)
    sandboxes = container_sandboxes(runtime, least=0)
    await sandboxes.take_over(
        Containers(await runtime.list_containers(labels={LABEL: "owner-1"}), {}), ()
    )
    async with running(sandboxes):
        await eventually(lambda: not runtime.boxes)


def test_users_are_found_by_the_network_that_they_joined() -> None:
    listed = [
        ContainerSummary(
            id="1",
            name="a",
            state="running",
            labels={"t": "x", "c": "a"},
            network_mode="container:s",
        ),
        ContainerSummary(
            id="2", name="b", state="running", labels={"t": "x", "c": "b"}, network_mode="none"
        ),
    ]

    assert users(listed, "t", "c") == {"s": Owner("x", "a")}
