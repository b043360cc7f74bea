from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.names import (
    Names,
    new_id,
    parse_arn,
    revision_number,
    split_task_definition,
)

NAMES = Names()
SIMPLE = st.from_regex(re.compile(r"[A-Za-z0-9_-]{1,40}"), fullmatch=True)


def test_shapes_that_aws_clients_know() -> None:
    assert NAMES.cluster("shop") == "arn:aws:ecs:us-east-1:000000000000:cluster/shop"
    assert NAMES.task("shop", "f00") == "arn:aws:ecs:us-east-1:000000000000:task/shop/f00"
    assert NAMES.instance("shop", "f00").endswith(":container-instance/shop/f00")
    assert NAMES.task_definition("web", 3).endswith(":task-definition/web:3")
    container = r"arn:aws:ecs:us-east-1:000000000000:container/shop/f00/[0-9a-f-]{36}"
    assert re.fullmatch(container, NAMES.container("shop", "f00"))
    assert re.fullmatch(r"[0-9a-f]{32}", new_id())
    other = Names(region="eu-west-1", account="123456789012", partition="aws-cn")
    assert other.cluster("a") == "arn:aws-cn:ecs:eu-west-1:123456789012:cluster/a"


@given(SIMPLE, SIMPLE)
def test_arns_are_read_as_they_were_made(cluster: str, task: str) -> None:
    arn = parse_arn(NAMES.task(cluster, task))
    assert arn is not None
    assert (arn.kind, arn.path, arn.id) == ("task", (cluster, task), task)
    assert (arn.partition, arn.region, arn.account) == ("aws", "us-east-1", "000000000000")


@given(SIMPLE, st.integers(1, 999_999_999))
def test_definitions_are_read_as_they_were_made(family: str, revision: int) -> None:
    for text in (f"{family}:{revision}", NAMES.task_definition(family, revision)):
        assert split_task_definition(text) == (family, str(revision))
    assert revision_number(str(revision)) == revision
    assert split_task_definition(family) == (family, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "arn",
        "arn:aws:iam::000000000000:role/x",
        "arn:aws:ecs:us-east-1:12:cluster/a",
        "arn:aws:ecs:us-east-1:000000000000:cluster",
        "arn:aws:ecs:us-east-1:000000000000:cluster/",
        "arn:aws:ecs:us-east-1:\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661:cluster/a",
    ],
)
def test_what_is_no_arn(text: str) -> None:
    assert parse_arn(text) is None
    if ":" in text:
        assert split_task_definition(text) is None


@pytest.mark.parametrize("text", ["", "foo", "-1", "1.0", "٣", "9999999999", "1 ", "1\n"])
def test_what_is_no_revision(text: str) -> None:
    assert split_task_definition(f"web:{text}") == ("web", text)
    assert revision_number(text) is None


def test_what_is_ones_own() -> None:
    for text in (NAMES.cluster("a"), NAMES.task("a", "b")):
        arn = parse_arn(text)
        assert arn is not None
        assert NAMES.owns(arn)
        for other in (
            Names(region="eu-west-1"),
            Names(account="1" * 12),
            Names(partition="aws-cn"),
        ):
            assert not other.owns(arn)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    parse_arn(text)
    split_task_definition(text)
    revision_number(text)
