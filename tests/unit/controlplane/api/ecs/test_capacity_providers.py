"""Capacity providers as DescribeCapacityProviders shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

ARN = "arn:aws:ecs:us-east-1:000000000000:capacity-provider"


async def test_those_of_fargate_always_exist(endpoint: Endpoint) -> None:
    shown = await endpoint.call("describe_capacity_providers")
    assert [one["name"] for one in shown["capacityProviders"]] == ["FARGATE", "FARGATE_SPOT"]
    assert {one["status"] for one in shown["capacityProviders"]} == {"ACTIVE"}
    assert shown["failures"] == []


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
