"""Where the sessions are served: asked rarely, and answered from memory when the API is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AwsRefused, AwsUnavailable, ControlUnavailable
from agent.upstream.amazon.poll_endpoint import KEEP_S, PollEndpoints, usable_url
from tests.support.ecs_calls import Reply, ScriptedApi

ARN = "arn:aws:ecs:us-east-1:1:container-instance/c/1"
GOOD = {"endpoint": "https://ecs-a-1.example/", "telemetryEndpoint": "https://ecs-t-1.example/"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _endpoints(*replies: Reply) -> tuple[PollEndpoints, ScriptedApi, Clock]:
    api = ScriptedApi(DiscoverPollEndpoint=list(replies))
    clock = Clock()
    return PollEndpoints(api, "c", clock=clock), api, clock


async def test_both_sessions_share_one_question() -> None:
    endpoints, api, _ = _endpoints(GOOD)
    found = await asyncio.gather(*(endpoints.acs(ARN) for _ in range(3)), endpoints.tcs(ARN))
    assert found == ["https://ecs-a-1.example/"] * 3 + ["https://ecs-t-1.example/"]
    assert api.calls == [
        ("DiscoverPollEndpoint", {"containerInstance": ARN, "cluster": "c", "zoneId": ""})
    ]


async def test_an_answer_is_good_for_twelve_hours_and_one_instance() -> None:
    endpoints, api, clock = _endpoints(GOOD, GOOD | {"endpoint": "wss://two.example"}, GOOD)
    await endpoints.acs(ARN)
    clock.now += KEEP_S - 1
    assert await endpoints.acs(ARN) == "https://ecs-a-1.example/"
    clock.now += 1
    assert await endpoints.acs(ARN) == "wss://two.example"
    assert await endpoints.acs(f"{ARN}2") == "https://ecs-a-1.example/"
    assert len(api.calls) == 3


@pytest.mark.parametrize("error", [AwsUnavailable("away"), AwsRefused("no", code="ServerError")])
async def test_an_old_answer_is_better_than_none(error: Exception) -> None:
    endpoints, api, clock = _endpoints(GOOD, error)
    await endpoints.tcs(ARN)
    clock.now += 10 * KEEP_S
    assert await endpoints.tcs(ARN) == "https://ecs-t-1.example/"
    assert await endpoints.acs(ARN) == "https://ecs-a-1.example/"
    assert len(api.calls) == 3
    with pytest.raises(type(error)):
        await endpoints.acs(f"{ARN}2")


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"endpoint": None},
        {"endpoint": 7},
        {"endpoint": ["https://x"]},
        {"endpoint": ""},
        {"endpoint": "ftp://x"},
        {"endpoint": "https://"},
        {"endpoint": "https://user:secret@x/"},
        {"endpoint": "https://x:99999/"},
        {"endpoint": "https://[::1/"},
        {"endpoint": "https://x/\r\nHost: y"},
        {"endpoint": "https://x y/"},
        {"endpoint": "https://" + "x" * 5000},
    ],
)
async def test_a_broken_answer_is_an_error_and_not_kept(broken: dict[str, Any]) -> None:
    telemetry = {"telemetryEndpoint": "https://t.example"}
    endpoints, api, clock = _endpoints(broken | telemetry, GOOD, broken)
    assert await endpoints.tcs(ARN) == "https://t.example"
    with pytest.raises(ControlUnavailable, match="no usable endpoint"):
        await PollEndpoints(ScriptedApi(DiscoverPollEndpoint=[broken]), "c").acs(ARN)
    assert await endpoints.acs(ARN) == "https://ecs-a-1.example/"
    clock.now += KEEP_S
    assert await endpoints.acs(ARN) == "https://ecs-a-1.example/"
    assert len(api.calls) == 3


@given(st.one_of(st.text(), st.text().map(lambda text: f"https://{text}"), st.integers()))
def test_any_value_is_a_url_or_nothing(value: Any) -> None:
    assert usable_url(value) in (value, "")
