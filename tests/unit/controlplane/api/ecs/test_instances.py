from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import InstanceRecord, TaskRecord
from agent.controlplane.store.contract import Delete, Put
from agent.model.resources import HostResources

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

pytestmark = pytest.mark.usefixtures("cluster")


def resources(shown: list[dict[str, Any]]) -> dict[str, Any]:
    return {r["name"]: r.get("stringSetValue", r["integerValue"]) for r in shown}


async def test_describe_shows_what_is_there_and_what_is_left(endpoint: Endpoint) -> None:
    instance = await endpoint.add_instance(tags={"room": "1"})
    await endpoint.add_task(
        instance,
        cpu_units=1024,
        memory_mib=512,
        tcp_ports=frozenset({80}),
        gpus=frozenset({"GPU-a"}),
    )
    await endpoint.add_task(instance, last_status="PENDING", udp_ports=frozenset({53}))
    await endpoint.add_task(instance, last_status="STOPPED", cpu_units=1)
    answer = await endpoint.call("describe_container_instances", containerInstances=[instance.arn])
    shown = answer["containerInstances"][0]
    assert resources(shown["registeredResources"]) == {
        "CPU": 4096,
        "MEMORY": 8192,
        "PORTS": ["22", "2375"],
        "PORTS_UDP": [],
        "GPU": ["GPU-a", "GPU-b"],
    }
    assert resources(shown["remainingResources"]) == {
        "CPU": 3072,
        "MEMORY": 7680,
        "PORTS": ["22", "80", "2375"],
        "PORTS_UDP": ["53"],
        "GPU": ["GPU-b"],
    }
    assert (shown["runningTasksCount"], shown["pendingTasksCount"]) == (1, 1)
    assert shown["agentConnected"] is True
    assert shown["versionInfo"] == {
        "agentVersion": "0.1.0",
        "dockerVersion": "DockerVersion: 20.10.24",
    }
    assert {"name": "ecs.os-type", "value": "linux"} in shown["attributes"]
    assert {"name": "ecs.capability.task-eni"} in shown["attributes"]
    assert shown["registeredAt"].astimezone(UTC) == datetime.fromtimestamp(1_700_000_000.5, UTC)
    assert shown["tags"] == []
    answer = await endpoint.call(
        "describe_container_instances", containerInstances=[instance.id], include=["TAGS"]
    )
    assert answer["containerInstances"][0]["tags"] == [{"key": "room", "value": "1"}]


async def test_no_gpu_resource_without_gpus(endpoint: Endpoint) -> None:
    instance = await endpoint.add_instance(resources=HostResources(cpu_units=1, memory_mib=1))
    answer = await endpoint.call("describe_container_instances", containerInstances=[instance.id])
    assert "GPU" not in resources(answer["containerInstances"][0]["registeredResources"])


async def test_agent_without_lease_is_not_connected(endpoint: Endpoint) -> None:
    instance = await endpoint.add_instance()
    await endpoint.parts.store.txn([], [Delete(records.alive_key(instance.id))])
    answer = await endpoint.call("describe_container_instances", containerInstances=[instance.id])
    assert answer["containerInstances"][0]["agentConnected"] is False


async def test_describe_names_what_is_missing_or_malformed(endpoint: Endpoint) -> None:
    answer = await endpoint.call("describe_container_instances", containerInstances=["f" * 32])
    assert answer["failures"] == [
        {
            "arn": f"arn:aws:ecs:us-east-1:000000000000:container-instance/default/{'f' * 32}",
            "reason": "MISSING",
        }
    ]
    elsewhere = "arn:aws:ecs:us-east-1:000000000000:container-instance/other/abc"
    code, text = await endpoint.refused(
        "describe_container_instances", containerInstances=[elsewhere]
    )
    assert code == "InvalidParameterException"
    assert "Identifier is for other. Your cluster is default" in text
    for bad in ("", "a/b", "arn:aws:ecs:us-east-1:000000000000:task/default/abc", "arn:x"):
        answer = await endpoint.raw("DescribeContainerInstances", {"containerInstances": [bad]})
        assert answer.error == "InvalidParameterException", bad
    answer = await endpoint.raw("DescribeContainerInstances", {"containerInstances": []})
    assert answer.error == "InvalidParameterException"
    answer = await endpoint.raw(
        "DescribeContainerInstances", {"containerInstances": ["a"], "cluster": "gone"}
    )
    assert answer.error == "ClusterNotFoundException"


async def test_list_by_status_and_filter_in_pages(endpoint: Endpoint) -> None:
    made = [await endpoint.add_instance() for _ in range(7)]
    await endpoint.add_instance(status="INACTIVE")
    draining = await endpoint.add_instance(status="DRAINING", agent_version="2.0.0")
    pages = await asyncio.to_thread(
        lambda: list(
            endpoint.client.get_paginator("list_container_instances").paginate(
                PaginationConfig={"PageSize": 3}
            )
        )
    )
    listed = [arn for page in pages for arn in page["containerInstanceArns"]]
    assert [len(page["containerInstanceArns"]) for page in pages] == [3, 3, 2]
    assert sorted(listed) == sorted([*(i.arn for i in made), draining.arn])
    only = await endpoint.call("list_container_instances", status="DRAINING")
    assert only["containerInstanceArns"] == [draining.arn]
    chosen = await endpoint.call(
        "list_container_instances",
        filter="agentVersion >= 2.0.0 and attribute:ecs.os-type == linux",
    )
    assert chosen["containerInstanceArns"] == [draining.arn]
    none = await endpoint.call("list_container_instances", filter="runningTasksCount > 0")
    assert none["containerInstanceArns"] == []
    code, _ = await endpoint.refused("list_container_instances", filter="attribute:")
    assert code == "InvalidParameterException"


async def test_drain_and_back(endpoint: Endpoint) -> None:
    instance = await endpoint.add_instance()
    gone = await endpoint.add_instance(status="INACTIVE")
    answer = await endpoint.call(
        "update_container_instances_state",
        containerInstances=[instance.arn, gone.id, "a" * 32],
        status="DRAINING",
    )
    assert [i["status"] for i in answer["containerInstances"]] == ["DRAINING"]
    assert [f["reason"] for f in answer["failures"]] == ["INACTIVE", "MISSING"]
    assert answer["containerInstances"][0]["version"] == 2
    answer = await endpoint.call(
        "update_container_instances_state", containerInstances=[instance.id], status="ACTIVE"
    )
    assert answer["containerInstances"][0]["status"] == "ACTIVE"
    code, text = await endpoint.refused(
        "update_container_instances_state", containerInstances=[instance.id], status="REGISTERING"
    )
    assert code == "InvalidParameterException"
    assert "ACTIVE,DRAINING" in text


async def test_deregister_needs_force_while_tasks_run(endpoint: Endpoint) -> None:
    instance = await endpoint.add_instance()
    task = await endpoint.add_task(instance, cpu_units=1)
    store = endpoint.parts.store
    code, text = await endpoint.refused(
        "deregister_container_instance", containerInstance=instance.arn
    )
    assert (code, text) == ("InvalidParameterException", "Found running tasks on the instance.")
    answer = await endpoint.call(
        "deregister_container_instance", containerInstance=instance.arn, force=True
    )
    shown = answer["containerInstance"]
    assert (shown["status"], shown["agentConnected"]) == ("INACTIVE", False)
    assert shown["runningTasksCount"] == 0
    found = await access.find(store, TaskRecord, records.task_key("default", task.id))
    assert found is not None
    assert (found.record.last_status, found.record.desired_status) == ("STOPPED", "STOPPED")
    assert (await store.range(records.ASSIGNMENTS)).items == []
    code, _ = await endpoint.refused(
        "deregister_container_instance", containerInstance="b" * 32, force=True
    )
    assert code == "InvalidParameterException"


async def test_deregister_of_an_idle_instance(endpoint: Endpoint) -> None:
    instance = await endpoint.add_instance()
    answer = await endpoint.call("deregister_container_instance", containerInstance=instance.id)
    assert answer["containerInstance"]["status"] == "INACTIVE"
    assert (await endpoint.call("list_container_instances"))["containerInstanceArns"] == []


async def test_attributes_put_list_delete(endpoint: Endpoint) -> None:
    one, two = await endpoint.add_instance(), await endpoint.add_instance()
    put = await endpoint.call(
        "put_attributes",
        attributes=[
            {"name": "stack", "value": "prod", "targetId": one.arn},
            {
                "name": "disk/type",
                "value": "ssd 1",
                "targetType": "container-instance",
                "targetId": two.id,
            },
            {"name": "flag", "targetId": two.arn},
        ],
    )
    assert put["attributes"][1] == {
        "name": "disk/type",
        "value": "ssd 1",
        "targetType": "container-instance",
        "targetId": two.arn,
    }
    found = await access.find(
        endpoint.parts.store, InstanceRecord, records.instance_key("default", two.id)
    )
    assert found is not None
    assert found.record.attributes["disk/type"].custom
    listed = await endpoint.call("list_attributes", targetType="container-instance")
    assert len(listed["attributes"]) == 7
    by_name = await endpoint.call(
        "list_attributes",
        targetType="container-instance",
        attributeName="stack",
        attributeValue="prod",
    )
    assert [a["targetId"] for a in by_name["attributes"]] == [one.arn]
    pages = await asyncio.to_thread(
        lambda: list(
            endpoint.client.get_paginator("list_attributes").paginate(
                targetType="container-instance", PaginationConfig={"PageSize": 2}
            )
        )
    )
    assert [len(page["attributes"]) for page in pages] == [2, 2, 2, 1]
    await endpoint.call("delete_attributes", attributes=[{"name": "stack", "targetId": one.arn}])
    by_name = await endpoint.call(
        "list_attributes", targetType="container-instance", attributeName="stack"
    )
    assert by_name["attributes"] == []


@pytest.mark.parametrize(
    ("attribute", "error"),
    [
        ({"name": "a b", "targetId": "x"}, "InvalidParameterException"),
        ({"name": "", "targetId": "x"}, "InvalidParameterException"),
        ({"name": "a" * 129, "targetId": "x"}, "InvalidParameterException"),
        ({"name": "ecs.os-type", "targetId": "x"}, "InvalidParameterException"),
        ({"name": "a", "value": " x", "targetId": "x"}, "InvalidParameterException"),
        ({"name": "a", "value": "ä", "targetId": "x"}, "InvalidParameterException"),
        ({"name": "a", "value": "1"}, "InvalidParameterException"),
        ({"name": "a", "targetId": "x"}, "InvalidParameterException"),
        ({"name": "a", "targetId": "x", "targetType": "host"}, "InvalidParameterException"),
        (
            {"name": "a", "targetId": "c" * 32, "targetType": "container-instance"},
            "TargetNotFoundException",
        ),
    ],
)
async def test_bad_attributes_are_refused(
    endpoint: Endpoint, attribute: dict[str, str], error: str
) -> None:
    answer = await endpoint.raw("PutAttributes", {"attributes": [attribute]})
    assert (answer.status, answer.error) == (400, error)


async def test_put_attributes_is_all_or_nothing_and_limited(endpoint: Endpoint) -> None:
    instance = await endpoint.add_instance()
    missing = "arn:aws:ecs:us-east-1:000000000000:container-instance/default/" + "d" * 32
    code, _ = await endpoint.refused(
        "put_attributes",
        attributes=[
            {"name": "x", "targetId": instance.arn},
            {"name": "x", "targetId": missing},
        ],
    )
    assert code == "TargetNotFoundException"
    many = [{"name": f"a{n}", "targetId": instance.arn} for n in range(10)]
    await endpoint.call("put_attributes", attributes=many)
    await endpoint.call("put_attributes", attributes=many)
    code, _ = await endpoint.refused(
        "put_attributes", attributes=[{"name": "one-more", "targetId": instance.arn}]
    )
    assert code == "AttributeLimitExceededException"
    code, _ = await endpoint.refused(
        "put_attributes", attributes=[*many, {"name": "b", "targetId": instance.arn}]
    )
    assert code == "InvalidParameterException"


async def test_attribute_of_an_inactive_instance_has_no_target(endpoint: Endpoint) -> None:
    instance = await endpoint.add_instance()
    key = records.instance_key("default", instance.id)
    inactive = records.encode(replace(instance, status="INACTIVE"))
    await endpoint.parts.store.txn([], [Put(key, inactive)])
    code, _ = await endpoint.refused(
        "put_attributes", attributes=[{"name": "x", "targetId": instance.arn}]
    )
    assert code == "TargetNotFoundException"
