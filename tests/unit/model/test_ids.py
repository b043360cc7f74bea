from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from agent.model import ids

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


def test_names_in_the_engine_are_those_of_amazon_ecs() -> None:
    name = ids.container_engine_name("arn:t", "web_app", "12", "main")
    assert re.fullmatch(r"ecs-webapp-12-main-[0-9a-f]{20}", name)


@given(st.text(), st.text(), st.text(), st.text())
def test_names_in_the_engine_are_safe_whatever_control_says(
    arn: str, family: str, revision: str, name: str
) -> None:
    assert SAFE.fullmatch(ids.container_engine_name(arn, family, revision, name))
    assert SAFE.fullmatch(ids.volume_engine_name(arn, family, revision, name))
