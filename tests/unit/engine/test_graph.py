from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.engine import graph
from agent.engine.graph import Edge
from agent.errors import PayloadError
from agent.model.payload import EngineConfig, VolumeFrom
from agent.model.status import Condition, ContainerStatus, Health
from tests.support.tasks import NOW, container, new_record, put

if TYPE_CHECKING:
    from agent.model.task import AgentTask

RUNNING = ContainerStatus.RUNNING
STOPPED = ContainerStatus.STOPPED


def checked(record: AgentTask) -> graph.Graph:
    edges = graph.graph_of(record.payload)
    graph.check(record.payload, edges)
    return edges


def test_links_and_volumes_from_imply_edges_once() -> None:
    record = new_record(
        container("a"),
        container("b"),
        container(
            "c",
            ("a", "START"),
            links=["a", "a:alias", "b:db"],
            volumes_from=[VolumeFrom(source_container="b")],
        ),
    )
    assert checked(record)["c"] == (
        Edge("a", Condition.START),
        Edge("b", Condition.START),
        Edge("b", Condition.CREATE),
    )


def test_start_order_follows_the_edges() -> None:
    start = Condition.START
    edges = {"c": (Edge("b", start),), "b": (Edge("a", start),), "a": (), "d": (Edge("a", start),)}
    order = graph.start_order(edges)
    assert order is not None
    assert order.index("a") < order.index("b") < order.index("c")
    assert order.index("a") < order.index("d")
    assert graph.dependents(edges, "a") == ["b", "d"]


@pytest.mark.parametrize(
    "waits",
    [
        {"a": [("a", "START")]},
        {"a": [("b", "START")], "b": [("a", "COMPLETE")]},
        {"a": [("b", "START")], "b": [("c", "START")], "c": [("a", "SUCCESS")]},
        {"a": [("ghost", "START")]},
    ],
    ids=["itself", "two", "three", "missing"],
)
def test_impossible_dependencies_are_refused(waits: dict[str, list[tuple[str, str]]]) -> None:
    record = new_record(*(container(n, *waits.get(n, [])) for n in ("a", "b", "c")))
    with pytest.raises(PayloadError, match=f"^Task dependencies cannot.*taskArn: {record.arn}$"):
        checked(record)


def test_a_cycle_through_a_link_is_refused() -> None:
    record = new_record(container("a", ("b", "START")), container("b", links=["a:x"]))
    with pytest.raises(PayloadError, match="cannot be resolved"):
        checked(record)


@pytest.mark.parametrize(
    "fields",
    [
        {"links": ["a:b:c"]},
        {"links": ["ghost"]},
        {"volumes_from": [VolumeFrom(source_container="ghost")]},
    ],
)
def test_bad_links_and_sources_make_the_task_unusable(fields: dict[str, Any]) -> None:
    record = new_record(container("a"), container("b", **fields))
    with pytest.raises(PayloadError, match="resource cannot be initialized"):
        checked(record)


@pytest.mark.parametrize(
    ("config", "kind", "has"),
    [
        (None, None, False),
        ({"Healthcheck": {"Test": ["CMD", "true"]}}, None, True),
        ({"healthcheck": {"Test": ["CMD", "true"]}}, None, True),
        ({"Healthcheck": None}, None, False),
        ("not json", None, False),
        (None, "docker", True),
    ],
)
def test_healthy_needs_a_health_check(
    config: dict[str, Any] | str | None, kind: str | None, has: bool
) -> None:
    a = container("a", docker_config=EngineConfig(config=config), health_check_type=kind)
    assert graph.has_health_check(a) is has
    record = new_record(a, container("b", ("a", "HEALTHY")))
    if has:
        checked(record)
    else:
        with pytest.raises(PayloadError, match="cannot be resolved"):
            checked(record)


NONE = ContainerStatus.NONE
CREATED = ContainerStatus.CREATED
HEALTHY = {"health": Health.HEALTHY}


@pytest.mark.parametrize(
    ("condition", "known", "fields", "met", "fails"),
    [
        ("CREATE", NONE, {}, False, False),
        ("CREATE", CREATED, {}, True, False),
        ("CREATE", RUNNING, {}, True, False),
        ("CREATE", STOPPED, {}, True, True),
        ("START", CREATED, {}, False, False),
        ("START", RUNNING, {}, True, False),
        ("START", STOPPED, {"started_at": NOW, "exit_code": 7}, True, False),
        ("START", STOPPED, {}, True, True),
        ("COMPLETE", RUNNING, {}, False, False),
        ("COMPLETE", STOPPED, {"started_at": NOW, "exit_code": 7}, True, False),
        ("COMPLETE", STOPPED, {"started_at": NOW, "exit_code": None}, False, True),
        ("SUCCESS", RUNNING, {}, False, False),
        ("SUCCESS", STOPPED, {"started_at": NOW, "exit_code": 0}, True, False),
        ("SUCCESS", STOPPED, {"started_at": NOW, "exit_code": 7}, False, True),
        ("SUCCESS", STOPPED, {"started_at": NOW, "exit_code": None}, False, True),
        ("HEALTHY", RUNNING, {}, False, False),
        ("HEALTHY", RUNNING, {"health": Health.UNHEALTHY}, False, False),
        ("HEALTHY", RUNNING, HEALTHY, True, False),
        ("HEALTHY", STOPPED, {"started_at": NOW, "exit_code": 0, **HEALTHY}, False, True),
        ("HEALTHY", CREATED, HEALTHY, False, False),
        ("START", CREATED, {"desired": STOPPED}, False, True),
        ("COMPLETE", RUNNING, {"desired": STOPPED}, False, False),
    ],
)
def test_conditions(
    condition: str,
    known: ContainerStatus,
    fields: dict[str, Any],
    met: bool,
    fails: bool,
) -> None:
    record = new_record(container("a", essential=False), container("b"))
    put(record, "a", known, **fields)
    edge = Edge("a", Condition(condition))
    assert graph.is_met(edge, record) is met
    text = graph.failure(edge, record, "b", NOW)
    assert (text is not None) is fails
    assert text is None or "dependency [a] for target [b]" in text


@pytest.mark.parametrize("condition", ["COMPLETE", "SUCCESS", "HEALTHY"])
def test_start_timeout_counts_from_the_first_start(condition: str) -> None:
    record = new_record(container("a", start_timeout=5, essential=False), container("b"))
    edge = Edge("a", Condition(condition))
    assert graph.start_deadline(record, edge) is None
    put(record, "a", RUNNING)
    assert graph.start_deadline(record, edge) == NOW + 5
    assert graph.failure(edge, record, "b", NOW + 4.9) is None
    assert "start timeout" in (graph.failure(edge, record, "b", NOW + 5) or "")


@pytest.mark.parametrize("condition", ["START", "CREATE"])
def test_start_timeout_says_nothing_about_start(condition: str) -> None:
    record = new_record(container("a", start_timeout=5), container("b"))
    put(record, "a", RUNNING)
    assert graph.failure(Edge("a", Condition(condition)), record, "b", NOW + 99) is None


def test_a_dependency_that_was_met_in_time_does_not_time_out() -> None:
    """The target may pull its image for longer than the dependency's start timeout."""
    record = new_record(container("a", start_timeout=5), container("b"))
    put(record, "a", RUNNING, health=Health.HEALTHY)
    assert graph.failure(Edge("a", Condition.HEALTHY), record, "b", NOW + 99) is None
