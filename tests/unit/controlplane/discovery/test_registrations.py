"""Tasks of services under the names of their registries: the calls, the loop and the stops."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs import operations as ecs
from agent.controlplane.api.servicediscovery import operations as servicediscovery
from agent.controlplane.api.servicediscovery.errors import CustomHealthNotFound, ResourceInUse
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery.loop import RegistrationLoop
from agent.controlplane.discovery.record import OperationRecord
from agent.controlplane.front.errors import (
    InvalidParameterException,
    UnsupportedFeatureException,
)
from agent.controlplane.janitor import Janitor
from agent.controlplane.names import new_id
from agent.controlplane.parts import Parts
from agent.controlplane.records import AliveRecord, AttributeRecord, InstanceRecord, TaskRecord
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.store.contract import Delete, Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.changes import NetworkInterface
from agent.model.resources import HostResources
from tests.support.control_endpoint import CAPABILITIES, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ECS, CLOUD_MAP = ecs.handlers(), servicediscovery.handlers()
PORTS = [{"containerPort": 8080}]
SUBNETS = {"awsvpcConfiguration": {"subnets": ["s-1"]}}


async def call(parts: Parts, operation: str, **request: Any) -> dict[str, Any]:
    return await ECS[operation](parts, request)


async def names(parts: Parts, operation: str, **request: Any) -> dict[str, Any]:
    return await CLOUD_MAP[operation](parts, request)


def container(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "main", "image": "i", "memory": 64, "portMappings": PORTS} | more]


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    store = await SqliteStore.open(tmp_path / "control.db")
    made = Parts(store=store)
    await call(made, "CreateCluster")
    for family, more in (("web", {}), ("checked", {"healthCheck": {"command": ["CMD", "x"]}})):
        request = definition(
            family=family, networkMode="awsvpc", containerDefinitions=container(**more)
        )
        await call(made, "RegisterTaskDefinition", **request)
    await _add_host(made)
    await names(made, "CreatePrivateDnsNamespace", Name="shop.internal", Vpc="v")
    yield made
    await store.close()


async def _add_host(parts: Parts) -> None:
    id_ = new_id()
    attributes = CAPABILITIES | {"ecs.availability-zone": "eu-a", "ecs.os-type": "linux"}
    record = InstanceRecord(
        id=id_,
        arn=parts.names.instance("default", id_),
        cluster="default",
        client_token=id_,
        resources=HostResources(cpu_units=40_960, memory_mib=81_920),
        attributes={name: AttributeRecord(value=value) for name, value in attributes.items()},
    )
    puts = [
        Put(records.instance_key("default", id_), records.encode(record)),
        Put(
            records.alive_key(id_),
            records.encode(AliveRecord(generation=1)),
            await parts.store.grant_lease(600),
        ),
    ]
    await parts.store.txn([], puts)


async def registry(parts: Parts, *types: str, name: str = "web", health: bool = True) -> str:
    """Create a registry and return its ARN."""
    (namespace,) = (await names(parts, "ListNamespaces"))["Namespaces"]
    request: dict[str, Any] = {
        "Name": name,
        "NamespaceId": namespace["Id"],
        "DnsConfig": {"DnsRecords": [{"Type": each, "TTL": 10} for each in types or ("A",)]},
    }
    if health:
        request["HealthCheckCustomConfig"] = {"FailureThreshold": 1}
    arn: str = (await names(parts, "CreateService", **request))["Service"]["Arn"]
    return arn


async def create(parts: Parts, registry_arn: str, **more: Any) -> dict[str, Any]:
    request = {
        "serviceName": "shop",
        "taskDefinition": "web",
        "desiredCount": 2,
        "networkConfiguration": SUBNETS,
        "serviceRegistries": [{"registryArn": registry_arn}],
    }
    made: dict[str, Any] = (await call(parts, "CreateService", **(request | more)))["service"]
    await ServiceLoop(parts).settle()
    return made


async def live(parts: Parts) -> list[TaskRecord]:
    found = [task async for _, task in access.scan(parts.store, TaskRecord, records.TASKS)]
    return [task for task in found if task.desired_status == "RUNNING"]


async def change(parts: Parts, task: TaskRecord, **fields: Any) -> None:
    """Change a task's record, as reports of its agent do."""
    await access.change(
        parts.store,
        TaskRecord,
        records.task_key("default", task.id),
        lambda old: replace(old, **fields),
    )


async def run(parts: Parts, task: TaskRecord, address: str, **fields: Any) -> None:
    """Have a task run with an address."""
    interface = NetworkInterface(attachment_id="a", private_ipv4_address=address)
    (main,) = task.containers
    containers = [replace(main, last_status="RUNNING", network_interfaces=[interface])]
    await change(parts, task, last_status="RUNNING", containers=containers, **fields)


async def settle(parts: Parts) -> None:
    await RegistrationLoop(parts.store, parts.names).settle()


async def discovered(parts: Parts, **more: Any) -> dict[str, dict[str, Any]]:
    """Return what is discovered, by the address."""
    asked = {"NamespaceName": "shop.internal", "ServiceName": "web", "HealthStatus": "ALL"} | more
    found = (await names(parts, "DiscoverInstances", **asked))["Instances"]
    return {one["Attributes"]["AWS_INSTANCE_IPV4"]: one for one in found}


async def discovers(parts: Parts, addresses: set[str]) -> None:
    """Wait until these are discovered, at each change of the store."""
    async with asyncio.timeout(60):
        async with parts.store.watch("/", after_revision=parts.store.revision) as watch:
            while set(await discovered(parts)) != addresses:
                await anext(watch)


async def test_tasks_are_registered_while_they_run(parts: Parts) -> None:
    arn = await registry(parts)
    made = await create(parts, arn)
    assert made["serviceRegistries"] == [{"registryArn": arn}]
    first, second = await live(parts)
    await settle(parts)
    assert await discovered(parts) == {}, "they do not run yet"
    await run(parts, first, "10.0.0.1")
    await run(parts, second, "10.0.0.2")
    await settle(parts)
    found = await discovered(parts)
    assert set(found) == {"10.0.0.1", "10.0.0.2"}
    assert found["10.0.0.1"] == {
        "InstanceId": first.id,
        "NamespaceName": "shop.internal",
        "ServiceName": "web",
        "HealthStatus": "HEALTHY",
        "Attributes": {
            "AWS_INSTANCE_IPV4": "10.0.0.1",
            "AVAILABILITY_ZONE": "eu-a",
            "ECS_CLUSTER_NAME": "default",
            "ECS_SERVICE_NAME": "shop",
            "ECS_TASK_DEFINITION_FAMILY": "web",
            "REGION": "us-east-1",
        },
    }
    # Nobody else changes what stands for a task.
    mine = {"ServiceId": arn, "InstanceId": first.id}
    with pytest.raises(ResourceInUse, match="stands for a task"):
        await names(parts, "DeregisterInstance", **mine)
    with pytest.raises(ResourceInUse, match="stands for a task"):
        await names(parts, "RegisterInstance", **mine, Attributes={"AWS_INSTANCE_IPV4": "1.1.1.1"})
    with pytest.raises(CustomHealthNotFound, match="has the health of the task"):
        await names(parts, "UpdateInstanceCustomHealthStatus", **mine, Status="HEALTHY")
    # One that ends by itself.
    await change(parts, first, last_status="STOPPED")
    await settle(parts)
    assert set(await discovered(parts)) == {"10.0.0.2"}


async def test_a_stop_deregisters_in_the_same_transaction(parts: Parts) -> None:
    arn = await registry(parts)
    await create(parts, arn, desiredCount=3)
    tasks = await live(parts)
    for number, task in enumerate(tasks):
        await run(parts, task, f"10.0.0.{number}")
    await settle(parts)
    assert len(await discovered(parts)) == 3
    asked = {"NamespaceName": "shop.internal", "ServiceName": "web"}
    before = await names(parts, "DiscoverInstancesRevision", **asked)
    # Without the loop of registrations, which comes later.
    await call(parts, "StopTask", task=tasks[0].id)
    assert set(await discovered(parts)) == {"10.0.0.1", "10.0.0.2"}
    await call(parts, "UpdateService", service="shop", desiredCount=0)
    await ServiceLoop(parts).settle()
    assert await live(parts) == []
    assert await discovered(parts) == {}
    after = await names(parts, "DiscoverInstancesRevision", **asked)
    assert after["InstancesRevision"] > before["InstancesRevision"]
    # Tasks that still end are not registered again.
    await settle(parts)
    assert await discovered(parts) == {}
    await names(parts, "DeleteService", Id=arn)


async def test_health_follows_that_of_the_task(parts: Parts) -> None:
    arn = await registry(parts)
    await create(parts, arn, taskDefinition="checked", desiredCount=1)
    (task,) = await live(parts)
    await run(parts, task, "10.0.0.1")
    await settle(parts)
    assert await discovered(parts) == {}, "never healthy so far"
    for reported, known in (
        ("HEALTHY", "HEALTHY"),
        ("UNHEALTHY", "UNHEALTHY"),
        ("UNKNOWN", "UNHEALTHY"),
        ("HEALTHY", "HEALTHY"),
        ("UNKNOWN", "HEALTHY"),
    ):
        await change(parts, task, health_status=reported)
        await settle(parts)
        assert (await discovered(parts))["10.0.0.1"]["HealthStatus"] == known


async def test_ports_and_records(parts: Parts) -> None:
    arn = await registry(parts, "SRV", "A")
    by_port = [{"registryArn": arn, "containerName": "main", "containerPort": 8080}]
    await create(parts, arn, desiredCount=1, serviceRegistries=by_port)
    (task,) = await live(parts)
    await run(parts, task, "10.0.0.1")
    await settle(parts)
    assert (await discovered(parts))["10.0.0.1"]["Attributes"]["AWS_INSTANCE_PORT"] == "8080"
    # A record that needs what a task has not: it is not registered, and others are.
    other = await registry(parts, "AAAA", name="six")
    await call(
        parts,
        "UpdateService",
        service="shop",
        serviceRegistries=[{"registryArn": other, "port": 9}],
    )
    await ServiceLoop(parts).settle()
    for fresh in await live(parts):
        await run(parts, fresh, "10.0.0.2")
    await settle(parts)
    assert await discovered(parts, ServiceName="six") == {}
    assert set(await discovered(parts)) == {"10.0.0.2"}, "the old task, until it is replaced"


async def test_a_changed_registry_begins_a_deployment(parts: Parts) -> None:
    first, second = await registry(parts), await registry(parts, name="next")
    await create(parts, first, desiredCount=0)

    async def deployments(**more: Any) -> int:
        answer = await call(parts, "UpdateService", service="shop", **more)
        return len(answer["service"]["deployments"])

    same = [{"registryArn": first}]
    assert await deployments(serviceRegistries=same) == 1
    assert await deployments(serviceRegistries=[{"registryArn": second}]) == 2
    (shown,) = (await call(parts, "DescribeServices", services=["shop"]))["services"]
    assert shown["serviceRegistries"] == [{"registryArn": second}]
    answer = await call(parts, "UpdateService", service="shop", serviceRegistries=[])
    assert answer["service"]["serviceRegistries"] == []
    # One without registry can be scaled whatever became of it.
    await names(parts, "DeleteService", Id=second)
    await call(parts, "UpdateService", service="shop", desiredCount=1)


async def test_registries_that_cannot_be(parts: Parts) -> None:
    arn, of_srv = await registry(parts), await registry(parts, "SRV", name="srv")
    cases: list[tuple[list[dict[str, Any]], str]] = [
        ([{}], "does not exist"),
        ([{"registryArn": f"{arn}x"}], "does not exist"),
        ([{"registryArn": arn}] * 2, "at most 1 item"),
        ([{"registryArn": of_srv}], "needs a port"),
        ([{"registryArn": arn, "port": 0}], "between 1 and 65535"),
        ([{"registryArn": arn, "port": 1, "containerName": "main"}], "not both"),
        ([{"registryArn": arn, "containerName": "main"}], "together"),
        (
            [{"registryArn": arn, "containerName": "x", "containerPort": 1}],
            "The container x does not exist in the task definition.",
        ),
        (
            [{"registryArn": arn, "containerName": "main", "containerPort": 1}],
            "The container main did not have a container port 1 defined.",
        ),
    ]
    for given, says in cases:
        with pytest.raises(InvalidParameterException, match=says):
            await create(parts, arn, serviceRegistries=given)
    with pytest.raises(InvalidParameterException, match="at most 1000"):
        await create(parts, arn, desiredCount=1001)
    await call(parts, "RegisterTaskDefinition", **definition(family="bridged"))
    with pytest.raises(UnsupportedFeatureException, match="network mode awsvpc"):
        await create(parts, arn, taskDefinition="bridged", networkConfiguration={})


async def test_two_loops_and_what_is_left_behind(parts: Parts) -> None:
    """The loop follows changes, another one changes nothing, and what it missed is mended at its start."""
    arn = await registry(parts)
    await create(parts, arn)
    first, second = await live(parts)
    loops = [
        asyncio.create_task(RegistrationLoop(parts.store, parts.names).run()) for _ in range(2)
    ]
    try:
        await run(parts, first, "10.0.0.1")
        await run(parts, second, "10.0.0.2")
        await discovers(parts, {"10.0.0.1", "10.0.0.2"})
        await change(parts, first, last_status="STOPPED", desired_status="STOPPED")
        await discovers(parts, {"10.0.0.2"})
    finally:
        for loop in loops:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
    key = records.task_key("default", second.id)
    await parts.store.txn([], [Delete(key)])
    await settle(parts)
    assert await discovered(parts) == {}


async def test_operations_are_kept_for_a_day(parts: Parts) -> None:
    now = [parts.clock()]
    later = Parts(store=parts.store, clock=lambda: now[0])
    found = [one async for one in access.scan(parts.store, OperationRecord, kinds.OPERATIONS)]
    assert found
    await Janitor(later).clean()
    assert await parts.store.get(found[0].kv.key) is not None
    now[0] += 25 * 3600
    await Janitor(later).clean()
    assert await parts.store.get(found[0].kv.key) is None
