"""Which parameters go into one call, and which answer belongs to which name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aws import parameter_store
from agent.aws.parameter_store import BATCH, batches, parameters

ARN = "arn:aws:ssm:eu-west-1:123456789012:parameter"


class Api:
    """Answers as GetParameters does, and keeps the request."""

    def __init__(self, *known: dict[str, Any]) -> None:
        self.known = list(known)
        self.request: dict[str, Any] = {}

    async def call(self, operation: str, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert operation == "GetParameters"
        self.request = request
        return {"Parameters": self.known, "InvalidParameters": ["whatever"]}


def known(name: str, value: Any = "v", **more: str) -> dict[str, Any]:
    return {"Name": name, "ARN": f"{ARN}/{name.removeprefix('/')}", "Value": value, **more}


async def ask(api: Any, *names: str) -> dict[str, str]:
    return await parameters(api, list(names), attempts=1, limit_s=1.0)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("/prod/db", known("/prod/db")),
        ("db", known("db")),
        (f"{ARN}/prod/db", known("/prod/db")),
        (f"{ARN}/db", known("db")),
        (f"{ARN}/db", {"Name": "db", "Value": "v"}),
        (f"{ARN}/prod/db", {"Name": "/prod/db", "Value": "v"}),
        ("db:3", known("db", Selector=":3")),
        (f"{ARN}/db:live", known("db", Selector=":live")),
        ("db:3", known("db", Selector="3")),
        # One that another account shares is told by its ARN alone.
        (f"{ARN}/shared", {"ARN": f"{ARN}/shared", "Name": f"{ARN}/shared", "Value": "v"}),
    ],
)
async def test_a_parameter_is_known_by_name_or_arn(asked: str, answer: dict[str, Any]) -> None:
    api = Api(known("other", "wrong"), answer)
    assert await ask(api, asked, "unknown") == {asked: "v"}
    assert api.request == {"Names": [asked, "unknown"], "WithDecryption": True}


async def test_the_version_asked_for_is_not_the_current_one() -> None:
    api = Api(known("db", "old", Selector=":3"), known("db", "new"))
    assert await ask(api, "db:3", "db") == {"db:3": "old", "db": "new"}
    assert await ask(Api(known("db", "new")), "db:3") == {}


async def test_what_is_no_value_is_missing() -> None:
    assert await ask(Api(known("db", None), {"Value": "v"}, {"Name": 3, "Value": "v"}), "db") == {}
    api = Api()
    api.known = "nonsense"  # type: ignore[assignment]
    assert await ask(api, "db") == {}


@given(st.lists(st.sampled_from([f"{p}p{n}" for n in range(25) for p in ("", "/", f"{ARN}/")])))
def test_calls_are_small_and_name_no_parameter_twice(names: list[str]) -> None:
    calls = batches(names)
    assert sorted(name for call in calls for name in call) == sorted(set(names))
    for call in calls:
        own = [parameter_store._bare(name) for name in call]
        assert 1 <= len(own) == len(set(own)) <= BATCH
    if len({parameter_store._bare(name) for name in names}) == len(set(names)):
        assert len(calls) == -(-len(set(names)) // BATCH)
