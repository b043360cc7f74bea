"""Options of log drivers in the create body."""

from __future__ import annotations

from typing import Any

import pytest

from agent.engine import container_body, log_config
from agent.engine.container_body import ContainerContext
from agent.engine.preparations.contract import Provision
from agent.errors import PayloadError
from agent.model.payload import Container, EngineConfig
from tests.support.tasks import container, payload


def logging(driver: str, **options: str) -> Container:
    config = {"LogConfig": {"Type": driver, "Config": options}}
    return container("a", docker_config=EngineConfig(host_config=config))


def log_of(made: Container, added: dict[str, str] | None = None) -> dict[str, Any]:
    around = ContainerContext(provision=Provision(log_options={"a": added or {}}))
    body = container_body.body(payload(made), made, around)
    found: dict[str, Any] = body["HostConfig"]["LogConfig"]
    return found


def test_drivers_of_the_engine_pass_as_they_are() -> None:
    assert log_of(logging("gelf", **{"gelf-address": "udp://x:1"})) == {
        "Type": "gelf",
        "Config": {"gelf-address": "udp://x:1"},
    }


def test_options_of_the_agent_are_added_and_win() -> None:
    made = logging("awslogs", **{"awslogs-group": "g", "awslogs-endpoint": "http://theirs"})
    assert log_of(made, {"awslogs-endpoint": "http://ours"})["Config"] == {
        "awslogs-group": "g",
        "awslogs-endpoint": "http://ours",
    }
    assert log_config.driver(made) == "awslogs"
    assert log_config.options(made)["awslogs-group"] == "g"


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"mode": "non-blocking"}, "10m"),
        ({"mode": "non-blocking", "max-buffer-size": "1m"}, "1m"),
        ({"mode": "blocking"}, None),
        ({}, None),
    ],
)
def test_a_buffer_without_a_size_has_that_of_amazon_ecs(
    options: dict[str, str], size: str | None
) -> None:
    assert log_of(logging("json-file", **options))["Config"].get("max-buffer-size") == size


def test_a_container_without_a_driver_has_the_engines() -> None:
    body = container_body.body(payload(container("a")), container("a"), ContainerContext())
    assert "LogConfig" not in body["HostConfig"]
    assert log_config.driver(container("a")) == ""
    assert log_config.options(container("a")) == {}


@pytest.mark.parametrize("broken", ["json-file", {"Type": "x", "Config": ["a"]}, 5])
def test_what_is_no_log_configuration_is_refused_by_name(broken: object) -> None:
    made = container("a", docker_config=EngineConfig(host_config={"LogConfig": broken}))
    with pytest.raises(PayloadError, match="LogConfig of container a cannot be read"):
        container_body.body(payload(made), made, ContainerContext())
