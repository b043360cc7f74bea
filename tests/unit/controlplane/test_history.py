"""A store that goes back: nobody is stopped by it, and what it forgot comes back from the agents."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.model.changes import ContainerChange
from agent.model.wire import Assignments, ChangesAnswer, Held, HeldTask
from tests.support.control_endpoint import (
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model.changes import TaskChange

FILES = ("", "-wal", ".revision")


class Host(ScriptedAgent):
    """An agent that keeps what it saw, as ours does."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.seen: dict[str, Any] = {}
        self.payloads: dict[str, msgspec.Raw] = {}

    async def join(self) -> bool:
        """Register with what was seen; tell whether control went back."""
        answer = await self.register(
            instance_arn=self.arn, known_tasks=[*self.payloads], **self.seen
        )
        self.seen |= {"seen_control_id": answer.control_id}
        return answer.went_back

    async def all_wanted(self) -> Assignments:
        """Ask for everything, and take it."""
        answer = await self.poll(after=0)
        assert answer is not None
        self.seen |= {"seen_history": answer.history, "seen_revision": answer.revision}
        self.payloads |= {
            t.task_arn: t.payload for t in answer.tasks if t.task_arn not in self.payloads
        }
        return answer

    async def say(self, *tasks: tuple[str, TaskChange], last: bool = True) -> tuple[int, Any]:
        held = [HeldTask(payload=self.payloads[arn], change=change) for arn, change in tasks]
        status, body = await self.send(
            "POST", f"/v1/instances/{self.id}/held", Held(tasks=held, last=last)
        )
        return status, msgspec.json.decode(body, type=ChangesAnswer) if status == 200 else body


@asynccontextmanager
async def opened(directory: Path, host: Host | None = None) -> AsyncIterator[Endpoint]:
    async with control_endpoint(directory) as endpoint:
        if host is not None:
            host._endpoint = endpoint
        yield endpoint


def copy(source: Path, target: Path, names: tuple[str, ...] = FILES) -> None:
    for name in names:
        target.joinpath(f"control.db{name}").unlink(missing_ok=True)
        if source.joinpath(f"control.db{name}").exists():
            shutil.copyfile(source / f"control.db{name}", target / f"control.db{name}")


async def run(endpoint: Endpoint) -> str:
    container = {"name": "main", "image": "img", "cpu": 256, "memory": 128}
    container["portMappings"] = [{"containerPort": 80, "hostPort": 8080}]
    await endpoint.call("RegisterTaskDefinition", **definition(containerDefinitions=[container]))
    answer = await endpoint.call("RunTask", taskDefinition="web")
    assert answer["failures"] == []
    return str(answer["tasks"][0]["taskArn"])


async def cpu_left(endpoint: Endpoint, host: Host) -> int:
    answer = await endpoint.call("DescribeContainerInstances", containerInstances=[host.arn])
    left = {
        r["name"]: r["integerValue"] for r in answer["containerInstances"][0]["remainingResources"]
    }
    return int(left["CPU"])


def running(arn: str) -> TaskChange:
    container = ContainerChange(container_name="main", status="RUNNING", runtime_id="r1")
    return a_report(arn, "RUNNING", containers=[container])


@pytest.mark.parametrize("with_watermark", [True, False])
async def test_an_older_copy_forgets_nothing_that_its_agents_hold(
    tmp_path: Path, with_watermark: bool
) -> None:
    now, older = tmp_path / "now", tmp_path / "older"
    now.mkdir()
    older.mkdir()
    async with opened(now) as endpoint:
        host = Host(endpoint)
        assert await host.join() is False
        known = await run(endpoint)
        await host.all_wanted()
    copy(now, older)
    async with opened(now, host) as endpoint:
        assert await host.join() is False
        await host.report(running(known))
        await endpoint.call("StopTask", task=known)
        await host.report(a_report(known, "STOPPED"))
        forgotten = await run(endpoint)
        await host.all_wanted()
        await host.report(running(forgotten))
        before = await endpoint.task(forgotten)
    copy(older, now, FILES if not with_watermark else ("", "-wal"))
    if not with_watermark:
        (now / "control.db.revision").unlink()
    async with opened(now, host) as endpoint:
        # It is told so, and is not given a full set until it has said what it holds.
        assert await host.join() is True
        answer = await host.poll(after=0)
        assert answer is not None
        assert answer.full is False
        status, told = await host.say(
            (known, a_report(known, "STOPPED")), (forgotten, running(forgotten))
        )
        assert status == 200
        assert [result.status for result in told.results] == ["ok", "ok"]
        answer = await host.all_wanted()
        assert (answer.full, [t.task_arn for t in answer.tasks]) == (True, [forgotten])
        assert (await endpoint.task(known))["lastStatus"] == "STOPPED"
        after = await endpoint.task(forgotten)
        same = ("lastStatus", "containerInstanceArn", "cpu", "memory", "group", "taskDefinitionArn")
        assert {name: after[name] for name in same} == {name: before[name] for name in same}
        assert await cpu_left(endpoint, host) == 2048 - 256
        # Its port is taken, and it can be stopped.
        answer_ = await endpoint.call("RunTask", taskDefinition="web")
        assert answer_["failures"][0]["reason"] == "RESOURCE:PORTS"
        await endpoint.call("StopTask", task=forgotten)
        order = await host.poll()
        assert order is not None
        assert [(t.task_arn, t.desired_status) for t in order.tasks] == [(forgotten, "STOPPED")]
        assert await host.join() is False


async def test_an_instance_that_was_forgotten_is_the_same_again(tmp_path: Path) -> None:
    now, older = tmp_path / "now", tmp_path / "older"
    now.mkdir()
    older.mkdir()
    async with opened(now) as endpoint:
        await endpoint.call("CreateCluster")
    copy(now, older)
    async with opened(now) as endpoint:
        host = Host(endpoint)
        await host.join()
        arn, task = host.arn, await run(endpoint)
        await host.all_wanted()
    copy(older, now, ("", "-wal"))
    async with opened(now, host) as endpoint:
        assert await host.join() is True
        assert host.arn == arn
        await host.say((task, running(task)))
        assert (await endpoint.task(task))["containerInstanceArn"] == arn


async def test_nobody_makes_tasks_who_was_not_asked(tmp_path: Path) -> None:
    async with opened(tmp_path) as endpoint:
        host = Host(endpoint)
        await host.join()
        task = await run(endpoint)
        await host.all_wanted()
        status, body = await host.say((task, running(task)))
        assert status == 400
        assert b"was not asked for its tasks" in body
        liar = Host(endpoint)
        await liar.join()
        answer = await liar.all_wanted()
        for seen in (
            {"seen_revision": 2**60},
            {"seen_control_id": "another", "seen_history": "another"},
        ):
            liar.seen |= {"seen_history": answer.history} | seen
            assert await liar.join() is False


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"arn": "arn:aws:ecs:eu-west-1:000000000000:task/default/" + "0" * 32}, "not that of a"),
        ({"arn": "arn:aws:ecs:us-east-1:000000000000:task/other/" + "0" * 32}, "another"),
        ({"version": "x"}, "version"),
        ({"containers": [{"image": "x"}]}, "name"),
    ],
)
async def test_what_is_no_task_of_the_instance_is_not_taken(
    tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    async with opened(tmp_path) as endpoint:
        host = Host(endpoint)
        await host.join()
        task = await run(endpoint)
        await host.all_wanted()
        host.seen |= {"seen_history": "an older one"}
        assert await host.join() is True
        payload = msgspec.json.decode(host.payloads[task]) | changes
        host.payloads[task] = msgspec.Raw(msgspec.json.encode(payload))
        status, told = await host.say((task, running(payload["arn"])))
        assert (status, told.results[0].status) == (200, "rejected")
        assert text in told.results[0].message
