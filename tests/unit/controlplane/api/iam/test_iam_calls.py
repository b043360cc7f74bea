"""Roles of IAM and their policies as AWS's SDK sees them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.authorization.policy import PolicyInvalid
from agent.controlplane.iam import documents, managed
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import Endpoint, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TRUST: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
READS: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"},
}
EXECUTION = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
ERRORS = frozenset(
    {
        "DeleteConflict",
        "EntityAlreadyExists",
        "InvalidInput",
        "LimitExceeded",
        "MalformedPolicyDocument",
        "NoSuchEntity",
        "UnsupportedOperation",
        "ValidationError",
    }
)
"""The short names of the query protocol; the model lists the long ones."""


@pytest.fixture
async def iam(tmp_path: Path) -> AsyncIterator[AwsClient]:
    async with control_endpoint(tmp_path) as running:
        client = await client_of(running)
        yield client
        client.close()


async def client_of(endpoint: Endpoint) -> AwsClient:
    return await AwsClient.of(endpoint, "iam", unlisted=ERRORS)


async def made(iam: AwsClient, name: str = "web", **more: Any) -> dict[str, Any]:
    answer = await iam.call(
        "create_role", RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), **more
    )
    role: dict[str, Any] = answer["Role"]
    return role


async def test_a_role_from_its_creation_to_its_end(iam: AwsClient) -> None:
    tags = [{"Key": "team", "Value": "shop"}]
    role = await made(iam, Path="/apps/", Description="of the shop", Tags=tags)
    assert role["Arn"] == "arn:aws:iam::000000000000:role/apps/web"
    assert (role["RoleId"][:4], len(role["RoleId"])) == ("AROA", 21)
    assert (role["MaxSessionDuration"], role["Tags"]) == (3600, tags)
    assert role["AssumeRolePolicyDocument"] == TRUST
    assert (await iam.call("get_role", RoleName="web"))["Role"] == role
    (listed,) = (await iam.call("list_roles", PathPrefix="/apps/"))["Roles"]
    assert listed == {key: value for key, value in role.items() if key != "Tags"}
    assert not (await iam.call("list_roles", PathPrefix="/other/"))["Roles"]
    for same in ("web", "WEB"):
        document = json.dumps(TRUST)
        code, text = await iam.refused(
            "create_role", RoleName=same, AssumeRolePolicyDocument=document
        )
        assert (code, text) == ("EntityAlreadyExists", f"Role with name {same} already exists.")
    await iam.call("delete_role", RoleName="web")
    for gone in ("get_role", "delete_role", "list_role_policies", "list_attached_role_policies"):
        code, text = await iam.refused(gone, RoleName="web")
        assert (code, text) == ("NoSuchEntity", "The role with name web cannot be found.")


async def test_a_role_is_changed(iam: AwsClient) -> None:
    await made(iam, Tags=[{"Key": "Team", "Value": "shop"}])
    role = await iam.call("update_role_description", RoleName="web", Description="newer")
    assert role["Role"]["Description"] == "newer"
    await iam.call("update_role", RoleName="web", Description="new", MaxSessionDuration=7200)
    other = {**TRUST, "Statement": [{**TRUST["Statement"][0], "Principal": {"AWS": "*"}}]}
    await iam.call("update_assume_role_policy", RoleName="web", PolicyDocument=json.dumps(other))
    await iam.call(
        "tag_role",
        RoleName="web",
        Tags=[{"Key": "team", "Value": "mail"}, {"Key": "a", "Value": ""}],
    )
    role = (await iam.call("get_role", RoleName="web"))["Role"]
    assert (role["Description"], role["MaxSessionDuration"]) == ("new", 7200)
    assert role["AssumeRolePolicyDocument"] == other
    tags = [{"Key": "a", "Value": ""}, {"Key": "team", "Value": "mail"}]
    assert role["Tags"] == (await iam.call("list_role_tags", RoleName="web"))["Tags"] == tags
    await iam.call("untag_role", RoleName="web", TagKeys=["TEAM", "none"])
    assert (await iam.call("list_role_tags", RoleName="web"))["Tags"] == tags[:1]
    profiles = await iam.call("list_instance_profiles_for_role", RoleName="web")
    assert profiles["InstanceProfiles"] == []


async def test_managed_policies_are_attached_and_detached(iam: AwsClient) -> None:
    await made(iam)
    for _ in range(2):  # the second time changes nothing
        await iam.call("attach_role_policy", RoleName="web", PolicyArn=EXECUTION)
    attached = [{"PolicyName": "AmazonECSTaskExecutionRolePolicy", "PolicyArn": EXECUTION}]
    listed = await iam.call("list_attached_role_policies", RoleName="web")
    assert listed == {"AttachedPolicies": attached, "IsTruncated": False}
    of_path = await iam.call(
        "list_attached_role_policies", RoleName="web", PathPrefix="/service-role/"
    )
    assert of_path["AttachedPolicies"] == attached
    unknown = "arn:aws:iam::aws:policy/NoSuchPolicy"
    code, text = await iam.refused("attach_role_policy", RoleName="web", PolicyArn=unknown)
    assert (code, text) == (
        "NoSuchEntity",
        f"Policy {unknown} does not exist or is not attachable.",
    )
    code, text = await iam.refused("delete_role", RoleName="web")
    assert (code, text) == (
        "DeleteConflict",
        "Cannot delete entity, must detach all policies first.",
    )
    await iam.call("detach_role_policy", RoleName="web", PolicyArn=EXECUTION)
    code, _ = await iam.refused("detach_role_policy", RoleName="web", PolicyArn=EXECUTION)
    assert code == "NoSuchEntity"
    policies = [f"arn:aws:iam::aws:policy/{path}" for path in sorted(managed.KNOWN)]
    for arn in policies[:10]:
        await iam.call("attach_role_policy", RoleName="web", PolicyArn=arn)
    code, _ = await iam.refused("attach_role_policy", RoleName="web", PolicyArn=policies[10])
    assert code == "LimitExceeded"


async def test_a_role_has_policies_of_its_own(iam: AwsClient) -> None:
    await made(iam)
    document = json.dumps(READS)
    for _ in range(2):  # the second time replaces it
        await iam.call(
            "put_role_policy", RoleName="web", PolicyName="reads", PolicyDocument=document
        )
    assert (await iam.call("list_role_policies", RoleName="web"))["PolicyNames"] == ["reads"]
    assert await iam.call("get_role_policy", RoleName="web", PolicyName="reads") == {
        "RoleName": "web",
        "PolicyName": "reads",
        "PolicyDocument": READS,
    }
    code, text = await iam.refused("delete_role", RoleName="web")
    assert (code, text) == ("DeleteConflict", "Cannot delete entity, must delete policies first.")
    actions = [f"s3:Get{number:05d}" for number in range(1000)]
    statement = {**READS["Statement"], "Action": actions}
    code, _ = await iam.refused(
        "put_role_policy",
        RoleName="web",
        PolicyName="long",
        PolicyDocument=json.dumps({**READS, "Statement": statement}),
    )
    assert code == "LimitExceeded"
    await iam.call("delete_role_policy", RoleName="web", PolicyName="reads")
    for call in ("get_role_policy", "delete_role_policy"):
        code, _ = await iam.refused(call, RoleName="web", PolicyName="reads")
        assert code == "NoSuchEntity"


async def test_roles_are_listed_in_pages(iam: AwsClient) -> None:
    names = [f"role-{number}" for number in range(5)]
    for name in names:
        await made(iam, name)
    pages: list[list[str]] = []
    more: dict[str, str] = {}
    while True:
        answer = await iam.call("list_roles", MaxItems=2, **more)
        pages.append([role["RoleName"] for role in answer["Roles"]])
        if not answer["IsTruncated"]:
            break
        more = {"Marker": answer["Marker"]}
    assert pages == [names[:2], names[2:4], names[4:]]
    code, _ = await iam.refused("list_roles", Marker="x")
    assert code == "ValidationError"


async def test_roles_outlive_a_restart(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        iam = await client_of(endpoint)
        role = await made(iam)
        iam.close()
    async with control_endpoint(tmp_path) as endpoint:
        iam = await client_of(endpoint)
        assert (await iam.call("get_role", RoleName="web"))["Role"] == role
        iam.close()


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"RoleName": "a b"}, "ValidationError"),
    ({"Path": "apps"}, "ValidationError"),
    ({"MaxSessionDuration": 60_000}, "ValidationError"),
    ({"AssumeRolePolicyDocument": "{"}, "MalformedPolicyDocument"),
    ({"AssumeRolePolicyDocument": json.dumps(READS)}, "MalformedPolicyDocument"),
    (
        {"AssumeRolePolicyDocument": json.dumps({**TRUST, "Id": "x" * 2048})},
        "LimitExceeded",
    ),
    (
        {"PermissionsBoundary": "arn:aws:iam::aws:policy/ReadOnlyAccess"},
        "UnsupportedOperation",
    ),
    (
        {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}]},
        "InvalidInput",
    ),
    ({"Tags": [{"Key": "aws:x", "Value": "1"}]}, "InvalidInput"),
)


async def test_roles_that_are_refused(iam: AwsClient) -> None:
    role = {"RoleName": "web", "AssumeRolePolicyDocument": json.dumps(TRUST)}
    for wrong, code in REFUSED:
        assert (await iam.refused("create_role", **role | wrong))[0] == code, wrong
    assert (await iam.call("list_roles"))["Roles"] == []
    code, text = await iam.refused("create_user", UserName="a")
    assert code == "UnsupportedOperation"
    assert "--open" in text


NO_STATEMENTS: tuple[dict[str, Any], ...] = (
    {"Effect": "Maybe"},
    {"Action": []},
    {"Action": [1]},
    {"NotAction": "s3:*"},
    {"Resource": ""},
    {"Principal": "*"},
    {"Condition": "x"},
    {"Color": "red"},
)
NO_POLICIES = (
    "",
    "[]",
    "[" * 5000,
    json.dumps({"Version": "2012-10-17"}),
    json.dumps({**READS, "Version": "2020-01-01"}),
    json.dumps({**READS, "Extra": 1}),
    json.dumps({**READS, "Statement": []}),
    json.dumps({**READS, "Statement": ["x"]}),
    *(
        json.dumps({**READS, "Statement": {**READS["Statement"], **wrong}})
        for wrong in NO_STATEMENTS
    ),
    json.dumps({**READS, "Statement": {"Effect": "Allow", "Action": "s3:*"}}),
    json.dumps({**READS, "Statement": {"Effect": "Allow", "Resource": "*"}}),
)


@pytest.mark.parametrize("document", NO_POLICIES)
def test_documents_that_are_no_policies(document: str) -> None:
    documents.check_permissions(json.dumps(READS))
    with pytest.raises(PolicyInvalid):
        documents.check_permissions(document)


async def test_many_change_one_role_at_once(iam: AwsClient) -> None:
    await made(iam)
    policies = [f"arn:aws:iam::aws:policy/{path}" for path in sorted(managed.KNOWN)][:8]
    async with asyncio.TaskGroup() as group:
        for arn in policies:
            group.create_task(iam.call("attach_role_policy", RoleName="web", PolicyArn=arn))
    listed = (await iam.call("list_attached_role_policies", RoleName="web"))["AttachedPolicies"]
    assert [each["PolicyArn"] for each in listed] == policies
