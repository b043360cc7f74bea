from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.api.ecs.tags import read_tags, show_tags
from agent.controlplane.front.errors import InvalidParameterException

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

PREFIX = "arn:aws:ecs:us-east-1:000000000000"
DEFINITION = {
    "family": "web",
    "containerDefinitions": [{"name": "a", "image": "busybox", "memory": 16}],
}


def pairs(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in tags}


async def test_everything_that_can_be_tagged(endpoint: Endpoint, cluster: str) -> None:
    instance = await endpoint.add_instance()
    task = await endpoint.add_task(instance)
    definition = (await endpoint.call("register_task_definition", **DEFINITION))["taskDefinition"]
    for arn in (
        f"{PREFIX}:cluster/{cluster}",
        instance.arn,
        task.arn,
        definition["taskDefinitionArn"],
    ):
        await endpoint.call(
            "tag_resource",
            resourceArn=arn,
            tags=[{"key": "a", "value": "1"}, {"key": "größe", "value": "x y"}, {"key": "empty"}],
        )
        await endpoint.call("tag_resource", resourceArn=arn, tags=[{"key": "a", "value": "2"}])
        tags = (await endpoint.call("list_tags_for_resource", resourceArn=arn))["tags"]
        assert pairs(tags) == {"a": "2", "größe": "x y", "empty": ""}
        await endpoint.call("untag_resource", resourceArn=arn, tagKeys=["größe", "never-there"])
        tags = (await endpoint.call("list_tags_for_resource", resourceArn=arn))["tags"]
        assert pairs(tags) == {"a": "2", "empty": ""}


@pytest.mark.parametrize(
    ("arn", "error"),
    [
        ("nonsense", "InvalidParameterException"),
        (f"{PREFIX}:task-set/default/web/1", "InvalidParameterException"),
        (f"{PREFIX}:service/default/missing", "ResourceNotFoundException"),
        (f"{PREFIX}:task-definition/web", "InvalidParameterException"),
        (f"{PREFIX}:task/short-format", "InvalidParameterException"),
        (f"{PREFIX}:cluster/missing", "ClusterNotFoundException"),
        (f"{PREFIX}:task/default/missing", "ResourceNotFoundException"),
        (f"{PREFIX}:container-instance/default/missing", "ResourceNotFoundException"),
        (f"{PREFIX}:task-definition/web:7", "ResourceNotFoundException"),
    ],
)
async def test_what_cannot_be_tagged(endpoint: Endpoint, arn: str, error: str) -> None:
    for operation, more in (
        ("tag_resource", {"tags": [{"key": "a", "value": "1"}]}),
        ("untag_resource", {"tagKeys": ["a"]}),
        ("list_tags_for_resource", {}),
    ):
        code, _ = await endpoint.refused(operation, resourceArn=arn, **more)
        # The model of that call has no ResourceNotFoundException.
        listing = operation == "list_tags_for_resource" and error.startswith("Resource")
        assert code == ("InvalidParameterException" if listing else error)


async def test_deleted_cluster_has_no_tags(endpoint: Endpoint, cluster: str) -> None:
    await endpoint.call("delete_cluster", cluster=cluster)
    code, _ = await endpoint.refused(
        "list_tags_for_resource", resourceArn=f"{PREFIX}:cluster/{cluster}"
    )
    assert code == "ClusterNotFoundException"


async def test_at_most_fifty(endpoint: Endpoint, cluster: str) -> None:
    arn = f"{PREFIX}:cluster/{cluster}"
    many = [{"key": f"k{n}", "value": ""} for n in range(50)]
    await endpoint.call("tag_resource", resourceArn=arn, tags=many)
    await endpoint.call("tag_resource", resourceArn=arn, tags=many)
    code, _ = await endpoint.refused(
        "tag_resource", resourceArn=arn, tags=[{"key": "more", "value": ""}]
    )
    assert code == "InvalidParameterException"


@pytest.mark.parametrize(
    "tags",
    [
        [{"key": ""}],
        [{"value": "no key"}],
        [{"key": "k" * 129}],
        [{"key": "k", "value": "v" * 257}],
        [{"key": "aws:x"}],
        [{"key": "AWS:x"}],
        [{"key": "semi;colon"}],
        [{"key": "k", "value": "a\x00b"}],
        [{"key": "same"}, {"key": "same"}],
        [{"key": f"k{n}"} for n in range(51)],
    ],
)
def test_rules_of_tags(tags: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidParameterException):
        read_tags(tags)


@given(st.dictionaries(st.text(max_size=130), st.text(max_size=260), max_size=52))
def test_tags_are_kept_exactly_or_refused(tags: dict[str, str]) -> None:
    kept: dict[str, str] | None = None
    with contextlib.suppress(InvalidParameterException):
        kept = read_tags(show_tags(tags))
    assert kept in (None, tags)
