"""Minutes of services as policies see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.metric_store import catalogue
from agent.controlplane.scaling import figures
from agent.controlplane.scaling.figures import KEPT, Figures
from agent.controlplane.scaling.tracking import Minute
from agent.model.statistics import StatisticSet, one
from tests.unit.controlplane.scaling.conftest import AT, policy

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.controlplane.metric_store.roll_up import Row
    from agent.controlplane.metric_store.scopes import Scope

SHOP, BLOG = figures.scope("default", "shop"), figures.scope("default", "blog")


def row(cpu: float, tasks: int = 2, running: int = 2) -> Row:
    return {
        catalogue.CPU_UTILIZATION.number: StatisticSet(cpu, cpu + 8, cpu * tasks, tasks),
        catalogue.RUNNING_TASKS.number: one(float(running)),
    }


class Scripted:
    """A metric store of these rows, which counts what is read."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, int], Row] = {}
        self.reads = 0

    async def minute(self, wanted: Collection[Scope], at: int) -> dict[Scope, Row]:
        self.reads += len(wanted)
        return {each: self.rows[each, at] for each in wanted if (each, at) in self.rows}


async def test_each_minute_is_read_once() -> None:
    store = Scripted()
    for ago in range(30):
        store.rows[SHOP, AT - ago] = row(float(ago))
    kept = Figures(store)
    await kept.read([SHOP], AT)
    assert store.reads == KEPT
    assert kept.of(SHOP, policy()) == {AT - ago: Minute(float(ago)) for ago in range(KEPT)}
    store.rows[SHOP, AT + 2] = row(99.0)
    await kept.read([SHOP], AT + 2)
    assert store.reads == KEPT + 2
    found = kept.of(SHOP, policy())
    assert found[AT + 2].value == 99.0
    assert (min(found), AT + 1 in found) == (AT + 2 - KEPT + 1, False)
    await kept.read([SHOP, BLOG], AT + 3)
    assert store.reads == KEPT + 2 + 1 + KEPT, "all minutes of the new one"
    await kept.read([], AT + 4)
    assert kept.of(SHOP, policy()) == {}


async def test_a_clock_that_was_set_back_reads_again() -> None:
    store = Scripted()
    store.rows[SHOP, AT] = row(1.0)
    kept = Figures(store)
    await kept.read([SHOP], AT)
    store.rows[SHOP, AT - 60] = row(2.0)
    await kept.read([SHOP], AT - 60)
    assert kept.of(SHOP, policy()) == {AT - 60: Minute(2.0)}


def test_a_minute_is_whole_if_all_tasks_had_figures_that_ran_before_it() -> None:
    def whole(*rows: Row) -> bool:
        found = dict(enumerate(rows))
        return figures.minutes(found, catalogue.CPU_UTILIZATION, "Average")[len(rows) - 1].is_whole

    assert whole(row(5.0), row(5.0))
    assert not whole(row(5.0, running=3), row(5.0, running=3)), "a host is cut off"
    assert whole(row(5.0), row(5.0, running=3)), "one began to run"
    assert whole(row(5.0, running=3), row(5.0)), "one has ended"


def test_statistics() -> None:
    values = StatisticSet(2.0, 8.0, 10.0, 2)
    found = [figures.value_of(values, name) for name in figures.STATISTICS]
    assert found == [5.0, 2.0, 8.0, 10.0, 2.0]
