"""``POST /control/changes``: what a reader is told, from where, and that nobody's reading costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from agent.controlplane.console import stream
from agent.controlplane.console.changes import Changes
from agent.model import statistics
from agent.model.usage import HostUsage, TaskUsage, Usage
from tests.support.control_endpoint import ScriptedAgent, a_report, control_endpoint, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp
    import pytest

    from tests.support.control_endpoint import Endpoint

PATH = "/control/changes"


class Reader:
    """Reads a stream line by line."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.seen: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(40):
            while True:
                line = await self.answer.content.readline()
                assert line, "the stream has ended"
                if line.strip():
                    self.seen.append(json.loads(line))
                    return self.seen[-1]

    async def until(self, kind: str, name: str) -> dict[str, Any]:
        while True:
            line = await self.next()
            if name in line.get(kind, ()):
                return line


@contextlib.asynccontextmanager
async def reading(endpoint: Endpoint, **asked: Any) -> AsyncIterator[Reader]:
    async with endpoint.session.post(f"{endpoint.url}{PATH}", json=asked) as answer:
        assert answer.status == 200, await answer.text()
        yield Reader(answer)


async def test_a_task_and_its_service_and_host_and_their_figures(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        await endpoint.call("RegisterTaskDefinition", **definition())
        async with reading(endpoint, cluster="default") as reader:
            first = await reader.next()
            assert first.keys() == {"place"}
            await endpoint.call(
                "CreateService", serviceName="web", taskDefinition="web", desiredCount=1
            )
            await reader.until("services", "web")
            while not (await agent.poll() or agent.held):
                pass
            (arn,) = agent.held
            task_id = arn.rsplit("/", 1)[1]
            if not any(task_id in line.get("tasks", ()) for line in reader.seen):
                await reader.until("tasks", task_id)
            assert any(agent.id in line.get("hosts", ()) for line in reader.seen)
            await agent.report(a_report(arn, "RUNNING"))
            line = await reader.until("tasks", task_id)
            assert line["services"] == ["web"]
            usage = Usage(
                host=HostUsage(cpu_units=statistics.of([100.0])),
                tasks=[TaskUsage(task_arn=arn, cpu_units=statistics.of([64.0]))],
            )
            await agent.send("POST", f"/v1/instances/{agent.id}/usage", usage)
            line = await reader.until("taskFigures", task_id)
            assert line["taskFigures"][task_id]["cpuUnits"] == 64.0
            assert line["hostFigures"][agent.id]["cpuUnits"] == 100.0
        # From its place, a reader gets what it has missed, and nothing else.
        await endpoint.call("CreateCluster", clusterName="another")
        await endpoint.call("StopTask", task=arn)
        async with reading(endpoint, cluster="default", after=line["place"]) as reader:
            assert (await reader.next())["place"] == line["place"]
            assert "isGap" not in await reader.until("tasks", task_id)
        async with reading(endpoint, after=line["place"]) as reader:
            await reader.until("clusters", "another")
            assert set().union(*reader.seen) == {"place", "clusters"}


async def test_a_place_of_another_store_is_a_gap(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        async with reading(endpoint, cluster="default", after=10**9) as reader:
            assert (await reader.next())["isGap"] is True
        async with reading(endpoint, cluster="default", after=-1) as reader:
            assert (await reader.next())["isGap"] is True


async def test_a_silent_stream_shows_that_it_lives_and_ends_with_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.01)
    async with control_endpoint(tmp_path) as endpoint:
        answer = await endpoint.session.post(f"{endpoint.url}{PATH}", json={"cluster": "default"})
        async with asyncio.timeout(40):
            while await answer.content.readline() != b"\n":
                pass
    answer.close()


async def test_readers_are_bounded_and_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a reader, no change of the store and no figures reach the console's code."""
    monkeypatch.setattr(stream, "READERS_MOST", 1)
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.01)
    taken: list[str] = []
    take, take_usage = Changes.take, Changes.take_usage

    def noted(self: Changes, event: Any) -> None:
        taken.append(event.kv.key)
        take(self, event)

    def noted_usage(self: Changes, instance_id: str, usage: Usage) -> None:
        taken.append(instance_id)
        take_usage(self, instance_id, usage)

    monkeypatch.setattr(Changes, "take", noted)
    monkeypatch.setattr(Changes, "take_usage", noted_usage)
    closed = asyncio.Event()
    close = stream._Follower.close

    async def noted_close(self: stream._Follower) -> None:
        await close(self)
        closed.set()

    monkeypatch.setattr(stream._Follower, "close", noted_close)
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        async with reading(endpoint, cluster="default") as reader:
            await reader.next()
            async with endpoint.session.post(f"{endpoint.url}{PATH}", json={}) as second:
                assert second.status == 503
                assert "1 readers follow changes already" in (await second.json())["message"]
            await endpoint.call("CreateCluster", clusterName="seen")
            async with asyncio.timeout(40):
                while "/clusters/seen" not in taken:  # noqa: ASYNC110 - as next
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(40):
            await closed.wait()
        taken.clear()
        await endpoint.call("CreateCluster", clusterName="unseen")
        usage = Usage(host=HostUsage(cpu_units=statistics.of([100.0])))
        await agent.send("POST", f"/v1/instances/{agent.id}/usage", usage)
        assert taken == []


async def test_only_operators_may_and_only_what_is_known(tmp_path: Path) -> None:
    async with (
        control_endpoint(tmp_path / "a", keys_file=tmp_path / "credentials") as endpoint,
        endpoint.session.post(f"{endpoint.url}{PATH}", json={}) as answer,
    ):
        assert answer.status == 400
        assert "Missing Authentication Token" in (await answer.json())["message"]
    async with (
        control_endpoint(tmp_path / "b") as endpoint,
        endpoint.session.post(f"{endpoint.url}{PATH}", json={"since": 1}) as answer,
    ):
        assert answer.status == 400
        assert "since" in (await answer.json())["message"]
