"""What names a thing of another account, region or kind touches nothing here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import access, records
from agent.controlplane.records import InstanceRecord, TaskRecord

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

OTHERS = ("arn:aws:ecs:eu-west-1:000000000000", "arn:aws:ecs:us-east-1:111122223333")
OF_TASKS: list[tuple[str, str, dict[str, Any]]] = [
    ("stop_task", "task", {}),
    ("describe_tasks", "tasks", {}),
]
OF_INSTANCES: list[tuple[str, str, dict[str, Any]]] = [
    ("describe_container_instances", "containerInstances", {}),
    ("update_container_instances_state", "containerInstances", {"status": "DRAINING"}),
    ("deregister_container_instance", "containerInstance", {"force": True}),
    ("list_tasks", "containerInstance", {}),
    ("start_task", "containerInstances", {"taskDefinition": "web"}),
]


def named(member: str, arn: str) -> dict[str, Any]:
    return {member: [arn] if member.endswith("s") else arn}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(("operation", "member", "more"), OF_TASKS)
async def test_a_task_of_another_account_or_region(
    endpoint: Endpoint, cluster: str, operation: str, member: str, more: dict[str, Any], other: str
) -> None:
    task = await endpoint.add_task(await endpoint.add_instance())
    request = named(member, f"{other}:task/{cluster}/{task.id}") | more
    code, text = await endpoint.refused(operation, **request)
    assert code == "InvalidParameterException"
    assert text.startswith("Invalid identifier: Identifier is for account ")
    key = records.task_key(cluster, task.id)
    found = await access.find(endpoint.parts.store, TaskRecord, key)
    assert found is not None
    assert found.record == task


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(("operation", "member", "more"), OF_INSTANCES)
async def test_an_instance_of_another_account_or_region(
    endpoint: Endpoint, cluster: str, operation: str, member: str, more: dict[str, Any], other: str
) -> None:
    containers = [{"name": "a", "image": "busybox", "memory": 16}]
    await endpoint.call("register_task_definition", family="web", containerDefinitions=containers)
    instance = await endpoint.add_instance()
    request = named(member, f"{other}:container-instance/{cluster}/{instance.id}") | more
    code, _ = await endpoint.refused(operation, **request)
    assert code == "InvalidParameterException"
    key = records.instance_key(cluster, instance.id)
    found = await access.find(endpoint.parts.store, InstanceRecord, key)
    assert found is not None
    assert found.record == instance


@pytest.mark.parametrize("other", OTHERS)
async def test_attributes_of_another_account_or_region(
    endpoint: Endpoint, cluster: str, other: str
) -> None:
    instance = await endpoint.add_instance()
    target = f"{other}:container-instance/{cluster}/{instance.id}"
    attribute = {"name": "rack", "value": "r1", "targetId": target}
    for operation in ("put_attributes", "delete_attributes"):
        code, _ = await endpoint.refused(operation, attributes=[attribute])
        assert code == "InvalidParameterException"
    assert (
        await endpoint.call(
            "list_attributes", targetType="container-instance", attributeName="rack"
        )
    )["attributes"] == []


@pytest.mark.parametrize("text", ["", "3f2a", "x" * 33])
async def test_an_id_of_another_length(endpoint: Endpoint, cluster: str, text: str) -> None:
    assert cluster
    answer = await endpoint.raw("DescribeTasks", {"tasks": [text]})
    assert answer.body["message"] == "taskId length should be one of [32,36]"
    answer = await endpoint.raw("DescribeContainerInstances", {"containerInstances": [text]})
    assert answer.body["message"] == "instanceId length should be one of [32,36]"
    for arn in (f"arn:aws:ecs:us-east-1:000000000000:cluster/{cluster}", "arn:x"):
        code, text = await endpoint.refused("stop_task", task=arn)
        assert (code, text) == (
            "InvalidParameterException",
            f"Invalid identifier: {arn} is not the ARN of a task",
        )


async def test_lists_that_are_empty_or_too_long(endpoint: Endpoint, cluster: str) -> None:
    assert cluster
    many = ["0" * 32] * 101
    for operation, request, text in (
        ("describe_tasks", {"tasks": []}, "Tasks cannot be empty."),
        (
            "describe_container_instances",
            {"containerInstances": []},
            "Container instance cannot be empty.",
        ),
        (
            "describe_container_instances",
            {"containerInstances": many},
            "instanceIds can have at most 100 items.",
        ),
        (
            "update_container_instances_state",
            {"containerInstances": many[:11], "status": "DRAINING"},
            "instanceIds can have at most 10 items.",
        ),
    ):
        assert await endpoint.refused(operation, **request) == ("InvalidParameterException", text)
