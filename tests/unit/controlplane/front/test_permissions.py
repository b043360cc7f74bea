"""What keys with policies may do against a real control endpoint, and how every API refuses the rest."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore import UNSIGNED, auth
from botocore.exceptions import ClientError

from agent.controlplane.api.table import APIS
from agent.controlplane.iam import sessions
from tests.support.control_endpoint import definition
from tests.support.keyed_control import (
    ACCOUNT,
    REGION,
    TASKS_SERVICE,
    TRUSTS_ACCOUNT,
    KeyedControl,
    Keys,
    allow,
    deny,
    ecs_arn,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OF_SHOP = {"ArnEquals": {"ecs:cluster": ecs_arn("cluster/shop")}}
ONE_CALL: dict[str, tuple[str, dict[str, Any]]] = {
    "application-autoscaling": ("describe_scalable_targets", {"ServiceNamespace": "ecs"}),
    "cloudtrail": ("lookup_events", {}),
    "cloudwatch": ("list_metrics", {}),
    "ec2": ("describe_vpcs", {}),
    "ecs": ("list_clusters", {}),
    "elbv2": ("describe_load_balancers", {}),
    "events": ("list_rules", {}),
    "iam": ("list_roles", {}),
    "logs": ("describe_log_groups", {}),
    "scheduler": ("list_schedules", {}),
    "secretsmanager": ("list_secrets", {}),
    "servicediscovery": ("list_namespaces", {}),
    "ssm": ("describe_parameters", {}),
    "sts": ("get_caller_identity", {}),
}
"""A call of each API that needs nothing to be there."""
SERVED = sorted(api.service for api in APIS)
_QUERY = ("elbv2", "iam", "sts", "cloudwatch")
_MISSING, _UNKNOWN, _WRONG, _EXPIRED, _DENIED = range(5)
_CODES = {
    "json": (
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "ExpiredTokenException",
        "AccessDeniedException",
    ),
    "query": (
        "MissingAuthenticationToken",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "AccessDenied",
    ),
    "ec2": ("AuthFailure", "AuthFailure", "AuthFailure", "RequestExpired", "UnauthorizedOperation"),
}


def codes(service: str) -> tuple[str, ...]:
    return _CODES["ec2" if service == "ec2" else "query" if service in _QUERY else "json"]


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[KeyedControl]:
    async with KeyedControl.running(tmp_path, socket=tmp_path / "control.sock") as running:
        yield running


# -- one cluster and nowhere else -------------------------------------------------------------


async def test_keys_for_one_cluster_do_it_there_and_nowhere_else(control: KeyedControl) -> None:
    for name in ("shop", "mail"):
        await control.call("ecs", "create_cluster", clusterName=name)
    await control.call("ecs", "register_task_definition", **definition())
    keys = await control.user(
        "ann",
        allow("ecs:*", Condition=OF_SHOP),
    )
    for cluster, may in (("shop", True), ("mail", False)):
        calls: list[tuple[str, dict[str, Any]]] = [
            ("create_service", {"serviceName": "web", "taskDefinition": "web", "desiredCount": 0}),
            ("describe_services", {"services": ["web"]}),
            ("list_services", {}),
            ("list_tasks", {}),
            ("list_container_instances", {}),
            ("update_service", {"service": "web", "desiredCount": 0}),
            ("delete_service", {"service": "web", "force": True}),
        ]
        for operation, members in calls:
            request = {"cluster": cluster, **members}
            if may:
                await control.call("ecs", operation, keys, **request)
            else:
                code, text = await control.refused("ecs", operation, keys, **request)
                assert code == "AccessDeniedException", operation
                assert text.startswith(
                    f"User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: ecs:"
                )
    for service in SERVED:
        operation, members = ONE_CALL[service]
        if service not in ("sts", "ecs"):
            code, _ = await control.refused(service, operation, keys, **members)
            assert code == codes(service)[_DENIED], service


async def test_the_texts_are_those_of_aws(control: KeyedControl) -> None:
    await control.call("ecs", "register_task_definition", **definition())
    keys = await control.user("ann", deny("ecs:StopTask"), allow("ecs:StopTask"))
    who = f"User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform:"
    refusal = await control.refused("ecs", "run_task", keys, taskDefinition="web")
    assert refusal == (
        "AccessDeniedException",
        (
            f"{who} ecs:RunTask on resource: {ecs_arn('task-definition/web:1')} because no identity-based "
            "policy allows the ecs:RunTask action"
        ),
    )
    task = "a" * 32
    refusal = await control.refused("ecs", "stop_task", keys, task=task)
    assert refusal == (
        "AccessDeniedException",
        (
            f"{who} ecs:StopTask on resource: {ecs_arn(f'task/default/{task}')} with an explicit deny in an "
            "identity-based policy"
        ),
    )


async def test_a_policy_for_one_thing_by_its_arn(control: KeyedControl) -> None:
    ssm = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/shop/*"
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shop-??????"
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/shop:*"
    keys = await control.user(
        "ann", allow("ssm:*", ssm), allow("secretsmanager:*", secret), allow("logs:*", group)
    )
    for name in ("/shop/a", "/mail/a"):
        await control.call("ssm", "put_parameter", Name=name, Value="x", Type="String")
    assert (await control.call("ssm", "get_parameter", keys, Name="/shop/a:1"))["Parameter"]
    for name in ("/mail/a", "/mail/a:1", ssm.replace("shop/*", "mail/a")):
        assert (await control.refused("ssm", "get_parameter", keys, Name=name))[0] == (
            "AccessDeniedException"
        )
    names = ["/shop/a", "/mail/a"]
    code, text = await control.refused("ssm", "get_parameters", keys, Names=names)
    assert (code, "parameter/mail/a" in text) == ("AccessDeniedException", True)
    below = await control.call("ssm", "get_parameters_by_path", keys, Path="/shop")
    assert [one["Name"] for one in below["Parameters"]] == ["/shop/a"]
    for path in ("/", "/mail", "/sho"):
        code, _ = await control.refused("ssm", "get_parameters_by_path", keys, Path=path)
        assert code == "AccessDeniedException", path
    tag = {"ResourceType": "Parameter", "Tags": [{"Key": "a", "Value": "b"}]}
    await control.call("ssm", "add_tags_to_resource", keys, ResourceId="/shop/a", **tag)
    code, _ = await control.refused(
        "ssm", "add_tags_to_resource", keys, ResourceId="/mail/a", **tag
    )
    assert code == "AccessDeniedException"
    made = await control.call(
        "secretsmanager", "create_secret", keys, Name="shop", SecretString="x"
    )
    other = await control.call("secretsmanager", "create_secret", Name="mail", SecretString="x")
    for given in ("shop", made["ARN"], made["ARN"][:-7]):
        await control.call("secretsmanager", "get_secret_value", keys, SecretId=given)
    for given in ("mail", other["ARN"], other["ARN"][:-7]):
        code, text = await control.refused(
            "secretsmanager", "get_secret_value", keys, SecretId=given
        )
        assert (code, other["ARN"] in text) == ("AccessDeniedException", True)
    await control.call("logs", "create_log_group", keys, logGroupName="/shop")
    await control.call("logs", "create_log_stream", keys, logGroupName="/shop", logStreamName="one")
    code, text = await control.refused("logs", "create_log_group", keys, logGroupName="/mail")
    assert (code, "log-group:/mail" in text) == ("AccessDeniedException", True)


async def test_security_groups_by_name_are_those_of_the_id(control: KeyedControl) -> None:
    ids = {}
    for name in ("shop", "mail"):
        made = await control.call("ec2", "create_security_group", GroupName=name, Description="x")
        ids[name] = made["GroupId"]
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group"
    keys = await control.user("ann", allow("ec2:*"), deny("ec2:Delete*", f"{arn}/{ids['mail']}"))
    for given in ({"GroupName": "mail"}, {"GroupId": ids["mail"]}):
        code, _ = await control.refused("ec2", "delete_security_group", keys, **given)
        assert code == "UnauthorizedOperation"
    await control.call("ec2", "delete_security_group", keys, GroupName="shop")
    keys = await control.user("bob", allow("ec2:CreateTags", f"{arn}/{ids['mail']}"))
    tags = [{"Key": "a", "Value": "b"}]
    await control.call("ec2", "create_tags", keys, Resources=[ids["mail"]], Tags=tags)
    default = await control.call("ec2", "describe_security_groups", GroupNames=["default"])
    both = [ids["mail"], default["SecurityGroups"][0]["GroupId"]]
    code, _ = await control.refused("ec2", "create_tags", keys, Resources=both, Tags=tags)
    assert code == "UnauthorizedOperation"


async def test_tags_of_requests_and_resources(control: KeyedControl) -> None:
    team = {"key": "Team", "value": "shop"}
    keys = await control.user(
        "ann",
        allow(
            ["ecs:CreateCluster", "ecs:TagResource"],
            Condition={
                "StringEquals": {"aws:RequestTag/Team": "shop"},
                "ForAllValues:StringEquals": {"aws:TagKeys": ["Team", "Stage"]},
            },
        ),
        allow("ecs:DeleteCluster", Condition={"StringEquals": {"aws:ResourceTag/Team": "shop"}}),
    )
    await control.call("ecs", "create_cluster", clusterName="mail")
    wrong: list[dict[str, Any]] = [
        {},
        {"tags": [{"key": "Team", "value": "mail"}]},
        {"tags": [team, {"key": "Other", "value": "x"}]},
    ]
    for each in wrong:
        code, _ = await control.refused("ecs", "create_cluster", keys, clusterName="shop", **each)
        assert code == "AccessDeniedException", each
    await control.call("ecs", "create_cluster", keys, clusterName="shop", tags=[team])
    for name, may in (("mail", False), ("none", False), ("shop", True)):
        if may:
            await control.call("ecs", "delete_cluster", keys, cluster=name)
        else:
            code, _ = await control.refused("ecs", "delete_cluster", keys, cluster=name)
            assert code == "AccessDeniedException"


async def test_tags_of_parameters_and_secrets(control: KeyedControl) -> None:
    tags = [{"Key": "Team", "Value": "shop"}]
    of_shop = {"StringEquals": {"aws:ResourceTag/Team": "shop"}}
    keys = await control.user("ann", allow(["ssm:*", "secretsmanager:*"], Condition=of_shop))
    for name, given in (("/shop", {"Tags": tags}), ("/mail", {})):
        await control.call("ssm", "put_parameter", Name=name, Value="x", Type="String", **given)
        await control.call("secretsmanager", "create_secret", Name=name, SecretString="x", **given)
    await control.call("ssm", "get_parameter", keys, Name="/shop")
    await control.call("secretsmanager", "get_secret_value", keys, SecretId="/shop")
    for service, call, member in (
        ("ssm", "get_parameter", "Name"),
        ("secretsmanager", "get_secret_value", "SecretId"),
    ):
        code, _ = await control.refused(service, call, keys, **{member: "/mail"})
        assert code == "AccessDeniedException"


async def test_roles_are_passed_by_those_who_may(control: KeyedControl) -> None:
    arn = await control.role("web", TRUSTS_ACCOUNT)
    await control.call(
        "iam", "create_role", RoleName="deep", Path="/a/",
        AssumeRolePolicyDocument=json.dumps({"Statement": TRUSTS_ACCOUNT}),
    )  # fmt: skip
    await control.call("ecs", "create_cluster")
    to_tasks = {"StringEquals": {"iam:PassedToService": TASKS_SERVICE}}
    keys = await control.user(
        "ann",
        allow("ecs:*"),
        allow("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/web", Condition=to_tasks),
    )
    for member in ("taskRoleArn", "executionRoleArn"):
        await control.call("ecs", "register_task_definition", keys, **definition(**{member: arn}))
        for other, shown in (("deep", "a/deep"), ("none", "none")):
            code, text = await control.refused(
                "ecs", "register_task_definition", keys, **definition(**{member: other})
            )
            assert (code, text) == (
                "AccessDeniedException",
                (
                    f"User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: iam:PassRole on "
                    f"resource: arn:aws:iam::{ACCOUNT}:role/{shown} because no identity-based policy allows the "
                    "iam:PassRole action"
                ),
            )
    deep = f"arn:aws:iam::{ACCOUNT}:role/a/deep"
    await control.call(
        "ecs", "register_task_definition", **definition(family="b", taskRoleArn=deep)
    )
    runs: list[dict[str, Any]] = [
        {"taskDefinition": "b"},
        {"taskDefinition": "web", "overrides": {"taskRoleArn": deep}},
    ]
    for run in runs:
        code, text = await control.refused("ecs", "run_task", keys, **run)
        assert (code, "iam:PassRole" in text) == ("AccessDeniedException", True)
    may = {"taskDefinition": "b", "overrides": {"taskRoleArn": arn}}
    code, text = await control.refused("ecs", "run_task", keys, **may)
    assert (code, "No Container Instances" in text) == ("InvalidParameterException", True)
    target = {
        "Id": "1", "Arn": ecs_arn("cluster/default"), "RoleArn": deep,
        "EcsParameters": {"TaskDefinitionArn": ecs_arn("task-definition/web:1")},
    }  # fmt: skip
    await control.allow("ann", allow("events:*"), allow("iam:PassRole", Condition=to_tasks))
    await control.call("events", "put_rule", keys, Name="r", ScheduleExpression="rate(1 hour)")
    code, text = await control.refused("events", "put_targets", keys, Rule="r", Targets=[target])
    assert (code, "iam:PassRole" in text) == ("AccessDeniedException", True)


async def test_services_pass_the_roles_of_their_definition(control: KeyedControl) -> None:
    await control.call("ecs", "create_cluster")
    roles = {name: await control.role(name, TRUSTS_ACCOUNT) for name in ("web", "deep")}
    for family, role in (("a", "web"), ("b", "deep")):
        for member in ("taskRoleArn", "executionRoleArn"):
            await control.call(
                "ecs",
                "register_task_definition",
                **definition(family=family, **{member: roles[role]}),
            )
    keys = await control.user("ann", allow("ecs:*"), allow("iam:PassRole", roles["web"]))
    made = {"serviceName": "s", "desiredCount": 0}
    for revision in ("1", "2"):
        code, text = await control.refused(
            "ecs", "create_service", keys, **made, taskDefinition=f"b:{revision}"
        )
        assert (code, f"iam:PassRole on resource: {roles['deep']}" in text) == (
            "AccessDeniedException",
            True,
        )
    for more in (
        {"role": roles["deep"]},
        {
            "loadBalancers": [
                {"targetGroupArn": "x", "advancedConfiguration": {"roleArn": roles["deep"]}}
            ]
        },
    ):
        code, text = await control.refused(
            "ecs", "create_service", keys, **made, taskDefinition="a", **more
        )
        assert (code, "iam:PassRole" in text) == ("AccessDeniedException", True)
    await control.call("ecs", "create_service", keys, **made, taskDefinition="a")
    code, _ = await control.refused(
        "ecs", "update_service", keys, service="s", taskDefinition="b:1"
    )
    assert code == "AccessDeniedException"
    # Without a definition, nothing is passed: whoever may scale needs no role.
    await control.allow("ann", allow("ecs:UpdateService"))
    await control.call("ecs", "update_service", keys, service="s", desiredCount=1)
    await control.call("ecs", "update_service", keys, service="s", forceNewDeployment=True)
    task_set = {"cluster": "default", "service": "s", "taskDefinition": "b"}
    await control.allow("ann", allow("ecs:*"), allow("iam:PassRole", roles["web"]))
    code, text = await control.refused("ecs", "create_task_set", keys, **task_set)
    assert (code, "iam:PassRole" in text) == ("AccessDeniedException", True)


async def test_what_runs_later_passes_the_roles_of_its_definition(control: KeyedControl) -> None:
    """Nobody assumes the role of a target here, so whoever puts it must be allowed what that role would be."""
    await control.call("ecs", "create_cluster")
    deep = await control.role("deep", TRUSTS_ACCOUNT)
    web = await control.role("web", TRUSTS_ACCOUNT)
    await control.call("ecs", "register_task_definition", **definition(family="a"))
    await control.call(
        "ecs", "register_task_definition", **definition(family="b", taskRoleArn=deep)
    )
    keys = await control.user(
        "ann", allow(["events:*", "scheduler:*", "ecs:*"]), allow("iam:PassRole", web)
    )
    await control.call("events", "put_rule", keys, Name="r", ScheduleExpression="rate(1 hour)")
    for family, overrides, may in (
        ("a", {}, True),
        ("b", {}, False),
        ("a", {"taskRoleArn": deep}, False),
        ("b", {"taskRoleArn": web}, True),
    ):
        target = {
            "Id": "1",
            "Arn": ecs_arn("cluster/default"),
            "RoleArn": web,
            "EcsParameters": {"TaskDefinitionArn": ecs_arn(f"task-definition/{family}:1")},
            "Input": json.dumps(overrides),
        }
        put = {"Rule": "r", "Targets": [target]}
        if may:
            await control.call("events", "put_targets", keys, **put)
        else:
            code, text = await control.refused("events", "put_targets", keys, **put)
            assert (code, f"iam:PassRole on resource: {deep}" in text) == (
                "AccessDeniedException",
                True,
            )


async def test_answers_say_who_made_what(control: KeyedControl) -> None:
    await control.call("ecs", "create_cluster")
    await control.call("ecs", "register_task_definition", **definition())
    user = await control.user("ann", allow(["ecs:*", "ssm:*"]))
    role = await control.role("deployer", TRUSTS_ACCOUNT, allow(["ecs:*", "ssm:*"]))
    for number, (keys, arn) in enumerate(
        (
            (None, f"arn:aws:iam::{ACCOUNT}:root"),
            (user, f"arn:aws:iam::{ACCOUNT}:user/ann"),
            (
                await control.session(role),
                f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/test",
            ),
        )
    ):
        service = {"serviceName": f"s{number}", "taskDefinition": "web", "desiredCount": 0}
        made = await control.call("ecs", "create_service", keys, **service)
        assert made["service"]["createdBy"] == arn
        await control.call("ecs", "update_service", service=f"s{number}", desiredCount=0)
        shown = await control.call("ecs", "describe_services", services=[f"s{number}"])
        assert shown["services"][0]["createdBy"] == arn
        value = {"Name": "/p", "Value": str(number), "Type": "String", "Overwrite": True}
        await control.call("ssm", "put_parameter", keys, **value)
        (told,) = (await control.call("ssm", "describe_parameters"))["Parameters"]
        assert told["LastModifiedUser"] == arn


async def test_what_runs_tasks_later_needs_to_be_allowed_to_run_them(control: KeyedControl) -> None:
    await control.call("ecs", "register_task_definition", **definition())
    for name in ("shop", "mail"):
        await control.call("ecs", "create_cluster", clusterName=name)
    keys = await control.user(
        "ann",
        allow(["events:*", "scheduler:*", "iam:PassRole"]),
        allow("ecs:RunTask", Condition=OF_SHOP),
    )
    await control.call("events", "put_rule", keys, Name="r", ScheduleExpression="rate(1 hour)")
    for cluster, may in (("shop", True), ("mail", False)):
        runs = {"TaskDefinitionArn": ecs_arn("task-definition/web:1")}
        role = f"arn:aws:iam::{ACCOUNT}:role/any"
        target = {"Arn": ecs_arn(f"cluster/{cluster}"), "RoleArn": role, "EcsParameters": runs}
        puts: list[tuple[str, str, dict[str, Any]]] = [
            ("events", "put_targets", {"Rule": "r", "Targets": [{"Id": "1", **target}]}),
            (
                "scheduler",
                "create_schedule",
                {
                    "Name": cluster,
                    "ScheduleExpression": "rate(1 hour)",
                    "FlexibleTimeWindow": {"Mode": "OFF"},
                    "Target": target,
                },
            ),
        ]
        for service, operation, request in puts:
            if may:
                await control.call(service, operation, keys, **request)
            else:
                code, text = await control.refused(service, operation, keys, **request)
                assert (code, "ecs:RunTask" in text) == ("AccessDeniedException", True), service


# -- changes count at once --------------------------------------------------------------------


async def test_policies_and_keys_count_from_the_moment_of_the_answer(control: KeyedControl) -> None:
    keys = await control.user("ann")
    for _ in range(3):
        assert (await control.refused("ecs", "list_clusters", keys))[0] == "AccessDeniedException"
        await control.allow("ann", allow("ecs:ListClusters"))
        await control.call("ecs", "list_clusters", keys)
        await control.call("iam", "delete_user_policy", UserName="ann", PolicyName="test")
    await control.allow("ann", allow("*"))
    key = {"UserName": "ann", "AccessKeyId": keys.id}
    for status, may in (("Inactive", False), ("Active", True)):
        await control.call("iam", "update_access_key", Status=status, **key)
        if may:
            await control.call("ecs", "list_clusters", keys)
        else:
            code, _ = await control.refused("ecs", "list_clusters", keys)
            assert code == "UnrecognizedClientException"
    made = (await control.call("iam", "create_access_key", keys))["AccessKey"]
    new = Keys(made["AccessKeyId"], made["SecretAccessKey"])
    await control.call("iam", "delete_access_key", new, AccessKeyId=keys.id)
    assert (await control.refused("ecs", "list_clusters", keys))[0] == "UnrecognizedClientException"
    who = await control.call("sts", "get_caller_identity", new)
    assert who["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ann"
    assert who["UserId"].startswith("AIDA")


async def test_users_outlive_a_restart_and_a_change_of_the_secret_keys(tmp_path: Path) -> None:
    async with KeyedControl.running(tmp_path) as control:
        keys = await control.user("ann", allow("ecs:ListClusters"))
        secret = keys.secret.encode()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    async with KeyedControl.running(tmp_path, socket=tmp_path / "s") as control:
        await control.call("ecs", "list_clusters", keys)
        await _rotate_secret_keys(control)
        await control.call("ecs", "list_clusters", keys)
    async with KeyedControl.running(tmp_path) as control:
        await control.call("ecs", "list_clusters", keys)


async def _rotate_secret_keys(control: KeyedControl) -> None:
    import aiohttp  # noqa: PLC0415 - for this one call

    connector = aiohttp.UnixConnector(str(control.directory / "s"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://x/control/rotate-secret-keys", json={"forgetOld": True}) as answer,
    ):
        body = await answer.json()
        assert (answer.status, body["left"], body["keys"]) == (200, 0, 1)
        assert body["sealed"] >= 1


async def test_calls_of_our_own_need_permissions_too(control: KeyedControl) -> None:
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - for this test alone
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    keys = await control.user("ann", allow("ecs:*"))

    async def status(path: str, body: bytes = b"{}") -> int:
        request = AWSRequest("POST", control.endpoint.url + path, data=body)
        SigV4Auth(Credentials(keys.id, keys.secret), "ecs", REGION).add_auth(request)
        async with control.endpoint.session.post(
            request.url, data=body, headers=dict(request.headers.items())
        ) as answer:
            return answer.status

    own = ("/control/usage", "/control/events", "/control/changes", "/control/rotate-secret-keys")
    for path in own:
        assert await status(path) == 400, path
    await control.allow("ann", allow("control:GetUsage"))
    assert await status("/control/usage") in (200, 404)
    assert await status("/control/rotate-secret-keys") == 400
    shop = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/shop"
    await control.allow("ann", allow("control:*", Resource=shop))
    for path, may in (("/control/usage", 404), ("/control/changes", 200)):
        assert await status(path, b'{"cluster": "shop"}') == may, path
        assert await status(path, b'{"cluster": "mail"}') == 400, path
        assert await status(path, b'{"cluster": "shop*"}') == 400, path
    assert await status("/control/changes") == 400
    assert await status("/control/rotate-secret-keys") == 400


# -- refused everywhere -----------------------------------------------------------------------


async def test_each_api_refuses_in_its_own_words(
    control: KeyedControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsigned, foreign, badly signed, revoked, expired, old, and what no policy allows."""
    ann, revoked = await control.user("ann"), await control.user("bob", allow("*"))
    await control.call("iam", "delete_access_key", UserName="bob", AccessKeyId=revoked.id)
    arn = await control.role("all", TRUSTS_ACCOUNT, allow("*"))
    valid = await control.session(arn)
    begin = sessions.Sessions.begin

    def early(self: Any, *args: Any, **more: Any) -> Any:
        return begin(self, *args, **more | {"now": time.time() - 7200})

    with monkeypatch.context() as patch:
        patch.setattr(sessions.Sessions, "begin", early)
        expired = await control.session(arn)
    foreign = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    for service in SERVED:
        operation, members = ONE_CALL[service]
        named = codes(service)
        await control.call(service, operation, **members)
        await control.call(service, operation, valid, **members)
        for keys, code in (
            (foreign, named[_UNKNOWN]),
            (foreign._replace(token="x"), named[_UNKNOWN]),
            (revoked, named[_UNKNOWN]),
            (control.root._replace(secret="x" * 40), named[_WRONG]),
            (ann._replace(secret="x" * 40), named[_WRONG]),
            (expired, named[_EXPIRED]),
        ):
            found, _ = await control.refused(service, operation, keys, **members)
            assert found == code, (service, keys)
        if service != "sts":  # GetCallerIdentity needs no permission
            found, _ = await control.refused(service, operation, ann, **members)
            assert found == named[_DENIED], service
        await _unsigned(control, service, named[_MISSING])
        await _old(control, service, monkeypatch, named[_WRONG])


async def _unsigned(control: KeyedControl, service: str, wanted: str) -> None:
    operation, members = ONE_CALL[service]
    client = await asyncio.to_thread(control.client, service, None, signature_version=UNSIGNED)
    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(lambda: getattr(client, operation)(**members))
    code = caught.value.response["Error"]["Code"]
    # Without a signature, a form does not say that it is one of EC2.
    assert code == ("MissingAuthenticationToken" if service == "ec2" else wanted)


async def _old(
    control: KeyedControl, service: str, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    operation, members = ONE_CALL[service]
    now = auth.get_current_datetime
    with monkeypatch.context() as patch:
        patch.setattr(
            auth, "get_current_datetime", lambda *a, **k: now(*a, **k) - timedelta(hours=1)
        )
        code, text = await control.refused(service, operation, **members)
    assert code == ("RequestExpired" if service == "ec2" else wanted)
    assert "Signature expired" in text


# -- cost -------------------------------------------------------------------------------------


async def test_the_first_keys_are_asked_for_nothing(
    control: KeyedControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is evaluated for a call of the first keys, and what was evaluated for others is remembered."""
    from agent.controlplane.authorization import grants  # noqa: PLC0415 - patched here

    evaluated: list[str] = []
    verdict = grants._verdict

    def note(*args: Any) -> Any:
        evaluated.append("x")
        return verdict(*args)

    monkeypatch.setattr(grants, "_verdict", note)
    keys = await control.user("ann", allow("ecs:*"))
    for _ in range(3):
        await control.call("ecs", "list_clusters")
    assert evaluated == []
    for _ in range(3):
        await control.call("ecs", "list_clusters", keys)
    assert evaluated == ["x"]
