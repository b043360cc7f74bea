"""The calls of EventBridge Scheduler as AWS's SDK sees them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import (
    Endpoint,
    ScriptedAgent,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ERRORS = frozenset({"UnsupportedFeatureException"})
CLUSTER = "arn:aws:ecs:us-east-1:000000000000:cluster/default"
SCHEDULE = "arn:aws:scheduler:us-east-1:000000000000:schedule"
GROUP = "arn:aws:scheduler:us-east-1:000000000000:schedule-group"
TARGET: dict[str, Any] = {
    "Arn": CLUSTER,
    "RoleArn": "arn:aws:iam::000000000000:role/r",
    "EcsParameters": {"TaskDefinitionArn": "web"},
}
NIGHTLY: dict[str, Any] = {
    "Name": "nightly",
    "ScheduleExpression": "cron(0 3 * * ? *)",
    "ScheduleExpressionTimezone": "Europe/Berlin",
    "FlexibleTimeWindow": {"Mode": "OFF"},
    "Target": TARGET,
}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        await running.call("RegisterTaskDefinition", **definition())
        yield running


@pytest.fixture
async def scheduler(endpoint: Endpoint) -> AsyncIterator[AwsClient]:
    client = await AwsClient.of(endpoint, "scheduler", unlisted=ERRORS)
    yield client
    client.close()


async def test_a_schedule_from_its_creation_to_its_end(scheduler: AwsClient) -> None:
    start = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    asked = NIGHTLY | {
        "Description": "näxtlich",
        "StartDate": start,
        "EndDate": start + timedelta(days=9),
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15},
        "ActionAfterCompletion": "DELETE",
        "State": "DISABLED",
    }
    made = await scheduler.call("create_schedule", **asked)
    assert made == {"ScheduleArn": f"{SCHEDULE}/default/nightly"}
    shown = await scheduler.call("get_schedule", Name="nightly", GroupName="default")
    assert shown.pop("CreationDate") == shown.pop("LastModificationDate")
    assert shown == asked | {"Arn": made["ScheduleArn"], "GroupName": "default"}
    # What an update does not name has its default again.
    assert await scheduler.call("update_schedule", **NIGHTLY) == made
    shown = await scheduler.call("get_schedule", Name="nightly")
    assert shown["LastModificationDate"] >= shown["CreationDate"]
    assert not {"Description", "StartDate", "EndDate"} & set(shown)
    assert (shown["State"], shown["ActionAfterCompletion"]) == ("ENABLED", "NONE")
    assert shown["FlexibleTimeWindow"] == {"Mode": "OFF"}
    await scheduler.call("delete_schedule", Name="nightly")
    for operation in ("get_schedule", "delete_schedule"):
        code, text = await scheduler.refused(operation, Name="nightly")
        assert (code, text) == ("ResourceNotFoundException", "Schedule nightly does not exist.")
    code, _ = await scheduler.refused("update_schedule", **NIGHTLY)
    assert code == "ResourceNotFoundException"


async def test_a_call_that_is_repeated_with_its_token_changes_nothing(scheduler: AwsClient) -> None:
    made = await scheduler.call("create_schedule", **NIGHTLY, ClientToken="a")
    assert await scheduler.call("create_schedule", **NIGHTLY, ClientToken="a") == made
    other = NIGHTLY | {"ScheduleExpression": "rate(1 hour)"}
    for request in (NIGHTLY | {"ClientToken": "b"}, other | {"ClientToken": "a"}, NIGHTLY):
        code, text = await scheduler.refused("create_schedule", **request)
        assert (code, text) == ("ConflictException", "Schedule nightly already exists.")

    await scheduler.call("update_schedule", **other, ClientToken="u")
    changed = await scheduler.call("get_schedule", Name="nightly")
    await scheduler.call("update_schedule", **other, ClientToken="u")
    assert await scheduler.call("get_schedule", Name="nightly") == changed
    code, _ = await scheduler.refused("update_schedule", **NIGHTLY, ClientToken="u")
    assert code == "ConflictException"

    gone = {"Name": "nightly", "ClientToken": "d"}
    for _ in range(2):
        await scheduler.call("delete_schedule", **gone)
    await scheduler.call("create_schedule", **NIGHTLY)
    await scheduler.call("delete_schedule", **gone)
    await scheduler.call("get_schedule", Name="nightly")  # a new one, which that call was not about
    await scheduler.call("create_schedule_group", Name="jobs")
    for _ in range(2):
        await scheduler.call("delete_schedule_group", Name="jobs", ClientToken="g")


async def test_groups_with_their_tags_and_schedules(scheduler: AwsClient) -> None:
    code, text = await scheduler.refused("create_schedule", **NIGHTLY, GroupName="jobs")
    assert (code, text) == ("ResourceNotFoundException", "Schedule group jobs does not exist.")
    tags = [{"Key": "a", "Value": "1"}]
    made = await scheduler.call("create_schedule_group", Name="jobs", Tags=tags, ClientToken="t")
    assert made == {"ScheduleGroupArn": f"{GROUP}/jobs"}
    again = {"Name": "jobs", "Tags": tags, "ClientToken": "t"}
    assert await scheduler.call("create_schedule_group", **again) == made
    for name in ("jobs", "default"):
        code, _ = await scheduler.refused("create_schedule_group", Name=name)
        assert code == "ConflictException"
    shown = await scheduler.call("get_schedule_group", Name="jobs")
    assert (shown["Arn"], shown["State"]) == (f"{GROUP}/jobs", "ACTIVE")
    arn = made["ScheduleGroupArn"]
    await scheduler.call("tag_resource", ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    await scheduler.call("untag_resource", ResourceArn=arn, TagKeys=["a", "c"])
    found = await scheduler.call("list_tags_for_resource", ResourceArn=arn)
    assert found["Tags"] == [{"Key": "b", "Value": "2"}]
    default = {"ResourceArn": f"{GROUP}/default"}
    await scheduler.call("tag_resource", **default, Tags=[{"Key": "c", "Value": "3"}])
    assert len((await scheduler.call("list_tags_for_resource", **default))["Tags"]) == 1

    await scheduler.call("create_schedule", **NIGHTLY, GroupName="jobs")
    await scheduler.call("create_schedule", **NIGHTLY)
    await scheduler.call("create_schedule", **NIGHTLY | {"Name": "other", "State": "DISABLED"})
    pages: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:
        page = await scheduler.call("list_schedules", MaxResults=1, **token)
        pages += page["Schedules"]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert [(one["GroupName"], one["Name"]) for one in pages] == [
        ("default", "nightly"),
        ("default", "other"),
        ("jobs", "nightly"),
    ]
    assert pages[0]["Target"] == {"Arn": CLUSTER}
    for asked, names in (
        ({"GroupName": "jobs"}, ["nightly"]),
        ({"NamePrefix": "oth"}, ["other"]),
        ({"State": "ENABLED"}, ["nightly", "nightly"]),
    ):
        found = await scheduler.call("list_schedules", **asked)
        assert [one["Name"] for one in found["Schedules"]] == names
    groups = await scheduler.call("list_schedule_groups")
    assert [one["Name"] for one in groups["ScheduleGroups"]] == ["default", "jobs"]
    await scheduler.call("delete_schedule_group", Name="jobs")
    assert len((await scheduler.call("list_schedules"))["Schedules"]) == 2
    for name, expected in (
        ("jobs", "ResourceNotFoundException"),
        ("default", "ValidationException"),
    ):
        code, _ = await scheduler.refused("delete_schedule_group", Name=name)
        assert code == expected


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ScheduleExpression": "cron(0 3 * * * *)"}, "exactly one of day-of-month"),
        ({"ScheduleExpressionTimezone": "Mars/Olympus"}, "not a time zone"),
        ({"KmsKeyArn": "arn:aws:kms:us-east-1:0:key/x"}, "KmsKeyArn is not supported"),
        ({"Name": "a b"}, "Name must have"),
        ({"EndDate": datetime(2020, 1, 1, tzinfo=UTC)}, "EndDate must be later"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}}, "MaximumWindowInMinutes"),
        ({"Target": TARGET | {"Arn": "arn:aws:sqs:us-east-1:0:q"}}, "not supported as a target"),
        ({"Target": TARGET | {"SqsParameters": {"MessageGroupId": "a"}}}, "SqsParameters"),
        ({"Target": TARGET | {"DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:000000000000:q"}}}, "DeadLetterConfig"),
        ({"Target": {"Arn": CLUSTER, "RoleArn": TARGET["RoleArn"]}}, "EcsParameters is required"),
        ({"Target": TARGET | {"Input": "{"}}, "Input must be JSON"),
        ({"Target": TARGET | {"Input": '{"containerOverrides": 1}'}}, "containerOverrides"),
        ({"Target": TARGET | {"EcsParameters": {"TaskDefinitionArn": "web", "TaskCount": 11}}}, "TaskCount"),
        ({"Target": TARGET | {"EcsParameters": {"TaskDefinitionArn": "web", "Group": "service:x"}}}, "namespace for group"),
        ({"Target": TARGET | {"EcsParameters": {"TaskDefinitionArn": "web", "PlacementStrategy": [{"type": "spread", "field": "nonsense"}]}}}, "spread placement strategy field"),
        ({"Target": TARGET | {"RetryPolicy": {"MaximumRetryAttempts": 186}}}, "MaximumRetryAttempts"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_refused_by_name(
    scheduler: AwsClient, change: dict[str, Any], complaint: str
) -> None:
    code, text = await scheduler.refused("create_schedule", **NIGHTLY | change)
    assert code == "ValidationException"
    assert complaint in text


async def test_a_task_runs_at_its_time(endpoint: Endpoint, scheduler: AwsClient) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
    await scheduler.call(
        "create_schedule",
        **NIGHTLY
        | {
            "ScheduleExpression": f"at({at:%Y-%m-%dT%H:%M:%S})",
            "ScheduleExpressionTimezone": "UTC",
            "ActionAfterCompletion": "DELETE",
            "Target": TARGET
            | {"Input": '{"containerOverrides": [{"name": "main", "command": ["x"]}]}'},
        },
    )
    async with asyncio.timeout(40):
        while not (arns := (await endpoint.call("ListTasks"))["taskArns"]):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
    task = await endpoint.task(arns[0])
    assert task["startedBy"] == "chronos-schedule/nightly"
    assert task["overrides"]["containerOverrides"] == [{"name": "main", "command": ["x"]}]
    assert 0 <= task["createdAt"] - at.timestamp() < 30
    async with asyncio.timeout(40):
        while (await scheduler.call("list_schedules"))["Schedules"]:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
