"""What a change of security groups costs on a host with a hundred tasks; needs no agent and no engine."""

from __future__ import annotations

import contextlib
import subprocess
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

from agent.model.security_groups import GroupRule, SecurityGroup
from agent.network.groups.group_rules import GroupRules
from tests.bench.measures import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASKS: Final = 100
ROUNDS: Final = 21
LIMIT_MS: Final = 50.0
_BRIDGE: Final = "ecsbench-sg0"
_TABLE: Final = "ecs_bench_groups"
_GROUP: Final = "sg-bench"


def measured() -> list[Row]:
    """Return the rows of the table."""
    with _rules() as rules:
        rules.set_groups({_GROUP: _group(0)})
        rules.admit(["10.255.0.1"], [_GROUP])
        launches = [
            _ms(partial(rules.admit, [f"10.255.0.{n + 2}"], [_GROUP])) for n in range(TASKS - 1)
        ]
        changes = [
            _ms(partial(rules.set_groups, {_GROUP: _group(n)})) for n in range(1, ROUNDS + 1)
        ]
        members = [
            _ms(partial(rules.set_groups, {_GROUP: _group(ROUNDS, f"10.254.0.{n}")}))
            for n in range(ROUNDS)
        ]
        floor = [_ms(_list_tables) for _ in range(ROUNDS)]
        assert rules.differences() == []
    return [
        Row(
            f"a security group's rule changed for {TASKS} tasks",
            f"{median(changes):.1f} ms",
            f"{median(floor):.1f} ms (`nft list tables`)",
            median(changes) / median(floor),
            f"≤ {LIMIT_MS:g} ms",
            median(changes) <= LIMIT_MS,
        ),
        Row(f"a member of it changed for {TASKS} tasks", f"{median(members):.2f} ms"),
        Row("the rules of one more task, at its launch", f"{median(launches):.2f} ms"),
    ]


def _group(number: int, *members: str) -> SecurityGroup:
    return SecurityGroup(
        id=_GROUP,
        rules=(
            GroupRule(id="sgr-all", protocol="-1", group=_GROUP),
            *(
                GroupRule(
                    id=f"sgr-{n}", protocol="tcp", from_port=n, to_port=n, cidr_ipv4="10.0.0.0/8"
                )
                for n in range(number)
            ),
        ),
        members=frozenset(members),
    )


@contextlib.contextmanager
def _rules() -> Iterator[GroupRules]:
    subprocess.run(["ip", "link", "add", _BRIDGE, "type", "bridge"], check=True)
    rules = GroupRules(_TABLE, _BRIDGE)
    try:
        yield rules
    finally:
        rules.remove()
        subprocess.run(["ip", "link", "delete", _BRIDGE], check=True)


def _list_tables() -> None:
    subprocess.run(["nft", "list", "tables"], check=True, capture_output=True)


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
