"""Services with the deployment controller EXTERNAL, and their task sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.service_shop import Shop

WHERE = {"cluster": "default", "service": "shop"}
EXTERNAL = {"deploymentController": {"type": "EXTERNAL"}}


def scale(percent: float) -> dict[str, Any]:
    return {"value": percent, "unit": "PERCENT"}


async def outside(shop: Shop, desired: int = 4, **more: Any) -> dict[str, Any]:
    request = {"serviceName": "shop", "desiredCount": desired, **EXTERNAL, **more}
    return dict((await shop.endpoint.call("create_service", **request))["service"])


async def add(shop: Shop, percent: float = 100.0, **more: Any) -> dict[str, Any]:
    request = {**WHERE, "taskDefinition": "web", "scale": scale(percent), **more}
    return dict((await shop.endpoint.call("create_task_set", **request))["taskSet"])


async def sets(shop: Shop, **more: Any) -> list[dict[str, Any]]:
    return list((await shop.endpoint.call("describe_task_sets", **WHERE, **more))["taskSets"])


async def test_a_new_service_has_neither_deployments_nor_task_sets(shop: Shop) -> None:
    made = await outside(shop)
    assert made["deploymentController"] == {"type": "EXTERNAL"}
    assert (made["deployments"], made["taskSets"]) == ([], [])
    assert not {"taskDefinition", "launchType", "networkConfiguration"} & set(made)
    await shop.settle(41)
    assert await shop.messages() == []
    (cluster,) = (await shop.endpoint.call("describe_clusters"))["clusters"]
    assert cluster["activeServicesCount"] == 1
    assert (await shop.endpoint.call("list_services"))["serviceArns"] == [made["serviceArn"]]
    listed = await shop.endpoint.call("list_service_deployments", service="shop")
    assert listed["serviceDeployments"] == []


async def test_the_same_call_again_without_a_desired_count_creates_no_second_service(
    shop: Shop,
) -> None:
    request = {"serviceName": "shop", "clientToken": "t", **EXTERNAL}
    first = (await shop.endpoint.call("create_service", **request))["service"]
    again = (await shop.endpoint.call("create_service", **request))["service"]
    assert (first["desiredCount"], again["createdAt"]) == (0, first["createdAt"])


async def test_a_release_from_one_task_set_to_another(shop: Shop) -> None:
    call = shop.endpoint.call
    await outside(shop)
    old = await add(shop, externalId="blue")
    assert (old["status"], old["computedDesiredCount"]) == ("ACTIVE", 4)
    assert (old["stabilityStatus"], old["externalId"]) == ("STABILIZING", "blue")
    assert old["taskSetArn"].endswith(f":task-set/default/shop/{old['id']}")
    await call("update_service_primary_task_set", **WHERE, primaryTaskSet=old["id"])
    await shop.settle(41)
    (shown,) = await sets(shop)
    assert (shown["status"], shown["runningCount"], shown["pendingCount"]) == ("PRIMARY", 4, 0)
    assert shown["stabilityStatus"] == "STEADY_STATE"
    tasks = await shop.tasks()
    assert {(task["startedBy"], task["group"]) for task in tasks} == {(old["id"], "service:shop")}
    assert (await shop.messages())[0] == (
        f"(service shop, taskSet {old['id']}) has reached a steady state."
    )
    new = await add(shop, 25.0, externalId="green")
    await shop.settle(41)
    counts = {one["externalId"]: one["runningCount"] for one in await sets(shop)}
    assert counts == {"blue": 4, "green": 1}
    service = await shop.describe()
    assert (service["runningCount"], service["desiredCount"]) == (5, 4)
    assert service["taskDefinition"] == old["taskDefinition"]
    changed = await call("update_task_set", **WHERE, taskSet=new["taskSetArn"], scale=scale(100.0))
    assert changed["taskSet"]["stabilityStatus"] == "STABILIZING"
    await shop.settle(41)
    await call("update_service_primary_task_set", **WHERE, primaryTaskSet=new["taskSetArn"])
    statuses = {one["externalId"]: one["status"] for one in await sets(shop)}
    assert statuses == {"blue": "ACTIVE", "green": "PRIMARY"}
    code, text = await shop.endpoint.refused("delete_task_set", **WHERE, taskSet=old["id"])
    assert (code, "scaled above 0" in text) == ("InvalidParameterException", True)
    gone = await call("delete_task_set", **WHERE, taskSet=old["id"], force=True)
    assert (gone["taskSet"]["status"], gone["taskSet"]["computedDesiredCount"]) == ("DRAINING", 0)
    await shop.settle()
    (left,) = await sets(shop)
    assert (left["externalId"], left["runningCount"]) == ("green", 4)
    assert {task["startedBy"] for task in await shop.tasks()} == {new["id"]}
    missing = await call("describe_task_sets", **WHERE, taskSets=[old["id"]])
    assert missing["failures"] == [{"arn": old["id"], "reason": "MISSING"}]


async def test_scales_round_up_and_follow_the_service(shop: Shop) -> None:
    call = shop.endpoint.call
    await outside(shop, 3)
    await add(shop, 33.4, externalId="third")
    await add(shop, 0.0, externalId="none")
    await shop.settle(41)
    counted = {one["externalId"]: one["runningCount"] for one in await sets(shop)}
    assert counted == {"third": 2, "none": 0}
    assert {one["stabilityStatus"] for one in await sets(shop)} == {"STEADY_STATE"}
    await call("update_service", service="shop", desiredCount=1)
    statuses = {one["externalId"]: one["stabilityStatus"] for one in await sets(shop)}
    assert statuses == {"third": "STABILIZING", "none": "STEADY_STATE"}
    await shop.settle(41)
    counted = {one["externalId"]: one["runningCount"] for one in await sets(shop)}
    assert counted == {"third": 1, "none": 0}


async def test_without_room_one_task_set_does_not_keep_another_back(shop: Shop) -> None:
    await outside(shop, 2, placementConstraints=[{"type": "distinctInstance"}])
    nowhere = [{"type": "memberOf", "expression": "attribute:nowhere exists"}]
    register = {"family": "web", "placementConstraints": nowhere}
    container = {"name": "main", "image": "img", "memory": 10}
    await shop.endpoint.call(
        "register_task_definition", **register, containerDefinitions=[container]
    )
    await add(shop, externalId="stuck")
    await add(shop, 50.0, externalId="fine", taskDefinition="web:1")
    await shop.settle(41)
    shown = {one["externalId"]: one for one in await sets(shop)}
    assert (shown["stuck"]["runningCount"], shown["fine"]["runningCount"]) == (0, 1)
    assert shown["stuck"]["stabilityStatus"] == "STABILIZING"
    assert any(
        f"taskSet {shown['stuck']['id']}) was unable to place a task" in message
        for message in await shop.messages()
    )
    before = len(await shop.messages())
    await shop.settle(300)
    assert len(await shop.messages()) == before, "what lasts is told once"


async def test_a_deleted_service_takes_its_task_sets_with_it(shop: Shop) -> None:
    call, refused = shop.endpoint.call, shop.endpoint.refused
    await outside(shop)
    one = await add(shop)
    await shop.settle(41)
    code, _ = await refused("delete_service", service="shop")
    assert code == "InvalidParameterException"
    await call("delete_service", service="shop", force=True)
    code, _ = await refused("create_task_set", **WHERE, taskDefinition="web")
    assert code == "ServiceNotActiveException"
    await shop.settle()
    gone = await shop.describe()
    assert (gone["status"], gone["taskSets"], gone["runningCount"]) == ("INACTIVE", [], 0)
    assert await shop.tasks() == []
    again = await outside(shop, 0)
    assert again["taskSets"] == []
    assert one["id"] not in {task["id"] for task in await sets(shop)}


async def test_the_same_call_again_creates_no_second_task_set(shop: Shop) -> None:
    await outside(shop)
    first = await add(shop, clientToken="t")
    assert (await add(shop, clientToken="t"))["id"] == first["id"]
    code, text = await shop.endpoint.refused(
        "create_task_set", **WHERE, taskDefinition="web", clientToken="t"
    )
    assert (code, "not idempotent" in text) == ("InvalidParameterException", True)
    for _ in range(4):
        await add(shop)
    code, text = await shop.endpoint.refused("create_task_set", **WHERE, taskDefinition="web")
    assert (code, "maximum number" in text) == ("LimitExceededException", True)
    assert len(await sets(shop)) == 5


async def test_tags_of_a_task_set(shop: Shop) -> None:
    call = shop.endpoint.call
    await outside(shop)
    arn = (await add(shop, tags=[{"key": "a", "value": "1"}]))["taskSetArn"]
    await call("tag_resource", resourceArn=arn, tags=[{"key": "b", "value": "2"}])
    await call("untag_resource", resourceArn=arn, tagKeys=["a"])
    tags = [{"key": "b", "value": "2"}]
    assert (await call("list_tags_for_resource", resourceArn=arn))["tags"] == tags
    assert (await sets(shop, include=["TAGS"]))[0]["tags"] == tags
    assert "tags" not in (await sets(shop))[0]
    for other in (arn.replace("us-east-1", "eu-west-1"), f"{arn[:-1]}x"):
        code, _ = await shop.endpoint.refused("tag_resource", resourceArn=other, tags=tags)
        assert code == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"taskDefinition": "web"}, "taskDefinition cannot be specified"),
        ({"launchType": "EC2"}, "launchType cannot be specified"),
        ({"schedulingStrategy": "DAEMON"}, "daemon scheduling strategy is not supported"),
        (
            {
                "deploymentConfiguration": {
                    "deploymentCircuitBreaker": {"enable": True, "rollback": False}
                }
            },
            "circuit breaker is not supported",
        ),
        (
            {"placementConstraints": [{"type": "memberOf", "expression": "("}]},
            "Invalid expression",
        ),
    ],
)
async def test_what_an_external_service_leaves_to_its_task_sets(
    shop: Shop, more: dict[str, Any], text: str
) -> None:
    request = {"serviceName": "shop", **EXTERNAL, **more}
    code, message = await shop.endpoint.refused("create_service", **request)
    assert code == "InvalidParameterException"
    assert text in message


async def test_what_is_refused_of_services_and_task_sets(shop: Shop) -> None:
    refused = shop.endpoint.refused
    await shop.create("plain", desiredCount=0)
    code, text = await refused(
        "create_task_set", cluster="default", service="plain", taskDefinition="web"
    )
    assert (code, "Only services with the deployment controller EXTERNAL" in text) == (
        "InvalidParameterException",
        True,
    )
    await outside(shop)
    code, text = await refused("update_service", service="shop", taskDefinition="web")
    assert (code, "taskDefinition cannot be specified" in text) == (
        "InvalidParameterException",
        True,
    )
    code, text = await refused("update_service", service="plain", **EXTERNAL)
    assert (code, "create another service" in text) == ("UnsupportedFeatureException", True)
    for request, expected in (
        ({"taskDefinition": "none"}, "ClientException"),
        ({"taskDefinition": "web", "scale": scale(101.0)}, "InvalidParameterException"),
        (
            {
                "taskDefinition": "web",
                "loadBalancers": [{"targetGroupArn": "arn", "containerName": "main"}],
            },
            "UnsupportedFeatureException",
        ),
    ):
        assert (await refused("create_task_set", **WHERE, **request))[0] == expected
    for operation, request in (
        ("update_task_set", {"taskSet": "ecs-svc/1", "scale": scale(1.0)}),
        ("delete_task_set", {"taskSet": "ecs-svc/1"}),
        ("update_service_primary_task_set", {"primaryTaskSet": "ecs-svc/1"}),
    ):
        assert (await refused(operation, **WHERE, **request))[0] == "TaskSetNotFoundException"
    assert await sets(shop) == []
