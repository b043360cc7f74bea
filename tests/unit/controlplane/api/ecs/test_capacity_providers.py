"""Capacity providers: those that always exist, those that operators create, and where tasks of each run."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.janitor import INACTIVE_PROVIDER_S, Janitor
from agent.controlplane.records import AttributeRecord
from agent.controlplane.scheduler.placement import CAPACITY_PROVIDER

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint
    from tests.unit.controlplane.api.ecs.service_shop import Shop

ARN = "arn:aws:ecs:us-east-1:000000000000:capacity-provider"
GROUP = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1-2:autoScalingGroupName/"
DEFAULTS = {
    "status": "DISABLED",
    "targetCapacity": 100,
    "minimumScalingStepSize": 1,
    "maximumScalingStepSize": 10000,
    "instanceWarmupPeriod": 300,
}
TAGS = [{"key": "team", "value": "shop"}]


async def create(endpoint: Endpoint, name: str = "rack", **more: Any) -> dict[str, Any]:
    group = {"autoScalingGroupArn": GROUP + name}
    request = {"name": name, "autoScalingGroupProvider": group, **more}
    return dict((await endpoint.call("create_capacity_provider", **request))["capacityProvider"])


async def give(endpoint: Endpoint, *names: str, default: Any = ()) -> None:
    await endpoint.call(
        "put_cluster_capacity_providers",
        cluster="default",
        capacityProviders=list(names),
        defaultCapacityProviderStrategy=list(default),
    )


def of_provider(name: str) -> dict[str, AttributeRecord]:
    return {CAPACITY_PROVIDER: AttributeRecord(value=name)}


def item(name: str, **more: int) -> dict[str, Any]:
    return {"capacityProvider": name, **more}


async def test_those_of_fargate_always_exist(endpoint: Endpoint) -> None:
    shown = await endpoint.call("describe_capacity_providers")
    assert [one["name"] for one in shown["capacityProviders"]] == ["FARGATE", "FARGATE_SPOT"]
    assert {one["status"] for one in shown["capacityProviders"]} == {"ACTIVE"}
    assert shown["failures"] == []
    for operation, request in (
        ("delete_capacity_provider", {"capacityProvider": "FARGATE"}),
        ("update_capacity_provider", {"name": "FARGATE", "autoScalingGroupProvider": DRAINED}),
    ):
        code, text = await endpoint.refused(operation, **request)
        assert code == "ClientException"
        assert "FARGATE is reserved" in text


DRAINED = {"managedDraining": "DISABLED"}


async def test_names_and_arns_each_once_and_what_is_missing(endpoint: Endpoint) -> None:
    shown = await endpoint.call(
        "describe_capacity_providers",
        capacityProviders=["FARGATE_SPOT", f"{ARN}/FARGATE_SPOT", "mine"],
    )
    assert [one["capacityProviderArn"] for one in shown["capacityProviders"]] == [
        f"{ARN}/FARGATE_SPOT"
    ]
    assert shown["failures"] == [{"arn": f"{ARN}/mine", "reason": "MISSING"}]


async def test_those_of_a_cluster(endpoint: Endpoint) -> None:
    await endpoint.call("create_cluster", capacityProviders=["FARGATE"])
    shown = await endpoint.call("describe_capacity_providers", cluster="default")
    assert [one["name"] for one in shown["capacityProviders"]] == ["FARGATE"]
    code, _ = await endpoint.refused("describe_capacity_providers", cluster="other")
    assert code == "ClusterNotFoundException"


async def test_a_group_is_created_changed_tagged_and_deleted(endpoint: Endpoint) -> None:
    call = endpoint.call
    made = await create(endpoint, tags=TAGS)
    assert made["autoScalingGroupProvider"] == {
        "autoScalingGroupArn": f"{GROUP}rack",
        "managedScaling": DEFAULTS,
        "managedTerminationProtection": "DISABLED",
        "managedDraining": "ENABLED",
    }
    assert (made["capacityProviderArn"], made["status"], made["type"]) == (
        f"{ARN}/rack",
        "ACTIVE",
        "EC2_AUTOSCALING",
    )
    await call("tag_resource", resourceArn=f"{ARN}/rack", tags=[{"key": "b", "value": "2"}])
    await call(
        "update_capacity_provider",
        name="rack",
        autoScalingGroupProvider={**DRAINED, "managedScaling": {"targetCapacity": 90}},
    )
    (shown,) = (
        await call("describe_capacity_providers", capacityProviders=["rack"], include=["TAGS"])
    )["capacityProviders"]
    assert shown["updateStatus"] == "UPDATE_COMPLETE"
    assert {tag["key"]: tag["value"] for tag in shown["tags"]} == {"team": "shop", "b": "2"}
    assert shown["autoScalingGroupProvider"]["managedDraining"] == "DISABLED"
    assert shown["autoScalingGroupProvider"]["managedScaling"] == {
        **DEFAULTS,
        "targetCapacity": 90,
    }
    gone = await call("delete_capacity_provider", capacityProvider=f"{ARN}/rack")
    assert gone["capacityProvider"]["status"] == "INACTIVE"
    assert gone["capacityProvider"]["updateStatus"] == "DELETE_COMPLETE"
    code, text = await endpoint.refused("delete_capacity_provider", capacityProvider="rack")
    assert (code, "'rack' was not found" in text) == ("InvalidParameterException", True)
    assert (await create(endpoint))["status"] == "ACTIVE"


async def test_a_deleted_one_is_forgotten_after_a_day(endpoint: Endpoint) -> None:
    await create(endpoint)
    await endpoint.call("delete_capacity_provider", capacityProvider="rack")
    endpoint.now[0] += INACTIVE_PROVIDER_S - 1
    await Janitor(endpoint.parts).clean()
    assert len((await endpoint.call("describe_capacity_providers"))["capacityProviders"]) == 3
    endpoint.now[0] += 2
    await Janitor(endpoint.parts).clean()
    assert len((await endpoint.call("describe_capacity_providers"))["capacityProviders"]) == 2


async def test_many_are_described_in_pages(endpoint: Endpoint) -> None:
    for number in range(12):
        await create(endpoint, f"r{number:02}")
    names: list[str] = []
    request: dict[str, Any] = {}
    while True:
        page = await endpoint.call("describe_capacity_providers", **request)
        assert len(page["capacityProviders"]) <= 10
        names += [one["name"] for one in page["capacityProviders"]]
        if "nextToken" not in page:
            break
        request["nextToken"] = page["nextToken"]
    assert names == ["FARGATE", "FARGATE_SPOT", *(f"r{number:02}" for number in range(12))]


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        ({"name": "ecs-mine"}, "InvalidParameterException", "must not begin with aws, ecs"),
        ({"name": "a b"}, "InvalidParameterException", "only letters, numbers, hyphens"),
        ({"name": "x" * 129}, "InvalidParameterException", "at most 128 of them"),
        ({"name": "taken"}, "ClientException", "with the name taken already exists"),
        (
            {"autoScalingGroupProvider": {"autoScalingGroupArn": f"{GROUP}taken"}},
            "ClientException",
            "already being used by another capacity provider",
        ),
        (
            {"autoScalingGroupProvider": {"autoScalingGroupArn": "arn:aws:s3:::bucket"}},
            "InvalidParameterException",
            "The specified Auto Scaling group ARN is not valid",
        ),
        (
            {"scaling": {"status": "ENABLED"}},
            "UnsupportedFeatureException",
            "no program adds and removes the hosts of this capacity provider",
        ),
        (
            {"scaling": {"targetCapacity": 101}},
            "InvalidParameterException",
            "managedScaling.targetCapacity must be between 1 and 100",
        ),
        (
            {"scaling": {"minimumScalingStepSize": 3, "maximumScalingStepSize": 2}},
            "InvalidParameterException",
            "minimumScalingStepSize must not be above",
        ),
        (
            {"protection": "ENABLED"},
            "InvalidParameterException",
            "managed scaling must be enabled",
        ),
        ({"cluster": "default"}, "UnsupportedFeatureException", "'cluster' is not supported"),
        ({"autoScalingGroupProvider": None}, "InvalidParameterException", "must be specified"),
    ],
)
async def test_what_cannot_be_created_is_refused_by_name(
    endpoint: Endpoint, request_: dict[str, Any], code: str, text: str
) -> None:
    await create(endpoint, "taken")
    group: dict[str, Any] = {"autoScalingGroupArn": "mine"}
    if "scaling" in request_:
        group["managedScaling"] = request_.pop("scaling")
    if "protection" in request_:
        group["managedTerminationProtection"] = request_.pop("protection")
    asked = {"name": "mine", "autoScalingGroupProvider": group, **request_}
    asked = {name: value for name, value in asked.items() if value is not None}
    refused, message = await endpoint.refused("create_capacity_provider", **asked)
    assert refused == code
    assert text in message
    assert len((await endpoint.call("describe_capacity_providers"))["capacityProviders"]) == 3


async def test_of_two_for_one_group_at_once_one_is_refused(endpoint: Endpoint) -> None:
    group = {"autoScalingGroupArn": "rack"}
    answers = await asyncio.gather(
        *(
            endpoint.call("create_capacity_provider", name=name, autoScalingGroupProvider=group)
            for name in ("one", "two")
        ),
        return_exceptions=True,
    )
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(failed) == 1
    assert "already being used" in str(failed[0])


async def test_a_provider_that_is_used_stays(shop: Shop) -> None:
    call, refused = shop.endpoint.call, shop.endpoint.refused
    await create(shop.endpoint)
    await shop.add_host(attributes=of_provider("rack"))
    await give(shop.endpoint, "rack")
    code, text = await refused("delete_capacity_provider", capacityProvider="rack")
    assert code == "ClientException"
    assert "it is associated with cluster: default" in text
    none = {
        "cluster": "default",
        "capacityProviders": [],
        "defaultCapacityProviderStrategy": [],
    }
    await shop.create(desiredCount=0, capacityProviderStrategy=[item("rack", weight=1)])
    code, text = await refused("put_cluster_capacity_providers", **none)
    assert (code, "service shop" in text) == ("ResourceInUseException", True)
    await call("delete_service", service="shop")
    strategy = [item("rack", weight=1)]
    ran = await call("run_task", taskDefinition="web", capacityProviderStrategy=strategy)
    (task,) = ran["tasks"]
    code, text = await refused("put_cluster_capacity_providers", **none)
    assert code == "ResourceInUseException"
    assert task["taskArn"].rpartition("/")[2] in text
    await shop.report(task["taskArn"], "STOPPED")
    emptied = await call("put_cluster_capacity_providers", **none)
    assert emptied["cluster"]["capacityProviders"] == []
    await call("delete_capacity_provider", capacityProvider="rack")


async def test_tasks_run_on_the_hosts_of_their_provider(shop: Shop) -> None:
    call, refused = shop.endpoint.call, shop.endpoint.refused
    await create(shop.endpoint, "rack")
    await create(shop.endpoint, "cloud")
    run = {"taskDefinition": "web", "capacityProviderStrategy": [item("rack", weight=1)]}
    code, text = await refused("run_task", **run)
    assert (code, "not associated with the cluster" in text) == ("InvalidParameterException", True)
    await give(shop.endpoint, f"{ARN}/rack", "cloud", default=[item("cloud", weight=1)])
    (cluster,) = (await call("describe_clusters", include=["ATTACHMENTS"]))["clusters"]
    assert cluster["capacityProviders"] == ["rack", "cloud"]
    assert cluster["defaultCapacityProviderStrategy"] == [item("cloud", weight=1, base=0)]
    assert cluster["attachmentsStatus"] == "UPDATE_COMPLETE"
    # A host that names no provider is for none of those that operators create.
    (failure,) = (await call("run_task", **run))["failures"]
    assert failure["reason"] == "ATTRIBUTE"
    assert "lacks the attribute capacity-provider" in failure["detail"]
    rack = await shop.add_host(attributes=of_provider("rack"))
    cloud = await shop.add_host(attributes=of_provider("cloud"))
    placed = {}
    for strategy in ([item("rack", weight=1)], []):
        (task,) = (await call("run_task", **(run | {"capacityProviderStrategy": strategy})))[
            "tasks"
        ]
        assert task["launchType"] == "EC2"
        placed[task["capacityProviderName"]] = task["containerInstanceArn"]
    assert placed == {"rack": rack.arn, "cloud": cloud.arn}
    (shown,) = (await call("describe_container_instances", containerInstances=[rack.id]))[
        "containerInstances"
    ]
    assert shown["capacityProviderName"] == "rack"
    (plain,) = (await call("run_task", taskDefinition="web", launchType="EC2"))["tasks"]
    assert "capacityProviderName" not in plain
    mixed = [item("rack", weight=1), item("FARGATE", weight=1)]
    await give(shop.endpoint, "rack", "cloud", "FARGATE")
    code, text = await refused("run_task", taskDefinition="web", capacityProviderStrategy=mixed)
    assert (code, "cannot contain a mix" in text) == ("InvalidParameterException", True)


async def test_a_service_keeps_its_split_while_it_is_scaled(shop: Shop) -> None:
    call = shop.endpoint.call
    names = ("rack", "cloud")
    for name in names:
        await create(shop.endpoint, name)
        await shop.add_host(attributes=of_provider(name))
    split = [item("rack", base=1, weight=1), item("cloud", weight=3)]
    await give(shop.endpoint, *names, default=split)
    made = await shop.create(desiredCount=5)
    assert "launchType" not in made
    assert made["capacityProviderStrategy"] == [
        item("rack", base=1, weight=1),
        item("cloud", weight=3, base=0),
    ]
    for desired, wanted in ((5, (2, 3)), (2, (1, 1)), (9, (3, 6)), (1, (1, 0))):
        await call("update_service", service="shop", desiredCount=desired)
        await shop.settle(41)
        counted = Counter(task["capacityProviderName"] for task in await shop.tasks())
        assert (counted["rack"], counted["cloud"]) == wanted, desired
    code, text = await shop.endpoint.refused(
        "create_service",
        serviceName="each",
        taskDefinition="web",
        schedulingStrategy="DAEMON",
        capacityProviderStrategy=[item("rack", weight=1)],
    )
    assert (code, "daemon" in text) == ("InvalidParameterException", True)
    # The default strategy of the cluster is not for daemons, which run on every host.
    daemon = await shop.create("each", schedulingStrategy="DAEMON")
    assert daemon["launchType"] == "EC2"
    await shop.settle(41)
    assert (await shop.describe("each"))["desiredCount"] == 3
