"""Statuses, reasons, names and needs: small tables that operators and ECS depend on."""

from __future__ import annotations

import pytest

from agent.model import ids, reasons
from agent.model.payload import Association, Container, EngineConfig, PortMapping, TaskPayload
from agent.model.resources import needs_of
from agent.model.status import ContainerStatus, TaskStatus


@pytest.mark.parametrize(
    ("status", "wire"),
    [
        (ContainerStatus.NONE, "PENDING"),
        (ContainerStatus.PULLED, "PENDING"),
        (ContainerStatus.CREATED, "PENDING"),
        (ContainerStatus.RUNNING, "RUNNING"),
        (ContainerStatus.RESOURCES_PROVISIONED, "RUNNING"),
        (ContainerStatus.STOPPED, "STOPPED"),
        (TaskStatus.NONE, "PENDING"),
        (TaskStatus.CREATED, "PENDING"),
        (TaskStatus.RUNNING, "RUNNING"),
        (TaskStatus.STOPPED, "STOPPED"),
    ],
)
def test_operators_see_three_statuses(status: ContainerStatus | TaskStatus, wire: str) -> None:
    assert status.wire() == wire


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30, "30s"), (60, "1m0s"), (150, "2m30s"), (240, "4m0s"), (7200, "2h0m0s"), (0.4, "0s")],
)
def test_durations_read_as_in_ecs(seconds: float, text: str) -> None:
    assert reasons.duration(seconds) == text


def test_a_known_cause_of_a_failed_pull_gets_its_hint() -> None:
    raw = "pull access denied, denied: requested access to the resource is denied"
    text = reasons.pull_failed(raw)
    assert text.startswith("CannotPullContainerError: The task can\N{RIGHT SINGLE QUOTATION MARK}t")
    assert "Check whether the image exists." in text
    assert text.endswith(raw)
    assert reasons.pull_failed("odd") == "CannotPullContainerError: odd"


def test_reasons_end_where_the_wire_ends_them() -> None:
    assert len(reasons.named("Name", "x" * 5000)) == 1024


def test_engine_names_are_safe_and_always_the_same() -> None:
    name = ids.container_engine_name("arn:task/c/1", "we_b", "3", "app.1")
    assert name == ids.container_engine_name("arn:task/c/1", "we_b", "3", "app.1")
    assert name.startswith("ecs-web-3-app1-")
    assert name != ids.container_engine_name("arn:task/c/2", "we_b", "3", "app.1")
    assert name != ids.volume_engine_name("arn:task/c/1", "we_b", "3", "app.1")


def container(name: str, **more: object) -> Container:
    return Container(name=name, image="i", **more)  # type: ignore[arg-type]


def test_needs_are_the_tasks_or_the_sum_of_its_containers() -> None:
    soft = EngineConfig(host_config={"MemoryReservation": 64 * 1024 * 1024})
    containers = [
        container("a", cpu=100, memory=128, docker_config=soft),
        container(
            "b", cpu=28, memory=32, port_mappings=[PortMapping(container_port=1, host_port=80)]
        ),
    ]
    task = TaskPayload(
        arn="t",
        containers=containers,
        associations=[Association(name="GPU-1", type="gpu", containers=["a"])],
    )
    needs = needs_of(task)
    assert (needs.cpu_units, needs.memory_mib) == (128, 96)
    assert needs.tcp_ports == {80}
    assert needs.gpus == {"GPU-1"}
    whole = TaskPayload(arn="t", containers=containers, cpu=0.5, memory=512, network_mode="awsvpc")
    needs = needs_of(whole)
    assert (needs.cpu_units, needs.memory_mib, needs.tcp_ports) == (512, 512, frozenset())
