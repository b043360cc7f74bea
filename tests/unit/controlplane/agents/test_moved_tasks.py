"""What becomes of tasks that a host brings along from an instance that it was before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.model.wire import ChangesAnswer, Held, HeldTask
from tests.support.control_endpoint import ScriptedAgent, a_report, control_endpoint, definition

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

EMPTY = msgspec.Raw(b"{}")


class Host(ScriptedAgent):
    """An agent that keeps its payloads."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.payloads: dict[str, msgspec.Raw] = {}

    async def take_all(self) -> dict[str, str]:
        answer = await self.poll(after=0)
        assert answer is not None
        self.payloads |= {t.task_arn: t.payload for t in answer.tasks}
        return {t.task_arn: t.desired_status for t in answer.tasks}

    async def bring(self, payloads: dict[str, msgspec.Raw], status: str = "RUNNING") -> list[str]:
        tasks = [HeldTask(payload=p, change=a_report(arn, status)) for arn, p in payloads.items()]
        code, body = await self.send("POST", f"/v1/instances/{self.id}/brought", Held(tasks=tasks))
        assert code == 200
        results = msgspec.json.decode(body, type=ChangesAnswer).results
        assert [r.id for r in results] == [t.change.id for t in tasks]
        return [r.status for r in results]


async def run(endpoint: Endpoint, count: int = 1) -> list[str]:
    await endpoint.call("RegisterTaskDefinition", **definition())
    answer = await endpoint.call("RunTask", taskDefinition="web", count=count)
    assert answer["failures"] == []
    return [str(task["taskArn"]) for task in answer["tasks"]]


async def until_away(endpoint: Endpoint, host: Host) -> None:
    while True:
        answer = await endpoint.call("DescribeContainerInstances", containerInstances=[host.arn])
        if not answer["containerInstances"][0]["agentConnected"]:
            return


async def cpu_left(endpoint: Endpoint, host: Host) -> int:
    answer = await endpoint.call("DescribeContainerInstances", containerInstances=[host.arn])
    (left,) = (
        r["integerValue"]
        for r in answer["containerInstances"][0]["remainingResources"]
        if r["name"] == "CPU"
    )
    return int(left)


async def test_they_go_on_as_those_of_the_new_instance(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, lease_s=0.3) as endpoint:
        before = Host(endpoint)
        await before.register()
        running, stopping = await run(endpoint, 2)
        await before.take_all()
        await endpoint.call("StopTask", task=stopping)
        await until_away(endpoint, before)
        after = Host(endpoint)
        await after.register()
        assert await after.bring(before.payloads) == ["ok", "ok"]
        assert await after.take_all() == {running: "RUNNING", stopping: "STOPPED"}
        task = await endpoint.task(running)
        assert (task["containerInstanceArn"], task["lastStatus"]) == (after.arn, "RUNNING")
        assert await cpu_left(endpoint, before) == 2048
        assert await cpu_left(endpoint, after) == 2048 - 2 * 256
        assert await after.bring(before.payloads) == ["ok", "ok"]


async def test_not_while_the_other_agent_is_there_and_not_without_the_payload(
    tmp_path: Path,
) -> None:
    async with control_endpoint(tmp_path, lease_s=1.0) as endpoint:
        before = Host(endpoint)
        await before.register()
        (task,) = await run(endpoint)
        await before.take_all()
        thief = Host(endpoint)
        await thief.register()
        assert await thief.bring(before.payloads) == ["elsewhere"]
        await until_away(endpoint, before)
        forged = msgspec.json.decode(before.payloads[task])
        forged["containers"][0]["containerArn"] = "arn:guessed"
        for payload in (EMPTY, msgspec.Raw(b"[]"), msgspec.Raw(msgspec.json.encode(forged))):
            assert await thief.bring({task: payload}) == ["elsewhere"]
        assert (await endpoint.task(task))["containerInstanceArn"] == before.arn


async def test_what_nobody_wants_is_said_so(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        host = Host(endpoint)
        await host.register()
        ended, wanted = await run(endpoint, 2)
        await host.take_all()
        await host.report(a_report(ended, "STOPPED"))
        unknown = f"{ended[:-4]}0000"
        assert await host.bring(dict.fromkeys([ended, wanted, unknown, "no arn"], EMPTY)) == [
            *("rejected", "ok", "rejected", "rejected")
        ]
        await endpoint.call("DeregisterContainerInstance", containerInstance=host.arn, force=True)
        again = Host(endpoint)
        await again.register()
        assert await again.bring(host.payloads) == ["rejected", "rejected"]
