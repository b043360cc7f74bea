"""What RunTask refuses before it looks at any host, through the real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.control_endpoint import (
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """A control endpoint with a host of 2048 CPU units and 2048 MiB."""
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        await ScriptedAgent(running).register()
        yield running


def overriding(**container: Any) -> dict[str, Any]:
    return {"containerOverrides": [{"name": "main", **container}]}


async def refusal(endpoint: Endpoint, **request: Any) -> ApiFailure:
    with pytest.raises(ApiFailure) as caught:
        await endpoint.call("RunTask", taskDefinition="web", **request)
    assert (await endpoint.call("ListTasks"))["taskArns"] == []
    return caught.value


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (overriding(memory=0), "'memory' must be at least 4 MiB"),
        (overriding(memory=-100000), "'memory' must be at least 4 MiB"),
        (overriding(cpu=-5000), "'cpu' must not be negative"),
        (overriding(memoryReservation=129), "greater than or equal to 'memoryReservation'"),
        ({"memory": "64"}, "'memory' must not be greater than the memory of the task"),
        (overriding(environment=[{"value": "x"}]), "An environment variable needs a 'name'"),
        (
            overriding(environment=[{"name": "A", "value": "x" * 9000}]),
            "Container Overrides length must be at most 8192",
        ),
        ({"cpu": "2 vCPUs"}, "Invalid 'cpu' setting for task."),
        ({"cpu": "64"}, "Invalid 'cpu' setting for task."),
        ({"memory": "2"}, "Invalid 'memory' setting for task."),
    ],
)
async def test_overrides_that_registration_would_refuse(
    endpoint: Endpoint, overrides: dict[str, Any], text: str
) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    failure = await refusal(endpoint, overrides=overrides)
    assert failure.name == "InvalidParameterException"
    assert text in failure.message


async def test_overrides_of_the_longest_length_run(endpoint: Endpoint) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    overrides = overriding(environment=[{"name": "A", "value": ""}])
    around = len('{"containerOverrides":[{"name":"main","environment":[{"name":"A","value":""}]}]}')
    overrides = overriding(environment=[{"name": "A", "value": "é" * (8192 - around)}])
    answer = await endpoint.call("RunTask", taskDefinition="web", overrides=overrides)
    assert len(answer["tasks"]) == 1


async def test_what_is_not_served_is_refused_before_placement(endpoint: Endpoint) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    failure = await refusal(endpoint, launchType="MANAGED_INSTANCES")
    assert failure.name == "UnsupportedFeatureException"
    assert failure.message.startswith("'launchType' MANAGED_INSTANCES is not supported: ")


@pytest.mark.parametrize(
    ("fields", "used_by"),
    [
        ({"secrets": [{"name": "A", "valueFrom": "/p"}]}, "secret 'A'"),
        (
            {"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::b/k.env"}]},
            "'environmentFiles'",
        ),
        ({"repositoryCredentials": {"credentialsParameter": "login"}}, "'repositoryCredentials'"),
    ],
)
async def test_what_is_asked_of_aws_needs_an_execution_role(
    endpoint: Endpoint, fields: dict[str, Any], used_by: str
) -> None:
    container = {"name": "main", "image": "img", "memory": 128, **fields}
    await endpoint.call("RegisterTaskDefinition", **definition(containerDefinitions=[container]))
    failure = await refusal(endpoint)
    assert failure.name == "InvalidParameterException"
    assert failure.message == (
        "When you are specifying container secrets, you must also specify a value for "
        f"'executionRoleArn': {used_by} of container 'main' is fetched by that role."
    )


async def test_an_attribute_that_no_host_has_is_named(endpoint: Endpoint) -> None:
    container = {
        "name": "main",
        "image": "img",
        "memory": 128,
        "dockerSecurityOptions": ["apparmor:unconfined"],
    }
    await endpoint.call("RegisterTaskDefinition", **definition(containerDefinitions=[container]))
    answer = await endpoint.call("RunTask", taskDefinition="web")
    (failure,) = answer["failures"]
    assert failure["reason"] == "ATTRIBUTE"
    assert failure["detail"] == (
        "The container instance lacks the attribute com.amazonaws.ecs.capability.apparmor."
    )


@pytest.mark.parametrize("length", [248, 249, 255])
async def test_a_family_of_any_length_runs(endpoint: Endpoint, length: int) -> None:
    family = "f" * length
    await endpoint.call("RegisterTaskDefinition", **definition(family=family))
    answer = await endpoint.call("RunTask", taskDefinition=family)
    assert answer["tasks"][0]["group"] == f"family:{family}"


@pytest.mark.parametrize("sizes", [{"cpu": ""}, {"memory": ""}, {"cpu": "", "memory": ""}])
async def test_an_empty_size_is_no_size(endpoint: Endpoint, sizes: dict[str, str]) -> None:
    registered = await endpoint.call("RegisterTaskDefinition", **definition(**sizes))
    assert not {"cpu", "memory"} & registered["taskDefinition"].keys()
    assert (await endpoint.call("RunTask", taskDefinition="web"))["failures"] == []
