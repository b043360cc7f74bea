"""Log groups, streams, retention and tags, as boto3 sees them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.controlplane.api.logs.groups import RETENTION_DAYS
from tests.unit.controlplane.api.logs.conftest import NOW_MS

if TYPE_CHECKING:
    from tests.unit.controlplane.api.logs.conftest import Logs

ARN = "arn:aws:logs:us-east-1:000000000000:log-group:g"


async def test_a_group_is_described_as_the_service_does(group: Logs) -> None:
    (found,) = (await group.call("describe_log_groups"))["logGroups"]
    assert found == {
        "logGroupName": "g",
        "creationTime": NOW_MS,
        "metricFilterCount": 0,
        "arn": f"{ARN}:*",
        "storedBytes": 0,
        "logGroupClass": "STANDARD",
        "logGroupArn": ARN,
        "deletionProtectionEnabled": False,
    }


async def test_what_is_there_or_missing_is_told_in_the_services_words(group: Logs) -> None:
    stream = {"logGroupName": "g", "logStreamName": "s"}
    assert await group.refused("create_log_group", logGroupName="g") == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )
    assert await group.refused("create_log_stream", **stream) == (
        "ResourceAlreadyExistsException",
        "The specified log stream already exists",
    )
    assert await group.refused("delete_log_group", logGroupName="none") == (
        "ResourceNotFoundException",
        "The specified log group does not exist.",
    )
    missing = {"logGroupName": "g", "logStreamName": "none"}
    assert await group.refused("get_log_events", **missing) == (
        "ResourceNotFoundException",
        "The specified log stream does not exist.",
    )
    await group.call("delete_log_stream", **stream)
    assert (await group.call("describe_log_streams", logGroupName="g"))["logStreams"] == []
    await group.call("delete_log_group", logGroupName="g")
    assert (await group.call("describe_log_groups"))["logGroups"] == []


async def test_pages_of_groups(logs: Logs) -> None:
    for number in range(7):
        await logs.call("create_log_group", logGroupName=f"/ecs/{number}")
    await logs.call("create_log_group", logGroupName="other")
    pages = logs.client.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix="/ecs", limit=3
    )
    found = await asyncio.to_thread(
        lambda: [[group["logGroupName"] for group in page["logGroups"]] for page in pages]
    )
    assert found == [
        ["/ecs/0", "/ecs/1", "/ecs/2"],
        ["/ecs/3", "/ecs/4", "/ecs/5"],
        ["/ecs/6"],
    ]
    named = await logs.call("describe_log_groups", logGroupNamePattern="the")
    assert [group["logGroupName"] for group in named["logGroups"]] == ["other"]
    by_arn = await logs.call("describe_log_groups", logGroupIdentifiers=["other", "none"])
    assert [group["logGroupName"] for group in by_arn["logGroups"]] == ["other"]
    code, _ = await logs.refused(
        "describe_log_groups", logGroupNamePattern="a", logGroupNamePrefix="b"
    )
    assert code == "InvalidParameterException"
    assert await logs.refused("describe_log_groups", nextToken="forged") == (
        "InvalidParameterException",
        "Invalid token.",
    )


async def _stream_names(logs: Logs, **request: Any) -> list[str]:
    pages = logs.client.get_paginator("describe_log_streams").paginate(limit=2, **request)
    return await asyncio.to_thread(
        lambda: [one["logStreamName"] for page in pages for one in page["logStreams"]]
    )


async def test_pages_of_streams_by_name_and_by_time(group: Logs) -> None:
    for number in range(5):
        name = f"task/{number}"
        await group.call("create_log_stream", logGroupName="g", logStreamName=name)
        await group.put("hello", at=NOW_MS - number * 1000, stream=name)
    async with asyncio.timeout(40):
        while True:
            found = await group.call(
                "describe_log_streams", logGroupName="g", orderBy="LastEventTime", descending=True
            )
            if all("lastEventTimestamp" in one for one in found["logStreams"][:5]):
                break
            await asyncio.sleep(0.05)
    names = [one["logStreamName"] for one in found["logStreams"]]
    assert names == [f"task/{number}" for number in range(5)] + ["s"]
    assert found["logStreams"][0] | {"uploadSequenceToken": ""} == {
        "logStreamName": "task/0",
        "creationTime": NOW_MS,
        "firstEventTimestamp": NOW_MS,
        "lastEventTimestamp": NOW_MS,
        "lastIngestionTime": NOW_MS,
        "uploadSequenceToken": "",
        "arn": f"{ARN}:log-stream:task/0",
        "storedBytes": 0,
    }
    for request, wanted in (
        ({"orderBy": "LastEventTime", "descending": True}, names),
        ({"orderBy": "LastEventTime"}, names[::-1]),
        ({"logStreamNamePrefix": "task/"}, names[:5]),
        ({"logStreamNamePrefix": "task/", "descending": True}, names[4::-1]),
        ({"logGroupIdentifier": f"{ARN}:*"}, ["s", *names[:5]]),
    ):
        asked = {"logGroupName": "g"} | request
        if "logGroupIdentifier" in asked:
            del asked["logGroupName"]
        got = await _stream_names(group, **asked)
        assert got == wanted, request


async def test_retention(group: Logs) -> None:
    for days in sorted(RETENTION_DAYS):
        await group.call("put_retention_policy", logGroupName="g", retentionInDays=days)
        (found,) = (await group.call("describe_log_groups"))["logGroups"]
        assert found["retentionInDays"] == days
    code, text = await group.refused("put_retention_policy", logGroupName="g", retentionInDays=2)
    assert code == "InvalidParameterException"
    assert "one of 1, 3, 5" in text
    await group.call("delete_retention_policy", logGroupName="g")
    (found,) = (await group.call("describe_log_groups"))["logGroups"]
    assert "retentionInDays" not in found


async def test_tags_by_arn_and_by_name(logs: Logs) -> None:
    await logs.call("create_log_group", logGroupName="g", tags={"a": "1"})
    await logs.call("tag_resource", resourceArn=ARN, tags={"b": "2"})
    await logs.call("tag_log_group", logGroupName="g", tags={"c": "3", "a": "4"})
    for arn in (ARN, f"{ARN}:*"):
        found = await logs.call("list_tags_for_resource", resourceArn=arn)
        assert found["tags"] == {"a": "4", "b": "2", "c": "3"}
    await logs.call("untag_resource", resourceArn=ARN, tagKeys=["a", "none"])
    await logs.call("untag_log_group", logGroupName="g", tags=["b"])
    assert (await logs.call("list_tags_log_group", logGroupName="g"))["tags"] == {"c": "3"}
    code, _ = await logs.refused(
        "tag_resource", resourceArn=ARN, tags={str(number): "" for number in range(50)}
    )
    assert code == "TooManyTagsException"
    code, text = await logs.refused("tag_resource", resourceArn=ARN, tags={"aws:x": ""})
    assert (code, "reserved" in text) == ("InvalidParameterException", True)
    for arn in ("nonsense", ARN.replace("us-east-1", "eu-west-1")):
        code, _ = await logs.refused("list_tags_for_resource", resourceArn=arn)
        assert code == "InvalidParameterException"
    code, _ = await logs.refused("list_tags_for_resource", resourceArn=f"{ARN}2")
    assert code == "ResourceNotFoundException"


async def test_names_that_are_none_are_refused_by_their_parameter(group: Logs) -> None:
    for name in ("", "a b", "a:b", "ä", "x" * 513, "a\n"):
        code, text = await group.refused("create_log_group", logGroupName=name)
        assert code == "InvalidParameterException"
        assert "logGroupName" in text
    for name in ("", "a:b", "a*", "x" * 513, "a\x1b[31m"):
        code, text = await group.refused("create_log_stream", logGroupName="g", logStreamName=name)
        assert code == "InvalidParameterException"
        assert "logStreamName" in text
    await group.call("create_log_stream", logGroupName="g", logStreamName="größe/[1] x")


async def test_what_is_not_done_is_refused_by_name(logs: Logs) -> None:
    for more in (
        {"kmsKeyId": "arn:aws:kms:us-east-1:000000000000:key/1"},
        {"logGroupClass": "INFREQUENT_ACCESS"},
        {"deletionProtectionEnabled": True},
    ):
        code, text = await logs.refused("create_log_group", logGroupName="g", **more)
        assert code == "InvalidParameterException"
        assert next(iter(more)) in text
    code, text = await logs.refused("start_live_tail", logGroupIdentifiers=[ARN])
    assert code == "InvalidOperationException"
    assert "aws logs tail GROUP --follow" in text
