"""The audit trail of a real control endpoint, asked with AWS's SDK, and what is in its file."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from agent.controlplane.audit.files import AuditSettings
from agent.controlplane.front import keys
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import Endpoint, control_endpoint, definition
from tests.support.keyed_control import KeyedControl, allow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

CANARY = "c4n4ry-of-a-secret"
TRUSTS_ACCOUNT = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
    "Action": "sts:AssumeRole",
}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    settings = AuditSettings(tmp_path / "audit" / "a.jsonl", most_bytes=20_000, keep=100)
    async with control_endpoint(tmp_path, audit=settings, account="123456789012") as running:
        yield running


async def recorded(file: Path, is_there: Callable[[list[dict[str, Any]]], object]) -> Any:
    """Wait until the records of a file, oldest first, are as they should be; return them."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            while True:
                text = file.read_text() if file.exists() else ""
                found = [json.loads(line) for line in text.splitlines()]
                if is_there(found):
                    return found
                await asyncio.sleep(0.01)
    raise AssertionError(found)


async def test_calls_are_found_by_what_they_are(endpoint: Endpoint, tmp_path: Path) -> None:
    await endpoint.call("CreateCluster", clusterName="shop")
    await endpoint.call("RegisterTaskDefinition", **definition())
    await endpoint.call("ListTasks", cluster="shop")
    for number in range(60):
        await endpoint.call("CreateCluster", clusterName=f"c{number}")
    await endpoint.call("DeleteCluster", cluster="shop")
    await recorded(
        tmp_path / "audit" / "a.jsonl", lambda r: r and r[-1]["eventName"] == "DeleteCluster"
    )
    assert len(list((tmp_path / "audit").iterdir())) > 1, "records are in more than one file"
    client = await AwsClient.of(endpoint, "cloudtrail")
    try:
        first = await client.call("lookup_events")
        assert len(first["Events"]) == 50
        second = await client.call("lookup_events", NextToken=first["NextToken"])
        assert "NextToken" not in second
        names = [event["EventName"] for event in first["Events"] + second["Events"]]
        assert names == [
            "DeleteCluster",
            *["CreateCluster"] * 60,
            "RegisterTaskDefinition",
            "CreateCluster",
        ]
        newest = first["Events"][0]
        assert (newest["EventSource"], newest["ReadOnly"], newest["Username"]) == (
            "ecs.amazonaws.com",
            "false",
            "anyone",
        )
        arn = "arn:aws:ecs:us-east-1:123456789012:cluster/shop"
        assert newest["Resources"] == [{"ResourceType": "AWS::ECS::Cluster", "ResourceName": arn}]
        whole = json.loads(newest["CloudTrailEvent"])
        assert whole["requestParameters"] == {"cluster": "shop"}
        assert whole["responseElements"]["cluster"]["status"] == "INACTIVE"
        assert whole["recipientAccountId"] == "123456789012"
        for key, value, count in (
            ("ResourceName", "shop", 2),
            ("ResourceName", arn, 2),
            ("EventName", "RegisterTaskDefinition", 1),
            ("EventId", newest["EventId"], 1),
            ("EventSource", "iam.amazonaws.com", 0),
            ("ReadOnly", "true", 0),
            ("Username", "nobody", 0),
        ):
            attribute = {"AttributeKey": key, "AttributeValue": value}
            answer = await client.call("lookup_events", LookupAttributes=[attribute])
            assert len(answer["Events"]) == count, key
        at = newest["EventTime"]
        assert (await client.call("lookup_events", StartTime=at, EndTime=at))["Events"]
        assert not (await client.call("lookup_events", EndTime=0))["Events"]
    finally:
        client.close()


async def test_what_is_not_valid_is_refused_by_name(endpoint: Endpoint) -> None:
    client = await AwsClient.of(
        endpoint, "cloudtrail", unlisted=frozenset({"UnsupportedFeatureException"})
    )
    attribute = {"AttributeKey": "EventName", "AttributeValue": "x"}
    wrong = {"AttributeKey": "ReadOnly", "AttributeValue": "maybe"}
    try:
        for request, code in (
            ({"LookupAttributes": [attribute, attribute]}, "InvalidLookupAttributesException"),
            ({"LookupAttributes": [wrong]}, "InvalidLookupAttributesException"),
            ({"StartTime": 10, "EndTime": 9}, "InvalidTimeRangeException"),
            ({"MaxResults": 51}, "InvalidMaxResultsException"),
            ({"NextToken": "x"}, "InvalidNextTokenException"),
            ({"EventCategory": "insight"}, "InvalidEventCategoryException"),
        ):
            got, _ = await client.refused("lookup_events", **request)
            assert got == code
        code, text = await client.refused("describe_trails")
        assert code == "UnsupportedFeatureException"
        assert "one file" in text
    finally:
        client.close()


async def test_without_a_trail_it_says_so(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        client = await AwsClient.of(
            endpoint, "cloudtrail", unlisted=frozenset({"UnsupportedFeatureException"})
        )
        try:
            _, text = await client.refused("lookup_events")
            assert "--no-audit" in text
        finally:
            client.close()


async def test_secrets_never_reach_the_file(endpoint: Endpoint, tmp_path: Path) -> None:
    """Whether calls are done or refused, and whatever they are refused for."""
    environment = [{"name": "PASSWORD", "value": CANARY}]
    secrets = await AwsClient.of(endpoint, "secretsmanager", unlisted=frozenset())
    parameters = await AwsClient.of(endpoint, "ssm")
    try:
        await secrets.call("create_secret", Name="db", SecretString=CANARY)
        await secrets.call("put_secret_value", SecretId="db", SecretString=f"{CANARY}2")
        await secrets.call("get_secret_value", SecretId="db")
        await secrets.refused("put_secret_value", SecretId="none", SecretString=CANARY)
        await parameters.call("put_parameter", Name="p", Value=CANARY, Type="SecureString")
        await parameters.refused("put_parameter", Name="p", Value=CANARY, Type="SecureString")
        await parameters.call("get_parameter", Name="p", WithDecryption=True)
    finally:
        secrets.close()
        parameters.close()
    request = definition()
    request["containerDefinitions"][0] |= {
        "environment": environment,
        "logConfiguration": {"logDriver": "splunk", "options": {"splunk-token": CANARY}},
    }
    await endpoint.call("CreateCluster")
    for refused in ("RegisterTaskDefinition", "RunTask"):
        with contextlib.suppress(Exception):
            await endpoint.call(refused, **request)
    overrides = {"containerOverrides": [{"name": "main", "environment": environment}]}
    with contextlib.suppress(Exception):
        await endpoint.call("RunTask", taskDefinition="web", overrides=overrides)
    request["containerDefinitions"][0]["logConfiguration"] = {"logDriver": CANARY}
    with contextlib.suppress(Exception):
        await endpoint.call("RegisterTaskDefinition", **request)
    await endpoint.call("DeleteCluster", cluster="default")
    records = await recorded(
        tmp_path / "audit" / "a.jsonl", lambda r: r and r[-1]["eventName"] == "DeleteCluster"
    )
    files = list((tmp_path / "audit").iterdir())
    told = b"".join(file.read_bytes() for file in files)
    for secret in (f'"value":"{CANARY}"', f'"{CANARY}2"', f'"splunk-token":"{CANARY}"'):
        assert secret.encode() not in told
    names = [record["eventName"] for record in records]
    for name in (
        "CreateSecret",
        "PutSecretValue",
        "GetSecretValue",
        "PutParameter",
        "GetParameter",
    ):
        assert name in names
    for record in records:
        if record["eventName"] != "RegisterTaskDefinition":
            assert CANARY not in json.dumps(record), record["eventName"]
    refusals = [record for record in records if record.get("errorCode")]
    assert len(refusals) >= 4


async def test_who_has_called_and_what_was_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    async with control_endpoint(
        tmp_path / "d",
        keys_file=tmp_path / "credentials",
        token_file=tmp_path / "tokens",
        socket=tmp_path / "s",
        audit=AuditSettings(file),
    ) as endpoint:
        (key,) = (await asyncio.to_thread(keys.load, tmp_path / "credentials")).values()

        def by(secret: str, name: str) -> None:
            client = boto3.client(
                "ecs",
                endpoint_url=endpoint.url,
                region_name="us-east-1",
                aws_access_key_id=key.id,
                aws_secret_access_key=secret,
                config=Config(retries={"total_max_attempts": 1}),
            )
            try:
                client.create_cluster(clusterName=name)
            finally:
                client.close()

        with pytest.raises(ClientError, match="does not match"):
            await asyncio.to_thread(by, "x" * 40, "nobody")
        await asyncio.to_thread(by, key.secret, "theirs")
        with pytest.raises(ClientError, match="InvalidParameter"):
            await asyncio.to_thread(by, key.secret, "no name")
        connector = aiohttp.UnixConnector(str(tmp_path / "s"))
        async with (
            aiohttp.ClientSession(connector=connector) as owner,
            owner.post("http://localhost/control/rotate-secret-keys", data=b"{}") as answer,
        ):
            assert answer.status == 200
        first, second, third = await recorded(file, lambda records: len(records) == 3)
    assert first["userIdentity"] == {
        "type": "Root",
        "principalId": "000000000000",
        "arn": "arn:aws:iam::000000000000:root",
        "accountId": "000000000000",
        "accessKeyId": key.id,
        "userName": "default",
    }
    assert first["requestParameters"] == {"clusterName": "theirs"}
    assert first["sourceIPAddress"] == "127.0.0.1"
    assert first["userAgent"].startswith("Boto3/")
    assert second["errorCode"] == "InvalidParameterException"
    assert second["responseElements"] is None
    assert third["eventName"] == "RotateSecretKeys"
    assert third["userIdentity"]["type"] == "Root"
    assert third["sourceIPAddress"] == "unix socket"
    assert key.secret not in file.read_text()


async def test_calls_of_users_and_roles_are_recorded_with_their_names(tmp_path: Path) -> None:
    """Keys that are made, sessions and refusals by a policy; no secret of a key is told."""
    async with KeyedControl.running(tmp_path) as control:
        ann = await control.user("ann", allow("iam:*"))
        session = await control.session(await control.role("all", TRUSTS_ACCOUNT, allow("*")))
        code, _ = await control.refused("ecs", "create_cluster", ann, clusterName="theirs")
        assert code == "AccessDeniedException"
        await control.call("ecs", "create_cluster", session, clusterName="ours")
        file = tmp_path / "audit" / "audit.jsonl"
        records = await recorded(
            file,
            lambda found: found and found[-1]["requestParameters"] == {"clusterName": "ours"},
        )
    refused, done = records[-2:]
    assert (refused["userIdentity"]["type"], refused["userIdentity"]["userName"]) == (
        "IAMUser",
        "ann",
    )
    assert refused["userIdentity"]["accessKeyId"] == ann.id
    assert (refused["errorCode"], refused["responseElements"]) == ("AccessDeniedException", None)
    issuer = done["userIdentity"]["sessionContext"]["sessionIssuer"]
    assert (done["userIdentity"]["type"], issuer["userName"]) == ("AssumedRole", "all")
    names = [record["eventName"] for record in records]
    assert {"CreateUser", "PutUserPolicy", "CreateAccessKey", "CreateRole", "AssumeRole"} <= set(
        names
    )
    text = file.read_text()
    for secret in (ann.secret, session.secret, session.token, control.root.secret):
        assert secret
        assert secret not in text
