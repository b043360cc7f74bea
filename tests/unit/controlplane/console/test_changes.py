"""What of a cluster a change of the store concerns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.console.changes import Changes
from agent.controlplane.store.contract import Event, KeyValue
from agent.model import statistics
from agent.model.usage import HostUsage, TaskUsage, Usage


def change(key: str, value: bytes = b"{}", *, version: int = 1, gone: bool = False) -> Event:
    kv = KeyValue(key=key, value=value, create_revision=1, mod_revision=1, version=version)
    return Event("delete" if gone else "put", kv)


def told(cluster: str | None, *events: Event, instances: tuple[str, ...] = ()) -> dict[str, Any]:
    changes = Changes(cluster, instances)
    for event in events:
        changes.take(event)
    line = changes.line(7)
    assert not changes
    return {
        kind: found
        for kind in ("clusters", "tasks", "services", "hosts")
        if (found := getattr(line, kind))
    }


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            change("/tasks/one/t", b'{"group": "service:web"}'),
            {"tasks": ["t"], "services": ["web"]},
        ),
        (change("/tasks/one/t", b'{"group": "family:web"}'), {"tasks": ["t"]}),
        (change("/tasks/one/t", gone=True), {"tasks": ["t"]}),
        (change("/tasks/one/t", b"\xff"), {"tasks": ["t"]}),
        (change("/tasks/two/t"), {}),
        (change("/services/one/web"), {"services": ["web"]}),
        (change("/service-events/one/web"), {"services": ["web"]}),
        (change("/service-rollouts/one/web"), {"services": ["web"]}),
        (change("/instances/one/i"), {"hosts": ["i"]}),
        (change("/instances/two/i"), {}),
        (change("/alive/known"), {"hosts": ["known"]}),
        (change("/alive/known", gone=True), {"hosts": ["known"]}),
        (change("/alive/known", version=2), {}),
        (change("/alive/unknown"), {}),
        (change("/assign/known/t"), {"hosts": ["known"]}),
        (change("/placement/known"), {}),
        (change("/parameters/one/x"), {}),
        (change("/clusters/one"), {}),
    ],
)
def test_of_one_cluster(event: Event, expected: dict[str, Any]) -> None:
    assert told("one", event, instances=("known",)) == expected


def test_of_all_clusters_only_names_are_told() -> None:
    events = [change("/clusters/one"), change("/tasks/two/t"), change("/tasks/two/u")]
    assert told(None, *events) == {"clusters": ["one", "two"]}


def test_what_comes_twice_is_told_once_and_a_host_that_comes_is_known() -> None:
    events = [change("/tasks/one/t"), change("/tasks/one/t"), change("/instances/one/new")]
    found = told("one", *events, change("/assign/new/t"))
    assert found == {"tasks": ["t"], "hosts": ["new"]}
    assert told("one", change("/instances/one/i", gone=True), change("/alive/i")) == {
        "hosts": ["i"]
    }


def test_figures_of_hosts_and_tasks_of_the_cluster() -> None:
    usage = Usage(
        host=HostUsage(cpu_units=statistics.of([1.0, 2.0]), memory_total_bytes=9),
        tasks=[
            TaskUsage(task_arn="arn:aws:ecs:r:a:task/one/t", memory_bytes=statistics.of([4.0])),
            TaskUsage(task_arn="arn:aws:ecs:r:a:task/two/u"),
        ],
    )
    changes = Changes("one", ("known",))
    changes.take_usage("known", usage)
    changes.take_usage("of-another-cluster", usage)
    line = changes.line(7)
    assert line.host_figures.keys() == {"known"}
    assert line.host_figures["known"]["cpuUnits"] == 1.5
    assert line.host_figures["known"]["memoryUsedBytes"] is None
    assert line.task_figures.keys() == {"t"}
    assert line.task_figures["t"]["memoryBytes"] == 4.0
    assert not changes


@given(st.lists(st.text(max_size=40)), st.binary(max_size=40), st.booleans())
def test_any_key_and_value_is_taken(parts: list[str], value: bytes, gone: bool) -> None:
    changes = Changes("one", ("known",))
    for prefix in ("/tasks", "/services", "/instances", "/alive", "/assign", ""):
        changes.take(change("/".join([prefix, *parts]), value, gone=gone))
    changes.line(1)
