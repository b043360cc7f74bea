"""Containers, volumes, images and logs on a real engine."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from agent.errors import (
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    NameConflict,
    NoSuchContainer,
    NoSuchImage,
)
from agent.runtime.docker import DockerEngine, LaneSizes
from agent.runtime.protocol import LogSelection

if TYPE_CHECKING:
    from tests.integration.conftest import Containers

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("leak_check")]

LABEL = "ecs-host-agent.test"


async def test_life_of_a_container(engine: DockerEngine, containers: Containers) -> None:
    key = uuid4().hex
    name = f"ecs-host-agent-test-{key[:12]}"
    made = await containers.create(
        name=name, Labels={LABEL: key}, HostConfig={"NetworkMode": "none"}
    )
    created = await engine.inspect_container(made)
    assert (created.status, created.running, created.exit_code) == ("created", False, None)
    assert created.name == name
    assert created.labels[LABEL] == key
    assert created.created_at > 1.7e9
    assert created.started_at == 0

    await engine.start_container(made)
    await engine.start_container(made)
    running = await engine.inspect_container(name)
    assert running.running
    assert running.pid > 1
    assert running.started_at >= created.created_at
    listed = await engine.list_containers(labels={LABEL: key})
    assert [(c.id, c.name, c.state) for c in listed] == [(made, name, "running")]
    assert made in {c.id for c in await engine.list_containers(labels={LABEL: None})}
    assert await engine.list_containers(labels={LABEL: "other"}) == []

    await engine.stop_container(made, timeout_s=10)
    await engine.stop_container(made, timeout_s=10)
    stopped = await engine.inspect_container(made)
    assert (stopped.status, stopped.exit_code, stopped.pid) == ("exited", 0, 0)
    assert stopped.finished_at >= stopped.started_at

    await engine.remove_container(made)
    await engine.remove_container(made)
    await engine.stop_container(made, timeout_s=1)
    with pytest.raises(NoSuchContainer, match="Error response from daemon: No such container"):
        await engine.inspect_container(made)


async def test_a_failed_start_has_no_exit_code(
    engine: DockerEngine, containers: Containers
) -> None:
    made = await containers.create(["/no/such/program"], HostConfig={"NetworkMode": "none"})
    with pytest.raises(EngineRefused, match=r"^Error response from daemon: .*no such file") as info:
        await engine.start_container(made)
    assert info.value.operation == "started"
    state = await engine.inspect_container(made)
    assert state.exit_code is None
    assert "no such file" in state.error


async def test_a_name_can_be_taken_once(containers: Containers) -> None:
    name = uuid4().hex
    await containers.create(name=name)
    with pytest.raises(NameConflict, match="is already in use by container"):
        await containers.create(name=name)


async def test_errors_name_what_is_missing(engine: DockerEngine, containers: Containers) -> None:
    with pytest.raises(NoSuchImage, match="No such image: nothing/here:1"):
        await engine.create_container(uuid4().hex, {"Image": "nothing/here:1"})
    with pytest.raises(NoSuchImage):
        await engine.inspect_image("nothing/here:1")
    await engine.remove_image("nothing/here:1")
    with pytest.raises(EngineRefused, match="Minimum memory limit allowed is 6MB"):
        await containers.create(HostConfig={"Memory": 4 << 20})
    with pytest.raises(NoSuchContainer):
        await engine.start_container("nothing-here")


async def test_a_missing_namespace_owner_is_not_the_container_itself(
    engine: DockerEngine, containers: Containers
) -> None:
    owner = await containers.run()
    joiner = await containers.create(HostConfig={"NetworkMode": f"container:{owner}"})
    await engine.remove_container(owner, force=True)
    with pytest.raises(EngineRefused, match=owner):
        await engine.start_container(joiner)
    assert (await engine.inspect_container(joiner)).status == "created"


async def test_two_removals_at_once_both_succeed(
    engine: DockerEngine, containers: Containers
) -> None:
    made = await containers.run()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(engine.remove_container(made, force=True))
    with pytest.raises(NoSuchContainer):
        await engine.inspect_container(made)


async def test_logs(engine: DockerEngine, containers: Containers) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done"
    made = await containers.run(["sh", "-c", script])
    text = b"".join([piece async for piece in engine.logs(made, LogSelection(follow=True))])
    assert sorted(text.split(b"\n")[:-1]) == sorted(
        f"{stream} {i}".encode() for i in (1, 2, 3) for stream in ("out", "err")
    )
    tail = b"".join([piece async for piece in engine.logs(made, LogSelection(tail=2))])
    assert len(tail.splitlines()) == 2
    with pytest.raises(NoSuchContainer):
        await anext(engine.logs("nothing-here"))


async def test_logs_of_a_terminal_are_not_framed(
    engine: DockerEngine, containers: Containers
) -> None:
    made = await containers.run(["echo", "hello"], Tty=True)
    assert b"".join([p async for p in engine.logs(made, LogSelection(follow=True))]) == b"hello\r\n"


async def test_leaving_a_log_ends_its_thread(engine: DockerEngine, containers: Containers) -> None:
    made = await containers.run(["sh", "-c", "yes | head -c 50000000; sleep 100"])
    reader = engine.logs(made, LogSelection(follow=True))
    first = await anext(reader)
    assert first.startswith(b"y\n")
    async with asyncio.timeout(2):
        await reader.aclose()  # type: ignore[attr-defined]
        while engine._calls.log.lost:  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.01)


async def test_too_many_log_readers_are_refused(containers: Containers) -> None:
    engine = DockerEngine(sizes=LaneSizes(logs=1))
    made = await containers.run(["sh", "-c", "echo here; sleep 100"])
    first = engine.logs(made, LogSelection(follow=True))
    assert await anext(first) == b"here\n"
    with pytest.raises(EngineUnavailable, match="too many container logs"):
        await anext(engine.logs(made))
    await engine.close()


async def test_volumes(engine: DockerEngine) -> None:
    name = f"ecs-host-agent-test-{uuid4().hex[:12]}"
    assert not await engine.volume_exists(name)
    await engine.create_volume(name, labels={LABEL: "1"})
    await engine.create_volume(name)
    assert await engine.volume_exists(name)
    await engine.remove_volume(name)
    await engine.remove_volume(name)
    assert not await engine.volume_exists(name)


async def test_tags(engine: DockerEngine, busybox_image: str) -> None:
    reference = f"ecs-host-agent-test/other-{uuid4().hex[:8]}:v1"
    await engine.tag_image(busybox_image, reference)
    assert (await engine.inspect_image(reference)).id == (
        await engine.inspect_image(busybox_image)
    ).id
    await engine.remove_image(reference)
    with pytest.raises(NoSuchImage):
        await engine.inspect_image(reference)


async def test_a_passed_deadline_names_the_call(
    engine: DockerEngine, containers: Containers
) -> None:
    made = await containers.run(["sh", "-c", "trap '' TERM; sleep 100"])
    with pytest.raises(EngineTimeout, match="transition to stopped; timed out after waiting 0s"):
        await engine.stop_container(made, timeout_s=0, limit_s=0.01)


async def test_the_deadline_of_a_stop_includes_its_time_out(
    engine: DockerEngine, containers: Containers
) -> None:
    made = await containers.run(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    await engine.stop_container(made, timeout_s=1)
    assert (await engine.inspect_container(made)).exit_code == 137


async def test_cancelling_returns_at_once(engine: DockerEngine, containers: Containers) -> None:
    made = await containers.run(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    stopping = asyncio.ensure_future(engine.stop_container(made, timeout_s=30))
    await asyncio.sleep(0.2)
    stopping.cancel()
    async with asyncio.timeout(0.1):
        with pytest.raises(asyncio.CancelledError):
            await stopping


async def test_close_ends_calls_and_threads(containers: Containers) -> None:
    engine = DockerEngine()
    made = await containers.run(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    events = engine.events()
    await anext(events)
    stopping = asyncio.ensure_future(engine.stop_container(made, timeout_s=30))
    following = asyncio.ensure_future(anext(engine.logs(made, LogSelection(follow=True)), b""))
    await asyncio.sleep(0.2)
    own = {t for lane in _lanes(engine) for t in lane._threads}
    assert len(own) >= 2
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await stopping
    with pytest.raises(EngineUnavailable):
        await following
    assert [event async for event in events] == []
    assert not own & set(threading.enumerate())
    with pytest.raises(EngineUnavailable, match="closed"):
        await engine.ping()


def _lanes(engine: DockerEngine) -> list[Lane]:
    calls = engine._calls
    return [calls.quick, calls.launch, calls.stop, calls.pull, calls.log]


if TYPE_CHECKING:
    from agent.runtime.docker.lanes import Lane
