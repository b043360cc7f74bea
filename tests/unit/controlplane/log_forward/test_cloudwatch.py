"""Batches for PutLogEvents, and what becomes of its answers."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aws.api import JsonApi
from agent.controlplane.log_forward.chunks import Chunk
from agent.controlplane.log_forward.cloudwatch import CloudWatch, batches
from agent.controlplane.log_store import rules
from agent.controlplane.log_store.contract import DAY_MS, Event
from agent.errors import AwsRefused, AwsUnavailable


def events(*times: int, size: int = 1) -> list[Event]:
    return [Event(time, place, 1, 0, "x" * size) for place, time in enumerate(times)]


@given(st.lists(st.integers(0, 3 * DAY_MS), max_size=40), st.integers(1, 300_000))
def test_batches_are_as_put_log_events_takes_them(times: list[int], size: int) -> None:
    given_ = events(*sorted(times), size=size)
    made = list(batches(given_))
    assert [event for batch in made for event in batch] == given_
    for batch in made:
        taken = rules.judge(
            [event.timestamp_ms for event in batch],
            [event.message for event in batch],
            now_ms=3 * DAY_MS,
            kept_since_ms=0,
        )
        assert (taken.first, taken.end) == (0, len(batch))


class Answers:
    """Stands for ``JsonApi``: answers in turn, and keeps what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def call(self, operation: str, _request: dict[str, Any]) -> Any:
        self.asked.append(operation)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def refused(code: str) -> AwsRefused:
    return AwsRefused(f"{code}: no", code=code)


def destination(*answers: Any) -> tuple[CloudWatch, Answers]:
    api = Answers(*answers)
    return CloudWatch("cloudwatch:x", cast(JsonApi, api)), api


async def test_what_is_missing_is_made() -> None:
    cloudwatch, api = destination(
        refused("ResourceNotFoundException"),
        refused("ResourceAlreadyExistsException"),
        {},
        {"rejectedLogEventsInfo": {"tooOldLogEventEndIndex": 1}},
    )
    sent = await cloudwatch.send([Chunk("g", "s", events(1, 2))])
    assert api.asked == ["PutLogEvents", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]
    assert sent.again == []
    assert [(refusal.events, refusal.text) for refusal in sent.refusals] == [(1, "too old")]


async def test_what_was_not_taken_is_left_from_the_first_failure_on() -> None:
    given_ = events(0, DAY_MS * 2, DAY_MS * 4)
    cloudwatch, _ = destination({}, AwsUnavailable("down"))
    sent = await cloudwatch.send([Chunk("g", "s", given_)])
    assert [chunk.events for chunk in sent.again] == [given_[1:]]
    assert sent.trouble == "down"


@pytest.mark.parametrize(
    ("code", "is_final"),
    [
        ("InvalidParameterException", True),
        ("AccessDeniedException", False),
        ("ServiceQuotaExceededException", False),
    ],
)
async def test_only_what_nobody_can_mend_is_given_up(code: str, is_final: bool) -> None:
    cloudwatch, _ = destination(refused(code))
    sent = await cloudwatch.send([Chunk("g", "s", events(1))])
    assert bool(sent.again) is not is_final
    assert bool(sent.refusals) is is_final
