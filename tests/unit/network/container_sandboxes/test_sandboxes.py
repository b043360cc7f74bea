"""Sandboxes of single containers: who gets which, and what is left after an end of any kind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.errors import EngineRefused, EngineTimeout
from agent.network.container_sandboxes import kinds
from agent.network.container_sandboxes.kinds import LABEL, Kind
from agent.network.container_sandboxes.owners import Containers, Owner, users
from agent.network.host_ports import HostPorts
from agent.network.kernel.namespaces import identify
from agent.runtime.protocol import ContainerSummary, EngineEvent
from tests.support.control_host import until as eventually
from tests.support.host_access import container_sandboxes
from tests.support.memory_engine import Fault, MemoryEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.network.container_sandboxes.sandboxes import ContainerSandboxes

PAUSE = "pause:1"
TASK = "arn:aws:ecs:eu-west-1:1:task/c/1"
PLAIN = Kind("bridge")
WEB = Kind("bridge", ("80/tcp", "53/udp"))


class Losses(list[tuple[str, str]]):
    """What was told of lost networks."""

    def add(self, arn: str, container: str, reason: str) -> None:
        assert reason
        self.append((arn, container))


class Ports(HostPorts):
    """Host ports that are free as long as nobody has them."""

    def __init__(self, first: int = 40_000, last: int = 40_099) -> None:
        super().__init__((first, last), is_free=lambda _protocol, _port: True)

    def promised(self) -> set[tuple[str, int]]:
        return {(kind, port) for kind, ports in self._promised.items() for port in ports}


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
        assert sandboxes.take(TASK, "a", PLAIN) == ""
        await eventually(lambda: sandboxes.ready == 2)
        first, second = sandboxes.take(TASK, "a", PLAIN), sandboxes.take(TASK, "b", PLAIN)
        assert first
        assert second not in ("", first), "two containers share a sandbox"
        assert sandboxes.take(TASK, "a", PLAIN) == first
        assert sandboxes.of(TASK, "b") == second
        assert (sandboxes.hits, sandboxes.misses) == (2, 1)


async def test_a_released_sandbox_is_removed_and_never_used_again() -> None:
    runtime = MemoryEngine()
    sandboxes = container_sandboxes(runtime, least=1)
    async with running(sandboxes):
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: sandboxes.ready == 1)
        taken = sandboxes.take(TASK, "a", PLAIN)
        sandboxes.release(TASK)
        await eventually(lambda: taken not in names(runtime) and sandboxes.ready > 0)
        assert sandboxes.held == 0
        assert sandboxes.take(TASK, "a", PLAIN) != taken


async def test_none_are_made_if_turned_off() -> None:
    runtime = MemoryEngine()
    sandboxes = container_sandboxes(runtime, least=0)
    async with running(sandboxes):
        assert sandboxes.take(TASK, "a", PLAIN) == ""
        await asyncio.sleep(0.05)
        assert not runtime.boxes


async def test_a_mode_without_sandboxes_takes_none() -> None:
    sandboxes = container_sandboxes(MemoryEngine(), least=2)

    assert sandboxes.take(TASK, "a", Kind("host")) == ""
    assert sandboxes.misses == 0


async def test_memory_that_gets_scarce_shrinks_the_pool() -> None:
    runtime, memory = MemoryEngine(), [16 << 30]
    sandboxes = container_sandboxes(runtime, least=3, available_bytes=lambda: memory[0])
    async with running(sandboxes):
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: sandboxes.ready == 3)
        memory[0] = 0
        sandboxes.take(TASK, "b", PLAIN)
        await eventually(lambda: sandboxes.ready == 0)
        await eventually(lambda: len(runtime.boxes) == 1)


async def test_what_cannot_be_made_is_a_problem_until_it_can() -> None:
    runtime = MemoryEngine()
    runtime.fault("create", Fault(EngineRefused("no space left")))
    sandboxes = container_sandboxes(runtime, least=1)
    async with running(sandboxes):
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: "no space left" in sandboxes.problem)
        await eventually(lambda: sandboxes.ready == 1 and not sandboxes.problem)


async def test_one_that_could_not_be_removed_is_removed_later() -> None:
    runtime = MemoryEngine()
    sandboxes = container_sandboxes(runtime, least=1)
    async with running(sandboxes):
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: sandboxes.ready == 1)
        taken = sandboxes.take(TASK, "a", PLAIN)
        runtime.fault("remove", Fault(EngineRefused("busy")))
        sandboxes.release(TASK)
        await eventually(lambda: taken not in names(runtime))


async def test_one_that_dies_is_no_longer_handed_out() -> None:
    runtime = MemoryEngine()
    program = await asyncio.create_subprocess_exec("sleep", "60")
    sandboxes = container_sandboxes(runtime, least=1, identify=lambda _pid: identify(program.pid))
    async with running(sandboxes) as losses:
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: sandboxes.ready == 1)
        taken = sandboxes.take(TASK, "a", PLAIN)
        assert sandboxes.is_alive(taken)
        program.kill()
        await program.wait()
        await eventually(lambda: not sandboxes.is_alive(taken))
        assert sandboxes.of(TASK, "a") == taken
        assert sandboxes.take(TASK, "a", PLAIN) != taken
        await eventually(lambda: losses == [(TASK, "a")])


async def test_a_new_process_takes_over_what_it_finds() -> None:
    runtime = MemoryEngine()
    before = container_sandboxes(runtime, least=3)
    async with running(before):
        before.take(TASK, "a", PLAIN)
        await eventually(lambda: before.ready == 3)
        held = before.take(TASK, "a", PLAIN)
        ended = before.take("gone", "b", PLAIN)
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


async def test_sandboxes_of_an_earlier_version_in_none_mode_serve_their_containers_alone() -> None:
    runtime = MemoryEngine((PAUSE,))
    held, ready = [
        await runtime.create_container(name, kinds.body(PAUSE, Kind("none"), "owner-1", {}))
        for name in ("held", "ready")
    ]
    for each in (held, ready):
        await runtime.start_container(each)
    sandboxes = container_sandboxes(runtime, least=2)
    found = await runtime.list_containers(labels={LABEL: "owner-1"})
    await sandboxes.take_over(Containers(found, {held: Owner(TASK, "a")}), ())
    async with running(sandboxes) as losses:
        await eventually(lambda: names(runtime) == {held})
        assert sandboxes.of(TASK, "a") == held
        sandboxes._ended(held)
        await asyncio.sleep(0.05)
        assert not losses, "the container itself keeps the namespace"
        assert sandboxes.take(TASK, "b", Kind("none")) == ""
        sandboxes.release(TASK)
        await eventually(lambda: not runtime.boxes)


@pytest.mark.parametrize("limit_s", [10.0, 0.01], ids=["waits", "gives up"])
async def test_one_that_is_being_made_at_the_end_is_not_left(limit_s: float) -> None:
    """The engine makes the container, whoever waits for its answer."""
    runtime = MemoryEngine((PAUSE,))
    sandboxes = container_sandboxes(runtime, least=1)
    runtime.fault("create", Fault(delay_s=0.3))
    async with running(sandboxes):
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: len(runtime.boxes) == 1)
        assert sandboxes.ready == 0
    await sandboxes.remove_ready(limit_s)
    assert not runtime.boxes


async def test_one_that_is_being_made_when_the_settings_change_is_ready_for_the_next() -> None:
    runtime = MemoryEngine((PAUSE,))
    sandboxes = container_sandboxes(runtime, least=1)
    runtime.fault("create", Fault(delay_s=0.1))
    async with running(sandboxes):
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: len(runtime.boxes) == 1)
    await sandboxes.finish(10.0)
    assert sandboxes.ready == 1
    assert [box.status for box in runtime.boxes.values()] == ["running"]


async def test_one_whose_answer_was_lost_is_removed() -> None:
    runtime = MemoryEngine((PAUSE,))
    sandboxes = container_sandboxes(runtime, least=1)
    runtime.fault("create", Fault(EngineTimeout("slow", operation="create", limit_s=1), done=True))
    async with running(sandboxes):
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: sandboxes.ready == 1)
        await eventually(lambda: len(runtime.boxes) == 1)


async def test_a_new_process_without_sandboxes_removes_the_ready_ones() -> None:
    runtime = MemoryEngine()
    before = container_sandboxes(runtime, least=1)
    async with running(before):
        before.take(TASK, "a", PLAIN)
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


async def _one_ready(sandboxes: ContainerSandboxes, kind: Kind) -> None:
    sandboxes.take("first", "a", kind)
    await eventually(lambda: sandboxes.ready == 1)


async def test_host_ports_pass_from_a_ready_sandbox_to_who_takes_it() -> None:
    runtime, ports = MemoryEngine(), Ports()
    sandboxes = container_sandboxes(runtime, least=1, ports=ports)
    async with running(sandboxes):
        await _one_ready(sandboxes, WEB)
        assert sandboxes.take(TASK, "b", Kind("bridge")) == "", "it publishes what nobody asked for"
        taken = sandboxes.take(TASK, "a", WEB)
        bindings = sandboxes.bindings(taken)
        (tcp,), (udp,) = bindings["80/tcp"], bindings["53/udp"]
        given = {("tcp", tcp), ("udp", udp)}
        assert given <= ports.promised()
        published = runtime.boxes[taken].host_config["PortBindings"]
        assert published == {"80/tcp": [{"HostPort": str(tcp)}], "53/udp": [{"HostPort": str(udp)}]}
        await eventually(lambda: sandboxes.ready == 3)  # two for two launches, one without ports
        sandboxes.release(TASK)
        await eventually(lambda: taken not in names(runtime))
        assert given <= ports.promised(), "the task releases what it has"
    await sandboxes.remove_ready()
    assert ports.promised() == given
    assert not runtime.boxes


async def test_a_ready_sandbox_gives_way_to_who_needs_its_port() -> None:
    runtime, ports = MemoryEngine(), Ports()
    sandboxes = container_sandboxes(runtime, least=2, ports=ports)
    async with running(sandboxes):
        sandboxes.take("first", "a", WEB)
        await eventually(lambda: bool(ports.promised()))  # the first of them is being made
        ((_, wanted), *_) = sorted(ports.promised())
        await sandboxes.give_way([("tcp", wanted), ("tcp", 8080)])
        for box in runtime.boxes.values():
            assert {"HostPort": str(wanted)} not in box.host_config["PortBindings"]["80/tcp"]
        await eventually(lambda: sandboxes.ready == 2)
        assert {("tcp", wanted), ("tcp", 8080)} <= ports.promised()
        before = names(runtime)
        await sandboxes.give_way([("tcp", wanted)])
        assert names(runtime) == before, "nothing was in the way"


async def test_without_free_ports_there_are_no_sandboxes_that_publish() -> None:
    runtime, ports = MemoryEngine(), Ports(40_000, 40_002)
    sandboxes = container_sandboxes(runtime, least=4, ports=ports)
    many = Kind("bridge", ("8000-8001/tcp", "80/tcp", "443/tcp"))
    async with running(sandboxes):
        assert sandboxes.take(TASK, "a", many) == ""
        sandboxes.take(TASK, "a", PLAIN)
        await eventually(lambda: sandboxes.ready == 4)
        assert not ports.promised()
        assert not sandboxes.problem


async def test_most_ports_are_left_to_tasks() -> None:
    ports = Ports(40_000, 40_039)
    sandboxes = container_sandboxes(MemoryEngine(), least=8, ports=ports)
    kind = Kind("bridge", ("8000-8002/tcp",))
    async with running(sandboxes):
        for name in "abc":
            taken = sandboxes.take(TASK, name, kind)
            assert bool(taken) == (name != "a")
            await eventually(lambda: sandboxes.ready == 3)
            await asyncio.sleep(0.05)
            assert sandboxes.ready == 3
        assert len(ports.promised()) == 3 * 5
        assert not sandboxes.problem


async def test_one_that_is_not_started_gives_its_ports_back() -> None:
    runtime, ports = MemoryEngine(), Ports()
    runtime.fault("start", Fault(EngineRefused("port is already allocated")))
    runtime.fault("create", Fault(EngineRefused("no space left")))
    sandboxes = container_sandboxes(runtime, least=1, ports=ports)
    async with running(sandboxes):
        await _one_ready(sandboxes, WEB)
        await eventually(lambda: len(runtime.boxes) == 1 and len(ports.promised()) == 2)


async def test_a_new_process_takes_over_ports_and_what_they_were_given_to() -> None:
    runtime = MemoryEngine()
    before = container_sandboxes(runtime, least=2, ports=Ports())
    async with running(before):
        before.take("first", "a", WEB)
        await eventually(lambda: before.ready == 2)
        taken = before.take(TASK, "a", WEB)  # and no container was created in it
        (tcp,) = before.bindings(taken)["80/tcp"]
        await eventually(lambda: before.ready == 2)
    ports = Ports()
    sandboxes = container_sandboxes(runtime, least=2, ports=ports)
    found = await runtime.list_containers(labels={LABEL: "owner-1"})
    given = {("tcp", tcp): Owner(TASK, "a")}
    await sandboxes.take_over(Containers(found, {}, given), ())
    assert sandboxes.of(TASK, "a") == taken
    assert sandboxes.bindings(taken)["80/tcp"] == [tcp]
    assert sandboxes.ready == 2
    assert len(ports.promised()) == 4
    assert ("tcp", tcp) not in ports.promised(), "that is for the task to say"
    sandboxes.close()
    outside = container_sandboxes(runtime, least=2, ports=Ports(50_000, 50_010))
    await outside.take_over(Containers(found, {}, given), ())
    assert outside.ready == 0, "their ports are not for tasks any more"
    assert outside.of(TASK, "a") == taken
    outside.close()


async def test_a_container_in_bridge_mode_loses_its_network_with_the_sandbox() -> None:
    runtime = MemoryEngine()
    program = await asyncio.create_subprocess_exec("sleep", "60")
    sandboxes = container_sandboxes(runtime, least=1, identify=lambda _pid: identify(program.pid))
    async with running(sandboxes) as losses:
        await _one_ready(sandboxes, WEB)
        sandboxes.take(TASK, "a", WEB)
        program.kill()
        await program.wait()
        await eventually(lambda: losses == [(TASK, "a")])


async def test_a_sandbox_off_its_network_is_connected_again_or_given_up() -> None:
    runtime = MemoryEngine()
    sandboxes = container_sandboxes(runtime, least=1)
    async with running(sandboxes) as losses:
        await _one_ready(sandboxes, WEB)
        box = runtime.boxes[sandboxes.take(TASK, "a", WEB)]
        box.cut_off_from = "bridge"
        sandboxes.take_note_of(EngineEvent(action="disconnect", container_id=box.id))
        await eventually(lambda: not box.cut_off_from)
        await eventually(lambda: [each.found for each in sandboxes.repairs] != [])
        box.cut_off_from = "bridge"
        runtime.fault("connect", Fault(EngineRefused("network bridge not found")))
        sandboxes.take_note_of(EngineEvent(action="relist"))
        await eventually(lambda: losses == [(TASK, "a")])
