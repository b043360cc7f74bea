"""Tags of the APIs that list them as ``Key`` and ``Value``: set, overwritten, removed, refused."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.names import Names
from agent.controlplane.security_groups import group_records
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import Endpoint, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Tags = dict[str, str]


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        yield running


def listed(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


class Tagged:
    """Something with tags: how they are set, removed and read."""

    def __init__(
        self,
        client: AwsClient,
        calls: tuple[str, str],
        read: Callable[[], Awaitable[dict[str, Any]]],
        *,
        shown: str = "Tags",
        **named: Any,
    ) -> None:
        self._client, self._calls, self._read = client, calls, read
        self._shown, self.named = shown, named

    async def add(self, **tags: str) -> None:
        await self._client.call(self._calls[0], **self.named, Tags=listed(tags))

    async def remove(self, *keys: str) -> None:
        await self._client.call(self._calls[1], **self.named, TagKeys=list(keys))

    async def tags(self) -> Tags:
        return {tag["Key"]: tag["Value"] for tag in (await self._read())[self._shown]}

    async def refused(self, tags: Tags, **other: Any) -> str:
        code, _ = await self._client.refused(
            self._calls[0], **(self.named | other), Tags=listed(tags)
        )
        return code

    async def check(self, invalid: str, too_many: str) -> None:
        """Change its tags, which are ``a=1`` at first."""
        assert await self.tags() == {"a": "1"}
        await self.add(a="2", b="3")
        assert await self.tags() == {"a": "2", "b": "3"}
        await self.remove("a", "unknown")
        assert await self.tags() == {"b": "3"}
        assert await self.refused({"aws:x": "1"}) == invalid
        assert await self.refused({"x\n": "1"}) == invalid
        assert await self.refused({f"k{n}": "" for n in range(50)}) == too_many
        assert await self.tags() == {"b": "3"}


async def test_tags_of_a_parameter(endpoint: Endpoint) -> None:
    ssm = await AwsClient.of(endpoint, "ssm", unlisted=frozenset({"ValidationException"}))
    put = partial(ssm.call, "put_parameter", Name="/a", Value="1", Type="String")
    await put(Tags=listed({"a": "1"}))
    named = {"ResourceType": "Parameter", "ResourceId": "/a"}
    read = partial(ssm.call, "list_tags_for_resource", **named)
    calls = ("add_tags_to_resource", "remove_tags_from_resource")
    tagged = Tagged(ssm, calls, read, shown="TagList", **named)
    await tagged.check("ValidationException", "TooManyTagsError")
    await put(Overwrite=True)
    assert await tagged.tags() == {"b": "3"}
    code, text = await ssm.refused(
        "put_parameter", Name="/a", Value="1", Overwrite=True, Tags=listed({"a": "1"})
    )
    assert (code, "overwrite" in text) == ("ValidationException", True)
    arn = "arn:aws:ssm:us-east-1:000000000000:parameter/a"
    by_arn = await ssm.call("list_tags_for_resource", ResourceType="Parameter", ResourceId=arn)
    assert by_arn["TagList"] == listed({"b": "3"})
    other = arn.replace("us-east-1", "eu-west-1")
    assert await tagged.refused({"a": "1"}, ResourceId=other) == "InvalidResourceId"
    assert await tagged.refused({"a": "1"}, ResourceId="/b") == "InvalidResourceId"
    assert await tagged.refused({"a": "1"}, ResourceType="Document") == "InvalidResourceType"
    ssm.close()


async def test_tags_of_a_secret(endpoint: Endpoint) -> None:
    asm = await AwsClient.of(endpoint, "secretsmanager")
    await asm.call("create_secret", Name="a", Tags=listed({"a": "1"}))
    read = partial(asm.call, "describe_secret", SecretId="a")
    tagged = Tagged(asm, ("tag_resource", "untag_resource"), read, SecretId="a")
    invalid = "InvalidParameterException"
    await tagged.check(invalid, invalid)
    assert (await asm.call("list_secrets"))["SecretList"][0]["Tags"] == listed({"b": "3"})
    assert await tagged.refused({"a": "1"}, SecretId="b") == "ResourceNotFoundException"
    await asm.call("delete_secret", SecretId="a")
    assert await tagged.refused({"a": "1"}) == "InvalidRequestException"
    asm.close()


async def test_tags_of_an_alarm(endpoint: Endpoint) -> None:
    # What clients that knew the query protocol make of its errors.
    unlisted = frozenset({"InvalidParameterValue", "ResourceNotFoundException"})
    cloudwatch = await AwsClient.of(endpoint, "cloudwatch", unlisted=unlisted)
    alarm = {
        "AlarmName": "busy",
        "Namespace": "AWS/ECS",
        "MetricName": "CPUUtilization",
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 80.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "Dimensions": [
            {"Name": "ClusterName", "Value": "default"},
            {"Name": "ServiceName", "Value": "web"},
        ],
    }
    await cloudwatch.call("put_metric_alarm", **alarm, Tags=listed({"a": "1"}))
    (known,) = (await cloudwatch.call("describe_alarms"))["MetricAlarms"]
    arn = known["AlarmArn"]
    read = partial(cloudwatch.call, "list_tags_for_resource", ResourceARN=arn)
    calls = ("tag_resource", "untag_resource")
    tagged = Tagged(cloudwatch, calls, read, ResourceARN=arn)
    invalid = "InvalidParameterValue"
    await tagged.check(invalid, invalid)
    await cloudwatch.call("put_metric_alarm", **alarm)
    assert await tagged.tags() == {"b": "3"}
    assert await tagged.refused({"a": "1"}, ResourceARN=f"{arn}x") == "ResourceNotFoundException"
    cloudwatch.close()


async def test_tags_of_security_groups_and_their_rules(endpoint: Endpoint) -> None:
    errors = {
        "InvalidGroup.NotFound",
        "InvalidParameterValue",
        "InvalidSecurityGroupRuleId.NotFound",
        "TagLimitExceeded",
        "UnsupportedOperation",
    }
    ec2 = await AwsClient.of(endpoint, "ec2", unlisted=frozenset(errors))
    group = (await ec2.call("create_security_group", GroupName="web", Description="d"))["GroupId"]
    found = await ec2.call("describe_security_group_rules")
    ours = [rule for rule in found["SecurityGroupRules"] if rule["GroupId"] == group]
    rule = ours[0]["SecurityGroupRuleId"]

    async def tags() -> tuple[Tags, Tags]:
        groups = await ec2.call("describe_security_groups", GroupIds=[group])
        rules = await ec2.call("describe_security_group_rules", SecurityGroupRuleIds=[rule])
        both = (*groups["SecurityGroups"], *rules["SecurityGroupRules"])
        of_group, of_rule = ({t["Key"]: t["Value"] for t in one["Tags"]} for one in both)
        return of_group, of_rule

    async def refused(*resources: str, tags: Tags) -> str:
        code, _ = await ec2.refused("create_tags", Resources=list(resources), Tags=listed(tags))
        return code

    two = {"a": "1", "b": "2"}
    await ec2.call("create_tags", Resources=[group, rule], Tags=listed(two))
    assert await tags() == (two, two)
    await ec2.call("create_tags", Resources=[group], Tags=listed({"a": "3"}))
    await ec2.call(
        "delete_tags", Resources=[group, rule], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b"}]
    )
    assert await tags() == ({"a": "3"}, {}), "one with another value stays"
    assert await refused(group, "sg-1", tags=two) == "InvalidGroup.NotFound"
    assert await refused(group, "sgr-1", tags=two) == "InvalidSecurityGroupRuleId.NotFound"
    vpc = group_records.vpc_id(Names())
    assert await refused(group, vpc, tags=two) == "UnsupportedOperation"
    assert await refused(group, tags={"aws:x": ""}) == "InvalidParameterValue"
    assert await refused(group, tags={"x" * 128: ""}) == "InvalidParameterValue"
    assert await refused(group, tags={f"k{n}": "" for n in range(50)}) == "TagLimitExceeded"
    assert await tags() == ({"a": "3"}, {})
    await ec2.call("delete_tags", Resources=[group])
    assert await tags() == ({}, {})
    ec2.close()
