"""Waiting for Auto Scaling to put the instance into service."""

from __future__ import annotations

import asyncio
import math

import pytest

from agent.errors import AwsUnavailable, RegistrationRefused
from agent.model.liveness import Liveness
from agent.upstream.amazon.ec2.warm_pool import PATH, in_service
from tests.support.ecs_calls import ScriptedMetadata, Value


async def _waited(answers: list[Value], tries: int = 120) -> tuple[ScriptedMetadata, list[str]]:
    imds = ScriptedMetadata({PATH: answers})
    told: list[str] = []
    async with asyncio.timeout(5):
        await in_service(
            imds, Liveness("registration"), waiting=told.append, interval_s=0.0, tries=tries
        )
    return imds, told


async def test_in_service_at_once() -> None:
    imds, told = await _waited(["InService"])
    assert len(imds.asked) == 1
    assert told == []


async def test_each_state_is_told_once() -> None:
    answers: list[Value] = [None, None, "Warmed:Pending", "Warmed:Pending", "InService"]
    _, told = await _waited(answers)
    assert [text.rpartition("(")[2] for text in told] == ["no state)", "Warmed:Pending)"]


@pytest.mark.parametrize("code", ["", "401", "429", "500", "503"])
async def test_what_may_pass_is_waited_out_for_any_time(code: str) -> None:
    away: list[Value] = [AwsUnavailable("away", code=code)] * 200
    imds, _ = await _waited([*away, "InService"], tries=3)
    assert len(imds.asked) == 201


async def test_an_instance_of_no_group_is_told_so() -> None:
    with pytest.raises(RegistrationRefused, match="set ECS_WARM_POOLS_CHECK=false"):
        await _waited([None], tries=120)


async def test_after_a_first_state_there_is_no_limit() -> None:
    answers: list[Value] = ["Warmed:Stopped", *[None] * 300, "InService"]
    imds, _ = await _waited(answers, tries=3)
    assert len(imds.asked) == 302


@pytest.mark.parametrize("code", ["400", "403"])
async def test_metadata_that_refuses_ends_it(code: str) -> None:
    with pytest.raises(RegistrationRefused, match="allow access to instance metadata"):
        await _waited([AwsUnavailable("refused", code=code)])


@pytest.mark.parametrize("imds", [None, ScriptedMetadata(enabled=False)])
async def test_hosts_without_metadata_do_not_wait(imds: ScriptedMetadata | None) -> None:
    await in_service(imds, Liveness("registration"))


async def test_each_wait_is_promised() -> None:
    liveness = Liveness("registration")
    imds = ScriptedMetadata({PATH: "Warmed:Stopped"})
    task = asyncio.create_task(in_service(imds, liveness, interval_s=3600.0))
    await asyncio.sleep(0.05)
    assert liveness.doing == "waiting for Auto Scaling"
    assert 3600 < liveness.due - liveness.since < math.inf
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
