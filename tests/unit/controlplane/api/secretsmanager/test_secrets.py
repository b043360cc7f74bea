"""Secrets Manager as AWS's SDK sees it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.names import Names
from agent.controlplane.secrets import stored
from agent.controlplane.secrets.keeper import SecretKeeper
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def asm(tmp_path: Path) -> AsyncIterator[AwsClient]:
    async with control_endpoint(tmp_path) as endpoint:
        client = await AwsClient.of(endpoint, "secretsmanager")
        yield client
        client.close()


async def value(asm: AwsClient, given: str, **more: Any) -> str:
    found: str = (await asm.call("get_secret_value", SecretId=given, **more))["SecretString"]
    return found


async def test_a_secret_is_created_read_and_changed(asm: AwsClient, tmp_path: Path) -> None:
    made = await asm.call("create_secret", Name="app/db", SecretString="canary-1", Description="d")
    assert made["ARN"].startswith("arn:aws:secretsmanager:us-east-1:000000000000:secret:app/db-")
    for given in ("app/db", made["ARN"], made["ARN"][:-7]):
        assert await value(asm, given) == "canary-1"
    put = await asm.call("put_secret_value", SecretId="app/db", SecretString="canary-2")
    assert put["VersionStages"] == ["AWSCURRENT"]
    assert await value(asm, "app/db") == "canary-2"
    assert await value(asm, "app/db", VersionStage="AWSPREVIOUS") == "canary-1"
    assert await value(asm, "app/db", VersionId=made["VersionId"]) == "canary-1"
    shown = await asm.call("describe_secret", SecretId="app/db")
    assert shown["VersionIdsToStages"] == {
        made["VersionId"]: ["AWSPREVIOUS"],
        put["VersionId"]: ["AWSCURRENT"],
    }
    assert (shown["Description"], shown["Name"]) == ("d", "app/db")
    await asm.call("put_secret_value", SecretId="app/db", SecretString="canary-3")
    assert len((await asm.call("describe_secret", SecretId="app/db"))["VersionIdsToStages"]) == 2
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes()


async def test_binary_values(asm: AwsClient) -> None:
    await asm.call("create_secret", Name="raw", SecretBinary=b"\x00\x01\xff")
    found = await asm.call("get_secret_value", SecretId="raw")
    assert found["SecretBinary"] == b"\x00\x01\xff"
    assert "SecretString" not in found


async def test_stages_of_ones_own(asm: AwsClient) -> None:
    await asm.call("create_secret", Name="a", SecretString="1")
    await asm.call("put_secret_value", SecretId="a", SecretString="2", VersionStages=["next"])
    assert await value(asm, "a") == "1"
    assert await value(asm, "a", VersionStage="next") == "2"
    stages = [f"s{n}" for n in range(20)]
    code, _ = await asm.refused(
        "put_secret_value", SecretId="a", SecretString="3", VersionStages=stages
    )
    assert code == "LimitExceededException"


async def test_stages_move_between_versions(asm: AwsClient) -> None:
    first = (await asm.call("create_secret", Name="a", SecretString="1"))["VersionId"]
    second = (await asm.call("put_secret_value", SecretId="a", SecretString="2"))["VersionId"]

    async def refused(**request: str) -> str:
        code, _ = await asm.refused("update_secret_version_stage", SecretId="a", **request)
        return code

    move = {"VersionStage": "AWSCURRENT", "MoveToVersionId": first}
    assert await refused(**move) == "InvalidParameterException", "another version has it"
    await asm.call("update_secret_version_stage", SecretId="a", **move, RemoveFromVersionId=second)
    assert await value(asm, "a") == "1"
    assert await value(asm, "a", VersionStage="AWSPREVIOUS") == "2"
    take = {"VersionStage": "AWSCURRENT", "RemoveFromVersionId": first}
    assert await refused(**take) == "InvalidParameterException", "it is somewhere always"
    assert await refused(VersionStage="next") == "InvalidParameterException"
    gone = {"VersionStage": "next", "MoveToVersionId": "f" * 32}
    assert await refused(**gone) == "ResourceNotFoundException"
    await asm.call(
        "update_secret_version_stage", SecretId="a", VersionStage="next", MoveToVersionId=first
    )
    take = {"VersionStage": "AWSPREVIOUS", "RemoveFromVersionId": second}
    await asm.call("update_secret_version_stage", SecretId="a", **take)
    listed = await asm.call("list_secret_version_ids", SecretId="a")
    (left,) = listed["Versions"]
    assert (left["VersionId"], left["VersionStages"]) == (first, ["AWSCURRENT", "next"])


async def test_versions_are_listed_in_pages(asm: AwsClient) -> None:
    made = [(await asm.call("create_secret", Name="a", SecretString="1"))["VersionId"]]
    for stage in "bc":
        put = {"SecretId": "a", "SecretString": stage, "VersionStages": [stage]}
        made.append((await asm.call("put_secret_value", **put))["VersionId"])
    first = await asm.call("list_secret_version_ids", SecretId="a", MaxResults=2)
    more = {"MaxResults": 2, "NextToken": first["NextToken"]}
    rest = await asm.call("list_secret_version_ids", SecretId="a", **more)
    both = [*first["Versions"], *rest["Versions"]]
    assert sorted(one["VersionId"] for one in both) == sorted(made)
    assert "NextToken" not in rest
    code, _ = await asm.refused("list_secret_version_ids", SecretId="a", NextToken="x")
    assert code == "InvalidNextTokenException"


async def test_a_secret_is_updated(asm: AwsClient) -> None:
    made = await asm.call("create_secret", Name="a", SecretString="1", Description="old")
    answer = await asm.call("update_secret", SecretId="a", Description="new")
    assert answer == {"ARN": made["ARN"], "Name": "a"}
    answer = await asm.call("update_secret", SecretId="a", SecretString="2", Description="newer")
    assert answer["VersionId"] != made["VersionId"]
    assert await value(asm, "a") == "2"
    assert (await asm.call("describe_secret", SecretId="a"))["Description"] == "newer"
    await asm.call("update_secret", SecretId="a", SecretString="3")
    assert (await asm.call("describe_secret", SecretId="a"))["Description"] == "newer"
    assert (await asm.refused("update_secret", SecretId="a", KmsKeyId="x"))[0] == (
        "InvalidParameterException"
    )
    policy = await asm.call("get_resource_policy", SecretId="a")
    assert policy == {"ARN": made["ARN"], "Name": "a"}, "it has none"
    await asm.call("delete_secret", SecretId="a")
    for request in ({"Description": "x"}, {"SecretString": "4"}):
        code, _ = await asm.refused("update_secret", SecretId="a", **request)
        assert code == "InvalidRequestException"


async def test_the_same_call_again_changes_nothing(asm: AwsClient) -> None:
    token = str(uuid.uuid4())
    made = await asm.call("create_secret", Name="a", SecretString="1", ClientRequestToken=token)
    again = await asm.call("create_secret", Name="a", SecretString="1", ClientRequestToken=token)
    assert made == again
    assert made["VersionId"] == token
    for request in ({"SecretString": "2", "ClientRequestToken": token}, {"SecretString": "1"}):
        code, _ = await asm.refused("create_secret", Name="a", **request)
        assert code == "ResourceExistsException"
    put = {"SecretId": "a", "SecretString": "1", "ClientRequestToken": token}
    assert (await asm.call("put_secret_value", **put))["VersionId"] == token
    code, _ = await asm.refused("put_secret_value", **(put | {"SecretString": "2"}))
    assert code == "ResourceExistsException"


async def test_a_secret_without_a_value(asm: AwsClient) -> None:
    made = await asm.call("create_secret", Name="a")
    assert "VersionId" not in made
    code, text = await asm.refused("get_secret_value", SecretId="a")
    assert code == "ResourceNotFoundException"
    assert "staging label: AWSCURRENT" in text
    code, _ = await asm.refused("put_secret_value", SecretId="a")
    assert code == "InvalidRequestException"


async def test_a_deleted_secret_can_be_restored_until_its_window_ends(asm: AwsClient) -> None:
    await asm.call("create_secret", Name="a", SecretString="1")
    deleted = await asm.call("delete_secret", SecretId="a", RecoveryWindowInDays=7)
    assert deleted["DeletionDate"]
    for operation, request in (
        ("get_secret_value", {}),
        ("put_secret_value", {"SecretString": "2"}),
        ("delete_secret", {}),
    ):
        code, text = await asm.refused(operation, SecretId="a", **request)
        assert code == "InvalidRequestException"
        assert "marked for deletion" in text
    assert (await asm.call("describe_secret", SecretId="a"))["DeletedDate"]
    assert (await asm.call("list_secrets"))["SecretList"] == []
    found = await asm.call("list_secrets", IncludePlannedDeletion=True)
    assert [one["Name"] for one in found["SecretList"]] == ["a"]
    await asm.call("restore_secret", SecretId="a")
    assert await value(asm, "a") == "1"
    await asm.call("delete_secret", SecretId="a", ForceDeleteWithoutRecovery=True)
    code, text = await asm.refused("get_secret_value", SecretId="a")
    assert (code, text) == (
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret.",
    )


async def test_what_is_past_its_window_is_swept(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "control.db")
    keeper = await SecretKeeper.open(store, tmp_path / "keys")
    for name in ("a", "b"):
        await stored.create(keeper, Names(), name, value="1", now=0.0)
    await stored.delete(keeper, "a", window_days=7, now=0.0)
    assert await stored.sweep(keeper, 7 * 86400.0 - 1) == 0
    assert await stored.sweep(keeper, 7 * 86400.0) == 1
    assert [secret.name async for secret in stored.every(keeper)] == ["b"]
    await store.close()


@pytest.mark.parametrize(
    ("operation", "request_", "code", "text"),
    [
        ("create_secret", {"Name": "a b"}, "InvalidParameterException", "Invalid name"),
        ("create_secret", {"KmsKeyId": "x"}, "InvalidParameterException", "'KmsKeyId' is not"),
        (
            "create_secret",
            {"SecretString": "x", "SecretBinary": b"x"},
            "InvalidParameterException",
            "both a binary and a string",
        ),
        (
            "create_secret",
            {"SecretString": "\N{EURO SIGN}" * 30_000},
            "InvalidParameterException",
            "1 to 65536 bytes",
        ),
        ("list_secrets", {"MaxResults": 101}, "InvalidParameterException", "between 1 and 100"),
        ("list_secrets", {"NextToken": "forged"}, "InvalidNextTokenException", "not valid"),
        ("list_secrets", {"SortOrder": "desc"}, "InvalidParameterException", "listed by name"),
        (
            "list_secrets",
            {"Filters": [{"Key": "tag-key", "Values": ["a"]}]},
            "InvalidParameterException",
            "tag-key is not supported",
        ),
        (
            "delete_secret",
            {"SecretId": "a", "RecoveryWindowInDays": 6},
            "InvalidParameterException",
            "between 7 and 30 days",
        ),
        (
            "delete_secret",
            {"SecretId": "a", "RecoveryWindowInDays": 7, "ForceDeleteWithoutRecovery": True},
            "InvalidParameterException",
            "in conjunction with",
        ),
        ("describe_secret", {"SecretId": "a"}, "ResourceNotFoundException", "can't find"),
        ("restore_secret", {"SecretId": "a"}, "ResourceNotFoundException", "can't find"),
    ],
)
async def test_what_is_not_taken_is_refused_by_name(
    asm: AwsClient, operation: str, request_: dict[str, Any], code: str, text: str
) -> None:
    given = {"Name": "a"} | request_ if operation == "create_secret" else request_
    found = await asm.refused(operation, **given)
    assert found[0] == code
    assert text in found[1]


async def test_lists_have_pages_and_filters_and_no_values(asm: AwsClient) -> None:
    for name in ("a1", "a2", "b"):
        await asm.call("create_secret", Name=name, SecretString="canary")
    first = await asm.call("list_secrets", MaxResults=2)
    rest = await asm.call("list_secrets", NextToken=first["NextToken"])
    assert [one["Name"] for one in rest["SecretList"]] == ["b"]
    found = await asm.call("list_secrets", Filters=[{"Key": "name", "Values": ["a"]}])
    assert [one["Name"] for one in found["SecretList"]] == ["a1", "a2"]
    assert "canary" not in f"{first}{rest}{found}"
