"""A pool chooses as if it looked at every host: the exhaustive search says which hosts are equally good."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.controlplane.scheduler import placement, search
from agent.controlplane.scheduler.instance import Instance, TaskNeeds
from agent.controlplane.scheduler.pool import Pool
from tests.support import exhaustive_placement

GROUPS = ("service:a", "service:b")
VALUES: dict[str, tuple[str, ...]] = {
    "zone": ("z1", "z2", "z3"),
    "rack": ("1", "1.0", "2"),
    placement.CAPACITY_PROVIDER: ("own", "FARGATE", ""),
}

attributes = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}
)


@st.composite
def a_host(draw: st.DrawFn, number: int = 0) -> Instance:
    gpus = tuple(f"g{each}" for each in range(draw(st.integers(0, 2))))
    return Instance(
        arn=f"arn:{number}",
        cpu_units=draw(st.sampled_from([-1, 0, 100, 200, 300, 1000])),
        memory_mib=draw(st.sampled_from([0, 100, 200, 300, 1000])),
        tcp_ports=frozenset(draw(st.sets(st.sampled_from([80, 443])))),
        gpus=gpus,
        gpus_total=len(gpus),
        gpu_rooms=dict.fromkeys(gpus, 50),
        attributes=draw(attributes),
        task_groups=draw(st.dictionaries(st.sampled_from(GROUPS), st.integers(0, 2))),
        agent_connected=draw(st.sampled_from([True, True, True, False])),
        active=draw(st.sampled_from([True, True, True, False])),
    )


@st.composite
def fleets(draw: st.DrawFn) -> list[Instance]:
    count = draw(st.integers(1, 14))
    return [draw(a_host(number=number)) for number in range(count)]


# A task has whole GPUs or shares of one.
gpus = st.sampled_from([{}, {}, {"gpus": {"main": 1}}, {"gpu_shares": {"main": 30}}])
needs = st.builds(
    lambda gpus, **rest: TaskNeeds(**gpus, **rest),
    gpus=gpus,
    cpu_units=st.sampled_from([0, 100, 150]),
    memory_mib=st.sampled_from([0, 100, 150]),
    tcp_ports=st.sets(st.sampled_from([80, 443]), max_size=1).map(frozenset),
    attributes=st.sampled_from([{}, {}, {"zone": ""}, {"zone": "z1"}]),
    group=st.sampled_from([*GROUPS, "service:none"]),
)
constraints = st.lists(
    st.sampled_from(
        [
            {"type": "distinctInstance"},
            {"type": "memberOf", "expression": "attribute:rack == 1"},
            {"type": "memberOf", "expression": "attribute:zone !in [z1, z2]"},
            {"type": "memberOf", "expression": "task:group == service:b or attribute:zone == z1"},
        ]
    ),
    max_size=2,
)
strategies = st.lists(
    st.sampled_from(
        [
            {"type": "random"},
            {"type": "binpack", "field": "cpu"},
            {"type": "binpack", "field": "memory"},
            {"type": "spread", "field": "instanceId"},
            {"type": "spread", "field": "attribute:zone"},
            {"type": "spread", "field": "attribute:rack"},
        ]
    ),
    max_size=3,
)
providers = st.none() | st.lists(
    st.sampled_from(["own", "FARGATE", "FARGATE_SPOT", "other", ""]), min_size=5, max_size=5
)


def pool_of(hosts: list[Instance]) -> Pool:
    pool = Pool()
    for host in hosts:
        pool.put(host)
    return pool


def same(
    pool: Pool, hosts: list[Instance], what: TaskNeeds, count: int, rng: random.Random, **rules: Any
) -> placement.PlacementOutcome | None:
    """Place with the pool, and check each choice with the exhaustive search, which then chooses the same."""
    try:
        got = pool.place(what, count, rng=rng, **rules)
    except placement.PlacementError:
        with pytest.raises(placement.PlacementError):
            exhaustive_placement.place(hosts, what, count, choose=min, **rules)
        return None
    chosen = iter(got.placed)

    def choose(equal: list[str]) -> str:
        arn = next(chosen).instance_arn
        assert arn in equal
        return arn

    wanted = exhaustive_placement.place(hosts, what, count, choose=choose, **rules)
    assert got.placed == wanted.placed

    def told(refused: list[placement.Rejection]) -> list[tuple[str, str, str]]:
        return sorted((one.arn, one.reason, one.detail) for one in refused)

    assert told(got.refused) == told(wanted.refused)
    return got


@settings(max_examples=100, deadline=None)
@given(data=st.data(), few=st.sampled_from([0, 3, 32]))
def test_the_choice_is_the_one_of_an_exhaustive_search(data: st.DataObject, few: int) -> None:
    hosts, rng = data.draw(fleets()), random.Random(data.draw(st.integers(0, 99)))
    pool = pool_of(hosts)
    rules = {
        "constraints": placement.parse_constraints(data.draw(constraints)),
        "strategies": placement.parse_strategies(data.draw(strategies)),
        "providers": data.draw(providers),
    }
    with pytest.MonkeyPatch.context() as patch:
        # As if there were more hosts: of few, each is looked at.
        patch.setattr(search, "DRAWS", few)
        for _ in range(3):
            same(pool, hosts, data.draw(needs), 5, rng, **rules)
            # The fleet goes on changing, and the pool with it.
            number = data.draw(st.integers(0, len(hosts) - 1))
            hosts[number] = data.draw(a_host(number=number))
            pool.put(hosts[number])
            if len(hosts) > 1 and data.draw(st.booleans()):
                pool.discard(hosts.pop().arn)


@pytest.mark.parametrize("items", [[], [{"type": "spread", "field": "instanceId"}]])
def test_hosts_that_are_equally_good_are_equally_likely(items: list[dict[str, str]]) -> None:
    hosts = [
        Instance(
            arn=f"arn:{number}",
            cpu_units=1000,
            memory_mib=1000,
            tcp_ports=frozenset({80} if number % 2 else ()),
            task_groups={"g": int(number < 20)},
        )
        for number in range(60)
    ]
    pool, rng = pool_of(hosts), random.Random(1)
    what = TaskNeeds(cpu_units=1, tcp_ports=frozenset({80}), group="g")
    found = Counter[str]()
    for _ in range(3000):
        outcome = pool.place(what, 1, strategies=placement.parse_strategies(items), rng=rng)
        found[outcome.placed[0].instance_arn] += 1
    likely = [
        host.arn
        for host in hosts
        if 80 not in host.tcp_ports and not (items and host.task_groups["g"])
    ]
    assert set(found) == set(likely)
    assert min(found.values()) > 0.6 * 3000 / len(likely)


RULES: dict[str, tuple[list[dict[str, str]], list[dict[str, str]]]] = {
    "none": ([], []),
    "spread": (
        [],
        [{"type": "spread", "field": "attribute:zone"}, {"type": "spread", "field": "instanceId"}],
    ),
    "binpack": ([], [{"type": "binpack", "field": "memory"}]),
    "zone, then binpack": (
        [],
        [{"type": "spread", "field": "attribute:zone"}, {"type": "binpack", "field": "cpu"}],
    ),
    "a few hosts": ([{"type": "memberOf", "expression": "attribute:rack == 1"}], []),
}


@pytest.mark.parametrize("name", RULES)
def test_what_is_looked_at_does_not_grow_with_the_fleet(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: Counter[int] = Counter()
    items, ways = RULES[name]
    rules: dict[str, Any] = {
        "constraints": placement.parse_constraints(items),
        "strategies": placement.parse_strategies(ways),
    }
    what = TaskNeeds(cpu_units=10, memory_mib=10, attributes={"kind": ""}, group="g")
    for size in (200, 4000):
        hosts = [
            Instance(
                arn=f"arn:{number}",
                # Half of the hosts are full, and some are busy.
                cpu_units=(0, 1000, 900, 1000)[number % 4],
                memory_mib=(0, 1000, 800, 1000)[number % 4],
                attributes={"zone": f"z{number % 3}", "rack": f"{number % (size // 20)}"}
                # A rare attribute, too.
                | ({"kind": ""} if name != "a few hosts" and number % 20 in (1, 2) else {})
                | ({"kind": ""} if name == "a few hosts" else {}),
                task_groups={"g": int(number % 8 == 1)},
            )
            for number in range(size)
        ]
        pool = pool_of(hosts)
        same(pool, hosts, what, 10, random.Random(1), **rules)  # parts it

        def counting(*given: Any, at: int = size, real: Any = placement.unfit) -> str:
            looked[at] += 1
            answer: str = real(*given)
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(placement, "unfit", counting)
            pool.place(what, 10, rng=random.Random(2), **rules)
    assert looked[4000] <= max(2 * looked[200], 10 * 2 * search.DRAWS), looked
