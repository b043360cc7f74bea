from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.api.ecs.task_definitions import find_task_definition
from agent.controlplane.api.ecs.task_orders import active_task_definition

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

ARN = "arn:aws:ecs:us-east-1:000000000000:task-definition"


async def register(endpoint: Endpoint, family: str = "web", **changes: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "busybox", "memory": 16}]
    answer = await endpoint.call(
        "register_task_definition",
        **({"family": family, "containerDefinitions": containers} | changes),
    )
    shown: dict[str, Any] = answer["taskDefinition"]
    return shown


async def test_register_describe_deregister(endpoint: Endpoint) -> None:
    answer = await endpoint.call(
        "register_task_definition",
        family="web",
        networkMode="awsvpc",
        cpu="1 vCPU",
        memory="0.5GB",
        taskRoleArn="arn:aws:iam::000000000000:role/x",
        containerDefinitions=[
            {
                "name": "a",
                "image": "busybox",
                "command": ["httpd", "-f"],
                "portMappings": [{"containerPort": 80}],
                "environment": [{"name": "A", "value": "1"}],
                "dockerLabels": {"k": "v"},
                "logConfiguration": {"logDriver": "json-file", "options": {"max-size": "1m"}},
            },
            {"name": "b", "image": "busybox", "essential": False},
        ],
        volumes=[{"name": "v"}],
        tags=[{"key": "team", "value": "till"}],
    )
    assert answer["tags"] == [{"key": "team", "value": "till"}]
    shown = answer["taskDefinition"]
    assert shown["taskDefinitionArn"] == f"{ARN}/web:1"
    assert (shown["revision"], shown["status"]) == (1, "ACTIVE")
    assert (shown["cpu"], shown["memory"], shown["networkMode"]) == ("1024", "512", "awsvpc")
    assert shown["registeredAt"].astimezone(UTC) == datetime.fromtimestamp(endpoint.now[0], UTC)
    assert {"name": "ecs.capability.task-eni"} in shown["requiresAttributes"]
    assert shown["containerDefinitions"][0]["portMappings"] == [
        {"containerPort": 80, "hostPort": 80, "protocol": "tcp"}
    ]
    assert "deregisteredAt" not in shown
    for name in ("web", "web:1", f"{ARN}/web:1"):
        described = await endpoint.call("describe_task_definition", taskDefinition=name)
        assert described["taskDefinition"] == shown
        assert "tags" not in described
    tagged = await endpoint.call("describe_task_definition", taskDefinition="web", include=["TAGS"])
    assert tagged["tags"] == [{"key": "team", "value": "till"}]
    endpoint.now[0] += 10
    gone = (await endpoint.call("deregister_task_definition", taskDefinition="web:1"))[
        "taskDefinition"
    ]
    assert gone["status"] == "INACTIVE"
    assert gone["deregisteredAt"].astimezone(UTC) == datetime.fromtimestamp(endpoint.now[0], UTC)
    endpoint.now[0] += 10
    again = await endpoint.call("deregister_task_definition", taskDefinition="web:1")
    assert again["taskDefinition"]["deregisteredAt"] == gone["deregisteredAt"]
    described = await endpoint.call("describe_task_definition", taskDefinition="web:1")
    assert described["taskDefinition"]["status"] == "INACTIVE"
    code, text = await endpoint.refused("describe_task_definition", taskDefinition="web")
    assert (code, text) == ("ClientException", "Unable to describe task definition.")


async def test_a_described_definition_can_be_registered_again(endpoint: Endpoint) -> None:
    shown = await register(endpoint, volumes=[{"name": "v"}], cpu="256")
    own = {"taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities"}
    own |= {"registeredAt", "registeredBy"}
    again = await endpoint.call(
        "register_task_definition", **{k: v for k, v in shown.items() if k not in own}
    )
    assert again["taskDefinition"]["revision"] == 2
    for name in set(shown) - own:
        assert again["taskDefinition"][name] == shown[name]


async def test_revisions_are_unique_under_concurrency_and_never_reused(endpoint: Endpoint) -> None:
    shown = await asyncio.gather(*(register(endpoint) for _ in range(12)))
    assert sorted(one["revision"] for one in shown) == list(range(1, 13))
    await endpoint.call("deregister_task_definition", taskDefinition="web:12")
    assert (await register(endpoint))["revision"] == 13
    newest = await endpoint.call("describe_task_definition", taskDefinition="web")
    assert newest["taskDefinition"]["revision"] == 13


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nope", "ClientException"),
        ("web:99", "ClientException"),
        ("web:x", "InvalidParameterException"),
        ("a b", "InvalidParameterException"),
        ("", "InvalidParameterException"),
        ("web:1:2", "InvalidParameterException"),
        ("arn:aws:ecs:us-east-1:000000000000:cluster/default", "InvalidParameterException"),
        ("web:99999999999", "InvalidParameterException"),
        ("arn:aws:ecs:eu-west-1:000000000000:task-definition/web:1", "ClientException"),
    ],
)
async def test_what_is_no_definition(endpoint: Endpoint, name: str, error: str) -> None:
    await register(endpoint)
    answer = await endpoint.raw("DescribeTaskDefinition", {"taskDefinition": name})
    assert (answer.status, answer.error) == (400, error)
    answer = await endpoint.raw("DeregisterTaskDefinition", {"taskDefinition": name})
    assert answer.status == 400


async def test_a_family_names_its_newest_active_revision(endpoint: Endpoint) -> None:
    for _ in range(40):
        await register(endpoint)
    for revision in range(3, 41):
        await endpoint.call("deregister_task_definition", taskDefinition=f"web:{revision}")
    newest = await endpoint.call("describe_task_definition", taskDefinition="web")
    assert newest["taskDefinition"]["revision"] == 2


async def test_an_arn_without_a_revision_names_the_newest_active(endpoint: Endpoint) -> None:
    """As Terraform gives it in ``arn_without_revision``."""
    for _ in range(2):
        made = await register(endpoint)
    arn = made["taskDefinitionArn"].rpartition(":")[0]
    for operation in (find_task_definition, active_task_definition):
        found = await operation(endpoint.parts, arn)
        assert found is not None
        assert found.revision == 2
    assert await find_task_definition(endpoint.parts, arn.replace("us-east-1", "eu-west-1")) is None


async def test_deregister_needs_a_revision(endpoint: Endpoint) -> None:
    await register(endpoint)
    for name, refused in (
        ("web", ("ClientException", "Revision is missing.")),
        (f"{ARN}/web", ("ClientException", "Revision is missing.")),
        ("web:foo", ("InvalidParameterException", "Invalid revision number. Number: foo")),
        ("web:", ("InvalidParameterException", "Invalid revision number. Number: ")),
        ("web:9", ("ClientException", "Unable to describe task definition.")),
        ("a b", ("InvalidParameterException", "Invalid task definition: a b")),
    ):
        assert await endpoint.refused("deregister_task_definition", taskDefinition=name) == refused


async def test_list_sorts_filters_and_pages(endpoint: Endpoint) -> None:
    for family in ("web", "web-x", "db"):
        for _ in range(11):
            await register(endpoint, family)
    await endpoint.call("deregister_task_definition", taskDefinition="web:3")
    listed = (await endpoint.call("list_task_definitions", familyPrefix="web"))[
        "taskDefinitionArns"
    ]
    revisions = [n for n in range(1, 12) if n != 3]
    assert listed == [f"{ARN}/web:{n}" for n in revisions], "one whole family, in number order"
    newest = (await endpoint.call("list_task_definitions", familyPrefix="web", sort="DESC"))[
        "taskDefinitionArns"
    ]
    assert newest == listed[::-1]
    inactive = await endpoint.call("list_task_definitions", status="INACTIVE")
    assert inactive["taskDefinitionArns"] == [f"{ARN}/web:3"]
    for sort in ("ASC", "DESC"):
        pages = await asyncio.to_thread(_pages, endpoint, sort)
        arns = [arn for page in pages for arn in page["taskDefinitionArns"]]
        assert [len(page["taskDefinitionArns"]) for page in pages] == [10, 10, 10, 2]
        assert len(set(arns)) == 32


def _pages(endpoint: Endpoint, sort: str) -> list[dict[str, Any]]:
    paginator = endpoint.client.get_paginator("list_task_definitions")
    return list(paginator.paginate(sort=sort, PaginationConfig={"PageSize": 10}))


async def test_families(endpoint: Endpoint) -> None:
    for family in ("web", "web-x", "db", "old"):
        await register(endpoint, family)
    await endpoint.call("deregister_task_definition", taskDefinition="old:1")
    assert (await endpoint.call("list_task_definition_families"))["families"] == [
        "db",
        "old",
        "web",
        "web-x",
    ]
    active = await endpoint.call("list_task_definition_families", status="ACTIVE")
    assert active["families"] == ["db", "web", "web-x"]
    inactive = await endpoint.call("list_task_definition_families", status="INACTIVE")
    assert inactive["families"] == ["old"]
    pages = await asyncio.to_thread(
        lambda: list(
            endpoint.client.get_paginator("list_task_definition_families").paginate(
                familyPrefix="web", PaginationConfig={"PageSize": 1}
            )
        )
    )
    assert [page["families"] for page in pages] == [["web"], ["web-x"]]


async def test_rules_reach_the_client(endpoint: Endpoint) -> None:
    code, text = await endpoint.refused(
        "register_task_definition",
        family="web",
        containerDefinitions=[{"name": "a", "image": "busybox"}],
    )
    assert code == "ClientException"
    assert text == (
        "Invalid setting for container 'a'. At least one of 'memory' or 'memoryReservation' must "
        "be specified."
    )
    answer = await endpoint.raw("RegisterTaskDefinition", {"family": "web"})
    assert (answer.status, answer.error) == (400, "InvalidParameterException")
    answer = await endpoint.raw(
        "RegisterTaskDefinition",
        {"family": "web", "containerDefinitions": [{"name": "a", "memory": "16"}]},
    )
    assert (answer.status, answer.error) == (400, "SerializationException")


async def test_any_number_of_registrations_of_one_family_side_by_side(endpoint: Endpoint) -> None:
    request = {
        "family": "web",
        "containerDefinitions": [{"name": "a", "image": "busybox", "memory": 16}],
    }
    answers = await asyncio.gather(
        *(endpoint.raw("RegisterTaskDefinition", request) for _ in range(200))
    )
    assert {answer.status for answer in answers} == {200}
    revisions = [answer.body["taskDefinition"]["revision"] for answer in answers]
    assert sorted(revisions) == list(range(1, 201))
