from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from agent.model import ids

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


def test_names_in_the_engine_are_those_of_amazon_ecs() -> None:
    name = ids.container_engine_name("arn:t", "web_app", "12", "main")
    assert re.fullmatch(r"ecs-webapp-12-main-[0-9a-f]{20}", name)


def test_interfaces_have_ids_as_ec2_gives_them() -> None:
    one, two = ids.interface_id("6b1c"), ids.interface_id("6b1d")
    assert re.fullmatch(r"eni-[0-9a-f]{17}", one)
    assert one == ids.interface_id("6b1c") != two


WORDS = st.text() | st.text("abc", min_size=200, max_size=300)


@given(st.text(), WORDS, WORDS, WORDS)
def test_names_in_the_engine_are_safe_whatever_control_says(
    arn: str, family: str, revision: str, name: str
) -> None:
    for made in (
        ids.container_engine_name(arn, family, revision, name),
        ids.volume_engine_name(arn, family, revision, name),
    ):
        assert SAFE.fullmatch(made)
        assert len(made) <= 255


def test_long_names_are_cut_where_they_say_least() -> None:
    name = ids.volume_engine_name("arn:t", "f" * 255, "12", "data")
    assert re.fullmatch(r"ecs-f{222}-12-data-[0-9a-f]{20}", name)
    assert len(name) == 255
    both = ids.volume_engine_name("arn:t", "f" * 255, "12", "v" * 255)
    assert re.fullmatch(r"ecs-f{113}-12-v{113}-[0-9a-f]{20}", both)
    assert len({ids.volume_engine_name(arn, "f" * 255, "1", "v" * 255) for arn in "ab"}) == 2


def test_a_task_is_of_its_own_cluster() -> None:
    arn = "arn:aws:ecs:us-east-1:000000000000:task/shop/0123"
    assert ids.task_cluster(arn, "default") == "shop"
    assert ids.task_cluster(arn, "arn:aws:ecs:r:a:cluster/shop") == "arn:aws:ecs:r:a:cluster/shop"
    assert ids.task_cluster("arn:aws:ecs:us-east-1:000000000000:task/0123", "default") == "default"
