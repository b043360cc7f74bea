"""Whoever gives tasks a role, or runs tasks later, must be allowed to: against a real control endpoint."""

from __future__ import annotations

import json
from typing import Any

from tests.support.control_endpoint import definition
from tests.support.keyed_control import (
    ACCOUNT,
    TASKS_SERVICE,
    TRUSTS_ACCOUNT,
    KeyedControl,
    allow,
    ecs_arn,
)

OF_SHOP = {"ArnEquals": {"ecs:cluster": ecs_arn("cluster/shop")}}


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
