"""Rows, containers and links matched in every direction."""

from __future__ import annotations

import os
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.network import addresses, sandbox_record
from agent.network.kernel import namespaces
from agent.network.sandboxes import recovery
from agent.network.sandboxes import survey as surveys
from agent.runtime.protocol import ContainerSummary
from tests.unit.network.builders import record

if TYPE_CHECKING:
    from agent.network.sandbox_record import SandboxRecord

POOL = IPv4Network("10.9.0.0/24")


def summary(n: int, state: str = "running", *, of_today: bool = True) -> ContainerSummary:
    labels = {sandbox_record.FORM_LABEL: sandbox_record.FORM} if of_today else {}
    return ContainerSummary(id=f"c{n}", name=f"sandbox-{n}", state=state, labels=labels)


def match(
    rows: list[SandboxRecord],
    containers: list[ContainerSummary],
    *,
    dead: frozenset[str] = frozenset(),
    ports: set[str] | None = None,
    links: frozenset[str] = frozenset(),
    surveyed: list[SandboxRecord] | None = None,
    holders: dict[str, recovery.Holder] | None = None,
) -> recovery.RecoveryPlan:
    ours = {row.host_interface for row in rows} if ports is None else ports
    seen = recovery.Seen(
        containers=containers,
        alive={row.ipv4 for row in rows} - dead,
        ports=ours,
        links=links | ours,
        surveyed=surveyed or [],
    )
    found = recovery.match(rows, seen, holders or {}, POOL)
    if surveyed or holders:
        return found
    assert found.changed == []
    together = [*found.kept, *found.ready, *found.lost, *found.dropped]
    assert sorted(row.ipv4 for row in together) == sorted(row.ipv4 for row in rows)
    return found


def test_a_row_survives_the_disk() -> None:
    row = record(2, "arn:task")
    assert sandbox_record.decode(sandbox_record.encode(row)) == row
    assert row.network().ipv4 == "10.9.0.2"
    assert row.network().attachment_id == "eni-2"


def test_claimed_and_alive_is_kept_even_without_its_link_or_outside_the_pool() -> None:
    rows = [record(3, "b", pool="10.8.0"), record(2, "a")]
    found = match(rows, [summary(2), summary(3, "paused")], ports=set())
    assert found.kept == rows


def test_claimed_and_dead_is_lost() -> None:
    rows = [record(2, "a"), record(3, "b"), record(4, "c")]
    found = match(rows, [summary(2, "exited"), summary(4)], dead=frozenset({"10.9.0.4"}))
    assert found.lost == rows
    assert found.stray_containers == []


def test_unclaimed_is_used_again_only_if_whole() -> None:
    rows = [record(2), record(3), record(4), record(5), record(6, pool="10.8.0")]
    found = match(
        rows,
        [summary(2), summary(3), summary(5, "exited"), summary(6)],
        ports={rows[0].host_interface, rows[2].host_interface, rows[4].host_interface},
    )
    assert found.ready == [rows[0]]
    assert {row.ipv4 for row in found.dropped} == {row.ipv4 for row in rows[1:]}


def test_sandboxes_that_an_older_agent_made_serve_their_tasks_to_the_end_and_nobody_else() -> None:
    rows = [record(2), record(3, "a")]
    found = match(rows, [summary(2, of_today=False), summary(3, of_today=False)])
    assert (found.ready, found.dropped, found.kept) == ([], [rows[0]], [rows[1]])


def test_one_task_holds_one_sandbox() -> None:
    first = msgspec.structs.replace(record(2, "a"), claimed_at=1.0)
    second = msgspec.structs.replace(record(3, "a"), claimed_at=2.0)
    found = match([second, first], [summary(2), summary(3)])
    assert (found.kept, found.dropped) == ([first], [second])


def test_strays_are_what_no_row_knows() -> None:
    foreign = {"eth0", "ecs-br0", addresses.link_name_of("10.8.0.9")}
    stray = addresses.link_name_of("10.9.0.9")
    found = match([record(2)], [summary(2), summary(7)], links=frozenset({*foreign, stray}))
    assert found.stray_containers == ["c7"]
    assert found.stray_links == [stray]


def holder(task: str) -> recovery.Holder:
    return recovery.Holder(task, "eni-9")


def test_a_sandbox_without_a_row_is_its_task_s_again() -> None:
    found = match([], [summary(2)], surveyed=[record(2)], holders={"c2": holder("a")}, ports=set())
    (kept,) = found.kept
    assert (kept.task_arn, kept.attachment_id, kept.ipv4) == ("a", "eni-9", "10.9.0.2")
    assert found.changed == [kept]
    assert (found.stray_containers, found.stray_links) == ([], [])


def test_an_older_row_says_that_a_claimed_sandbox_is_free() -> None:
    found = match([record(2), record(3)], [summary(2), summary(3)], holders={"c2": holder("a")})
    assert [row.task_arn for row in found.kept] == ["a"]
    assert [row.container_id for row in found.ready] == ["c3"]
    assert found.changed == found.kept


def test_an_older_row_says_that_a_sandbox_is_another_task_s() -> None:
    rows = [record(2, "gone")]
    found = match(rows, [summary(2)], holders={"c2": holder("a")})
    assert [row.task_arn for row in found.kept] == ["a"]


def test_what_a_container_is_in_goes_before_what_rows_say_of_its_task() -> None:
    """An older copy knows of the sandbox that the task had before."""
    old = msgspec.structs.replace(record(3, "a"), claimed_at=1.0)
    found = match(
        [old], [summary(2), summary(3)], surveyed=[record(2)], holders={"c2": holder("a")}
    )
    assert [row.container_id for row in found.kept] == ["c2"]
    assert found.dropped == [old]


def test_a_row_that_is_garbled_is_put_right_and_who_claimed_it_stays() -> None:
    wrong_process = msgspec.structs.replace(record(2, "a"), pid=1, netns=7)
    found = match(
        [wrong_process],
        [summary(2)],
        dead=frozenset({"10.9.0.2"}),
        surveyed=[record(2)],
        holders={},
    )
    (kept,) = found.kept
    assert (kept.task_arn, kept.attachment_id) == ("a", wrong_process.attachment_id)
    assert kept.process == record(2).process


def test_groups_are_unknown_without_a_row_of_the_task() -> None:
    rows = [
        msgspec.structs.replace(record(1, task="a"), security_groups=("sg-1",)),
        record(2, task="b"),  # of an agent without groups
        record(3, task="old"),
    ]
    found = match(
        rows,
        [summary(n) for n in range(1, 5)],
        surveyed=[
            msgspec.structs.replace(record(1), pid=7),
            msgspec.structs.replace(record(4), pid=7),
        ],
        holders={"c3": holder("c"), "c4": holder("d")},
    )
    assert {row.task_arn: row.security_groups for row in found.kept} == {
        "a": ("sg-1",), "b": (), "c": (), "d": (),
    }  # fmt: skip
    assert sorted(recovery.of_unknown_groups(rows, found)) == [record(3).ipv4, record(4).ipv4]


def test_a_row_with_another_address_than_its_sandbox_is_void() -> None:
    wrong = msgspec.structs.replace(record(2, "a"), ipv4="10.9.0.77")
    found = match([wrong], [summary(2)], surveyed=[record(2)], holders={"c2": holder("a")})
    assert [row.ipv4 for row in found.kept] == ["10.9.0.2"]
    assert found.void == ["10.9.0.77"]


@given(
    claimed=st.sets(st.integers(2, 20)),
    unclaimed=st.sets(st.integers(2, 20)),
    states=st.dictionaries(st.integers(2, 25), st.sampled_from(["running", "exited", "created"])),
    dead=st.sets(st.integers(2, 20)),
    ports=st.sets(st.integers(2, 25)),
)
def test_nothing_is_overlooked_and_no_living_task_is_touched(
    claimed: set[int],
    unclaimed: set[int],
    states: dict[int, str],
    dead: set[int],
    ports: set[int],
) -> None:
    rows = [record(n, f"task-{n}" if n in claimed else "") for n in sorted(claimed | unclaimed)]
    names = {addresses.link_name_of(f"10.9.0.{n}") for n in ports}
    found = match(
        rows,
        [summary(n, state) for n, state in states.items()],
        dead=frozenset(f"10.9.0.{n}" for n in dead),
        ports=names,
    )
    living = {n for n in claimed if states.get(n) == "running" and n not in dead}
    assert {row.container_id for row in found.kept} == {f"c{n}" for n in living}
    assert set(found.stray_containers) == {f"c{n}" for n in states} - {r.container_id for r in rows}
    assert set(found.stray_links) == names - {row.host_interface for row in rows}


def test_a_row_of_an_earlier_boot_is_of_no_living_process() -> None:
    own = namespaces.identify(os.getpid())
    assert own is not None
    pid, ticks, netns = own
    row = replace(record(5, "arn"), pid=pid, started_ticks=ticks, netns=netns)
    here = replace(row, boot_id=namespaces.boot_id())
    assert surveys.living([row]) == surveys.living([here]) == {row.ipv4}
    assert surveys.living([replace(row, boot_id="another")]) == frozenset()
