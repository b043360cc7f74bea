"""The life of credentials, against a real store and an STS that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import AssignRecord, InstanceRecord, RoleRecord, TaskRecord
from agent.controlplane.roles import issuer as issuing
from agent.controlplane.roles.contract import Assumed, RoleAwaited, RoleRefused
from agent.controlplane.roles.issuer import RoleIssuer
from agent.controlplane.store.contract import Delete, Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.controlplane.tasks.stopping import order_stop
from agent.model.payload import Credentials, RoleType
from agent.model.resources import HostResources
from tests.support.control_host import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

APP, EXECUTION = RoleType.APPLICATION, RoleType.EXECUTION
INSTANCE = "i1"


class Sts:
    """Gives, refuses or is away, as a test says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at: list[float] = []
        """When it was asked."""
        self.valid_s = 3600.0
        self.refused: set[str] = set()
        self.away = False
        self.broken = False
        self.off_s = 0.0
        self.open = asyncio.Event()
        self.open.set()
        self.at_once = self.most_at_once = 0

    def now(self) -> float:
        return time.time() + self.off_s

    async def problem(self) -> str:
        return ""

    async def assume(self, role: str, session: str) -> Assumed:
        self.asked.append(f"{role} {session}")
        self.at.append(time.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        if self.broken:
            raise ValueError("nobody foresaw this")
        if self.away:
            raise RoleAwaited("AssumeRole: nobody listens")
        if role in self.refused:
            raise RoleRefused("AssumeRole: AccessDenied: no")
        number = len(self.asked)
        credentials = Credentials(
            access_key_id=f"ASIA{number}",
            secret_access_key=f"canary-{number}",
            session_token="canary",
            role_arn=role,
        )
        return Assumed(credentials, self.now() + self.valid_s)


class Room:
    """A store, an issuer, and who was woken."""

    def __init__(self, store: SqliteStore, sts: Sts) -> None:
        self.store = store
        self.sts = sts
        self.woken: list[str] = []
        self.issuer = self.made()

    def made(self) -> RoleIssuer:
        return RoleIssuer(
            self.store,
            self.sts,
            wake=self.woken.append,
            clock=time.time,
            dice=random.Random(1),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RoleIssuer]:
        """Run an issuer that knows nothing yet, as after a start of control."""
        self.issuer = self.made()
        work = asyncio.create_task(self.issuer.run())
        try:
            yield self.issuer
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def place(self, task_id: str, instance_id: str = INSTANCE, **more: Any) -> TaskRecord:
        """Put a task with a task role, unless ``roles`` are given."""
        values: dict[str, Any] = {
            "id": task_id,
            "arn": f"arn:task/{task_id}",
            "cluster": "default",
            "task_definition_arn": "arn:td",
            "family": "web",
            "revision": 1,
            "instance_id": instance_id,
            "roles": {APP: RoleRecord(arn="arn:role/app", credentials_id=f"id-{task_id}")},
        }
        task = TaskRecord(**(values | more))
        await self.put(task)
        return task

    async def put(self, task: TaskRecord) -> None:
        await self.store.txn(
            [],
            [
                Put(records.task_key("default", task.id), records.encode(task)),
                Put(
                    records.assignment_key(task.instance_id, task.id),
                    records.encode(AssignRecord.of(task)),
                ),
            ],
        )

    async def task(self, task_id: str) -> TaskRecord:
        found = await access.find(self.store, TaskRecord, records.task_key("default", task_id))
        assert found is not None
        return found.record

    def has(self, task_id: str, access_key: str) -> bool:
        return self.access_key(task_id) == access_key

    def access_key(self, task_id: str, kind: RoleType = APP) -> str:
        issued = self.issuer.current(task_id, kind)
        return "" if issued is None else issued.credentials.access_key_id


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(issuing, "LONGEST_WAIT_S", 0.05)
    monkeypatch.setattr(issuing, "REFUSED_FOR_S", 0.2)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    store = await SqliteStore.open(tmp_path / "control.db")
    instance = InstanceRecord(
        id=INSTANCE,
        arn="arn:i1",
        cluster="default",
        resources=HostResources(cpu_units=1, memory_mib=1),
        client_token="t",
    )
    key = records.instance_key("default", INSTANCE)
    await store.txn([], [Put(key, records.encode(instance))])
    yield Room(store, Sts())
    await store.close()


async def test_a_new_task_gets_credentials_under_its_id(room: Room) -> None:
    async with room.running() as issuer:
        await room.place("t1")
        await until(lambda: bool(room.access_key("t1")))
        issued = issuer.current("t1", APP)
        assert issued is not None
        assert (issued.task_arn, issued.credentials.credentials_id) == ("arn:task/t1", "id-t1")
        assert room.woken == [INSTANCE]
        assert issuer.newer(INSTANCE, 0) == [issued]
        assert issuer.newer(INSTANCE, issued.serial) == []
        assert issuer.newer("other", 0) == []
        assert issuer.current("t1", EXECUTION) is None
        assert issuer.waiting("t1") == ""
        assert "canary" not in repr(issued)
        assert "canary" not in repr(vars(issuer))


async def test_each_role_of_a_task_is_asked_for_once(room: Room) -> None:
    roles = {
        APP: RoleRecord(arn="arn:role/a", credentials_id="a"),
        EXECUTION: RoleRecord(arn="arn:role/b", credentials_id="b"),
    }
    async with room.running():
        task = await room.place("t1", roles=roles)
        await until(lambda: bool(room.access_key("t1") and room.access_key("t1", EXECUTION)))
        await room.put(replace(task, version=2))
        await room.place("t2", roles={})
        await room.place("t3")
        await until(lambda: bool(room.access_key("t3")))
    assert sorted(room.sts.asked) == ["arn:role/a t1", "arn:role/app t3", "arn:role/b t1"]


async def test_what_is_issued_later_has_a_greater_serial(room: Room) -> None:
    async with room.running() as issuer:
        for number in range(5):
            await room.place(f"t{number}")
        await until(lambda: len(issuer.newer(INSTANCE, 0)) == 5)
        serials = [issued.serial for issued in issuer.newer(INSTANCE, 0)]
        assert serials == [1, 2, 3, 4, 5]
        assert issuer.serial == 5
        assert len(issuer.newer(INSTANCE, 3)) == 2


async def test_credentials_are_renewed_well_before_they_expire(room: Room) -> None:
    room.sts.valid_s = 0.4
    async with room.running() as issuer:
        await room.place("t1")
        for number in range(1, 4):
            key = f"ASIA{number}"
            await until(partial(room.has, "t1", key))
            assert issuer.serial == number
        assert room.woken == [INSTANCE] * 3
    # Not before half of their time is over; of short ones there is no more to say on a slow machine.
    assert all(b - a > 0.19 for a, b in zip(room.sts.at, room.sts.at[1:], strict=False))
    assert set(room.sts.asked) == {"arn:role/app t1"}


@pytest.mark.parametrize(
    ("valid_s", "ahead_s"),
    [(43200, (900, 1800)), (3600, (900, 1800)), (900, (225, 450)), (4, (1, 2)), (0, (0, 0))],
)
def test_how_long_before(valid_s: float, ahead_s: tuple[float, float]) -> None:
    assert issuing.ahead_of_expiry(valid_s) == ahead_s


async def test_a_clock_that_is_set_ahead_renews(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuing, "LOOK_S", 0.02)
    async with room.running() as issuer:
        await room.place("t1")
        await until(lambda: bool(room.access_key("t1")))
        room.sts.off_s = 3601.0
        assert issuer.current("t1", APP) is None  # expired: nobody is given these
        await until(lambda: room.access_key("t1") == "ASIA2")


async def test_a_control_that_starts_anew_gives_fresh_ones_under_the_same_id(room: Room) -> None:
    await room.place("new")
    await room.place("runs", started_at=1.0, last_status="RUNNING")
    await room.place("ends", started_at=1.0, last_status="RUNNING", desired_status="STOPPED")
    await room.place("never", desired_status="STOPPED")
    await room.place("done", last_status="STOPPED", desired_status="STOPPED")
    for _ in range(2):
        async with room.running() as issuer:
            await until(lambda: len(room.issuer.newer(INSTANCE, 0)) == 3)
            ids = {one.credentials.credentials_id for one in issuer.newer(INSTANCE, 0)}
            assert ids == {"id-new", "id-runs", "id-ends"}
    assert len(room.sts.asked) == 6


async def test_a_task_that_is_gone_is_forgotten(room: Room) -> None:
    room.sts.valid_s = 0.3
    async with room.running() as issuer:
        task = await room.place("t1")
        await until(lambda: bool(room.access_key("t1")))
        await room.store.txn([], [Delete(records.assignment_key(INSTANCE, "t1"))])
        await until(lambda: issuer.newer(INSTANCE, 0) == [])
        asked = len(room.sts.asked)
        await asyncio.sleep(0.4)
        assert len(room.sts.asked) == asked
        assert "0 tasks" in repr(issuer)
        await room.put(task)
        await until(lambda: bool(room.access_key("t1")))


async def test_a_task_that_moves_to_another_instance_is_given_them_there(room: Room) -> None:
    async with room.running() as issuer:
        task = await room.place("t1")
        await until(lambda: bool(room.access_key("t1")))
        moved = replace(task, instance_id="i2")
        await room.store.txn(
            [],
            [
                Delete(records.assignment_key(INSTANCE, "t1")),
                Put(records.assignment_key("i2", "t1"), records.encode(AssignRecord.of(moved))),
            ],
        )
        await until(lambda: bool(issuer.newer("i2", 1)))
        assert issuer.newer(INSTANCE, 0) == []
        assert room.woken == [INSTANCE, "i2"]
    assert len(room.sts.asked) == 1


async def test_sts_that_is_away_is_asked_again_and_the_operator_sees_why(room: Room) -> None:
    room.sts.away = True
    with structlog.testing.capture_logs() as logs:
        async with room.running() as issuer:
            await room.place("t1")
            await until(lambda: len(room.sts.asked) >= 5)
            assert issuer.waiting("t1") == (
                "waiting for credentials of the role 'arn:role/app' (taskRoleArn); control keeps "
                "trying to get them from STS: AssumeRole: nobody listens"
            )
            assert (await room.task("t1")).desired_status == "RUNNING"
            room.sts.away = False
            await until(lambda: bool(room.access_key("t1")))
            assert issuer.waiting("t1") == ""
    told = [log["event"] for log in logs]
    assert told == ["role not assumed; trying again", "role assumed"]


async def test_a_role_that_stays_refused_ends_its_task_and_no_other(room: Room) -> None:
    room.sts.refused = {"arn:role/no"}
    roles = {EXECUTION: RoleRecord(arn="arn:role/no", credentials_id="x")}
    async with room.running() as issuer:
        await room.place("t1", roles=roles)
        await room.place("t2")
        await until(lambda: bool(room.access_key("t2")))
        began = time.monotonic()
        assert (await room.task("t1")).desired_status == "RUNNING"
        async with asyncio.timeout(10):
            async with room.store.watch(records.TASKS, after_revision=1) as watch:
                while (await room.task("t1")).desired_status != "STOPPED":
                    await anext(watch)
        assert time.monotonic() - began > 0.1
        task = await room.task("t1")
        assert task.stop_code == "TaskFailedToStart"
        assert task.stopped_reason == (
            "ECS was unable to assume the role 'arn:role/no' that was provided for this task as "
            "executionRoleArn: AssumeRole: AccessDenied: no. The role's trust policy must name the "
            "owner of control's keys, who must be allowed to call sts:AssumeRole on it."
        )
        asked = len(room.sts.asked)
        await asyncio.sleep(0.2)
        assert len(room.sts.asked) == asked
        assert issuer.current("t1", EXECUTION) is None
        assert (await room.task("t2")).desired_status == "RUNNING"


async def test_a_role_that_is_refused_for_a_moment_is_no_harm(room: Room) -> None:
    room.sts.refused = {"arn:role/app"}
    async with room.running() as issuer:
        await room.place("t1")
        await until(lambda: len(room.sts.asked) >= 3)
        assert "AccessDenied" in issuer.waiting("t1")
        room.sts.refused = set()
        await until(lambda: bool(room.access_key("t1")))
    assert (await room.task("t1")).desired_status == "RUNNING"


async def test_a_task_that_runs_goes_on_when_its_role_is_refused(room: Room) -> None:
    room.sts.refused = {"arn:role/app"}
    async with room.running():
        await room.place("t1", started_at=1.0)
        await until(lambda: len(room.sts.asked) >= 12)
        assert (await room.task("t1")).desired_status == "RUNNING"
        room.sts.refused = set()
        await until(lambda: bool(room.access_key("t1")))


async def test_a_task_that_has_come_to_run_meanwhile_is_left_alone(room: Room) -> None:
    room.sts.refused = {"arn:role/app"}
    async with room.running():
        task = await room.place("t1")
        await until(lambda: len(room.sts.asked) >= 2)
        started = replace(task, started_at=1.0, last_status="RUNNING")
        key = records.task_key("default", "t1")
        await room.store.txn([], [Put(key, records.encode(started))])
        await until(lambda: len(room.sts.asked) >= 12)
        assert (await room.task("t1")).desired_status == "RUNNING"


async def test_a_task_that_is_to_stop_is_asked_for_no_more(room: Room) -> None:
    room.sts.away = True
    async with room.running():
        await room.place("t1")
        await until(lambda: len(room.sts.asked) >= 2)
        await order_stop(
            room.store, "default", "t1", code="UserInitiated", reason="r", now=time.time()
        )
        await asyncio.sleep(0.1)
        asked = len(room.sts.asked)
        await asyncio.sleep(0.2)
        assert len(room.sts.asked) == asked


async def test_what_one_role_trips_harms_no_other(room: Room) -> None:
    room.sts.broken = True
    with structlog.testing.capture_logs():
        async with room.running() as issuer:
            await room.place("t1")
            await until(lambda: len(room.sts.asked) >= 3)
            assert "control failed (ValueError)" in issuer.waiting("t1")
            room.sts.broken = False
            await room.place("t2")
            await until(lambda: bool(room.access_key("t1") and room.access_key("t2")))


async def test_renewals_of_many_do_not_hold_up_a_new_task(room: Room) -> None:
    for number in range(30):
        await room.place(f"old{number}", started_at=1.0)
    room.sts.open.clear()
    async with room.running():
        await until(lambda: room.sts.at_once == issuing.RENEWED_AT_ONCE)
        for number in range(20):
            await room.place(f"new{number}")
        both = issuing.RENEWED_AT_ONCE + issuing.NEW_AT_ONCE
        await until(lambda: room.sts.at_once == both)
        room.sts.open.set()
        await until(lambda: len(room.issuer.newer(INSTANCE, 0)) == 50)
    assert room.sts.most_at_once == both
    assert len(room.sts.asked) == 50


async def test_assignments_that_cannot_be_read_are_passed_over(room: Room) -> None:
    await room.store.txn([], [Put(records.assignment_key(INSTANCE, "bad"), b"{")])
    async with room.running():
        await room.place("t1")
        await until(lambda: bool(room.access_key("t1")))
