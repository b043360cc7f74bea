"""The calls of EventBridge for rules with a schedule, as AWS's SDK sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import Endpoint, control_endpoint, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ERRORS = frozenset({"ValidationException", "UnsupportedFeatureException"})
CLUSTER = "arn:aws:ecs:us-east-1:000000000000:cluster/default"
ARN = "arn:aws:events:us-east-1:000000000000:rule"
TARGET: dict[str, Any] = {
    "Id": "1",
    "Arn": CLUSTER,
    "RoleArn": "arn:aws:iam::000000000000:role/r",
    "EcsParameters": {
        "TaskDefinitionArn": "web",
        "TaskCount": 2,
        "LaunchType": "EC2",
        "Tags": [{"Key": "a", "Value": "1"}],
    },
}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        await running.call("RegisterTaskDefinition", **definition())
        yield running


@pytest.fixture
async def events(endpoint: Endpoint) -> AsyncIterator[AwsClient]:
    client = await AwsClient.of(endpoint, "events", unlisted=ERRORS)
    yield client
    client.close()


async def test_a_rule_from_its_creation_to_its_end(events: AwsClient) -> None:
    rule = {"Name": "hourly", "ScheduleExpression": "rate(1 hour)", "Description": "d"}
    tags = [{"Key": "a", "Value": "1"}]
    assert await events.call("put_rule", **rule, Tags=tags) == {"RuleArn": f"{ARN}/hourly"}
    shown = {**rule, "Arn": f"{ARN}/hourly", "State": "ENABLED", "EventBusName": "default"}
    described = await events.call("describe_rule", Name="hourly", EventBusName="default")
    assert described == shown | {"CreatedBy": "000000000000"}
    assert await events.call("put_targets", Rule="hourly", Targets=[TARGET]) == {
        "FailedEntryCount": 0,
        "FailedEntries": [],
    }
    # A rule that is put again keeps its targets and tags.
    await events.call("put_rule", Name="hourly", ScheduleExpression="rate(2 hours)")
    listed = await events.call("list_targets_by_rule", Rule="hourly")
    assert listed == {"Targets": [TARGET]}
    await events.call("disable_rule", Name="hourly")
    (one,) = (await events.call("list_rules", NamePrefix="hour"))["Rules"]
    assert (one["State"], one["ScheduleExpression"]) == ("DISABLED", "rate(2 hours)")
    await events.call("enable_rule", Name="hourly")
    assert (await events.call("list_rules", NamePrefix="x"))["Rules"] == []
    arn = {"ResourceARN": f"{ARN}/hourly"}
    await events.call("tag_resource", **arn, Tags=[{"Key": "b", "Value": "2"}])
    await events.call("untag_resource", **arn, TagKeys=["a"])
    found = await events.call("list_tags_for_resource", **arn)
    assert found["Tags"] == [{"Key": "b", "Value": "2"}]
    code, text = await events.refused("delete_rule", Name="hourly")
    assert (code, text) == ("ValidationException", "Rule can't be deleted since it has targets.")
    gone = await events.call("remove_targets", Rule="hourly", Ids=["1", "9"])
    assert (gone["FailedEntryCount"], gone["FailedEntries"][0]["TargetId"]) == (1, "9")
    for _ in range(2):
        await events.call("delete_rule", Name="hourly")
    for operation in ("describe_rule", "enable_rule", "disable_rule"):
        code, text = await events.refused(operation, Name="hourly")
        assert code == "ResourceNotFoundException"
        assert text == "Rule hourly does not exist on EventBus default."


async def test_pages_of_rules_and_targets(events: AwsClient) -> None:
    for name in ("a", "b", "c"):
        await events.call("put_rule", Name=name, ScheduleExpression="rate(1 day)")
    first = await events.call("list_rules", Limit=2)
    rest = await events.call("list_rules", Limit=2, NextToken=first["NextToken"])
    assert [one["Name"] for one in first["Rules"] + rest["Rules"]] == ["a", "b", "c"]
    assert "NextToken" not in rest
    targets = [TARGET | {"Id": str(number)} for number in range(5)]
    await events.call("put_targets", Rule="a", Targets=targets)
    first = await events.call("list_targets_by_rule", Rule="a", Limit=3)
    rest = await events.call("list_targets_by_rule", Rule="a", NextToken=first["NextToken"])
    assert [one["Id"] for one in first["Targets"] + rest["Targets"]] == list("01234")
    code, _ = await events.refused("put_targets", Rule="a", Targets=[TARGET | {"Id": "more"}])
    assert code == "LimitExceededException"


@pytest.mark.parametrize(
    ("request_", "code", "complaint"),
    [
        ({"EventPattern": "{}"}, "ValidationException", "EventPattern is not supported"),
        ({}, "ValidationException", "ScheduleExpression must be specified"),
        ({"ScheduleExpression": "rate(1 hours)"}, "ValidationException", "singular with 1"),
        ({"ScheduleExpression": "at(2030-01-01T00:00:00)"}, "ValidationException", "ScheduleExpression"),
        ({"ScheduleExpression": "rate(1 day)", "EventBusName": "mine"}, "ResourceNotFoundException", "mine"),
        (
            {"ScheduleExpression": "rate(1 day)", "State": "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"},
            "ValidationException",
            "is not supported",
        ),
        ({"ScheduleExpression": "rate(1 day)", "Tags": [{"Key": "aws:a", "Value": ""}]}, "ValidationException", "aws:"),
    ],
)  # fmt: skip
async def test_rules_that_cannot_be(
    events: AwsClient, request_: dict[str, Any], code: str, complaint: str
) -> None:
    found, text = await events.refused("put_rule", Name="r", **request_)
    assert found == code
    assert complaint in text
    assert (await events.call("list_rules"))["Rules"] == []


async def test_targets_that_cannot_be_are_none_of_them_put(events: AwsClient) -> None:
    await events.call("put_rule", Name="r", ScheduleExpression="rate(1 day)")
    for change, complaint in (
        ({"Arn": "arn:aws:lambda:us-east-1:000000000000:function:f"}, "not supported as a target"),
        ({"InputPath": "$.x"}, "InputPath of a target is not supported"),
        ({"Input": "[1]"}, "overrides"),
    ):
        good, bad = TARGET | {"Id": "good"}, TARGET | change
        code, text = await events.refused("put_targets", Rule="r", Targets=[good, bad])
        assert code == "ValidationException"
        assert complaint in text
    assert (await events.call("list_targets_by_rule", Rule="r"))["Targets"] == []
    code, _ = await events.refused("put_targets", Rule="other", Targets=[TARGET])
    assert code == "ResourceNotFoundException"
