"""What sessions of roles may do against a real control endpoint, and who may begin one."""

from __future__ import annotations

import json
from typing import Any

from agent.controlplane.iam import sessions
from tests.support.keyed_control import (
    ACCOUNT,
    TRUSTS_ACCOUNT,
    KeyedControl,
    Keys,
    allow,
    deny,
)


async def test_a_session_may_do_what_its_role_may(control: KeyedControl) -> None:
    arn = await control.role("reader", TRUSTS_ACCOUNT, allow("ecs:List*"), allow("logs:*"))
    keys = await control.session(arn)
    await control.call("ecs", "list_clusters", keys)
    code, text = await control.refused("ecs", "create_cluster", keys, clusterName="x")
    assert code == "AccessDeniedException"
    who = f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/test"
    assert text.startswith(f"User: {who} is not authorized to perform: ecs:CreateCluster")
    identity = await control.call("sts", "get_caller_identity", keys)
    assert (identity["Arn"], identity["UserId"][-5:]) == (who, ":test")
    limit = json.dumps({"Version": "2012-10-17", "Statement": [allow("ecs:ListClusters")]})
    limited = await control.session(arn, Policy=limit)
    await control.call("ecs", "list_clusters", limited)
    code, text = await control.refused("ecs", "list_services", limited)
    assert (code, "no session policy allows" in text) == ("AccessDeniedException", True)
    await control.call("iam", "delete_role_policy", RoleName="reader", PolicyName="test")
    assert (await control.refused("ecs", "list_clusters", keys))[0] == "AccessDeniedException"
    await control.call("iam", "delete_role", RoleName="reader")
    await control.role("reader", TRUSTS_ACCOUNT, allow("*"))
    code, _ = await control.refused("ecs", "list_clusters", keys)
    assert code == "UnrecognizedClientException"  # it is another role of the same name


async def test_tokens_are_checked(control: KeyedControl) -> None:
    arn = await control.role("reader", TRUSTS_ACCOUNT, allow("*"))
    one, two = await control.session(arn), await control.session(arn)
    user = await control.user("ann", allow("*"))
    for wrong in (
        one._replace(token=None),
        one._replace(token=two.token),
        one._replace(token=f"{one.token}A"),
        one._replace(token="x"),
        user._replace(token=one.token),
        Keys("ECSS" + "A" * 17, "x" * 40, "y" * 40),
    ):
        code, _ = await control.refused("ecs", "list_clusters", wrong)
        assert code == "UnrecognizedClientException", wrong
    code, _ = await control.refused("ecs", "list_clusters", one._replace(secret=two.secret))
    assert code == "InvalidSignatureException"
    assert "canary" not in repr(sessions.Session("k", "canary", "r", "r", "n", 0, 0))


async def test_who_may_assume_a_role(control: KeyedControl) -> None:
    of_account = await control.role("web", TRUSTS_ACCOUNT)
    for_ann = {**TRUSTS_ACCOUNT, "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/ann"}}
    of_ann = await control.role("hers", for_ann)
    ann, bob = (
        await control.user("ann"),
        await control.user("bob", allow("sts:AssumeRole", of_account)),
    )
    await control.session(of_ann, ann)
    await control.session(of_account, bob)
    for arn, keys in ((of_account, ann), (of_ann, bob), (of_ann, None), (f"{of_ann}x", None)):
        request = {"RoleArn": arn, "RoleSessionName": "test"}
        code, text = await control.refused("sts", "assume_role", keys, **request)
        assert code == "AccessDenied"
        assert text.endswith(f"is not authorized to perform: sts:AssumeRole on resource: {arn}")
    await control.allow("ann", deny("sts:*"))
    request = {"RoleArn": of_ann, "RoleSessionName": "test"}
    assert (await control.refused("sts", "assume_role", ann, **request))[0] == "AccessDenied"
    wrong: list[dict[str, Any]] = [
        {"DurationSeconds": 7200},
        {"RoleSessionName": "a b"},
        {"Policy": "{}"},
        {"Policy": '{"Statement": []}'},
        {"Tags": [{"Key": "a", "Value": "b"}]},
    ]
    for each in wrong:
        code, _ = await control.refused(
            "sts", "assume_role", **{"RoleArn": of_account, "RoleSessionName": "test"} | each
        )
        assert code in ("ValidationError", "MalformedPolicyDocument", "UnsupportedOperation")
