"""Figures as Amazon ECS has them, from usage and facts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.api.cloudwatch import dimensions
from agent.controlplane.metric_store import catalogue, scopes
from agent.controlplane.metric_store.roll_up import Facts, HostFacts, HostMinute, TaskFacts, roll_up
from agent.model.resources import MIB
from agent.model.statistics import StatisticSet
from agent.model.usage import HostUsage, TaskUsage

CLUSTER = scopes.cluster("c")
WEB = scopes.service("c", "web")


def fact(number: int, **more: Any) -> TaskFacts:
    values: dict[str, Any] = {
        "arn": f"arn:{number}",
        "id": str(number),
        "cluster": "c",
        "family": "f",
        "service": "web",
        "instance_id": "i",
        "last_status": "RUNNING",
        "cpu_units": 256,
        "memory_mib": 100,
    }
    return TaskFacts(**(values | more))


def host(**more: Any) -> HostFacts:
    values: dict[str, Any] = {
        "id": "i",
        "cluster": "c",
        "ec2_instance_id": "",
        "cpu_units": 2048,
        "memory_mib": 1000,
        "cpu_reserved": 512,
        "memory_reserved": 200,
        "running_tasks": 2,
    }
    return HostFacts(**(values | more))


def usage(number: int, *units: float, mib: float = 50) -> TaskUsage:
    return TaskUsage(
        task_arn=f"arn:{number}",
        cpu_units=StatisticSet(min(units), max(units), sum(units), len(units)),
        memory_bytes=StatisticSet(mib * MIB, mib * MIB, mib * MIB * len(units), len(units)),
    )


def told(
    *tasks: TaskUsage, by: str = "i", of_host: HostUsage | None = None
) -> dict[str, HostMinute]:
    return {by: HostMinute(of_host, {task.task_arn: task for task in tasks})}


def test_utilization_of_a_service_is_what_is_used_by_what_is_reserved() -> None:
    facts = Facts(tasks=[fact(1), fact(2)], hosts=[host()])
    rows = roll_up(told(usage(1, 64, 192), usage(2, 0, 0)), facts)
    service = rows[WEB]
    # 128 of 256, and nothing of 256; the extremes are those of samples.
    assert service[catalogue.CPU_UTILIZATION.number] == StatisticSet(0.0, 75.0, 50.0, 2)
    assert service[catalogue.MEMORY_UTILIZATION.number] == StatisticSet(50.0, 50.0, 100.0, 2)
    assert service[catalogue.CPU_UTILIZED.number] == StatisticSet(0, 192, 128.0, 2)
    assert service[catalogue.CPU_RESERVED.number] == StatisticSet(256, 256, 512, 2)
    task = rows[scopes.task("c", "1", "f")]
    assert task[catalogue.CPU_UTILIZED.number] == StatisticSet(64, 192, 128.0, 1)


def test_tasks_of_other_sizes_count_as_much_as_they_reserve() -> None:
    facts = Facts(tasks=[fact(1, cpu_units=1000), fact(2, cpu_units=100)])
    rows = roll_up(told(usage(1, 100), usage(2, 100)), facts)
    values = rows[WEB][catalogue.CPU_UTILIZATION.number]
    assert values.average == pytest.approx(100 * 200 / 1100)
    assert (values.min, values.max) == (10.0, 100.0)


def test_utilization_and_reservation_of_a_cluster_are_of_what_is_registered() -> None:
    facts = Facts(
        tasks=[fact(1), fact(2, service="")], hosts=[host(), host(id="j", cpu_reserved=0)]
    )
    row = roll_up(told(usage(1, 1024), usage(2, 1024)), facts)[CLUSTER]
    assert row[catalogue.CPU_UTILIZATION.number] == StatisticSet(50.0, 50.0, 50.0, 1)
    assert row[catalogue.CPU_RESERVATION.number].average == 12.5
    assert row[catalogue.MEMORY_RESERVATION.number].average == 20.0
    assert row[catalogue.MEMORY_UTILIZATION.number].average == 5.0
    assert row[catalogue.INSTANCES.number].average == 2
    assert row[catalogue.TASKS.number].average == 2


def test_a_task_without_a_reservation_has_usage_and_no_utilization() -> None:
    rows = roll_up(told(usage(1, 100)), Facts(tasks=[fact(1, cpu_units=0)]))
    assert catalogue.CPU_UTILIZATION.number not in rows[WEB]
    assert catalogue.CPU_RESERVED.number not in rows[WEB]
    assert rows[WEB][catalogue.CPU_UTILIZED.number].average == 100
    assert rows[WEB][catalogue.MEMORY_UTILIZATION.number].average == 50


def test_nobody_speaks_for_a_task_of_another_instance() -> None:
    rows = roll_up(told(usage(1, 100), usage(9, 100), by="other"), Facts(tasks=[fact(1)]))
    assert catalogue.CPU_UTILIZED.number not in rows[WEB]
    assert scopes.task("c", "1", "f") not in rows


def test_counts_and_zeros() -> None:
    tasks = [
        fact(1),
        fact(2, last_status="PENDING", instance_id=""),
        fact(3, last_status="STOPPED", service="old"),
        fact(4, last_status="STOPPING", service=""),
    ]
    rows = roll_up({}, Facts(tasks=tasks, hosts=[host(cluster="idle")]))
    assert rows[WEB][catalogue.RUNNING_TASKS.number].average == 1
    assert rows[WEB][catalogue.PENDING_TASKS.number].average == 1
    assert rows[CLUSTER][catalogue.RUNNING_TASKS.number].average == 1
    # What has no task any more has no points; what has a host and no tasks has none of them.
    assert scopes.service("c", "old") not in rows
    idle = rows[scopes.cluster("idle")]
    assert idle[catalogue.RUNNING_TASKS.number] == StatisticSet(0, 0, 0, 1)
    assert catalogue.CPU_UTILIZATION.number not in idle


def test_figures_of_a_host() -> None:
    of_host = HostUsage(
        cpu_units=StatisticSet(512, 1024, 1536, 2),
        memory_used_bytes=StatisticSet(100, 100, 100, 1),
        memory_total_bytes=400,
    )
    facts = Facts(hosts=[host(ec2_instance_id="i-1")])
    rows = roll_up(told(of_host=of_host), facts)
    row = rows[scopes.instance("c", "i", "i-1")]
    assert row[catalogue.INSTANCE_CPU_UTILIZATION.number] == StatisticSet(25.0, 50.0, 37.5, 1)
    assert row[catalogue.INSTANCE_MEMORY_UTILIZATION.number].average == 25.0
    assert row[catalogue.INSTANCE_CPU_RESERVED.number].average == 25.0
    assert row[catalogue.INSTANCE_TASKS.number].average == 2
    assert catalogue.INSTANCE_FILESYSTEM.number not in row
    cluster = rows[scopes.cluster("c")]
    assert cluster[catalogue.INSTANCE_CPU_UTILIZATION.number].average == 37.5


def test_the_reservation_of_a_capacity_provider() -> None:
    rows = roll_up({}, Facts(reservations={("c", "rack"): 150.0}))
    scope = scopes.provider("c", "rack")
    assert rows[scope] == {catalogue.CAPACITY_RESERVATION.number: StatisticSet(150, 150, 150, 1)}
    named = dimensions.of(scope)
    assert named == {"ClusterName": "c", "CapacityProviderName": "rack"}
    assert dimensions.scope_of(named) == scope


@given(
    st.lists(
        st.tuples(st.integers(1, 4096), st.lists(st.integers(0, 4096), min_size=1, max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_sums_of_tasks_are_those_of_their_service(tasks: list[tuple[int, list[int]]]) -> None:
    facts = Facts(tasks=[fact(n, cpu_units=cpu) for n, (cpu, _) in enumerate(tasks)])
    rows = roll_up(told(*(usage(n, *units) for n, (_, units) in enumerate(tasks))), facts)
    means = [sum(units) / len(units) for _, units in tasks]
    used = rows[WEB][catalogue.CPU_UTILIZED.number]
    assert used.sum == pytest.approx(sum(means))
    assert used.count == len(tasks)
    share = rows[WEB][catalogue.CPU_UTILIZATION.number]
    assert share.average == pytest.approx(100 * sum(means) / sum(cpu for cpu, _ in tasks))
    assert share.count == len(tasks)
