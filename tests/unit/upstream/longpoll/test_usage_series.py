"""Samples become sets; what is missing stays missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.metrics import ContainerSample, HostSample, MetricsBatch, TaskSample
from agent.model.statistics import StatisticSet
from agent.upstream.longpoll.usage_series import UsageSeries

ARN = "arn:aws:ecs:us-east-1:000000000000:task/default/a"


def container(name: str, **more: Any) -> ContainerSample:
    return ContainerSample(name=name, runtime_id=f"id-{name}", **more)


def batch(*containers: ContainerSample, cpu_percent: float = 0.0, **more: Any) -> MetricsBatch:
    task = TaskSample(task_arn=ARN, containers=list(containers), **more)
    return MetricsBatch(host=HostSample(at=1.0, cpu_percent=cpu_percent), tasks=[task])


def test_a_task_is_the_sum_of_its_containers_in_each_sample() -> None:
    series = UsageSeries()
    for percent in (10.0, 30.0):
        series.take(
            batch(
                container("a", cpu_percent=percent, memory_bytes=100),
                container("b", cpu_percent=50.0, memory_bytes=20),
                cpu_percent=100.0,
                rx_bytes_per_s=7.0,
            )
        )
    usage = series.tell()
    (task,) = usage.tasks
    assert task.cpu_units is not None
    assert task.cpu_units.min == pytest.approx(614.4)
    assert task.cpu_units.average == pytest.approx(716.8)
    assert task.cpu_units.max == pytest.approx(819.2)
    assert task.memory_bytes == StatisticSet(120, 120, 240, 2)
    assert task.rx_bytes_per_s == StatisticSet(7.0, 7.0, 14.0, 2)
    assert task.tx_bytes_per_s is None
    assert usage.host is not None
    assert usage.host.cpu_units == StatisticSet(1024.0, 1024.0, 2048.0, 2)
    assert series.tell().tasks == []


def test_a_sample_without_the_figure_of_a_container_does_not_count() -> None:
    series = UsageSeries()
    series.take(batch(container("a", cpu_percent=10.0), container("b", cpu_percent=None)))
    assert series.tell().tasks[0].cpu_units is None
    series.take(batch(container("a", cpu_percent=10.0), container("b", cpu_percent=None)))
    series.take(batch(container("a", cpu_percent=10.0), container("b", cpu_percent=10.0)))
    cpu = series.tell().tasks[0].cpu_units
    assert cpu is not None
    assert cpu.count == 1


def test_counters_are_counted_from_sample_to_sample_across_messages() -> None:
    series = UsageSeries()
    series.take(batch(container("a", io_read_bytes=1000, io_write_bytes=5)))
    assert series.tell().tasks[0].read_bytes is None
    series.take(batch(container("a", io_read_bytes=1300, io_write_bytes=5)))
    series.take(batch(container("a", io_read_bytes=1400, io_write_bytes=9)))
    (task,) = series.tell().tasks
    assert (task.read_bytes, task.written_bytes) == (400, 4)
    series.take(batch(container("a", io_read_bytes=3, io_write_bytes=9)))
    (task,) = series.tell().tasks
    assert (task.read_bytes, task.written_bytes) == (None, 0)


def test_a_task_that_ended_is_told_once_more() -> None:
    series = UsageSeries()
    series.take(batch(container("a", cpu_percent=1.0)))
    series.take(MetricsBatch(host=HostSample(at=2.0)))
    assert [task.task_arn for task in series.tell().tasks] == [ARN]
    series.take(MetricsBatch(host=HostSample(at=3.0)))
    assert series.tell().tasks == []


IDLE = [container("a", cpu_percent=0.0, memory_bytes=100, io_read_bytes=50)]
# 128 units, of which sums are exact in whatever order they are added.
OTHER = [container("a", cpu_percent=12.5, memory_bytes=90, io_read_bytes=80, io_write_bytes=8)]
UNKNOWN = [container("a", cpu_percent=None)]


@given(
    st.lists(
        st.tuples(st.sampled_from([IDLE, OTHER, UNKNOWN, None]), st.sampled_from([0.0, 8.0, None])),
        max_size=30,
    ),
    st.sets(st.integers(0, 30)),
)
def test_samples_that_say_the_same_count_like_any_others(
    rounds: list[tuple[list[ContainerSample] | None, float | None]], told_after: set[int]
) -> None:
    """The same object is known to be the same; a copy of it is looked at anew."""
    by_object, by_copy = UsageSeries(), UsageSeries()
    last: TaskSample | None = None
    for number, (containers, rate) in enumerate(rounds):
        copies: list[TaskSample] = []
        if containers is not None:
            copies = [TaskSample(task_arn=ARN, containers=containers, rx_bytes_per_s=rate)]
            last = last if last == copies[0] else copies[0]
        objects = [last] if copies and last is not None else []
        for series, tasks in ((by_object, objects), (by_copy, copies)):
            series.take(MetricsBatch(host=HostSample(at=1.0, cpu_percent=1.0), tasks=tasks))
        if number in told_after:
            assert by_object.tell() == by_copy.tell()
    assert by_object.tell() == by_copy.tell()


def test_bytes_of_an_idle_task_are_zero_and_not_unknown() -> None:
    series = UsageSeries()
    host = HostSample(at=1.0)
    task = TaskSample(task_arn=ARN, containers=IDLE)
    for _ in range(3):
        series.take(MetricsBatch(host=host, tasks=[task]))
    (usage,) = series.tell().tasks
    assert usage.read_bytes == 0
    assert usage.written_bytes is None
    assert usage.memory_bytes == StatisticSet(100, 100, 300, 3)
