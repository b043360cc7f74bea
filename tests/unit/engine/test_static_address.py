"""The address that a task asks for: how it is said, and when it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from agent.engine import admissible, static_address
from agent.errors import PayloadError
from agent.model.payload import EngineConfig
from tests.support.tasks import container, payload


def _with(*addresses: Any, **fields: Any) -> Any:
    containers = [
        container(f"c{n}", docker_config=EngineConfig(config={"Labels": labels}))
        for n, labels in enumerate({"ecs-host-agent.ip-address": each} for each in addresses)
    ]
    return payload(*containers, container("other"), **{"network_mode": "awsvpc", **fields})


def test_a_label_of_any_container_tells_the_address() -> None:
    assert static_address.asked_for(_with("10.207.1.9")) == "10.207.1.9"
    assert static_address.asked_for(_with("FD00::0:9")) == "fd00::9"
    assert static_address.asked_for(_with("fd00::9", "fd00:0::9")) == "fd00::9"
    assert static_address.asked_for(_with()) == ""
    assert static_address.asked_for(_with("")) == ""


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (_with("10.0.0.9/24"), "label ecs-host-agent.ip-address of container c0: '10.0.0.9/24' is not an IP"),
        (_with("web"), "'web' is not an IP address"),
        (_with("10.0.0.9", "10.0.0.10"), "not the same as that of another container"),
        (_with("10.0.0.9", network_mode="bridge"), "only tasks in awsvpc mode.* this one is in bridge"),
        (_with("10.0.0.9", network_mode="host"), "this one is in host"),
        (_with("10.0.0.9", elastic_network_interfaces=[{}]), "is that of its ENI"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_made(task: Any, said: str) -> None:
    with pytest.raises(PayloadError, match=said):
        admissible.check(task)
