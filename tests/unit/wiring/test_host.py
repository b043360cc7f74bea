"""How the settings become the host's part of task networks."""

from __future__ import annotations

import pytest

from agent.config import load
from agent.wiring.host import closed_ports, network_settings


@pytest.mark.parametrize(
    ("environ", "closed"),
    [
        ({}, (6820, 6821)),
        ({"ECS_CONTROL_ENDPOINT": "http://127.0.0.1:7000"}, (6820, 6821, 7000)),
        ({"ECS_CONTROL_ENDPOINT": "https://localhost/api"}, (443, 6820, 6821)),
        ({"ECS_CONTROL_ENDPOINT": "https://192.0.2.77"}, (6820, 6821)),
        ({"ECS_CONTROL_PORTS": "[7001]"}, (7001,)),
        ({"ECS_ENABLE_PROMETHEUS_METRICS": "true"}, (6820, 6821, 51680)),
        ({"ECS_TASK_ALLOWED_PORTS": "[6820,9]"}, (6821,)),
        ({"ECS_TASK_ALLOWED_PORTS": "[6820,6821]"}, ()),
    ],
)
def test_ports_of_control_and_agent_on_this_host_are_closed(
    environ: dict[str, str], closed: tuple[int, ...]
) -> None:
    whole = {"ECS_CONTROL_ENDPOINT": "http://192.0.2.77:6820", **environ}
    assert closed_ports(load(whole)) == closed


def test_introspection_is_guarded_unless_allowed() -> None:
    def guarded(**environ: str) -> int:
        settings = load({"ECS_CONTROL_ENDPOINT": "http://192.0.2.77:6820", **environ})
        return network_settings(settings, "owner", "docker0").introspection_port

    assert guarded() == 51678
    assert guarded(ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS="true") == 0
