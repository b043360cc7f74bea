"""Services behind load balancers: their tasks are registered, healthy, drained and only then stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import records
from agent.controlplane.api.elbv2 import operations as elbv2
from agent.controlplane.loadbalancing import balancer_records, naming
from agent.controlplane.loadbalancing.balancer_records import (
    HealthRecord,
    TargetState,
)
from agent.controlplane.records import AssignRecord, AttributeRecord
from agent.controlplane.store.contract import Delete, Put
from tests.support.control_endpoint import definition
from tests.unit.controlplane.api.ecs.service_shop import Shop

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

HEALTHY = TargetState(state="healthy")
FAILS = TargetState(
    state="unhealthy",
    reason="Target.ResponseCodeMismatch",
    description="Health checks failed with these codes: [503]",
)
TARGETS = ("192.0.2.1/8080", "192.0.2.2/8080")


class BalancedShop(Shop):
    """A shop with a load balancer whose one ingress reports what a test says."""

    group = ""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._calls = elbv2.handlers()

    async def elb(self, operation: str, **request: Any) -> dict[str, Any]:
        return await self._calls[operation](self.endpoint.parts, request)

    async def build(self, *, hosts: int = 3, listens: bool = True) -> BalancedShop:
        await self.endpoint.call("create_cluster")
        for number in range(1, hosts + 1):
            address = AttributeRecord(value=f"192.0.2.{number}")
            await self.add_host(attributes={"ecs-host-agent.address": address})
        container = {
            **definition()["containerDefinitions"][0],
            "portMappings": [{"containerPort": 8080}],
        }
        for _ in range(2):
            await self.endpoint.call(
                "register_task_definition",
                **definition(networkMode="host", containerDefinitions=[container]),
            )
        balancer = await self.elb("CreateLoadBalancer", Name="web", Subnets=["subnet-1"])
        made = await self.elb(
            "CreateTargetGroup", Name="shop", Protocol="HTTP", Port=80, TargetType="ip"
        )
        self.group = made["TargetGroups"][0]["TargetGroupArn"]
        if listens:
            await self.elb(
                "CreateListener",
                LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"],
                Protocol="HTTP",
                Port=80,
                DefaultActions=[{"Type": "forward", "TargetGroupArn": self.group}],
            )
        return self

    @property
    def balancers(self) -> list[dict[str, Any]]:
        return [{"targetGroupArn": self.group, "containerName": "main", "containerPort": 8080}]

    async def open(self, **more: Any) -> dict[str, Any]:
        """Create the service on the first two hosts and have it started."""
        return await self.create(loadBalancers=self.balancers, **more)

    async def ingress_says(self, **targets: TargetState) -> None:
        """An ingress is connected, and reports these targets by the last number of their address."""
        told = {f"192.0.2.{name[1:]}/8080": state for name, state in targets.items()}
        health = HealthRecord(targets=told)
        group_id = naming.target_group_id(self.group)
        await self.endpoint.parts.store.txn(
            [],
            [
                Put(
                    balancer_records.ingress_key("i1"),
                    records.encode(balancer_records.IngressRecord()),
                ),
                Put(balancer_records.health_key("i1", group_id), records.encode(health)),
            ],
        )

    async def all_healthy(self) -> None:
        await self.ingress_says(**{f"t{n}": HEALTHY for n in range(1, 10)})

    async def states(self) -> dict[str, str]:
        answer = await self.elb("DescribeTargetHealth", TargetGroupArn=self.group)
        return {
            each["Target"]["Id"]: each["TargetHealth"]["State"]
            for each in answer["TargetHealthDescriptions"]
        }

    async def told(self, arn: str) -> str:
        """Return what the agent of a task is told."""
        task = arn.rpartition("/")[2]
        found = await self.endpoint.parts.store.range(records.ASSIGNMENTS)
        for kv in found.items:
            if kv.key.endswith(task):
                return records.decode(AssignRecord, kv).desired_status
        return "nothing"


@pytest.fixture
async def shop(endpoint: Endpoint) -> BalancedShop:
    return await BalancedShop(endpoint).build()


async def test_a_deployment_is_completed_once_its_targets_are_healthy(shop: BalancedShop) -> None:
    await shop.ingress_says()
    created = await shop.open()
    assert created["loadBalancers"] == shop.balancers
    await shop.settle(seconds=100)
    assert set((await shop.states()).values()) == {"initial"}
    waiting = await shop.describe()
    assert waiting["deployments"][0]["rolloutState"] == "IN_PROGRESS"
    assert f"(service shop) registered 2 targets in (target-group {shop.group})" in (
        await shop.messages()
    )

    await shop.all_healthy()
    await shop.settle()

    assert set((await shop.states()).values()) == {"healthy"}
    assert (await shop.describe())["deployments"][0]["rolloutState"] == "COMPLETED"
    assert (await shop.messages())[0] == "(service shop) has reached a steady state."
    (arn,) = (await shop.endpoint.call("list_service_deployments", service="shop"))[
        "serviceDeployments"
    ]
    revision = await shop.endpoint.call(
        "describe_service_revisions", serviceRevisionArns=[arn["targetServiceRevisionArn"]]
    )
    assert revision["serviceRevisions"][0]["loadBalancers"] == shop.balancers


async def test_without_an_ingress_a_service_goes_by_its_containers(shop: BalancedShop) -> None:
    await shop.open()
    await shop.settle(seconds=39)
    assert set((await shop.states()).values()) == {"initial"}
    assert (await shop.describe())["deployments"][0]["rolloutState"] == "IN_PROGRESS"
    await shop.settle(seconds=2)
    assert (await shop.describe())["deployments"][0]["rolloutState"] == "COMPLETED"


async def test_a_task_is_stopped_only_when_its_requests_are_finished(shop: BalancedShop) -> None:
    await shop.open()
    await shop.settle()
    await shop.all_healthy()
    await shop.settle()

    await shop.endpoint.call("update_service", service="shop", desiredCount=1)
    await shop.loop.settle()

    (leaving,) = await shop.tasks("STOPPED")
    assert (leaving["lastStatus"], leaving["stopCode"]) == (
        "DEACTIVATING",
        "ServiceSchedulerInitiated",
    )
    assert await shop.told(leaving["taskArn"]) == "RUNNING"
    assert sorted((await shop.states()).values()) == ["draining", "healthy"]
    described = await shop.describe()
    assert (described["runningCount"], described["desiredCount"]) == (1, 1)
    messages = await shop.messages()
    for message in (
        f"(service shop) deregistered 1 targets in (target-group {shop.group})",
        "(service shop) has begun draining connections on 1 tasks.",
    ):
        assert message in messages

    shop.endpoint.now[0] += 299
    await shop.loop.settle()
    assert await shop.told(leaving["taskArn"]) == "RUNNING"
    shop.endpoint.now[0] += 1
    await shop.loop.settle()
    assert await shop.told(leaving["taskArn"]) == "STOPPED"
    assert list((await shop.states()).values()) == ["healthy"]


async def test_an_ingress_that_has_no_requests_left_ends_the_wait(shop: BalancedShop) -> None:
    await shop.open()
    await shop.settle()
    await shop.all_healthy()
    await shop.settle()
    await shop.endpoint.call("update_service", service="shop", desiredCount=0)
    await shop.loop.settle()
    leaving = await shop.tasks("STOPPED")
    assert [await shop.told(task["taskArn"]) for task in leaving] == ["RUNNING"] * 2

    idle = TargetState(state="healthy", is_idle=True)
    await shop.ingress_says(**{f"t{n}": idle for n in range(1, 4)})
    await shop.loop.settle()

    assert [await shop.told(task["taskArn"]) for task in leaving] == ["STOPPED"] * 2
    assert await shop.states() == {}


async def test_an_unhealthy_target_is_replaced_after_the_grace_period(shop: BalancedShop) -> None:
    await shop.open(healthCheckGracePeriodSeconds=60)
    await shop.settle()
    await shop.all_healthy()
    await shop.settle()
    first, second = sorted(await shop.states())
    one_fails = {f"t{first[-1]}": HEALTHY, f"t{second[-1]}": FAILS}
    await shop.ingress_says(**one_fails)
    await shop.settle()
    assert await shop.tasks("STOPPED") == []

    shop.endpoint.now[0] += 61
    await shop.settle()
    assert await shop.tasks("STOPPED") == [], "its replacement is not healthy yet"
    third = next(iter(set(await shop.states()) - {first, second}))
    await shop.ingress_says(**one_fails, **{f"t{third[-1]}": HEALTHY})
    await shop.loop.settle()

    (leaving,) = await shop.tasks("STOPPED")
    assert (
        leaving["stoppedReason"] == f"Task failed ELB health checks in (target-group {shop.group})"
    )
    assert (await shop.states()) == {first: "healthy", third: "healthy", second: "draining"}
    task = leaving["taskArn"].rpartition("/")[2]
    assert (
        f"(service shop) (task {task}) (port 8080) is unhealthy in (target-group {shop.group}) due to "
        "(reason Health checks failed with these codes: [503])"
    ) in await shop.messages()


async def test_a_new_revision_takes_over_only_once_it_is_healthy(shop: BalancedShop) -> None:
    await shop.open(desiredCount=1)
    await shop.settle()
    await shop.all_healthy()
    await shop.settle()
    (old,) = await shop.tasks()
    address = next(iter(await shop.states()))
    await shop.ingress_says(**{f"t{address[-1]}": HEALTHY})

    await shop.endpoint.call("update_service", service="shop", taskDefinition="web:1")
    await shop.settle(seconds=100)
    assert len(await shop.tasks()) == 2, "the new task is not healthy yet"
    assert sorted((await shop.states()).values()) == ["healthy", "initial"]

    await shop.all_healthy()
    await shop.loop.settle()
    assert await shop.told(old["taskArn"]) == "RUNNING"
    assert sorted((await shop.states()).values()) == ["draining", "healthy"]


async def test_a_deleted_service_drains_before_it_is_inactive(shop: BalancedShop) -> None:
    await shop.open()
    await shop.settle()
    await shop.endpoint.call("delete_service", service="shop", force=True)
    await shop.loop.settle()
    assert (await shop.describe())["status"] == "DRAINING"
    assert set((await shop.states()).values()) == {"draining"}
    shop.endpoint.now[0] += 301
    await shop.settle()
    assert (await shop.describe())["status"] == "INACTIVE"
    left = await shop.endpoint.parts.store.range(balancer_records.TARGETS)
    assert left.items == []
    assert await shop.tasks("RUNNING") == []


async def test_a_task_that_others_stop_gets_no_new_requests(shop: BalancedShop) -> None:
    await shop.open(desiredCount=1)
    await shop.settle()
    await shop.all_healthy()
    await shop.settle()
    (task,) = await shop.tasks()
    await shop.endpoint.call("stop_task", task=task["taskArn"])
    await shop.loop.settle()
    assert await shop.told(task["taskArn"]) == "STOPPED"
    assert "draining" in (await shop.states()).values()
    await shop.settle()
    assert "draining" not in (await shop.states()).values()


async def test_a_host_that_has_told_no_address_is_told_once(endpoint: Endpoint) -> None:
    shop = await BalancedShop(endpoint).build(hosts=0)
    await shop.add_host(attributes={})
    await shop.open(desiredCount=1)
    await shop.settle(seconds=100)
    told = [m for m in await shop.messages() if "unable to register a task as a target" in m]
    assert len(told) == 1
    assert "ECS_HOST_ADDRESS" in told[0]
    assert await shop.states() == {}


async def test_what_cannot_be_balanced_is_refused(endpoint: Endpoint) -> None:
    shop = await BalancedShop(endpoint).build(listens=False)
    base = shop.balancers[0]

    async def refused(*balancers: dict[str, Any]) -> tuple[str, str]:
        request = {"serviceName": "s", "taskDefinition": "web", "desiredCount": 1}
        return await endpoint.refused("create_service", **request, loadBalancers=list(balancers))

    unused = f"The target group with targetGroupArn {shop.group} does not have an associated load"
    for balancers, text in (
        ([base], unused),
        ([base | {"targetGroupArn": f"{shop.group}0"}], "does not exist"),
        ([base | {"containerName": "x"}], "The container x does not exist in the task definition."),
        ([base | {"containerPort": 1}], "The container main did not have a container port 1"),
        ([base, base], f"Duplicate targetGroupArn found: {shop.group}"),
        ([{"containerName": "main", "containerPort": 8080}], "targetGroupArn can not be blank."),
    ):
        code, told = await refused(*balancers)
        assert (code, text in told) == ("InvalidParameterException", True), told
    code, told = await refused({"loadBalancerName": "classic"} | base)
    assert (code, "loadBalancerName" in told) == ("UnsupportedFeatureException", True)


async def test_a_group_of_a_service_is_kept_until_the_service_lets_it_go(
    shop: BalancedShop,
) -> None:
    await shop.open()
    await shop.settle()
    store = shop.endpoint.parts.store
    listeners = await store.range(balancer_records.LISTENERS)
    await store.txn([], [Delete(listeners.items[0].key)])
    with pytest.raises(Exception, match="in use by service shop"):
        await shop.elb("DeleteTargetGroup", TargetGroupArn=shop.group)
    updated = await shop.endpoint.call("update_service", service="shop", loadBalancers=[])
    assert updated["service"]["loadBalancers"] == []
    assert len(updated["service"]["deployments"]) == 2
    for _ in range(3):
        await shop.settle(seconds=301)
    await shop.elb("DeleteTargetGroup", TargetGroupArn=shop.group)
