"""What Amazon's agent publishes becomes usage of tasks."""

from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.agents.amazon import shapes
from agent.controlplane.agents.amazon.tcs_usage import TcsUsage
from agent.model.resources import MIB
from agent.model.statistics import StatisticSet
from agent.model.usage import TaskUsage

HOST_UNITS = 4096


def stats(least: float, most: float, total: float, count: int) -> dict[str, float]:
    return {"min": least, "max": most, "sum": total, "sampleCount": count}


def published(*containers: dict[str, Any]) -> shapes.PublishMetrics:
    task = {"taskArn": "t", "taskDefinitionFamily": "f", "containerMetrics": list(containers)}
    _, message = shapes.read(
        shapes.write("PublishMetricsRequest", {"metadata": {"idle": False}, "taskMetrics": [task]})
    )
    assert isinstance(message, shapes.PublishMetrics)
    return message


def container(name: str, **more: Any) -> dict[str, Any]:
    return {
        "containerName": name,
        "cpuStatsSet": stats(10, 30, 40, 2),
        "memoryStatsSet": stats(5, 5, 10, 2),
    } | more


def counter(least: int, most: int) -> dict[str, int]:
    return {"min": least, "max": most, "sampleCount": 2, "sum": least + most, "overflowMin": 0}


def test_containers_are_added() -> None:
    network = {"rxBytesPerSecond": stats(1, 3, 4, 2), "txBytesPerSecond": stats(0, 0, 0, 2)}
    message = published(container("a", networkStatsSet=network), container("~internal~ecs~pause"))
    (task,) = TcsUsage(HOST_UNITS).of(message).tasks
    # 100 is all four cores: a percent is 40.96 units.
    assert task.cpu_units is not None
    assert task.cpu_units.max == 60 * 40.96
    assert task.cpu_units.average == pytest.approx(40 * 40.96)
    assert task.memory_bytes == StatisticSet(10 * MIB, 10 * MIB, 20 * MIB, 2)
    assert task.rx_bytes_per_s == StatisticSet(1, 3, 4, 2)
    assert task.read_bytes is None


def test_counters_go_on_from_one_publication_to_the_next() -> None:
    usage = TcsUsage(HOST_UNITS)
    grown = []
    for least, most in ((100, 150), (200, 260), (0, 30), (30, 40)):
        storage = {"readSizeBytes": counter(least, most)}
        (task,) = usage.of(published(container("a", storageStatsSet=storage))).tasks
        grown.append(task.read_bytes)
    assert grown == [50, 110, 0, 10]


def test_a_container_without_a_set_makes_none_of_the_task() -> None:
    message = published(container("a"), {"containerName": "b"})
    assert TcsUsage(HOST_UNITS).of(message).tasks == [TaskUsage(task_arn="t")]


def test_numbers_that_no_agent_has_are_refused() -> None:
    with pytest.raises(shapes.FrameError, match="cpuStatsSet"):
        published(container("a", cpuStatsSet=stats(-1, 1, 1, 1)))
