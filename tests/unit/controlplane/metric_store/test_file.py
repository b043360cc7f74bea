"""Points on disk: minutes, then five minutes, then nothing; never more than the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.metric_store import scopes
from agent.controlplane.metric_store.file import (
    IN_MEMORY,
    Bounds,
    MetricsFile,
    MetricsFileNewer,
    Point,
    packed,
    unpacked,
)
from agent.model.statistics import StatisticSet, one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLUSTER, TASK = scopes.cluster("c"), scopes.task("c", "t", "f")
BEGIN = 1000
"""A multiple of five."""


@pytest.fixture
def file() -> Iterator[MetricsFile]:
    opened = MetricsFile.open(IN_MEMORY, Bounds(minutes=30, days=1))
    yield opened
    opened.close()


def times(points: list[Point]) -> list[int]:
    return [point.at for point in points]


@given(
    st.dictionaries(
        st.integers(1, 63),
        st.builds(
            StatisticSet,
            *[st.floats(0, 1e15, allow_nan=False)] * 3,
            st.integers(1, 2**32 - 1),
        ),
    )
)
def test_points_come_back_as_they_were(row: dict[int, StatisticSet]) -> None:
    assert unpacked(packed(row)) == row


def test_a_new_scope_has_no_points_of_one_that_is_gone(file: MetricsFile) -> None:
    other = scopes.task("c", "u", "f")
    file.add(BEGIN, {CLUSTER: {5: one(1.0)}, TASK: {5: one(1.0)}})
    for at in range(BEGIN + 30, BEGIN + 35):  # what is too old goes by whole fives
        file.add(at, {CLUSTER: {5: one(1.0)}})
    file.add(BEGIN + 34, {other: {5: one(2.0)}})
    assert times(file.points(other, 5, 0, BEGIN + 1000)) == [BEGIN + 34]


def test_minutes_become_five_minutes_and_go(file: MetricsFile) -> None:
    for at in range(BEGIN, BEGIN + 100):
        file.add(at, {CLUSTER: {5: one(float(at))}, TASK: {5: one(1.0)}})
    points = file.points(CLUSTER, 5, 0, BEGIN + 1000)
    horizon = BEGIN + 65  # 30 minutes before the last one, and the whole five of that
    assert times(points) == [
        *range(BEGIN, horizon, 5),
        *range(horizon, BEGIN + 100),
    ]
    assert points[0].values == StatisticSet(BEGIN, BEGIN + 4, 5 * BEGIN + 10, 5)
    assert points[-1].values == one(BEGIN + 99.0)
    assert times(file.points(TASK, 5, 0, BEGIN + 1000)) == list(range(horizon, BEGIN + 100))
    assert times(file.points(CLUSTER, 5, BEGIN + 3, BEGIN + 12)) == [BEGIN + 5, BEGIN + 10]
    assert times(file.points(CLUSTER, 5, BEGIN + 98, BEGIN + 99)) == [BEGIN + 98]
    assert file.points(CLUSTER, 6, 0, BEGIN + 1000) == []
    assert file.points(scopes.cluster("other"), 5, 0, BEGIN + 1000) == []
    assert file.points(CLUSTER, 5, BEGIN + 200, BEGIN + 100) == []


def test_nothing_is_counted_twice_after_a_pause(file: MetricsFile) -> None:
    for at in (BEGIN, BEGIN + 1, BEGIN + 7, BEGIN + 20, BEGIN + 60):
        file.add(at, {CLUSTER: {5: one(1.0)}})
    points = file.points(CLUSTER, 5, 0, BEGIN + 1000)
    assert [(point.at, point.values.count) for point in points] == [
        (BEGIN, 2),
        (BEGIN + 5, 1),
        (BEGIN + 20, 1),
        (BEGIN + 60, 1),
    ]


def test_a_minute_that_is_written_again_is_replaced(file: MetricsFile) -> None:
    file.add(BEGIN, {CLUSTER: {5: one(1.0)}, TASK: {5: one(1.0)}})
    file.add(BEGIN, {CLUSTER: {5: one(3.0)}})
    assert [p.values.sum for p in file.points(CLUSTER, 5, 0, BEGIN + 9)] == [3.0]
    assert file.rows([CLUSTER, TASK], BEGIN) == {CLUSTER: {5: one(3.0)}, TASK: {5: one(1.0)}}


def test_scopes_are_listed_while_they_have_points(file: MetricsFile) -> None:
    file.add(BEGIN, {CLUSTER: {5: one(1.0)}, TASK: {7: one(1.0)}})
    file.add(BEGIN + 1, {CLUSTER: {6: one(1.0)}})
    cluster, task = file.listed(None, 10)
    assert (cluster.scope, cluster.last, cluster.metrics) == (CLUSTER, BEGIN + 1, 0b1100000)
    assert (task.scope, task.last, task.metrics) == (TASK, BEGIN, 0b10000000)
    assert [one.scope for one in file.listed(TASK, 10)] == [TASK]
    file.add(BEGIN + 40, {CLUSTER: {5: one(1.0)}})
    assert [one.scope for one in file.listed(None, 10)] == [CLUSTER]


def test_the_oldest_go_when_the_file_is_full() -> None:
    file = MetricsFile.open(IN_MEMORY, Bounds(most_bytes=400_000))
    tasks = [scopes.task("c", str(n), "f") for n in range(100)]
    row = {number: one(1.0) for number in range(5, 13)}
    for at in range(BEGIN, BEGIN + 40):
        file.add(at, dict.fromkeys(tasks, row))
    assert file.size_bytes() <= 400_000
    found = times(file.points(tasks[0], 5, 0, BEGIN + 1000))
    assert found == list(range(found[0], BEGIN + 40))
    assert len(found) > 5
    file.close()


def test_a_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    file = MetricsFile.open(path, Bounds())
    file.add(BEGIN, {CLUSTER: {5: one(1.0)}})
    file.close()
    assert path.stat().st_mode & 0o777 == 0o600
    file = MetricsFile.open(path, Bounds())
    assert times(file.points(CLUSTER, 5, 0, BEGIN + 1)) == [BEGIN]
    file._db.execute("PRAGMA user_version = 2")
    file.close()
    with pytest.raises(MetricsFileNewer, match="format 2, which a newer ecs-agent made"):
        MetricsFile.open(path, Bounds())


def test_a_clock_that_was_ahead_holds_no_long_points_up(file: MetricsFile) -> None:
    ahead = BEGIN + 10_000
    for at in range(ahead, ahead + 11):
        file.add(at, {CLUSTER: {5: one(9.0)}})
    for at in range(BEGIN, BEGIN + 60):
        file.add(at, {CLUSTER: {5: one(1.0)}})
    longs = file.points(CLUSTER, 5, BEGIN, BEGIN + 25)
    assert times(longs) == [*range(BEGIN, BEGIN + 25, 5)]
    assert longs[0].values == StatisticSet(1.0, 1.0, 5.0, 5)
