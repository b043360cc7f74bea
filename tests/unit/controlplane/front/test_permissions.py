"""What keys with policies may do against a real control endpoint, and what their calls are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.control_endpoint import definition
from tests.support.keyed_control import (
    ACCOUNT,
    REGION,
    TRUSTS_ACCOUNT,
    KeyedControl,
    allow,
    deny,
    ecs_arn,
)
from tests.unit.controlplane.front.one_call import ONE_CALL, SERVED, codes

if TYPE_CHECKING:
    import pytest

OF_SHOP = {"ArnEquals": {"ecs:cluster": ecs_arn("cluster/shop")}}


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
            assert code == codes(service).denied, service


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
