"""Putting, getting and filtering log events, as boto3 sees them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.api.logs import operations
from agent.controlplane.front.errors import UnsupportedFeatureException
from agent.controlplane.log_store.contract import DAY_MS
from agent.controlplane.parts import Parts
from tests.unit.controlplane.api.logs.conftest import NOW_MS

if TYPE_CHECKING:
    from tests.unit.controlplane.api.logs.conftest import Logs

STREAM = {"logGroupName": "g", "logStreamName": "s"}
HOUR_MS = 3600 * 1000


async def get(logs: Logs, **request: Any) -> tuple[list[str], str, str]:
    """Return the messages of a page, and the tokens backward and forward."""
    answer = await logs.call("get_log_events", **(STREAM | request))
    found = [event["message"] for event in answer["events"]]
    return found, answer["nextBackwardToken"], answer["nextForwardToken"]


async def filtered(logs: Logs, **request: Any) -> list[str]:
    pages = logs.client.get_paginator("filter_log_events").paginate(
        **({"logGroupName": "g"} | request)
    )
    return await asyncio.to_thread(lambda: [e["message"] for page in pages for e in page["events"]])


async def test_what_was_put_is_got(group: Logs) -> None:
    answer = await group.put("eins", "zwölf\x1b[0m\n", "\U0001f433 wal")
    assert len(answer["nextSequenceToken"]) == 56
    assert "rejectedLogEventsInfo" not in answer
    events = (await group.call("get_log_events", **STREAM))["events"]
    assert events == [
        {"timestamp": NOW_MS + n, "message": text, "ingestionTime": NOW_MS}
        for n, text in enumerate(["eins", "zwölf\x1b[0m\n", "\U0001f433 wal"])
    ]


async def test_pages_forward_end_with_the_token_that_was_given(group: Logs) -> None:
    await group.put(*(str(number) for number in range(10)))
    first, _, token = await get(group, startFromHead=True, limit=4)
    second, back, token2 = await get(group, nextToken=token, startFromHead=True, limit=4)
    third, _, token3 = await get(group, nextToken=token2, limit=4)
    assert (first, second, third) == (list("0123"), list("4567"), list("89"))
    none, _, same = await get(group, nextToken=token3, limit=4)
    assert (none, same) == ([], token3)
    assert (await get(group, nextToken=back, limit=4))[0] == list("0123")
    await group.put("later", at=NOW_MS + 100)
    assert (await get(group, nextToken=token3))[0] == ["later"]


async def test_pages_backward_end_with_the_token_that_was_given(group: Logs) -> None:
    await group.put(*(str(number) for number in range(10)))
    newest, token, forward = await get(group, limit=4)
    older, token2, _ = await get(group, nextToken=token, limit=4)
    oldest, token3, _ = await get(group, nextToken=token2, limit=4)
    assert (newest, older, oldest) == (list("6789"), list("2345"), list("01"))
    none, same, again = await get(group, nextToken=token3, limit=4)
    assert (none, same) == ([], token3)
    assert (await get(group, nextToken=again))[0] == list("0123456789")
    await group.put("later", at=NOW_MS + 100)
    assert (await get(group, nextToken=forward))[0] == ["later"]


async def test_an_empty_stream_is_followed_from_its_first_token(group: Logs) -> None:
    for head in (False, True):
        stream = str(head)
        await group.call("create_log_stream", logGroupName="g", logStreamName=stream)
        found, _, token = await get(group, startFromHead=head, logStreamName=stream)
        assert found == []
        await group.put("first", stream=stream)
        assert (await get(group, nextToken=token, logStreamName=stream))[0] == ["first"]


async def test_times_of_a_page(group: Logs) -> None:
    await group.put(*(str(number) for number in range(10)))
    within = {"startTime": NOW_MS + 3, "endTime": NOW_MS + 6}
    assert (await get(group, **within))[0] == list("345"), "the end is left out"
    assert await filtered(group, **within) == list("3456"), "the end is part of it"
    assert (await get(group, startTime=NOW_MS + 8))[0] == list("89")


async def test_a_forged_token_is_refused(group: Logs) -> None:
    for token in ("f/1", "x/" + "0" * 56, "f/" + "9" * 55):
        code, text = await group.refused("get_log_events", **STREAM, nextToken=token)
        assert (code, "nextToken" in text) == ("InvalidParameterException", True)
    code, _ = await group.refused("filter_log_events", logGroupName="g", nextToken="e30=")
    assert code == "InvalidParameterException"


async def test_events_out_of_time_are_left_out_and_told(group: Logs) -> None:
    await group.call("put_retention_policy", logGroupName="g", retentionInDays=3)
    times = {
        "too old": NOW_MS - 15 * DAY_MS,
        "expired": NOW_MS - 4 * DAY_MS,
        "good": NOW_MS,
        "soon": NOW_MS + 2 * HOUR_MS,
        "too new": NOW_MS + 2 * HOUR_MS + 1,
    }
    events = [{"timestamp": time, "message": text} for text, time in times.items()]
    answer = await group.call("put_log_events", **STREAM, logEvents=events)
    assert answer["rejectedLogEventsInfo"] == {
        "tooOldLogEventEndIndex": 1,
        "expiredLogEventEndIndex": 2,
        "tooNewLogEventStartIndex": 4,
    }
    assert (await get(group))[0] == ["good", "soon"]
    answer = await group.call("put_log_events", **STREAM, logEvents=events[:1])
    assert answer["rejectedLogEventsInfo"]["tooOldLogEventEndIndex"] == 1


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([(NOW_MS, "x" * 1_048_551)], "exceeds limit of 1048576"),
        ([(NOW_MS, "\U0001f433" * 262_138)], "exceeds limit of 1048576"),
        ([(NOW_MS + 1, "a"), (NOW_MS, "b")], "chronological"),
        ([(NOW_MS - DAY_MS - 1, "a"), (NOW_MS, "b")], "24 hours"),
        ([(NOW_MS, "")], "min length"),
        ([], "min length"),
        ([(NOW_MS, "a")] * 10_001, "10000"),
    ],
)
async def test_batches_that_break_a_rule_are_refused_whole(
    group: Logs, events: list[tuple[int, str]], words: str
) -> None:
    batch = [{"timestamp": time, "message": text} for time, text in events]
    code, text = await group.refused("put_log_events", **STREAM, logEvents=batch)
    assert code == "InvalidParameterException"
    assert words in text
    assert (await get(group))[0] == []


async def test_the_largest_batches_are_taken(group: Logs) -> None:
    await group.put("x" * 1_048_550)
    # The worst that JSON makes of a batch: six bytes for each of a message.
    await group.put("\x01" * 1_048_550, at=NOW_MS + 10)
    many = [{"timestamp": NOW_MS + 20, "message": str(number)} for number in range(10_000)]
    await group.call("put_log_events", **STREAM, logEvents=many, sequenceToken="ignored")
    assert [len(text) for text in await filtered(group)][:2] == [1_048_550] * 2
    found = await filtered(group, startTime=NOW_MS + 20)
    assert found == [str(number) for number in range(10_000)]


async def test_filtering_interleaves_streams_and_goes_on_by_token(group: Logs) -> None:
    for name in ("a/1", "a/2", "b/1"):
        await group.call("create_log_stream", logGroupName="g", logStreamName=name)
    for number in range(12):
        stream = ("a/1", "a/2", "b/1")[number % 3]
        await group.put(f"{number:02} {stream}", at=NOW_MS + number, stream=stream)
    everything = [f"{number:02} {('a/1', 'a/2', 'b/1')[number % 3]}" for number in range(12)]
    assert await filtered(group, limit=5) == everything
    assert await filtered(group, limit=5, startFromHead=False) == everything[::-1]
    assert await filtered(group, logStreamNamePrefix="a/", limit=3) == [
        text for text in everything if " a/" in text
    ]
    assert await filtered(group, logStreamNames=["b/1", "a/2"]) == [
        text for text in everything if "a/1" not in text
    ]
    answer = await group.call("filter_log_events", logGroupName="g", limit=2)
    first = answer["events"][0]
    assert first | {"eventId": ""} == {
        "logStreamName": "a/1",
        "timestamp": NOW_MS,
        "message": "00 a/1",
        "ingestionTime": NOW_MS,
        "eventId": "",
    }
    assert len({event["eventId"] for event in answer["events"]}) == 2
    assert answer["searchedLogStreams"] == []
    code, _ = await group.refused(
        "filter_log_events", logGroupName="g", nextToken=answer["nextToken"], filterPattern="x"
    )
    assert code == "InvalidParameterException", "a token is of one reading"
    for names in (
        {"logStreamNames": ["none"]},
        {"logStreamNames": ["a/1"], "logStreamNamePrefix": "a"},
    ):
        code, _ = await group.refused("filter_log_events", logGroupName="g", **names)
        assert code in {"ResourceNotFoundException", "InvalidParameterException"}


async def test_filter_patterns(group: Logs) -> None:
    await group.put("ERROR disk", "WARN disk", '{"level": "error", "took": 12}', "[ERROR] net")
    assert await filtered(group, filterPattern="ERROR") == ["ERROR disk", "[ERROR] net"]
    assert await filtered(group, filterPattern="ERROR -net") == ["ERROR disk"]
    assert await filtered(group, filterPattern="?WARN ?net") == ["WARN disk", "[ERROR] net"]
    assert await filtered(group, filterPattern="{ $.took > 10 }") == [
        '{"level": "error", "took": 12}'
    ]
    for pattern in ("[a, b]", "%x+%", '"open', "{ $.x ~ 1 }"):
        code, text = await group.refused(
            "filter_log_events", logGroupName="g", filterPattern=pattern
        )
        assert code == "InvalidParameterException"
        assert text.startswith("Invalid filter pattern: ")


async def test_a_control_without_logs_says_so(logs: Logs) -> None:
    parts = Parts(store=object(), no_logs_reason="logs are off")  # type: ignore[arg-type]
    for operation, handler in operations.handlers().items():
        if operation == "StartLiveTail":
            continue
        request = {
            "logGroupName": "g",
            "logStreamName": "s",
            "resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:g",
            "tags": {},
            "tagKeys": [],
            "retentionInDays": 1,
        }
        with pytest.raises(UnsupportedFeatureException, match="logs are off"):
            await handler(parts, request)
