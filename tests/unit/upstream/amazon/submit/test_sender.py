"""The sender between a real store and an API that goes wrong in every way."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import AwsRefused, AwsUnavailable, CredentialsMissing, StateFailure
from agent.model.changes import AttachmentChange, ContainerChange, TaskChange
from agent.model.status import Health
from agent.state import Batch, StateStore
from agent.upstream.amazon.registration import Instance
from agent.upstream.amazon.submit.sender import SubmitSettings, Submitter
from agent.upstream.connection import ConnectionStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

PATIENCE_S = 8.0
QUICK = SubmitSettings(backoff_first_s=0.005, backoff_limit_s=0.02)


class Registration:
    def __init__(self, arn: str = "arn:instance") -> None:
        self.known = asyncio.Event()
        self.known.set()
        self.arn = arn

    async def instance(self) -> Instance:
        await self.known.wait()
        return Instance(arn=self.arn, cluster="default")


class Ecs:
    """The API: takes everything, unless a fault is due for a task or for whoever comes next."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.tried: list[str] = []
        self.at: list[float] = []
        self.faults: list[Exception] = []
        self.stuck: dict[str, Exception] = {}
        self.slow_s = 0.0
        self.attempts: set[int] = set()
        self.most = 0
        self.most_of_task = 0
        self._now: dict[str, int] = defaultdict(int)

    async def call(
        self,
        operation: str,
        request: Mapping[str, Any],
        *,
        attempts: int = 3,
        limit_s: float = 42.0,
    ) -> dict[str, Any]:
        task = request.get("task", "")
        self.tried.append(task)
        self.attempts.add(attempts)
        assert limit_s > 0
        self._now[task] += 1
        self.most = max(self.most, sum(self._now.values()))
        self.most_of_task = max(self.most_of_task, self._now[task])
        try:
            await asyncio.sleep(self.slow_s)
            if task in self.stuck:
                raise self.stuck[task]
            if self.faults:
                raise self.faults.pop(0)
        finally:
            self._now[task] -= 1
        self.taken.append((operation, dict(request)))
        self.at.append(time.perf_counter())
        return {"acknowledgment": "ok"}

    def statuses(self, task: str) -> list[str]:
        return [r["status"] for _, r in self.taken if r.get("task") == task and "status" in r]


class Host:
    """A sender with everything around it."""

    def __init__(self, store: StateStore, settings: SubmitSettings = QUICK) -> None:
        self.store = store
        self.ecs = Ecs()
        self.registration = Registration()
        self.link = ConnectionStatus("https://ecs.test")
        self.link.connected = True
        self.sender = Submitter(store.outbox, self.ecs, self.registration, self.link, settings)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.sender.run())
        try:
            yield
            if task.done():
                await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def report(self, *changes: TaskChange) -> None:
        batch = Batch()
        for change in changes:
            batch.enqueue(change)
        await self.store.commit(batch)

    async def emptied(self) -> None:
        await until(lambda: self.store.outbox.size == 0)


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what():  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.002)


def change(task: str, status: str = "RUNNING", number: int = 0, **fields: Any) -> TaskChange:
    return TaskChange(
        id=f"{task}-{status}-{number}",
        task_arn=task,
        status=status,
        at=1.0,
        reason=fields.pop("reason", str(number)),
        **fields,
    )


@pytest.fixture
async def host(store: StateStore) -> Host:
    return Host(store)


async def test_keeps_the_order_of_each_task_and_ten_at_once(host: Host) -> None:
    host.ecs.slow_s = 0.005
    tasks = [f"t{number}" for number in range(40)]
    for status in ("RUNNING", "STOPPED"):
        await host.report(*(change(task, status) for task in tasks))
    async with host.running():
        await host.emptied()
    assert all(host.ecs.statuses(task) == ["RUNNING", "STOPPED"] for task in tasks)
    assert (host.ecs.most, host.ecs.most_of_task) == (10, 1)
    assert host.ecs.attempts == {1}
    assert host.sender.error == ""


async def test_a_report_leaves_at_once(host: Host) -> None:
    """The launch path: no read of the disk, no wait for company."""
    waits: list[float] = []
    async with host.running():
        await host.report(change("warm"))
        await host.emptied()
        for number in range(30):
            await host.report(change(f"t{number}"))
            durable_at = time.perf_counter()
            await until(lambda: len(host.ecs.taken) == number + 2)  # noqa: B023 - called at once
            waits.append(host.ecs.at[-1] - durable_at)
    assert statistics.median(waits) < 0.01


async def test_waits_for_the_registration(host: Host) -> None:
    host.registration.known.clear()
    await host.report(change("t"))
    async with host.running():
        await asyncio.sleep(0.05)
        assert host.ecs.tried == []
        host.registration.known.set()
        await host.emptied()
    assert host.ecs.taken[0][1]["cluster"] == "default"


@pytest.mark.parametrize(
    "fault",
    [
        AwsUnavailable("throttled", code="ThrottlingException"),
        AwsUnavailable("throttled", code="ThrottlingException", retry_after_s=0.01),
        AwsUnavailable("no answer"),
        AwsRefused("denied", code="AccessDeniedException"),
        AwsRefused("bad", code="ClientException"),
        CredentialsMissing("no keys"),
        RuntimeError("a bug"),
    ],
)
async def test_tries_the_same_report_for_ever(host: Host, fault: Exception) -> None:
    host.ecs.faults = [fault] * 5
    await host.report(change("t", "RUNNING"), change("t", "STOPPED"))
    async with host.running():
        await until(lambda: len(host.ecs.faults) < 3)
        assert str(fault) in host.sender.error
        await host.emptied()
    assert host.ecs.statuses("t") == ["RUNNING", "STOPPED"]
    assert host.ecs.tried == ["t"] * 7
    assert host.sender.error == ""


async def test_honours_what_throttling_asks_for(host: Host) -> None:
    host.ecs.faults = [AwsUnavailable("slow down", code="ThrottlingException", retry_after_s=0.2)]
    await host.report(change("t"))
    began = time.perf_counter()
    async with host.running():
        await host.emptied()
    assert host.ecs.at[0] - began >= 0.2


async def test_lets_go_of_what_is_refused_for_good(host: Host) -> None:
    host.ecs.faults = [AwsRefused("no such task", code="InvalidParameterException")]
    await host.report(change("t", "RUNNING"), change("t", "STOPPED"), change("u"))
    async with host.running():
        await host.emptied()
    assert sorted(host.ecs.tried) == ["t", "t", "u"]
    assert len(host.ecs.taken) == 2


@pytest.mark.parametrize("code", ["AccessDeniedException", "InvalidParameterException"])
async def test_reports_for_another_control_stay_out_of_the_way(
    store: StateStore, code: str
) -> None:
    """Left by a control endpoint that served this host before; Amazon ECS can never take them."""
    host = Host(store, SubmitSettings(backoff_first_s=0.005, backoff_limit_s=0.02, held_limit=5))
    host.registration.arn = "arn:aws:ecs:eu-west-1:123456789012:container-instance/c/0123"
    own = [f"arn:aws:ecs:eu-west-1:123456789012:task/c/{number}" for number in range(8)]
    foreign = [f"arn:aws:ecs:us-east-1:000000000000:task/c/{number}" for number in range(8)]
    host.ecs.stuck = {task: AwsRefused("no", code=code) for task in foreign}
    host.ecs.stuck[foreign[0]] = AwsUnavailable("no answer")
    left = [change(task, status) for task in foreign for status in ("RUNNING", "STOPPED")]
    await host.report(*left, *(change(task) for task in own))
    async with host.running():
        await until(lambda: len(host.ecs.taken) == len(own))
        # An outage is waited out whoever's task it is.
        await until(lambda: host.ecs.tried.count(foreign[0]) > 2)
        host.ecs.stuck[foreign[0]] = AwsRefused("no", code=code)
        await until(lambda: host.sender.error == "")
        await until(lambda: host.sender._held == 0)
        tried = len(host.ecs.tried)
        await asyncio.sleep(0.1)
        assert len(host.ecs.tried) == tried
    assert all(host.ecs.tried.count(task) == 2 for task in foreign[1:])
    # Whoever ordered them will be told all of it, in order.
    assert [row for _, row in await store.outbox.peek(100)] == left


async def test_what_is_its_own_is_never_given_up_for_a_refusal(host: Host) -> None:
    host.registration.arn = "arn:aws:ecs:eu-west-1:123456789012:container-instance/c/0123"
    own = "arn:aws:ecs:eu-west-1:123456789012:task/c/1"
    host.ecs.stuck = {own: AwsRefused("denied", code="AccessDeniedException")}
    await host.report(change(own))
    async with host.running():
        await until(lambda: len(host.ecs.tried) > 3)
        host.ecs.stuck.clear()
        await host.emptied()
    assert host.ecs.statuses(own) == ["RUNNING"]


async def test_one_stuck_task_starves_nobody(host: Host) -> None:
    """More reports than memory holds, the oldest of them stuck; more of it come meanwhile."""
    host.ecs.stuck = {"stuck": AwsRefused("denied", code="AccessDeniedException")}
    await host.report(change("stuck"), *(change(f"t{number}") for number in range(600)))
    async with host.running():
        await until(lambda: len(host.ecs.taken) == 600)
        for number in range(3):
            await host.report(change("stuck", number=number + 1), change(f"late{number}"))
        await until(lambda: len(host.ecs.taken) == 603)
        await until(lambda: host.store.outbox.size == 1)
        assert "denied" in host.sender.error
        host.ecs.stuck.clear()
        await host.emptied()
    # Of the four of the stuck task, the newest says it all.
    assert host.ecs.taken[-1][1]["reason"] == "3"
    assert host.ecs.statuses("stuck") == ["RUNNING"]


async def test_many_stuck_tasks_leave_places_on_the_wire(host: Host) -> None:
    stuck = [f"s{number}" for number in range(30)]
    host.ecs.stuck = {task: AwsUnavailable("no answer") for task in stuck}
    await host.report(*(change(task) for task in stuck), change("free"))
    async with host.running():
        await until(lambda: host.ecs.statuses("free"))
        assert host.sender.error == "no answer (and 29 more)"


async def test_holds_a_bounded_number_in_memory(store: StateStore) -> None:
    host = Host(
        store, SubmitSettings(backoff_first_s=0.005, backoff_limit_s=0.02, page=7, held_limit=20)
    )
    tasks = [f"t{number}" for number in range(90)]
    host.ecs.stuck = {task: AwsUnavailable("no answer") for task in tasks}
    await host.report(*(change(task) for task in tasks))
    async with host.running():
        await until(lambda: len(host.ecs.tried) > 60)
        assert len(set(host.ecs.tried)) < 20 + 7
        host.ecs.stuck.clear()
        await host.emptied()
    assert {request["task"] for _, request in host.ecs.taken} == set(tasks)


async def test_nothing_is_lost_when_a_life_ends_in_the_middle(store: StateStore) -> None:
    tasks = [f"t{number}" for number in range(60)]
    statuses = ("RUNNING", "STOPPED")
    first = Host(store)
    first.ecs.slow_s = 0.01
    for status in statuses:
        await first.report(*(change(task, status) for task in tasks))
    async with first.running():
        await until(lambda: len(first.ecs.taken) >= 25)
    second = Host(store)
    async with second.running():
        await second.emptied()
    for task in tasks:
        told = first.ecs.statuses(task) + second.ecs.statuses(task)
        assert [s for i, s in enumerate(told) if s not in told[:i]] == list(statuses)


async def test_the_same_sender_may_run_again(host: Host) -> None:
    host.ecs.stuck = {"t": AwsUnavailable("no answer")}
    await host.report(change("t"))
    async with host.running():
        await until(lambda: len(host.ecs.tried) > 2)
    host.ecs.stuck.clear()
    async with host.running():
        await host.emptied()
    assert host.ecs.statuses("t") == ["RUNNING"]


async def test_what_ecs_would_not_see_is_not_sent(host: Host) -> None:
    def report(number: int, health: Health, status: str = "RUNNING") -> TaskChange:
        one = ContainerChange(
            container_name="a", status=status, health_status=health, restart_count=number
        )
        return change("t", number=number, reason="", containers=[one])

    async with host.running():
        await host.report(change("p", "PENDING"))
        await host.report(report(1, Health.UNKNOWN))
        await host.emptied()
        await host.report(report(2, Health.HEALTHY))
        await host.emptied()
        await host.report(report(3, Health.HEALTHY, status="STOPPED"))
        await host.emptied()
    told = [request["containers"][0]["status"] for _, request in host.ecs.taken]
    assert told == ["RUNNING", "STOPPED"]


async def test_attachments_of_the_host(host: Host) -> None:
    there = AttachmentChange(id="arn:1", status="ATTACHED")
    host.ecs.faults = [AwsUnavailable("no answer")]
    await host.report(change("", "", attachments=[there]), change("t", "", attachments=[there]))
    async with host.running():
        await host.emptied()
    assert sorted(operation for operation, _ in host.ecs.taken) == [
        "SubmitAttachmentStateChanges",
        "SubmitTaskStateChange",
    ]


async def test_goes_on_when_control_is_back(store: StateStore) -> None:
    host = Host(store, SubmitSettings(backoff_first_s=30.0))
    host.link.down(AwsUnavailable("away"))
    host.ecs.faults = [AwsUnavailable("no answer")] * 2
    await host.report(change("t"), change("u"))
    async with host.running():
        await until(lambda: len(host.ecs.tried) == 2)
        host.link.up()
        await host.emptied()


async def test_a_success_after_trouble_wakes_the_others(host: Host) -> None:
    host.link.down(AwsUnavailable("away"))
    host.ecs.faults = [AwsUnavailable("no answer"), AwsUnavailable("wait", retry_after_s=60.0)]
    await host.report(change("t"), change("u"))
    async with host.running():
        await host.emptied()


async def test_a_store_that_cannot_be_read_is_tried_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.report(*(change(f"t{number}") for number in range(520)))
    read = host.store.outbox._read
    failures = [StateFailure("disk gone")] * 3

    async def flaky(limit: int, after: int) -> Any:
        if after and failures:
            raise failures.pop()
        return await read(limit, after)

    monkeypatch.setattr(host.store.outbox, "_read", flaky)
    async with host.running():
        await host.emptied()
    assert len(host.ecs.taken) == 520


async def test_trouble_is_one_line(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.ecs.stuck = {f"t{n}": AwsUnavailable("no answer") for n in range(5)}
    await host.report(*(change(f"t{n}") for n in range(5)))
    async with host.running():
        await until(lambda: len(host.ecs.tried) > 60)
    assert capsys.readouterr().out.count("reports not sent") == 1
