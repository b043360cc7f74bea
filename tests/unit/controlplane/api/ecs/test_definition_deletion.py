"""DeleteTaskDefinitions: who may go, what goes on meanwhile, and when a revision is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane import records
from agent.controlplane.api.ecs.definition_deletion import SETTLE_S, sweep
from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

ARN = "arn:aws:ecs:us-east-1:000000000000:task-definition"


async def register(endpoint: Endpoint, *, deregister: bool = True) -> str:
    made = await endpoint.call("register_task_definition", **definition())
    arn: str = made["taskDefinition"]["taskDefinitionArn"]
    if deregister:
        await endpoint.call("deregister_task_definition", taskDefinition=arn)
    return arn


async def delete(endpoint: Endpoint, *names: str) -> Any:
    return await endpoint.call("delete_task_definitions", taskDefinitions=list(names))


async def sweep_later(endpoint: Endpoint) -> int:
    return await sweep(endpoint.parts.store, endpoint.parts.clock() + SETTLE_S + 1)


async def test_an_unused_revision_is_gone_soon_and_its_number_is_not_used_again(
    endpoint: Endpoint,
) -> None:
    arn = await register(endpoint)
    answer = await delete(endpoint, "web:1", arn)
    assert answer["failures"] == []
    (shown,) = answer["taskDefinitions"]
    assert shown["status"] == "DELETE_IN_PROGRESS"
    assert shown["deleteRequestedAt"].timestamp() == endpoint.parts.clock()
    again = await delete(endpoint, "web:1")
    assert again["taskDefinitions"][0]["deleteRequestedAt"] == shown["deleteRequestedAt"]
    listed = await endpoint.call("list_task_definitions", status="DELETE_IN_PROGRESS")
    assert listed["taskDefinitionArns"] == [arn]
    assert await sweep(endpoint.parts.store, endpoint.parts.clock()) == 0, "a call may still use it"
    assert await sweep_later(endpoint) == 1
    assert await sweep_later(endpoint) == 0
    assert not (await endpoint.parts.store.range(records.DELETING, limit=1)).items
    await endpoint.refused("describe_task_definition", taskDefinition=arn)
    assert (await register(endpoint)).endswith(":2")


async def test_what_cannot_be_deleted_is_among_the_failures(endpoint: Endpoint) -> None:
    active = await register(endpoint, deregister=False)
    foreign = active.replace("us-east-1", "eu-west-1")
    answer = await delete(endpoint, active, "web:9", foreign)
    assert answer["taskDefinitions"] == []
    assert [one["arn"] for one in answer["failures"]] == [active, "web:9"]
    assert "still in ACTIVE status" in answer["failures"][0]["reason"]
    assert "does not exist" in answer["failures"][1]["reason"]
    (alone,) = (await delete(endpoint, foreign))["failures"]
    assert "does not exist" in alone["reason"]


async def test_requests_that_name_nothing(endpoint: Endpoint) -> None:
    many = [f"web:{number}" for number in range(1, 12)]
    assert await endpoint.refused("delete_task_definitions", taskDefinitions=many) == (
        "InvalidParameterException",
        "Specify between 1 and 10 task definitions to delete.",
    )
    assert await endpoint.refused("delete_task_definitions", taskDefinitions=["web"]) == (
        "ClientException",
        "Revision is missing.",
    )


async def test_tasks_go_on_and_keep_their_revision(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster")
    await endpoint.add_instance()
    arn = await register(endpoint, deregister=False)
    (task,) = (await endpoint.call("run_task", taskDefinition=arn))["tasks"]
    await endpoint.call("deregister_task_definition", taskDefinition=arn)
    await delete(endpoint, arn)
    code, text = await endpoint.refused("run_task", taskDefinition=arn)
    assert (code, text) == ("ClientException", "TaskDefinition is inactive")
    code, _ = await endpoint.refused(
        "create_service", serviceName="shop", taskDefinition=arn, desiredCount=1
    )
    assert code == "ClientException"
    assert await sweep_later(endpoint) == 0
    described = await endpoint.call("describe_task_definition", taskDefinition=arn)
    assert described["taskDefinition"]["status"] == "DELETE_IN_PROGRESS"
    key = records.task_key("default", task["taskArn"].rpartition("/")[2])
    stored = await endpoint.parts.store.get(key)
    assert stored is not None


async def test_a_service_keeps_its_revision_until_it_is_deleted(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster")
    arn = await register(endpoint, deregister=False)
    await endpoint.call("create_service", serviceName="shop", taskDefinition=arn, desiredCount=1)
    await endpoint.call("deregister_task_definition", taskDefinition=arn)
    await delete(endpoint, arn)
    assert await sweep_later(endpoint) == 0
    await endpoint.call("update_service", service="shop", desiredCount=2)
    await endpoint.call("update_service", service="shop", desiredCount=0)
    await endpoint.call("delete_service", service="shop", force=True)
    key = records.service_key("default", "shop")
    found = await endpoint.parts.store.get(key)
    assert found is not None
