from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.scheduler import host_room, placement
from agent.controlplane.scheduler.instance import Instance, TaskNeeds
from agent.controlplane.scheduler.pool import Pool
from agent.controlplane.scheduler.query import QueryError


def an_instance(name: str, **changes: Any) -> Instance:
    values: dict[str, Any] = {"arn": name, "cpu_units": 1024, "memory_mib": 1024}
    return Instance(**(values | changes))


def run(
    instances: list[Instance],
    needs: TaskNeeds,
    count: int = 1,
    *,
    constraints: list[dict[str, str]] | None = None,
    strategies: list[dict[str, str]] | None = None,
    providers: list[str] | None = None,
    seed: int = 1,
) -> placement.PlacementOutcome:
    pool = Pool()
    for instance in instances:
        pool.put(instance)
    return pool.place(
        needs,
        count,
        constraints=placement.parse_constraints(constraints or []),
        strategies=placement.parse_strategies(strategies or []),
        providers=providers,
        rng=random.Random(seed),
    )


def arns(outcome: placement.PlacementOutcome) -> list[str]:
    return [placed.instance_arn for placed in outcome.placed]


@pytest.mark.parametrize(
    ("instance", "reason"),
    [
        (an_instance("a", agent_connected=False), placement.AGENT),
        (an_instance("a", attributes={"arch": "arm64"}), placement.ATTRIBUTE),
        (an_instance("a", attributes={}), placement.ATTRIBUTE),
        (an_instance("a", attributes={"arch": "x86_64"}, cpu_units=99), host_room.CPU),
        (an_instance("a", attributes={"arch": "x86_64"}, memory_mib=99), host_room.MEMORY),
        (
            an_instance("a", attributes={"arch": "x86_64"}, tcp_ports=frozenset({80, 81})),
            host_room.PORTS,
        ),
        (
            an_instance("a", attributes={"arch": "x86_64"}, udp_ports=frozenset({53})),
            host_room.PORTS,
        ),
        (an_instance("a", attributes={"arch": "x86_64"}, gpus=("g1",)), host_room.GPU),
    ],
)
def test_each_reason(instance: Instance, reason: str) -> None:
    needs = TaskNeeds(
        cpu_units=100,
        memory_mib=100,
        tcp_ports=frozenset({80}),
        udp_ports=frozenset({53}),
        gpus={"main": 2},
        attributes={"arch": "x86_64"},
    )
    assert run([instance], needs).refused == [placement.Rejection("a", reason)]
    assert placement.place_on(instance, needs) == placement.Rejection("a", reason)


def test_no_active_instance_is_an_error() -> None:
    for instances in ([], [an_instance("a", active=False)]):
        with pytest.raises(placement.PlacementError, match="No Container Instances were found"):
            run(instances, TaskNeeds())


def test_start_task_on_a_draining_instance() -> None:
    answer = placement.place_on(an_instance("a", active=False), TaskNeeds())
    assert answer == placement.Rejection("a", placement.INACTIVE)


def test_same_fixed_port_needs_another_instance() -> None:
    needs = TaskNeeds(tcp_ports=frozenset({80}))
    outcome = run([an_instance("a"), an_instance("b")], needs, 3)
    assert sorted(arns(outcome)) == ["a", "b"]
    assert {r.reason for r in outcome.refused} == {host_room.PORTS}


def test_gpus_are_given_once() -> None:
    needs = TaskNeeds(gpus={"one": 1, "two": 2})
    outcome = run([an_instance("a", gpus=("g1", "g2", "g3", "g4", "g5", "g6"))], needs, 2)
    given_out = [gpu for placed in outcome.placed for ids in placed.gpus.values() for gpu in ids]
    assert sorted(given_out) == ["g1", "g2", "g3", "g4", "g5", "g6"]
    assert [len(placed.gpus["two"]) for placed in outcome.placed] == [2, 2]


def test_all_gpus_are_given_by_a_host_that_uses_none() -> None:
    needs = TaskNeeds(all_gpus="main")
    instances = [
        an_instance("none"),
        an_instance("busy", gpus=("g1",), gpus_total=2),
        an_instance("idle", gpus=("g1", "g2"), gpus_total=2, gpu_rooms={"g1": 5, "g2": 5}),
    ]
    outcome = run(instances, needs, 2)
    assert [(p.instance_arn, p.gpus) for p in outcome.placed] == [("idle", {"main": ("g1", "g2")})]
    assert {r.reason for r in outcome.refused} == {host_room.GPU}


def test_shares_fill_the_gpu_with_the_least_room_and_leave_others_whole() -> None:
    instance = an_instance(
        "a", gpus=("g1", "g2"), gpus_total=3, gpu_rooms={"g1": 800, "g2": 800, "g3": 300}
    )
    shares = TaskNeeds(gpu_shares={"one": 100, "two": 200})
    outcome = run([instance], shares, 9)
    gave = [placed.gpus["one"] for placed in outcome.placed]
    assert gave == [placed.gpus["two"] for placed in outcome.placed]
    assert gave == [("g3",), ("g1",), ("g1",), ("g2",), ("g2",)]
    whole = run([instance], TaskNeeds(gpus={"main": 1}), 9)
    assert [placed.gpus["main"] for placed in whole.placed] == [("g1",), ("g2",)]


def a_host_for(provider: str, room: int = 1) -> Instance:
    attributes = {placement.CAPACITY_PROVIDER: provider} if provider else {}
    return an_instance(provider or "both", attributes=attributes, memory_mib=100 * room)


def test_copies_go_to_hosts_of_their_capacity_provider() -> None:
    hosts = [a_host_for("FARGATE"), a_host_for("FARGATE_SPOT", 2), a_host_for("")]
    needs = TaskNeeds(memory_mib=100)
    wanted = ["FARGATE_SPOT", "FARGATE_SPOT", "FARGATE_SPOT", "FARGATE"]
    outcome = run(hosts, needs, 4, providers=wanted)
    found = {(placed.instance_arn, placed.provider) for placed in outcome.placed}
    assert found >= {("FARGATE_SPOT", "FARGATE_SPOT")}
    assert not {("FARGATE", "FARGATE_SPOT"), ("FARGATE_SPOT", "FARGATE")} & found
    assert [placed.provider for placed in outcome.placed].count("FARGATE_SPOT") == 3
    assert not outcome.refused


def test_a_capacity_provider_without_room_keeps_no_other_back() -> None:
    hosts = [a_host_for("FARGATE", 9), a_host_for("FARGATE_SPOT", 0)]
    wanted = ["FARGATE_SPOT", "FARGATE", "FARGATE_SPOT", ""]
    outcome = run(hosts, TaskNeeds(memory_mib=100), 4, providers=wanted)
    assert [placed.provider for placed in outcome.placed] == ["FARGATE", ""]
    assert arns(outcome) == ["FARGATE", "FARGATE"], (
        "the launch type is that of the provider FARGATE"
    )
    told = {one.arn: (one.reason, one.detail) for one in outcome.refused}
    assert told == {
        "FARGATE_SPOT": (host_room.MEMORY, ""),
        "FARGATE": (
            placement.ATTRIBUTE,
            "The container instance is for the capacity provider FARGATE alone.",
        ),
    }


@pytest.mark.parametrize("seed", range(5))
def test_hosts_of_one_capacity_provider_are_used_before_those_of_all(seed: int) -> None:
    outcome = run(
        [a_host_for("FARGATE"), a_host_for("")],
        TaskNeeds(memory_mib=100),
        2,
        providers=["FARGATE", "FARGATE_SPOT"],
        seed=seed,
    )
    assert arns(outcome) == ["FARGATE", "both"]


def test_a_provider_of_an_operator_only_has_the_hosts_that_name_it() -> None:
    hosts = [a_host_for("", 9), a_host_for("FARGATE", 9), a_host_for("rack")]
    outcome = run(hosts, TaskNeeds(memory_mib=100), 2, providers=["rack", "rack"])
    assert [(one.instance_arn, one.provider) for one in outcome.placed] == [("rack", "rack")]
    told = {one.arn: (one.reason, one.detail) for one in outcome.refused}
    assert told["rack"] == (host_room.MEMORY, "")
    assert told["both"] == (
        placement.ATTRIBUTE,
        "The container instance lacks the attribute capacity-provider.",
    )


def test_tasks_of_no_capacity_provider_go_to_any_host() -> None:
    assert arns(run([a_host_for("FARGATE_SPOT")], TaskNeeds(memory_mib=100))) == ["FARGATE_SPOT"]


def test_distinct_instance_counts_the_group() -> None:
    instances = [
        an_instance("a", task_groups={"family:web": 1}),
        an_instance("b"),
        an_instance("c"),
    ]
    outcome = run(
        instances,
        TaskNeeds(group="family:web"),
        3,
        constraints=[{"type": "distinctInstance"}],
    )
    assert sorted(arns(outcome)) == ["b", "c"]
    assert {r.reason for r in outcome.refused} == {placement.DISTINCT_INSTANCE}


def test_member_of() -> None:
    instances = [an_instance(n, attributes={"zone": n}) for n in "abc"]
    constraint = {"type": "memberOf", "expression": "attribute:zone in [a, b]"}
    outcome = run(instances, TaskNeeds(cpu_units=1024), 3, constraints=[constraint])
    assert sorted(arns(outcome)) == ["a", "b"]
    assert placement.Rejection("c", placement.MEMBER_OF) in outcome.refused


def test_binpack_fills_one_instance_first() -> None:
    instances = [an_instance("a"), an_instance("b", memory_mib=900), an_instance("c")]
    strategy = {"type": "binpack", "field": "MEMORY"}
    outcome = run(instances, TaskNeeds(memory_mib=300), 4, strategies=[strategy])
    assert arns(outcome)[:3] == ["b", "b", "b"]


def test_spread_over_an_attribute_then_instances() -> None:
    instances = [
        an_instance(f"{zone}{n}", attributes={"zone": zone}) for zone in "xy" for n in "123"
    ]
    strategies = [
        {"type": "spread", "field": "attribute:zone"},
        {"type": "spread", "field": "instanceId"},
    ]
    outcome = run(instances, TaskNeeds(), 6, strategies=strategies)
    assert Counter(arn[0] for arn in arns(outcome)) == {"x": 3, "y": 3}
    assert len(set(arns(outcome))) == 6


def test_spread_sees_what_runs_already() -> None:
    instances = [an_instance("a", task_groups={"g": 2}), an_instance("b", task_groups={"h": 9})]
    strategy = {"type": "spread", "field": "host"}
    outcome = run(instances, TaskNeeds(group="g"), 3, strategies=[strategy])
    assert Counter(arns(outcome)) == {"b": 2, "a": 1} or Counter(arns(outcome)) == {"b": 3}


@pytest.mark.parametrize(
    "item",
    [
        {"type": "spread"},
        {"type": "spread", "field": "attribute:"},
        {"type": "binpack", "field": "disk"},
        {"type": "random", "field": "cpu"},
        {"type": "best"},
    ],
)
def test_bad_strategy(item: dict[str, str]) -> None:
    with pytest.raises(placement.PlacementError):
        placement.parse_strategies([item])


@pytest.mark.parametrize(
    "item",
    [
        {"type": "memberOf"},
        {"type": "distinctInstance", "expression": "agentConnected == true"},
        {"type": "near"},
        {"type": "memberOf", "expression": "what"},
    ],
)
def test_bad_constraint(item: dict[str, str]) -> None:
    with pytest.raises((placement.PlacementError, QueryError)):
        placement.parse_constraints([item])


_PORTS = st.frozensets(st.integers(1, 4), max_size=3)
_INSTANCES = st.lists(
    st.builds(
        Instance,
        arn=st.uuids().map(str),
        cpu_units=st.integers(0, 2000),
        memory_mib=st.integers(0, 2000),
        tcp_ports=_PORTS,
        udp_ports=_PORTS,
        gpus=st.lists(st.uuids().map(str), max_size=3).map(tuple),
        attributes=st.dictionaries(st.sampled_from("xy"), st.sampled_from(["1", "2", ""])),
        task_groups=st.dictionaries(st.sampled_from("gh"), st.integers(0, 3)),
        agent_connected=st.booleans(),
        active=st.booleans(),
    ),
    max_size=8,
)
_NEEDS = st.builds(
    TaskNeeds,
    cpu_units=st.integers(0, 1500),
    memory_mib=st.integers(0, 1500),
    tcp_ports=_PORTS,
    udp_ports=_PORTS,
    gpus=st.dictionaries(st.sampled_from("ab"), st.integers(1, 2)),
    attributes=st.dictionaries(st.sampled_from("xy"), st.sampled_from(["1", ""])),
    group=st.sampled_from(["g", "h"]),
)
_STRATEGIES = st.lists(
    st.sampled_from(
        [
            {"type": "random"},
            {"type": "binpack", "field": "cpu"},
            {"type": "binpack", "field": "memory"},
            {"type": "spread", "field": "instanceId"},
            {"type": "spread", "field": "attribute:x"},
        ]
    ),
    max_size=3,
)


@given(_INSTANCES, _NEEDS, st.integers(1, 10), _STRATEGIES, st.booleans(), st.booleans())
def test_placement_never_overbooks(
    instances: list[Instance],
    needs: TaskNeeds,
    count: int,
    strategies: list[dict[str, str]],
    distinct: bool,
    member: bool,
) -> None:
    constraints = [{"type": "distinctInstance"}] if distinct else []
    if member:
        constraints.append({"type": "memberOf", "expression": "attribute:x == 1"})
    try:
        outcome = run(instances, needs, count, constraints=constraints, strategies=strategies)
    except placement.PlacementError:
        assert not any(instance.active for instance in instances)
        return
    by_arn = {instance.arn: instance for instance in instances}
    assert len(outcome.placed) <= count
    assert bool(outcome.refused) == (len(outcome.placed) < count)
    for arn, copies in Counter(arns(outcome)).items():
        instance = by_arn[arn]
        assert instance.active
        assert instance.agent_connected
        assert copies * needs.cpu_units <= instance.cpu_units
        assert copies * needs.memory_mib <= instance.memory_mib
        assert copies == 1 or not (needs.tcp_ports or needs.udp_ports)
        assert not needs.tcp_ports & instance.tcp_ports
        assert not needs.udp_ports & instance.udp_ports
        for name, value in needs.attributes.items():
            assert instance.attributes[name] == (value or instance.attributes[name])
        if distinct:
            assert copies == 1
            assert not instance.task_groups.get(needs.group)
        if member:
            assert instance.attributes["x"] == "1"
        gpus = [
            gpu
            for placed in outcome.placed
            if placed.instance_arn == arn
            for ids in placed.gpus.values()
            for gpu in ids
        ]
        assert len(gpus) == len(set(gpus)) == copies * needs.gpu_count
        assert set(gpus) <= set(instance.gpus)


def test_a_thousand_instances_and_a_hundred_tasks() -> None:
    instances = [an_instance(f"i{n}", attributes={"zone": f"z{n % 7}"}) for n in range(1000)]
    strategies = [
        {"type": "spread", "field": "attribute:zone"},
        {"type": "binpack", "field": "memory"},
    ]
    began = time.perf_counter()
    outcome = run(instances, TaskNeeds(cpu_units=10, memory_mib=10), 100, strategies=strategies)
    assert len(outcome.placed) == 100
    assert time.perf_counter() - began < 1.0
