"""How settings become what control is told of a host."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.config import load
from agent.model.resources import HostResources
from agent.resources.host_address import HOST_ADDRESS, METRICS_ADDRESS
from agent.runtime.protocol import EngineInfo
from agent.upstream.host_identity import Machine
from agent.wiring import registration

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "com.amazonaws.ecs.capability.logging-driver."


@pytest.mark.parametrize(
    ("engine_has", "set_to", "told"),
    [
        ((), "", ["awsfirelens", "awslogs", "fluentd", "json-file", "none", "syslog"]),
        (("awslogs", "json-file", "local"), "", ["awslogs", "json-file", "none"]),
        (("awslogs", "json-file", "splunk"), '["splunk","gelf"]', ["splunk"]),
        (("fluentd", "json-file"), '["json-file"]', ["awsfirelens", "json-file"]),
    ],
)
def test_control_is_told_of_the_log_drivers_that_the_engine_has(
    engine_has: tuple[str, ...], set_to: str, told: list[str]
) -> None:
    environ = {"ECS_AVAILABLE_LOGGING_DRIVERS": set_to} if set_to else {}
    info = EngineInfo(
        version="20.10.24",
        api_version="1.41",
        cgroup_driver="systemd",
        cgroup_version=2,
        log_drivers=engine_has,
    )
    host = HostResources(cpu_units=1024, memory_mib=1024)
    register = registration.describe(
        load(environ, ()),
        host,
        info,
        Machine(),
        towards_ecs=False,
        task_limits=False,
        known_tasks=[],
    )
    found = [name.removeprefix(PREFIX) for name in register.attributes if name.startswith(PREFIX)]
    assert sorted(found) == told


@pytest.mark.parametrize(
    ("environ", "towards_ecs", "address", "metrics"),
    [
        ({"ECS_HOST_ADDRESS": "192.0.2.7"}, False, "192.0.2.7", None),
        ({"ECS_HOST_ADDRESS": "192.0.2.7"}, True, "192.0.2.7", None),
        (
            {
                "ECS_HOST_ADDRESS": "192.0.2.7",
                "ECS_ENABLE_PROMETHEUS_METRICS": "true",
                "ECS_PROMETHEUS_ADDRESS": "0.0.0.0",
            },
            False,
            "192.0.2.7",
            "192.0.2.7:51680",
        ),
        ({}, True, None, None),
    ],
)
def test_control_is_told_where_a_host_is_reached(
    environ: dict[str, str], towards_ecs: bool, address: str | None, metrics: str | None
) -> None:
    register = registration.describe(
        load(environ, ()),
        HostResources(cpu_units=1024, memory_mib=1024),
        EngineInfo(
            version="20.10.24", api_version="1.41", cgroup_driver="systemd", cgroup_version=2
        ),
        Machine(),
        towards_ecs=towards_ecs,
        task_limits=False,
        known_tasks=[],
    )
    assert register.attributes.get(HOST_ADDRESS) == address
    assert register.attributes.get(METRICS_ADDRESS) == metrics


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that nobody else can replace; those of pytest may be open to all."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def test_what_the_host_policy_refuses_is_not_offered(folder: Path) -> None:
    path = folder / "policy.toml"
    path.write_text('log_drivers = ["awslogs"]\nvolume_types = []\nvolume_drivers = ["local"]\n')
    path.chmod(0o644)
    info = EngineInfo(
        version="28",
        api_version="1.47",
        cgroup_driver="systemd",
        cgroup_version=2,
        log_drivers=("awslogs", "json-file", "fluentd"),
        volume_plugins=("local", "rexray"),
    )
    host = HostResources(cpu_units=1024, memory_mib=1024, mounts_nfs=True)

    def told(**environ: str) -> set[str]:
        register = registration.describe(
            load({"ECS_APPARMOR_CAPABLE": "true", **environ}, ()),
            host,
            info,
            Machine(),
            towards_ecs=False,
            task_limits=False,
            known_tasks=[],
        )
        return {name.removeprefix("com.amazonaws.") for name in register.attributes}

    missing = told() - told(ECS_HOST_POLICY_FILE=str(path))
    assert missing == {
        "ecs.capability.privileged-container",
        "ecs.capability.logging-driver.json-file",
        "ecs.capability.logging-driver.none",
        "ecs.capability.logging-driver.fluentd",
        "ecs.capability.apparmor",
        "ecs.capability.docker-plugin.rexray",
        "ecs.capability.efs",
        *(name for name in told() if "firelens" in name),
    }
    assert told() - told(ECS_DISABLE_PRIVILEGED="true") == {"ecs.capability.privileged-container"}
