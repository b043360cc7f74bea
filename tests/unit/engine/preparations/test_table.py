"""The table, and what is alike for every kind of preparation: it is planned, waited for, undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.engine import planner
from agent.engine.graph import graph_of
from agent.engine.live import CLEAN, NETWORK, LiveState, Retry, Step, StepKind
from agent.engine.preparations import table
from agent.engine.preparations.contract import HostAccess, Provision
from agent.model.status import ContainerStatus, DesiredStatus
from tests.support.tasks import container, new_record

if TYPE_CHECKING:
    from agent.model.payload import TaskPayload

NOW = 1000.0


class Preparation:
    """One that every task wants."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_remote = name == "second"
        self.doing = f"prepare {name}"

    def is_wanted(self, payload: TaskPayload) -> bool:
        return bool(payload.arn)

    def check(self, payload: TaskPayload) -> None:
        """Nothing is refused."""

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        return Provision(mount_sources={self.name: f"/{self.name}"})

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Nothing is left."""


def test_every_kind_has_a_key_of_its_own_and_says_what_it_does() -> None:
    keys = {f"@{each.name}" for each in table.PREPARATIONS}
    assert len(keys) == len(table.PREPARATIONS)
    assert not keys & {NETWORK, CLEAN}
    assert all(each.doing for each in table.PREPARATIONS)


@pytest.fixture
def two_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {f"@{name}": Preparation(name) for name in ("first", "second")}
    monkeypatch.setattr(table, "_BY_KEY", kinds)


def plan(live: LiveState) -> planner.Plan:
    record = new_record(container("a"))
    record.admitted_at = NOW
    record.containers["a"].known = ContainerStatus.PULLED
    return planner.plan(record, graph_of(record.payload), live, NOW, planner.Policy())


@pytest.mark.usefixtures("two_kinds")
def test_all_kinds_are_prepared_side_by_side_before_a_container_is_made() -> None:
    assert plan(LiveState()).steps == (
        Step(StepKind.PREPARE, "@first"),
        Step(StepKind.PREPARE, "@second"),
    )
    assert plan(LiveState(prepared={"@first": Provision()})).steps == (
        Step(StepKind.PREPARE, "@second"),
    )
    both = LiveState(prepared={"@first": Provision(), "@second": Provision()})
    assert plan(both).steps == (Step(StepKind.CREATE, "a"),)


@pytest.mark.usefixtures("two_kinds")
def test_a_person_is_told_which_kind_is_waited_for() -> None:
    live = LiveState(
        inflight={"@first": Step(StepKind.PREPARE, "@first")},
        retries={
            "@first": Retry(1, NOW, NOW, "late", "ECS words"),
            "@second": Retry(2, NOW + 5, NOW, "no answer", "ECS words"),
        },
    )
    assert [wait.what for wait in plan(live).waits] == [
        "the host: prepare first; the last try failed: late",
        "another try to prepare second after 2: no answer",
    ]
    assert live.trouble("a") == "ECS words"


@pytest.mark.usefixtures("two_kinds")
def test_what_only_asks_others_ends_with_its_task() -> None:
    inflight = {key: Step(StepKind.PREPARE, key) for key in ("@first", "@second")}
    record = new_record(container("a"))
    policy = planner.Policy()
    graph = graph_of(record.payload)
    assert not planner.plan(record, graph, LiveState(inflight=inflight), NOW, policy).cancel
    record.desired = DesiredStatus.STOPPED
    plan = planner.plan(record, graph, LiveState(inflight=inflight), NOW, policy)
    assert plan.cancel == {"@second"}


def test_provisions_add_up() -> None:
    merged = Provision.merged(Provision(mount_sources={name: name}) for name in "ab")
    assert merged.mount_sources == {"a": "a", "b": "b"}
    assert Provision.merged([]) == Provision()
