"""Sets of figures against a naive computation, and what is left out of them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.metrics import (
    ContainerSample,
    HostSample,
    LinkCounters,
    MetricsBatch,
    TaskSample,
)
from agent.model.telemetry import ContainerFacts, TaskFacts
from agent.upstream.amazon.tcs.sets import (
    LONG_MAX,
    DoubleSet,
    HostSeries,
    LongSet,
    RestartSet,
    double_set,
    long_set,
    restarts_between,
)

MIB = 1024 * 1024


def facts(*names: str, mode: str = "bridge", restarts: int | None = None) -> TaskFacts:
    containers = tuple(
        ContainerFacts(name=name, running=True, restart_count=restarts) for name in names
    )
    return TaskFacts(arn="t", family="web", revision="3", network_mode=mode, containers=containers)


def used(name: str = "a", **fields: object) -> ContainerSample:
    given = {
        "runtime_id": f"id-{name}",
        "cpu_percent": 50.0,
        "memory_bytes": 10 * MIB,
        "io_read_bytes": 0,
        "io_write_bytes": 0,
        **fields,
    }
    return ContainerSample(name=name, **given)  # type: ignore[arg-type]


def batch(*containers: ContainerSample, **fields: object) -> MetricsBatch:
    task = TaskSample(task_arn="t", containers=list(containers), **fields)  # type: ignore[arg-type]
    return MetricsBatch(host=HostSample(at=1.0), tasks=[task])


def told(figures: HostSeries, *tasks: TaskFacts) -> dict[str, dict[str, object]]:
    """What is told now, by container, as it goes on the wire."""
    wire = msgspec.json.decode(msgspec.json.encode(figures.tell(tasks)))
    return {c["containerName"]: c for task in wire for c in task["containerMetrics"]}


@given(st.lists(st.none() | st.floats(width=32)))
def test_double_sets(values: list[float | None]) -> None:
    usable = [v for v in values if v is not None and v - v == 0]
    found = double_set(values)
    if not usable:
        assert found is None
    else:
        assert found is not None
        assert (found.min, found.max, found.sample_count) == (min(usable), max(usable), len(usable))
        assert found.sum == pytest.approx(sum(usable))


def test_a_sum_that_is_no_number_is_not_told() -> None:
    assert double_set([1.7e308, 1.7e308]) is None
    assert double_set([float("nan"), float("inf"), None]) is None
    assert double_set([float("nan"), 2.0]) == DoubleSet(2.0, 2.0, 1, 2.0)


@given(st.lists(st.integers(0, 2**70), min_size=1))
def test_long_sets(values: list[int]) -> None:
    found = long_set(values)
    assert found is not None
    for value, kept, over in (
        (min(values), found.min, found.overflow_min),
        (max(values), found.max, found.overflow_max),
        (sum(values), found.sum, found.overflow_sum),
    ):
        assert kept == min(value, LONG_MAX)
        assert over == min(value - kept, LONG_MAX)
    assert found.sample_count == len(values)


def test_overflow_of_a_sum_alone() -> None:
    assert long_set([LONG_MAX, 5]) == LongSet(5, LONG_MAX, 2, LONG_MAX, 0, 0, 5)
    assert long_set([]) is None


@pytest.mark.parametrize(
    ("before", "untold", "expected"),
    [
        (None, [None, None], None),
        (None, [2, 5], 3),
        (1, [2, 5], 4),
        (5, [5], 0),
        (7, [3], None),
        (2, [None, 4], 2),
    ],
)
def test_restarts(before: int | None, untold: list[int | None], expected: int | None) -> None:
    assert restarts_between(before, untold) == (None if expected is None else RestartSet(expected))


def test_one_container() -> None:
    figures = HostSeries(samples=8, cpus=4)
    links = LinkCounters(rx_bytes=100, tx_bytes=10)
    figures.take(batch(used(cpu_percent=None, io_read_bytes=1), network=links), [facts("a")])
    assert told(figures, facts("a")) == {}
    figures.take(
        batch(
            used(cpu_percent=200.0, memory_bytes=12 * MIB + 5, io_read_bytes=7, io_write_bytes=9),
            network=LinkCounters(rx_bytes=300, tx_bytes=30),
            rx_bytes_per_s=20.0,
            tx_bytes_per_s=2.0,
        ),
        [facts("a")],
    )
    no_overflow = {"overflowMin": 0, "overflowMax": 0, "overflowSum": 0}

    def longs(least: int, most: int, total: int) -> dict[str, int]:
        return {"min": least, "max": most, "sampleCount": 2, "sum": total, **no_overflow}

    (metric,) = told(figures, facts("a")).values()
    network = metric.pop("networkStatsSet")
    assert metric == {
        "containerName": "a",
        "cpuStatsSet": {"min": 50.0, "max": 50.0, "sampleCount": 1, "sum": 50.0},
        "memoryStatsSet": {"min": 10, "max": 12, "sampleCount": 2, "sum": 22},
        "storageStatsSet": {"readSizeBytes": longs(1, 7, 8), "writeSizeBytes": longs(0, 9, 9)},
    }
    assert isinstance(network, dict)
    assert network["rxBytes"] == longs(100, 300, 400)
    assert network["txBytes"] == longs(10, 30, 40)
    assert network["rxBytesPerSecond"] == {"min": 20.0, "max": 20.0, "sampleCount": 1, "sum": 20.0}
    assert set(network) == {
        *(
            f"{backend}{what}"
            for backend in ("rx", "tx")
            for what in ("Bytes", "Dropped", "Errors")
        ),
        *("rxPackets", "txPackets", "rxBytesPerSecond", "txBytesPerSecond"),
    }
    # Told once: one more sample makes a set of one.
    assert told(figures, facts("a")) == {}
    figures.take(batch(used()), [facts("a")])
    (metric,) = told(figures, facts("a")).values()
    assert metric["cpuStatsSet"] == {"min": 12.5, "max": 12.5, "sampleCount": 1, "sum": 12.5}
    assert "networkStatsSet" not in metric


@pytest.mark.parametrize(("mode", "has"), [("bridge", True), ("awsvpc", True), ("host", False)])
def test_network_by_mode(mode: str, *, has: bool) -> None:
    figures = HostSeries(samples=8, cpus=1)
    task = facts("a", mode=mode)
    for _ in range(2):
        figures.take(batch(used(), network=LinkCounters(rx_bytes=1)), [task])
    assert ("networkStatsSet" in told(figures, task)["a"]) is has


def test_addresses_of_a_task_are_told_with_each_of_its_containers() -> None:
    figures = HostSeries(samples=8, cpus=1)
    task = facts("a", "b", mode="awsvpc")
    for _ in range(2):
        figures.take(batch(used("a"), used("b"), network=LinkCounters(rx_bytes=1)), [task])
    both = told(figures, task)
    assert both["a"]["networkStatsSet"] == both["b"]["networkStatsSet"]


def test_containers_with_networks_of_their_own() -> None:
    figures = HostSeries(samples=8, cpus=1)
    task = facts("a", "b", "c", mode="bridge")
    for received, rate in ((100, None), (300, 20.0), (350, 5.0)):
        own = used("a", network=LinkCounters(rx_bytes=received), rx_bytes_per_s=rate)
        others = used("b", network=LinkCounters(rx_bytes=7)), used("c")
        whole = LinkCounters(rx_bytes=999)
        figures.take(batch(own, *others, network=whole, rx_bytes_per_s=9.0), [task])
    metrics = told(figures, task)
    counter = metrics["a"]["networkStatsSet"]["rxBytes"]  # type: ignore[index]
    assert (counter["min"], counter["max"], counter["sampleCount"]) == (100, 350, 3)
    rates = metrics["a"]["networkStatsSet"]["rxBytesPerSecond"]  # type: ignore[index]
    assert rates == {"min": 5.0, "max": 20.0, "sampleCount": 2, "sum": 25.0}
    assert metrics["b"]["networkStatsSet"]["rxBytes"]["sum"] == 21  # type: ignore[index]
    assert "networkStatsSet" not in metrics["c"]


def test_restarts_are_told_of_containers_with_a_policy() -> None:
    figures = HostSeries(samples=8, cpus=1)
    for count, read in ((0, 100), (0, 150), (1, 170), (1, 210), (2, 215)):
        task = facts("a", restarts=count)
        figures.take(batch(used(io_read_bytes=read)), [task])
    metric = told(figures, task)["a"]
    assert metric["restartStatsSet"] == {"restartCount": 2}
    counter = metric["storageStatsSet"]["readSizeBytes"]  # type: ignore[index]
    assert (counter["min"], counter["max"], counter["sampleCount"]) == (100, 215, 5)
    figures.take(batch(used("b")), [facts("b")])
    figures.take(batch(used("b")), [facts("b")])
    assert "restartStatsSet" not in told(figures, facts("b"))["b"]


def test_figures_that_are_missing_leave_their_set_out() -> None:
    figures = HostSeries(samples=8, cpus=1)
    for _ in range(2):
        figures.take(batch(used(io_read_bytes=None, io_write_bytes=None)), [facts("a")])
    assert "storageStatsSet" not in told(figures, facts("a"))["a"]
    for _ in range(2):
        figures.take(batch(used(memory_bytes=None)), [facts("a")])
    assert told(figures, facts("a")) == {}, "a container is told with its memory or not at all"


def test_series_are_bounded_and_end_with_their_tasks() -> None:
    figures = HostSeries(samples=4, cpus=1)
    task = facts("a")
    for number in range(30):
        figures.take(batch(used(memory_bytes=number * MIB)), [task])
    memory = told(figures, task)["a"]["memoryStatsSet"]
    assert (memory["min"], memory["sampleCount"]) == (26, 4)  # type: ignore[index]
    assert told(figures) == {}
    assert figures._series == {}
    figures.take(batch(used("stranger")), [task])
    figures.take(batch(used()), [])
    assert figures._series == {}


def test_another_container_of_the_same_name_begins_anew() -> None:
    figures = HostSeries(samples=4, cpus=1)
    figures.take(batch(used()), [facts("a")])
    figures.take(batch(used(runtime_id="other")), [facts("a")])
    assert told(figures, facts("a")) == {}


@given(
    st.lists(st.tuples(st.none() | st.floats(0, 6400), st.integers(0, 2**40), st.booleans())),
    st.integers(2, 12),
)
def test_nothing_is_told_twice_and_little_is_lost(
    moves: list[tuple[float | None, int, bool]], limit: int
) -> None:
    """Against the plain rule: what came since the last telling, as far as the series remembers."""
    figures = HostSeries(samples=limit, cpus=2)
    task = facts("a")
    seen: list[tuple[float | None, int]] = []
    untold = 0
    for cpu, memory, tells in moves:
        figures.take(batch(used(cpu_percent=cpu, memory_bytes=memory)), [task])
        seen.append((cpu, memory))
        untold = min(untold + 1, limit)
        if not tells:
            continue
        fresh = seen[-untold:]
        cpus = [c / 2 for c, _ in fresh if c is not None]
        found = told(figures, task)
        if len(seen) < 2 or not cpus:
            assert found == {}
            continue
        untold = 0
        mibs = [m // MIB for _, m in fresh]
        metric = found["a"]
        assert metric["cpuStatsSet"] == {
            "min": min(cpus),
            "max": max(cpus),
            "sampleCount": len(cpus),
            "sum": pytest.approx(sum(cpus)),
        }
        memory_set = metric["memoryStatsSet"]
        assert isinstance(memory_set, dict)
        assert [memory_set[k] for k in ("min", "max", "sampleCount", "sum")] == [
            min(mibs),
            max(mibs),
            len(mibs),
            sum(mibs),
        ]
