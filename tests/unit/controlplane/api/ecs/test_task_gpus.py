"""Tasks with GPUs: numbers of them, all of a host, shares of one; kept over a restart of control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.model.payload import decode
from agent.model.resources import Gpu, needs_of
from tests.support.control_endpoint import (
    CAPABILITIES,
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from pathlib import Path

GPUS = (
    Gpu(uuid="GPU-0", memory_mib=8000),
    Gpu(uuid="GPU-1", memory_mib=4000),
    Gpu(uuid="MIG-2", memory_mib=9000),
)


def host(endpoint: Endpoint, *, shares: bool = True) -> ScriptedAgent:
    mps = {"ecs-host-agent.gpu-mps": ""} if shares else {}
    return ScriptedAgent(endpoint, gpus=GPUS, attributes=CAPABILITIES | mps, client_token="one")


def asking(name: str = "main", **asked: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": "img",
        "memory": 64,
        "resourceRequirements": [{"type": "GPU", **asked}],
    }


def sharing(mib: int, name: str = "main", **more: Any) -> dict[str, Any]:
    return asking(name, sharingStrategy={"nvidiaMps": {"memory": mib, **more}})


async def run(endpoint: Endpoint, *containers: dict[str, Any], count: int = 1) -> dict[str, Any]:
    made = definition(containerDefinitions=list(containers))
    await endpoint.call("RegisterTaskDefinition", **made)
    return await endpoint.call("RunTask", taskDefinition="web", count=count)


def given(answer: dict[str, Any]) -> list[list[str]]:
    return [c["gpuIds"] for task in answer["tasks"] for c in task["containers"]]


async def devices(endpoint: Endpoint, agent: ScriptedAgent) -> list[tuple[str, str, int, int]]:
    answer = await endpoint.call("DescribeContainerInstances", containerInstances=[agent.arn])
    keys = ("gpuId", "sharingMode", "remainingMemoryInMiB", "containerCount")
    found = answer["containerInstances"][0]["gpuDevices"]
    return [tuple(device[key] for key in keys) for device in found]


async def test_all_means_every_gpu_of_a_host_that_gave_none_away(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        agent = host(endpoint)
        await agent.register()
        one = await run(endpoint, asking(value="ALL"))
        assert given(one) == [["GPU-0", "GPU-1", "MIG-2"]]
        more = await run(endpoint, asking(value="1"))
        assert more["failures"] == [{"arn": agent.arn, "reason": "RESOURCE:GPU"}]
        await endpoint.call("StopTask", task=one["tasks"][0]["taskArn"])


async def test_all_waits_for_the_last_gpu(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        agent = host(endpoint)
        await agent.register()
        await run(endpoint, asking(value="1"))
        answer = await run(endpoint, asking(value="ALL"))
        assert answer["failures"] == [{"arn": agent.arn, "reason": "RESOURCE:GPU"}]


async def test_shares_of_one_task_are_on_one_gpu_and_survive_a_restart(tmp_path: Path) -> None:
    two = (sharing(1500, "main", maxComputePercent=30), sharing(1000, "other"))
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        agent = host(endpoint)
        await agent.register()
        answer = await run(endpoint, *two)
        assert given(answer) == [["GPU-1"], ["GPU-1"]], "the smallest that is enough"
        polled = await agent.poll()
        assert polled is not None
        payload = decode(bytes(polled.tasks[0].payload or b""))
        assert [(a.name, a.containers) for a in payload.associations] == [
            ("GPU-1", ["main", "other"])
        ]
        share = payload.containers[0].gpu_share
        assert share is not None
        assert (share.memory, share.max_compute_percent) == (1500, 30)
        needs = needs_of(payload)
        assert (needs.gpus, needs.gpu_shares) == (frozenset(), {"GPU-1": 2500})
    async with control_endpoint(tmp_path) as endpoint:
        agent = host(endpoint)
        await agent.register()
        assert await devices(endpoint, agent) == [
            ("GPU-0", "IDLE", 8000, 0),
            ("GPU-1", "NVIDIA_MPS", 1500, 2),
            ("MIG-2", "IDLE", 0, 0),
        ]
        assert given(await run(endpoint, sharing(1500))) == [["GPU-1"]]
        assert given(await run(endpoint, asking(value="1"))) == [["GPU-0"]]
        answer = await run(endpoint, sharing(1))
        assert answer["failures"] == [{"arn": agent.arn, "reason": "RESOURCE:GPU"}]
        assert (await devices(endpoint, agent))[0] == ("GPU-0", "DEDICATED", 0, 1)


async def test_hosts_without_mps_share_nothing(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        agent = host(endpoint, shares=False)
        await agent.register()
        answer = await run(endpoint, sharing(1))
        assert [failure["reason"] for failure in answer["failures"]] == ["ATTRIBUTE"]
        shown = await endpoint.call("DescribeContainerInstances", containerInstances=[agent.arn])
        assert "gpuDevices" not in shown["containerInstances"][0]


@pytest.mark.parametrize(
    ("containers", "told"),
    [
        ([sharing(1), asking("other", value="1")], "must all use the same option"),
        ([asking(value="1", sharingStrategy={"nvidiaMps": {"memory": 1}})], "not both"),
        ([asking(value="some")], "a whole number above 0, or ALL"),
    ],
)
async def test_what_cannot_be_is_refused_at_registration(
    tmp_path: Path, containers: list[dict[str, Any]], told: str
) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        with pytest.raises(ApiFailure, match=told):
            await run(endpoint, *containers)
