from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.store.contract import Put

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

ARN = "arn:aws:ecs:us-east-1:000000000000:cluster"


async def test_create_is_idempotent_and_names_default(endpoint: Endpoint) -> None:
    first = (await endpoint.call("create_cluster"))["cluster"]
    assert first["clusterName"] == "default"
    assert first["clusterArn"] == f"{ARN}/default"
    assert first["status"] == "ACTIVE"
    await endpoint.call("create_cluster", tags=[{"key": "ignored", "value": ""}])
    described = await endpoint.call("describe_clusters", include=["TAGS"])
    assert described["clusters"][0]["tags"] == []


async def test_create_with_everything(endpoint: Endpoint) -> None:
    await endpoint.call(
        "create_cluster",
        clusterName="shop_1-A",
        tags=[{"key": "team", "value": "till"}],
        settings=[{"name": "containerInsights", "value": "enabled"}],
        configuration={"executeCommandConfiguration": {"logging": "NONE"}},
    )
    plain = (await endpoint.call("describe_clusters", clusters=["shop_1-A"]))["clusters"][0]
    assert (plain["tags"], plain["settings"], plain["statistics"]) == ([], [], [])
    assert "configuration" not in plain
    full = await endpoint.call(
        "describe_clusters",
        clusters=[f"{ARN}/shop_1-A"],
        include=["TAGS", "SETTINGS", "CONFIGURATIONS", "STATISTICS"],
    )
    cluster = full["clusters"][0]
    assert cluster["tags"] == [{"key": "team", "value": "till"}]
    assert cluster["settings"] == [{"name": "containerInsights", "value": "enabled"}]
    assert cluster["configuration"] == {"executeCommandConfiguration": {"logging": "NONE"}}
    assert {"name": "runningEC2TasksCount", "value": "0"} in cluster["statistics"]


async def test_capacity_providers_are_kept_shown_and_replaced(endpoint: Endpoint) -> None:
    strategy = [{"capacityProvider": "FARGATE", "weight": 1, "base": 0}]
    made = await endpoint.call(
        "create_cluster",
        capacityProviders=["FARGATE", "FARGATE_SPOT"],
        defaultCapacityProviderStrategy=strategy,
    )
    assert made["cluster"]["capacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
    assert made["cluster"]["defaultCapacityProviderStrategy"] == strategy
    await endpoint.call(
        "put_cluster_capacity_providers",
        cluster="default",
        capacityProviders=["FARGATE_SPOT"],
        defaultCapacityProviderStrategy=[],
    )
    (shown,) = (await endpoint.call("describe_clusters"))["clusters"]
    assert shown["capacityProviders"] == ["FARGATE_SPOT"]
    assert shown["defaultCapacityProviderStrategy"] == []


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (
            {"capacityProviders": ["mine"]},
            "InvalidParameterException",
            "The specified capacity provider 'mine' was not found.",
        ),
        (
            {"defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1}]},
            "InvalidParameterException",
            "The specified capacity provider strategy cannot contain a capacity provider that is not",
        ),
        (
            {"configuration": {"managedStorageConfiguration": {"kmsKeyId": "k"}}},
            "ClientException",
            "'configuration.managedStorageConfiguration' is not supported",
        ),
        (
            {"settings": [{"name": "containerInsights", "value": "loud"}]},
            "InvalidParameterException",
            "containerInsights must be one of [enabled,disabled,enhanced]",
        ),
    ],
)
async def test_what_a_cluster_cannot_have_is_refused(
    endpoint: Endpoint, request_: dict[str, Any], code: str, text: str
) -> None:
    refused, message = await endpoint.refused("create_cluster", clusterName="shop", **request_)
    assert refused == code
    assert text in message
    assert (await endpoint.call("list_clusters"))["clusterArns"] == []


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 256, "a/b", "arn:aws:ecs:x", "../x"])
async def test_bad_names_are_refused(endpoint: Endpoint, name: str) -> None:
    code, _ = await endpoint.refused("create_cluster", clusterName=name)
    assert code == "InvalidParameterException"


async def test_describe_tells_what_is_missing(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster", clusterName="here")
    answer = await endpoint.call("describe_clusters", clusters=["here", "gone", "here"])
    assert [c["clusterName"] for c in answer["clusters"]] == ["here"]
    assert answer["failures"] == [{"arn": f"{ARN}/gone", "reason": "MISSING"}]
    code, _ = await endpoint.refused("describe_clusters", clusters=[f"c{n}" for n in range(101)])
    assert code == "InvalidParameterException"


async def test_list_pages_through_all(endpoint: Endpoint) -> None:
    names = [f"c{number:02}" for number in range(25)]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(endpoint.call("create_cluster", clusterName=name))
    pages = await asyncio.to_thread(
        lambda: list(
            endpoint.client.get_paginator("list_clusters").paginate(
                PaginationConfig={"PageSize": 10}
            )
        )
    )
    assert [len(page["clusterArns"]) for page in pages] == [10, 10, 5]
    assert [arn for page in pages for arn in page["clusterArns"]] == [f"{ARN}/{n}" for n in names]


async def test_tokens_are_opaque_and_checked(endpoint: Endpoint) -> None:
    for name in "abc":
        await endpoint.call("create_cluster", clusterName=name)
    token = (await endpoint.call("list_clusters", maxResults=2))["nextToken"]
    assert "/clusters" not in token
    assert len((await endpoint.call("list_clusters", nextToken=token))["clusterArns"]) == 1
    for bad in ("", "x", token[:-4], token + "AAAA", "é", "W10="):
        answer = await endpoint.raw("ListClusters", {"nextToken": bad})
        assert (answer.status, answer.error) == (400, "InvalidParameterException"), bad
    other = await endpoint.raw("ListTaskDefinitions", {"nextToken": token})
    assert other.error == "InvalidParameterException"
    for size in (0, 101, -1):
        answer = await endpoint.raw("ListClusters", {"maxResults": size})
        assert answer.error == "InvalidParameterException"


async def test_delete_makes_inactive_and_create_revives(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster", clusterName="a", tags=[{"key": "old", "value": "1"}])
    gone = (await endpoint.call("delete_cluster", cluster="a"))["cluster"]
    assert gone["status"] == "INACTIVE"
    assert (await endpoint.call("list_clusters"))["clusterArns"] == []
    described = await endpoint.call("describe_clusters", clusters=["a"])
    assert described["clusters"][0]["status"] == "INACTIVE"
    code, text = await endpoint.refused("delete_cluster", cluster="a")
    assert (code, text) == ("ClusterNotFoundException", "Cluster not found.")
    new = (await endpoint.call("create_cluster", clusterName="a"))["cluster"]
    assert (new["status"], new["tags"]) == ("ACTIVE", [])


async def test_delete_refuses_while_something_is_inside(endpoint: Endpoint, cluster: str) -> None:
    instance = await endpoint.add_instance()
    task = await endpoint.add_task(instance)
    await endpoint.add_task(instance, last_status="STOPPED")
    shown = (await endpoint.call("describe_clusters"))["clusters"][0]
    assert shown["registeredContainerInstancesCount"] == 1
    assert (shown["runningTasksCount"], shown["pendingTasksCount"]) == (1, 0)
    code, _ = await endpoint.refused("delete_cluster", cluster=cluster)
    assert code == "ClusterContainsContainerInstancesException"
    inactive = replace(instance, status="INACTIVE")
    key = records.instance_key(cluster, instance.id)
    await endpoint.parts.store.txn([], [Put(key, records.encode(inactive))])
    code, _ = await endpoint.refused("delete_cluster", cluster=cluster)
    assert code == "ClusterContainsTasksException"
    stopped = replace(task, last_status="STOPPED")
    key = records.task_key(cluster, task.id)
    await endpoint.parts.store.txn([], [Put(key, records.encode(stopped))])
    await endpoint.call("delete_cluster", cluster=cluster)


async def test_an_unreadable_record_is_logged_and_harms_no_other(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster", clusterName="good")
    await endpoint.parts.store.txn([], [Put(records.cluster_key("bad"), b"{nonsense")])
    assert (await endpoint.call("list_clusters"))["clusterArns"] == [f"{ARN}/good"]
    answer = await endpoint.call("describe_clusters", clusters=["bad", "good"])
    assert [c["clusterName"] for c in answer["clusters"]] == ["good"]


async def test_an_arn_of_elsewhere_never_means_a_cluster_here(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster", clusterName="a")
    elsewhere = "arn:aws:ecs:eu-west-1:111111111111:cluster/a"
    code, _ = await endpoint.refused("delete_cluster", cluster=elsewhere)
    assert code == "ClusterNotFoundException"
    code, _ = await endpoint.refused("list_container_instances", cluster=elsewhere)
    assert code == "ClusterNotFoundException"
    code, _ = await endpoint.refused("list_tags_for_resource", resourceArn=elsewhere)
    assert code == "ClusterNotFoundException"
    answer = await endpoint.call("describe_clusters", clusters=[elsewhere])
    assert answer["failures"] == [{"arn": elsewhere, "reason": "MISSING"}]


async def test_settings_and_configuration_are_updated(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster", tags=[{"key": "team", "value": "till"}])
    insights = [{"name": "containerInsights", "value": "enhanced"}]
    logging = {"executeCommandConfiguration": {"logging": "NONE"}}
    first = await endpoint.call("update_cluster", cluster="default", configuration=logging)
    assert first["cluster"]["configuration"] == logging
    second = await endpoint.call("update_cluster", cluster=f"{ARN}/default", settings=insights)
    assert second["cluster"]["configuration"] == logging, "what is left out stays"
    assert second["cluster"]["tags"] == [{"key": "team", "value": "till"}]
    off = [{"name": "containerInsights", "value": "disabled"}]
    third = await endpoint.call("update_cluster_settings", cluster="default", settings=off)
    assert third["cluster"]["settings"] == off
    (shown,) = (await endpoint.call("describe_clusters", include=["SETTINGS"]))["clusters"]
    assert shown["settings"] == off


@pytest.mark.parametrize("operation", ["update_cluster", "update_cluster_settings"])
async def test_an_update_of_no_cluster_is_refused(endpoint: Endpoint, operation: str) -> None:
    settings = [{"name": "containerInsights", "value": "enabled"}]
    code, _ = await endpoint.refused(operation, cluster="other", settings=settings)
    assert code == "ClusterNotFoundException"
    await endpoint.call("create_cluster")
    bad = [{"name": "containerInsights", "value": "on"}]
    code, _ = await endpoint.refused(operation, cluster="default", settings=bad)
    assert code == "InvalidParameterException"
