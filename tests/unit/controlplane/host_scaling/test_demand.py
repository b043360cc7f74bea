"""How many hosts the waiting tasks need."""

from __future__ import annotations

from agent.controlplane.host_scaling.demand import Alike, Demand, of
from agent.controlplane.scheduler import placement
from agent.controlplane.scheduler.instance import Instance, TaskNeeds

SMALL = Instance(arn="small", cpu_units=1024, memory_mib=2048, attributes={"disk": "ssd"})
LARGE = Instance(arn="large", cpu_units=4096, memory_mib=8192)


def task(count: int, memory_mib: int, **needs: object) -> Alike:
    return Alike(count, TaskNeeds(memory_mib=memory_mib, group="g", **needs))  # type: ignore[arg-type]


def test_tasks_are_packed_into_the_smallest_kind_that_takes_them() -> None:
    assert of([task(5, 1000)], [SMALL]) == Demand(3, 0)
    assert of([task(1, 4000), task(4, 1000)], [SMALL, LARGE]) == Demand(1, 0)
    assert of([task(3, 1000, cpu_units=1024)], [SMALL]) == Demand(3, 0)


def test_fixed_ports_and_distinct_instances_need_a_host_each() -> None:
    assert of([task(3, 10, tcp_ports=frozenset({80}))], [SMALL]) == Demand(3, 0)
    distinct = placement.parse_constraints([{"type": "distinctInstance"}])
    assert of([task(3, 10)._replace(constraints=distinct)], [LARGE]) == Demand(3, 0)


def test_what_no_kind_of_host_can_take_adds_none() -> None:
    assert of([task(2, 9000)], [SMALL, LARGE]) == Demand(0, 2)
    on_ssd = placement.parse_constraints(
        [{"type": "memberOf", "expression": "attribute:disk == ssd"}]
    )
    assert of([task(2, 4000)._replace(constraints=on_ssd)], [SMALL, LARGE]) == Demand(0, 2)
    assert of([task(1, 10, attributes={"gpu-kind": ""})], [SMALL]) == Demand(0, 1)


def test_while_hosts_are_unknown_one_is_counted() -> None:
    assert of([task(7, 9000)], []) == Demand(1, 0)
    assert of([], []) == Demand(0, 0)
