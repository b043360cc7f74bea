"""``POST /control/usage``: a cluster with the newest figures of its agents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.model import statistics
from agent.model.usage import HostUsage, TaskUsage, Usage
from tests.support.control_endpoint import (
    CAPABILITIES,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

PATH = "/control/usage"


async def asked(endpoint: Endpoint, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    async with endpoint.session.post(f"{endpoint.url}{PATH}", data=body) as answer:
        return answer.status, await answer.json()


async def test_hosts_and_tasks_with_their_newest_figures(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        await endpoint.call("RegisterTaskDefinition", **definition())
        started = await endpoint.call("RunTask", taskDefinition="web", count=2)
        run, wait = (task["taskArn"] for task in started["tasks"])
        await agent.poll()
        await agent.report(a_report(run, "RUNNING"))
        status, view = await asked(endpoint)
        assert status == 200
        (host,) = view["hosts"]
        assert (host["id"], host["connected"], host["status"]) == (agent.id, True, "ACTIVE")
        assert (host["tasksRunning"], host["tasksPending"]) == (1, 1)
        assert (host["cpuReservedUnits"], host["cpuTotalUnits"]) == (512, 2048)
        assert (host["memoryReservedMib"], host["memoryOfferedMib"]) == (256, 2048)
        # Nothing was measured yet: that is not zero.
        assert (host["at"], host["cpuUnits"], host["memoryUsedBytes"]) == (None, None, None)
        assert {task["cpuUnits"] for task in view["tasks"]} == {None}

        usage = Usage(
            host=HostUsage(cpu_units=statistics.of([1000.0, 2000.0]), memory_total_bytes=1 << 30),
            tasks=[TaskUsage(task_arn=run, memory_bytes=statistics.one(4096.0))],
        )
        assert (await agent.send("POST", f"/v1/instances/{agent.id}/usage", usage))[0] in (200, 204)
        _, view = await asked(endpoint, json.dumps({"cluster": "default"}).encode())
        assert view["hosts"][0]["cpuUnits"] == 1500.0
        assert view["hosts"][0]["memoryTotalBytes"] == 1 << 30
        by_id = {task["id"]: task for task in view["tasks"]}
        assert by_id[run.rpartition("/")[2]]["memoryBytes"] == 4096.0
        assert by_id[run.rpartition("/")[2]]["cpuUnits"] is None
        assert by_id[wait.rpartition("/")[2]]["at"] is None

        await endpoint.call("StopTask", task=wait)
        await agent.report(a_report(wait, "STOPPED"))
        _, view = await asked(endpoint)
        assert [task["status"] for task in view["tasks"]] == ["RUNNING"]


async def test_a_cluster_that_does_not_exist(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        status, body = await asked(endpoint, b'{"cluster": "nowhere"}')
        assert status == 404
        assert body == {"message": "there is no cluster 'nowhere'"}


async def test_a_lent_host_shows_what_tasks_of_other_clusters_take(tmp_path: Path) -> None:
    said = ("fargate", "fargate-all-clusters")
    lent = CAPABILITIES | {f"ecs-host-agent.{name}": "" for name in said}
    fargate = {"requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512"}
    vpc = {"awsvpcConfiguration": {"subnets": ["s"]}}
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint, attributes=lent)
        await agent.register()
        await endpoint.call("CreateCluster", clusterName="shop")
        await endpoint.call("RegisterTaskDefinition", **definition(networkMode="awsvpc", **fargate))
        await endpoint.call(
            "RunTask",
            cluster="shop",
            taskDefinition="web",
            launchType="FARGATE",
            networkConfiguration=vpc,
        )
        _, view = await asked(endpoint)
        (host,) = view["hosts"]
        assert (host["tasksPending"], host["cpuReservedUnits"]) == (1, 256)
        assert view["tasks"] == []
        _, view = await asked(endpoint, json.dumps({"cluster": "shop"}).encode())
        assert ([task["family"] for task in view["tasks"]], view["hosts"]) == (["web"], [])


@pytest.mark.parametrize("body", [b"[]", b'{"cluster": 1}', b'{"clusters": "x"}'])
async def test_what_cannot_be_read_is_refused(tmp_path: Path, body: bytes) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        status, answer = await asked(endpoint, body)
        assert status == 400
        assert "cannot be read" in answer["message"]


async def test_only_operators_may(tmp_path: Path) -> None:
    async with control_endpoint(
        tmp_path, keys_file=tmp_path / "credentials", token_file=tmp_path / "tokens"
    ) as endpoint:
        status, body = await asked(endpoint, b"{}")
        assert status == 400
        assert "Missing Authentication Token" in body["message"]
