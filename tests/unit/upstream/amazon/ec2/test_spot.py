"""A spot notice drains the instance, whatever is in the way."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AwsRefused, AwsUnavailable, CredentialsMissing
from agent.model.liveness import WORK_S
from agent.upstream.amazon.ec2.spot import PATH, SpotNotices, read_notice
from agent.upstream.amazon.registration import Instance
from tests.support.ecs_calls import Reply, ScriptedApi, ScriptedMetadata, Value

NOTICE = '{"action": "terminate", "time": "2026-11-23T09:30:00Z"}'
INSTANCE = Instance(arn="arn:aws:ecs:r:1:container-instance/c/1", cluster="c")
DONE: Reply = {"containerInstances": [{}], "failures": []}


async def _instance() -> Instance:
    return INSTANCE


async def _drained(
    notices: list[Value], replies: list[Reply]
) -> tuple[SpotNotices, ScriptedApi, list[str]]:
    api = ScriptedApi(UpdateContainerInstancesState=replies)
    told: list[str] = []
    spot = SpotNotices(
        ScriptedMetadata({PATH: notices}), api, _instance, told.append, interval_s=0.0, retry_s=0.0
    )
    async with asyncio.timeout(5):
        await spot.run()
    return spot, api, told


async def test_a_notice_drains_the_instance_once() -> None:
    spot, api, told = await _drained([None, None, NOTICE], [DONE])
    assert api.calls == [
        (
            "UpdateContainerInstancesState",
            {"cluster": "c", "containerInstances": [INSTANCE.arn], "status": "DRAINING"},
        )
    ]
    assert told == ["terminate at 2026-11-23T09:30:00Z"]
    assert spot.liveness.due == math.inf


async def test_what_is_no_notice_is_waited_out() -> None:
    odd: list[Value] = [
        AwsUnavailable("away", code="500"),
        "",
        "<html>",
        "[" * 5000,
        '{"action": "noop"}',
        '{"action": ["stop"]}',
        "null",
        NOTICE,
    ]
    _, api, _ = await _drained(odd, [DONE])
    assert len(api.calls) == 1


async def test_draining_is_tried_until_it_is_done() -> None:
    replies: list[Reply] = [
        AwsUnavailable("away"),
        AwsRefused("no", code="AccessDeniedException"),
        CredentialsMissing("none"),
        {"failures": [{"arn": INSTANCE.arn, "reason": "MISSING"}]},
        {"failures": [None]},
        {"failures": None},
    ]
    _, api, told = await _drained([NOTICE], replies)
    assert len(api.calls) == 6
    assert len(told) == 1


async def test_a_notice_waits_for_the_registration() -> None:
    registered = asyncio.Event()

    async def instance() -> Instance:
        await registered.wait()
        return INSTANCE

    api = ScriptedApi(UpdateContainerInstancesState=[DONE])
    spot = SpotNotices(ScriptedMetadata({PATH: NOTICE}), api, instance, interval_s=0.0)
    task = asyncio.create_task(spot.run())
    await asyncio.sleep(0.01)
    assert api.calls == []
    registered.set()
    await task
    assert len(api.calls) == 1


@pytest.mark.parametrize("imds", [None, ScriptedMetadata(enabled=False)])
async def test_hosts_without_metadata_have_no_notices(imds: ScriptedMetadata | None) -> None:
    await SpotNotices(imds, ScriptedApi(), _instance).run()


async def test_it_ends_by_cancellation_and_promises_each_wait() -> None:
    imds = ScriptedMetadata()
    spot = SpotNotices(imds, ScriptedApi(), _instance, interval_s=3600.0)
    task = asyncio.create_task(spot.run())
    await asyncio.sleep(0.05)
    assert spot.liveness.doing == "waiting for a spot notice"
    assert spot.liveness.due - spot.liveness.since == pytest.approx(3600 + WORK_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spot.liveness.due == math.inf


@given(st.text() | st.sampled_from([NOTICE, '{"action": "stop", "time": {}}']))
def test_any_text_is_a_notice_or_nothing(text: Any) -> None:
    assert read_notice(text) in {"", "stop", "terminate at 2026-11-23T09:30:00Z"}
