"""Users of IAM, their keys and policies as AWS's SDK sees them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.authorization import policy
from agent.controlplane.authorization.actions.table import SERVICES
from agent.controlplane.authorization.grants import Decision, Grants
from agent.controlplane.iam import managed
from tests.support.keyed_control import ACCOUNT, KeyedControl, allow, document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[KeyedControl]:
    async with KeyedControl.running(tmp_path) as running:
        yield running


async def test_a_user_from_its_creation_to_its_end(control: KeyedControl) -> None:
    tags = [{"Key": "team", "Value": "shop"}]
    made = (await control.call("iam", "create_user", UserName="ann", Path="/a/", Tags=tags))["User"]
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/a/ann"
    assert (made["UserId"][:4], len(made["UserId"]), made["Tags"]) == ("AIDA", 21, tags)
    assert (await control.call("iam", "get_user", UserName="ann"))["User"] == made
    (listed,) = (await control.call("iam", "list_users", PathPrefix="/a/"))["Users"]
    assert listed == {key: value for key, value in made.items() if key != "Tags"}
    assert not (await control.call("iam", "list_users", PathPrefix="/b/"))["Users"]
    for same in ("ann", "ANN"):
        assert await control.refused("iam", "create_user", UserName=same) == (
            "EntityAlreadyExists",
            f"User with name {same} already exists.",
        )
    await control.call("iam", "tag_user", UserName="ann", Tags=[{"Key": "a", "Value": "b"}])
    await control.call("iam", "untag_user", UserName="ann", TagKeys=["TEAM"])
    tags = [{"Key": "a", "Value": "b"}]
    assert (await control.call("iam", "list_user_tags", UserName="ann"))["Tags"] == tags
    assert (await control.call("iam", "list_groups_for_user", UserName="ann"))["Groups"] == []
    await control.call("iam", "delete_user", UserName="ann")
    for gone in ("get_user", "delete_user", "list_access_keys", "list_user_policies"):
        assert await control.refused("iam", gone, UserName="ann") == (
            "NoSuchEntity",
            "The user with name ann cannot be found.",
        )


async def test_a_user_has_two_keys_at_most(control: KeyedControl) -> None:
    await control.call("iam", "create_user", UserName="ann")
    made = [
        (await control.call("iam", "create_access_key", UserName="ann"))["AccessKey"]
        for _ in range(2)
    ]
    code, _ = await control.refused("iam", "create_access_key", UserName="ann")
    assert code == "LimitExceeded"
    one = made[0]["AccessKeyId"]
    key = {"UserName": "ann", "AccessKeyId": one}
    await control.call("iam", "update_access_key", Status="Inactive", **key)
    listed = (await control.call("iam", "list_access_keys", UserName="ann"))["AccessKeyMetadata"]
    assert {each["AccessKeyId"]: each["Status"] for each in listed} == {
        one: "Inactive",
        made[1]["AccessKeyId"]: "Active",
    }
    assert not any("SecretAccessKey" in each for each in listed)
    code, text = await control.refused("iam", "delete_user", UserName="ann")
    assert (code, text) == (
        "DeleteConflict",
        "Cannot delete entity, must delete access keys first.",
    )
    await control.call("iam", "delete_access_key", **key)
    for call, more in (("delete_access_key", {}), ("update_access_key", {"Status": "Active"})):
        assert await control.refused("iam", call, **key, **more) == (
            "NoSuchEntity",
            f"The Access Key with id {one} cannot be found.",
        )
    code, _ = await control.refused("iam", "create_access_key")
    assert code == "ValidationError"  # who calls is no user


async def test_policies_of_a_user(control: KeyedControl) -> None:
    await control.user("ann", allow("ecs:List*"))
    assert await control.call("iam", "get_user_policy", UserName="ann", PolicyName="test") == {
        "UserName": "ann",
        "PolicyName": "test",
        "PolicyDocument": json.loads(document(allow("ecs:List*"))),
    }
    names = await control.call("iam", "list_user_policies", UserName="ann")
    assert names["PolicyNames"] == ["test"]
    attached = {"UserName": "ann", "PolicyArn": READ_ONLY}
    await control.call("iam", "attach_user_policy", **attached)
    listed = await control.call("iam", "list_attached_user_policies", UserName="ann")
    assert listed["AttachedPolicies"] == [{"PolicyName": "ReadOnlyAccess", "PolicyArn": READ_ONLY}]
    await control.call("iam", "detach_user_policy", **attached)
    await control.call("iam", "delete_user_policy", UserName="ann", PolicyName="test")
    code, _ = await control.refused("iam", "get_user_policy", UserName="ann", PolicyName="test")
    assert code == "NoSuchEntity"
    code, _ = await control.refused("iam", "detach_user_policy", **attached)
    assert code == "NoSuchEntity"


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"Condition": {"StringEquals": {"aws:SourceVpc": "x"}}}, "aws:sourcevpc"),
        ({"Condition": {"StringResembles": {"aws:username": "x"}}}, "StringResembles"),
        ({"Resource": "shop"}, "ARN format"),
    ],
)
async def test_a_policy_that_cannot_be_evaluated_is_refused(
    control: KeyedControl, more: dict[str, Any], names: str
) -> None:
    await control.call("iam", "create_user", UserName="ann")
    code, text = await control.refused(
        "iam", "put_user_policy", UserName="ann", PolicyName="p",
        PolicyDocument=document(allow("ecs:*") | more),
    )  # fmt: skip
    assert (code, names in text) == ("MalformedPolicyDocument", True)
    assert (await control.call("iam", "list_user_policies", UserName="ann"))["PolicyNames"] == []


@pytest.mark.parametrize("path", sorted(managed.KNOWN))
def test_managed_policies_can_be_evaluated(path: str) -> None:
    found = Grants(
        policy.compile_permissions(managed.document(f"arn:aws:iam::aws:policy/{path}"), SERVICES)
    )
    decided = {
        action: found.decide(action, "*", {}) is Decision.ALLOWED
        for action in (
            "ecs:RunTask",
            "ecs:ListTasks",
            "iam:CreateUser",
            "secretsmanager:GetSecretValue",
        )
    }
    may = {
        "AdministratorAccess": (True, True, True, True),
        "PowerUserAccess": (True, True, False, True),
        "AmazonECS_FullAccess": (True, True, False, False),
        "ReadOnlyAccess": (False, True, False, False),
        "SecretsManagerReadWrite": (False, False, False, True),
        "service-role/AmazonEC2ContainerServiceEventsRole": (True, False, False, False),
    }
    assert tuple(decided.values()) == may.get(path, (False, False, False, False))
