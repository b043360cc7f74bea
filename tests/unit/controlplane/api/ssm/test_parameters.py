"""Parameter Store as AWS's SDK sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ARN = "arn:aws:ssm:us-east-1:000000000000:parameter/"


@pytest.fixture
async def ssm(tmp_path: Path) -> AsyncIterator[AwsClient]:
    async with control_endpoint(tmp_path) as endpoint:
        client = await AwsClient.of(
            endpoint,
            "ssm",
            unlisted=frozenset({"ValidationException", "InvalidParameterException"}),
        )
        yield client
        client.close()


async def test_a_parameter_is_stored_read_and_deleted(ssm: AwsClient, tmp_path: Path) -> None:
    stored = await ssm.call(
        "put_parameter", Name="/app/db", Value="canary", Type="SecureString", Description="d"
    )
    assert stored == {"Version": 1, "Tier": "Standard"}
    shown = (await ssm.call("get_parameter", Name="/app/db", WithDecryption=True))["Parameter"]
    assert shown.pop("LastModifiedDate")
    assert shown == {
        "Name": "/app/db",
        "Type": "SecureString",
        "Value": "canary",
        "Version": 1,
        "ARN": f"{ARN}app/db",
        "DataType": "text",
    }
    closed = (await ssm.call("get_parameter", Name="/app/db"))["Parameter"]["Value"]
    assert "canary" not in closed
    by_arn = await ssm.call("get_parameter", Name=f"{ARN}app/db", WithDecryption=True)
    assert by_arn["Parameter"]["Value"] == "canary"
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes()
    await ssm.call("delete_parameter", Name="/app/db")
    code, _ = await ssm.refused("get_parameter", Name="/app/db")
    assert code == "ParameterNotFound"
    code, _ = await ssm.refused("delete_parameter", Name="/app/db")
    assert code == "ParameterNotFound"


async def test_a_value_is_overwritten_only_if_asked_for(ssm: AwsClient) -> None:
    await ssm.call("put_parameter", Name="a", Value="1", Type="String", Description="d")
    code, text = await ssm.refused("put_parameter", Name="a", Value="2", Type="String")
    assert code == "ParameterAlreadyExists"
    assert "overwrite option" in text
    again = await ssm.call("put_parameter", Name="a", Value="2", Overwrite=True)
    assert again["Version"] == 2
    shown = (await ssm.call("get_parameter", Name="a"))["Parameter"]
    assert (shown["Value"], shown["Type"], shown["Version"]) == ("2", "String", 2)
    (listed,) = (await ssm.call("describe_parameters"))["Parameters"]
    assert listed["Description"] == "d"
    newest = (await ssm.call("get_parameter", Name="a:2"))["Parameter"]
    assert (newest["Value"], newest["Selector"]) == ("2", ":2")
    code, text = await ssm.refused("get_parameter", Name="a:1")
    assert code == "ParameterVersionNotFound"
    assert "Only the newest version, 2, is kept here" in text


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        ({"Name": "a/b"}, "ValidationException", "begins with /"),
        ({"Name": "/a//b"}, "ValidationException", "begins with /"),
        ({"Name": "a b"}, "ValidationException", "can have up to 1011"),
        ({"Name": "/AWS/a"}, "ValidationException", 'prefixed with "aws" or "ssm"'),
        ({"Name": "ssm-a"}, "ValidationException", 'prefixed with "aws" or "ssm"'),
        ({"Name": "/a" * 16}, "HierarchyLevelLimitExceededException", "at most 15 levels"),
        ({"Value": "x" * 8193}, "ValidationException", "1 to 8192 characters"),
        ({"KeyId": "alias/x"}, "ValidationException", "'KeyId' is not supported"),
        ({"AllowedPattern": "x"}, "ValidationException", "'AllowedPattern' is not supported"),
        ({"Policies": "[]"}, "ValidationException", "'Policies' is not supported"),
        ({"Tier": "Advanced"}, "ValidationException", "'Tier' Advanced is not supported"),
        ({"DataType": "aws:ec2:image"}, "ValidationException", "'DataType' can only be text"),
        ({"Type": "Secret"}, "InvalidParameterException", "enum value set"),
    ],
)
async def test_what_is_not_taken_is_refused_by_name(
    ssm: AwsClient, request_: dict[str, str], code: str, text: str
) -> None:
    found = await ssm.refused(
        "put_parameter", **({"Name": "a", "Value": "canary", "Type": "String"} | request_)
    )
    assert found[0] == code
    assert text in found[1]
    assert "canary" not in found[1]


async def test_a_new_parameter_needs_a_type(ssm: AwsClient) -> None:
    code, text = await ssm.refused("put_parameter", Name="a", Value="1")
    assert (code, text) == (
        "ValidationException",
        "A parameter type is required when you create a parameter.",
    )


async def test_several_at_once(ssm: AwsClient) -> None:
    for name in ("a", "/b"):
        await ssm.call("put_parameter", Name=name, Value=f"v{name}", Type="String")
    theirs = "arn:aws:ssm:us-east-1:111111111111:parameter/a"
    names = ["a", f"{ARN}b", "c", "a:7", theirs]
    found = await ssm.call("get_parameters", Names=names)
    assert [one["Value"] for one in found["Parameters"]] == ["va", "v/b"]
    assert found["InvalidParameters"] == ["c", "a:7", theirs]
    gone = await ssm.call("delete_parameters", Names=["a", "c", theirs])
    assert gone == {"DeletedParameters": ["a"], "InvalidParameters": ["c", theirs]}
    code, _ = await ssm.refused("get_parameters", Names=[f"n{n}" for n in range(11)])
    assert code == "InvalidParameterException"


async def test_lists_have_pages_and_filters_and_no_values(ssm: AwsClient) -> None:
    for name, kind in (("/a/b", "String"), ("/a/b/c", "SecureString"), ("x", "String")):
        await ssm.call("put_parameter", Name=name, Value="canary", Type=kind)

    async def names(**request: object) -> list[str]:
        page = await ssm.call("describe_parameters", **request)
        assert "canary" not in str(page)
        return [one["Name"] for one in page["Parameters"]]

    assert await names() == ["/a/b", "/a/b/c", "x"]
    first = await ssm.call("describe_parameters", MaxResults=2)
    rest = await ssm.call("describe_parameters", NextToken=first["NextToken"])
    assert [one["Name"] for one in rest["Parameters"]] == ["x"]
    code, _ = await ssm.refused("describe_parameters", NextToken="forged")
    assert code == "InvalidNextToken"

    def by(key: str, option: str, *values: str) -> dict[str, object]:
        return {"ParameterFilters": [{"Key": key, "Option": option, "Values": list(values)}]}

    assert await names(**by("Name", "BeginsWith", "/a/b/")) == ["/a/b/c"]
    assert await names(**by("Name", "Contains", "b")) == ["/a/b", "/a/b/c"]
    assert await names(**by("Type", "Equals", "SecureString")) == ["/a/b/c"]
    assert await names(**by("Path", "OneLevel", "/a")) == ["/a/b"]
    assert await names(**by("Path", "Recursive", "/a/")) == ["/a/b", "/a/b/c"]
    assert await names(Filters=[{"Key": "Name", "Values": ["/a/b/c"]}]) == ["/a/b/c"]
    code, _ = await ssm.refused("describe_parameters", **by("KeyId", "Equals", "x"))
    assert code == "InvalidFilterKey"
    code, _ = await ssm.refused("describe_parameters", **by("Type", "Contains", "x"))
    assert code == "InvalidFilterOption"


async def test_parameters_below_a_path(ssm: AwsClient) -> None:
    for name in ("/app/a", "/app/b", "/app/db/user", "/apple", "plain"):
        await ssm.call("put_parameter", Name=name, Value=name[-1], Type="SecureString")

    async def names(path: str, **more: Any) -> list[str]:
        answer = await ssm.call("get_parameters_by_path", Path=path, **more)
        return [one["Name"] for one in answer["Parameters"]]

    assert await names("/app") == await names("/app/") == ["/app/a", "/app/b"]
    assert await names("/app", Recursive=True) == ["/app/a", "/app/b", "/app/db/user"]
    assert await names("/") == ["/apple", "plain"]
    assert await names("/other") == []
    answer = await ssm.call("get_parameters_by_path", Path="/app", WithDecryption=True)
    assert [one["Value"] for one in answer["Parameters"]] == ["a", "b"]
    first = await ssm.call("get_parameters_by_path", Path="/app", MaxResults=1)
    rest = await names("/app", MaxResults=1, NextToken=first["NextToken"])
    assert [first["Parameters"][0]["Name"], *rest] == ["/app/a", "/app/b"]
    strings = [{"Key": "Type", "Values": ["String"]}]
    assert await names("/app", ParameterFilters=strings) == []
    for request, code in (
        ({"Path": "app"}, "ValidationException"),
        ({"Path": "/app", "MaxResults": 11}, "ValidationException"),
        ({"Path": "/app", "ParameterFilters": [{"Key": "Name"}]}, "InvalidFilterKey"),
        ({"Path": "/app", "NextToken": "x"}, "InvalidNextToken"),
    ):
        assert (await ssm.refused("get_parameters_by_path", **request))[0] == code, request
