"""What is expected meets what is there: reported once, in time, and over restarts."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import NetworkFailure, StateFailure
from agent.state import Batch, StateStore
from agent.upstream.amazon import attachments
from agent.upstream.amazon.attachments import (
    ROW,
    Attachments,
    ExpectedAttachment,
    read_rows,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model.changes import TaskChange

MAC = "02:aa:00:00:00:01"
VOLUME = "vol-0123456789abcdef0"
TASK = "arn:aws:ecs:us-east-1:111122223333:task/default/0123456789abcdef0123456789abcdef"
SOON_S = 2.0


class Things:
    """Arrivals by hand."""

    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)
        self.watched = False
        self.listed = 0
        self.failures = 0
        self._changed = asyncio.Event()

    async def present(self) -> frozenset[str]:
        self.listed += 1
        if self.failures:
            self.failures -= 1
            raise NetworkFailure("no list now")
        self.watched = True
        self._changed.clear()
        return frozenset(self.keys)

    async def changed(self) -> None:
        if not self.watched:
            raise NetworkFailure("not watched")
        await self._changed.wait()

    async def rest(self) -> None:
        self.watched = False

    def come(self, *keys: str) -> None:
        self.keys.update(keys)
        self._changed.set()

    def go(self, *keys: str) -> None:
        self.keys.difference_update(keys)
        self._changed.set()


class Host:
    """A store with the attachments of one process after another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.links, self.disks = Things(), Things()
        self.known: set[str] = set()
        self.reconcile_s = 30.0
        self.store: StateStore
        self.attachments: Attachments
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.store = await StateStore.open(self._path)
        self.attachments = Attachments(
            self.store,
            await read_rows(self.store),
            links=self.links,
            disks=self.disks,
            knows=self.known.__contains__,
            reconcile_s=self.reconcile_s,
        )
        self._loop = asyncio.create_task(self.attachments.run())
        await asyncio.sleep(0)

    async def stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None
        await self.store.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def reports(self, count: int) -> list[TaskChange]:
        """Return all reports once there are this many."""
        async with asyncio.timeout(SOON_S):
            while self.store.outbox.size < count:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.005)
        return [change for _, change in await self.store.outbox.peek(5000)]

    async def rows(self) -> dict[str, attachments.AttachmentState]:
        return await self.store.load(ROW, msgspec.json.Decoder(attachments.AttachmentState).decode)

    async def until_gone(self, key: str) -> None:
        async with asyncio.timeout(SOON_S):
            while key in await self.rows():  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path / "agent.db")
    await made.start()
    yield made
    await made.stop()


def eni(key: str = MAC, *, within_s: float = 60.0, **changes: Any) -> ExpectedAttachment:
    made = ExpectedAttachment(
        kind="task-eni",
        key=key,
        attachment_arn=f"arn:attachment/{key}",
        task_arn=TASK,
        expires_at=time.time() + within_s,
        details={"networkInterfaceId": "eni-1"},
    )
    return msgspec.structs.replace(made, **changes)


def volume(*, within_s: float = 60.0) -> ExpectedAttachment:
    return ExpectedAttachment(
        kind="ebs",
        key=VOLUME,
        attachment_arn="arn:attachment/volume",
        task_arn=TASK,
        expires_at=time.time() + within_s,
    )


async def test_a_branch_interface_is_there_with_its_trunk(host: Host) -> None:
    trunk = "06:00:00:00:00:01"
    await host.attachments.expect(eni(seen_as=trunk))
    host.links.come(trunk)
    [change] = await host.reports(1)
    assert [a.id for a in change.attachments] == [f"arn:attachment/{MAC}"]


async def test_an_interface_that_comes_later_is_reported_with_its_task(host: Host) -> None:
    await host.attachments.expect(eni())
    await asyncio.sleep(0.01)
    assert host.store.outbox.size == 0
    assert host.links.watched

    host.links.come(MAC)

    [change] = await host.reports(1)
    assert (change.task_arn, change.status) == (TASK, "")
    [attachment] = change.attachments
    assert (attachment.id, attachment.status) == (f"arn:attachment/{MAC}", "ATTACHED")
    assert attachment.type == "ElasticNetworkInterface"
    assert attachment.details == {"networkInterfaceId": "eni-1"}
    assert (await host.rows())[MAC].attached_at == change.at


async def test_what_is_there_already_is_reported_at_once(host: Host) -> None:
    host.links.come(MAC)
    await host.attachments.expect(eni(kind="instance-eni", task_arn=""))

    [change] = await host.reports(1)

    assert change.task_arn == ""


async def test_a_volume_is_reported_by_the_host(host: Host) -> None:
    await host.attachments.expect(volume())
    host.disks.come("another", VOLUME)

    [change] = await host.reports(1)

    assert change.task_arn == ""
    assert change.attachments[0].type == attachments.EBS_TYPE
    assert host.links.listed == 0


async def test_nothing_runs_while_nothing_is_awaited(host: Host) -> None:
    await asyncio.sleep(0.02)
    assert (host.links.listed, host.disks.listed) == (0, 0)
    assert host.attachments.liveness.due == math.inf

    host.links.come(MAC)
    await host.attachments.expect(eni())
    await host.reports(1)
    await asyncio.sleep(0.02)

    assert not host.links.watched
    assert host.attachments.liveness.due == math.inf


async def test_many_are_matched_after_a_restart_and_reported_once(host: Host) -> None:
    macs = [f"02:aa:00:00:01:{index:02x}" for index in range(50)]
    for mac in macs:
        await host.attachments.expect(eni(mac))
    host.links.come(*macs[:10])
    await host.reports(10)

    await host.restart()
    assert len(host.attachments.views) == 50
    host.links.come(*macs)
    await host.reports(50)
    await host.restart()
    await asyncio.sleep(0.05)

    reported = [change.attachments[0].id for change in await host.reports(50)]
    assert sorted(reported) == sorted(f"arn:attachment/{mac}" for mac in macs)
    assert all(row.attached_at for row in (await host.rows()).values())


async def test_the_same_attachment_again_changes_nothing(host: Host) -> None:
    first = eni(within_s=50.0)
    await host.attachments.expect(first)
    await host.attachments.expect(eni(within_s=500.0))
    assert host.attachments.views[0].expected.expires_at == first.expires_at

    host.links.come(MAC)
    await host.reports(1)
    await host.attachments.expect(eni())
    await asyncio.sleep(0.05)

    assert host.store.outbox.size == 1


async def test_another_attachment_of_the_same_thing_takes_its_place(host: Host) -> None:
    host.links.come(MAC)
    await host.attachments.expect(eni())
    await host.reports(1)

    await host.attachments.expect(eni(attachment_arn="arn:attachment/second"))

    reports = await host.reports(2)
    assert reports[1].attachments[0].id == "arn:attachment/second"
    assert len(host.attachments.views) == 1


async def test_what_comes_too_late_is_not_reported(host: Host) -> None:
    await host.attachments.expect(eni(within_s=0.05))
    await host.until_gone(MAC)

    host.links.come(MAC)
    await asyncio.sleep(0.05)

    assert host.store.outbox.size == 0
    assert not host.attachments.views
    assert not host.links.watched


async def test_what_became_late_while_the_agent_was_down_is_not_reported(host: Host) -> None:
    await host.attachments.expect(eni(within_s=0.05))
    await host.stop()
    await asyncio.sleep(0.06)
    host.links.come(MAC)
    await host.start()

    await host.until_gone(MAC)

    assert host.store.outbox.size == 0


async def test_what_was_attached_is_forgotten_once_it_and_its_task_are_gone(host: Host) -> None:
    host.links.come(MAC, "02:aa:00:00:00:02")
    host.known.add(TASK)
    await host.attachments.expect(eni())
    await host.attachments.expect(eni("02:aa:00:00:00:02", task_arn="arn:other"))
    await host.reports(2)
    host.links.go(MAC, "02:aa:00:00:00:02")

    await host.attachments.expect(eni("02:aa:00:00:00:03"))
    await host.until_gone("02:aa:00:00:00:02")
    assert MAC in await host.rows()

    host.known.clear()
    host.links.come()
    await host.until_gone(MAC)


async def test_nothing_is_forgotten_because_the_list_cannot_be_read(host: Host) -> None:
    host.links.come(MAC)
    await host.attachments.expect(eni())
    await host.reports(1)
    host.links.failures = 1
    await host.attachments.expect(eni("02:aa:00:00:00:02"))
    await asyncio.sleep(0.05)

    assert MAC in await host.rows()


async def test_trouble_with_the_list_is_waited_out_and_logged_once(host: Host) -> None:
    await host.stop()
    host.reconcile_s = 0.02
    host.links.failures = 3
    with structlog.testing.capture_logs() as logs:
        await host.start()
        host.links.come(MAC)
        await host.attachments.expect(eni())
        await host.reports(1)

    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "cannot list attached devices (task-eni)",
        "cannot watch attached devices (task-eni)",
    ]


async def test_what_cannot_be_written_down_is_refused_and_not_awaited(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.links.come(MAC)
    with monkeypatch.context() as patch:
        patch.setattr(host.store, "commit", refuse)
        with pytest.raises(StateFailure):
            await host.attachments.expect(eni())
        assert not host.attachments.views

    await host.attachments.expect(eni())
    await host.reports(1)


async def test_a_report_that_cannot_be_written_down_is_tried_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.attachments.expect(eni())
    with monkeypatch.context() as patch:
        patch.setattr(host.store, "commit", refuse)
        host.links.come(MAC)
        await asyncio.sleep(0.15)
    assert host.store.outbox.size == 0

    host.links.come()
    await host.reports(1)


def refuse(batch: Batch) -> asyncio.Future[None]:
    """Fail a commit like a full disk."""
    del batch
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(StateFailure("disk full"))
    return future


async def test_more_than_the_limit_make_room_for_each_other(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "PENDING_LIMIT", 3)
    for index in range(5):
        await host.attachments.expect(eni(f"02:aa:00:00:00:0{index}", within_s=60.0 - index))

    left = {row.expected.key for row in host.attachments.views}

    assert left == {"02:aa:00:00:00:00", "02:aa:00:00:00:01", "02:aa:00:00:00:04"}
    assert left == set(await host.rows())


@pytest.mark.parametrize("end", [math.nan, math.inf, 1e300])
async def test_no_row_waits_for_ever(host: Host, end: float) -> None:
    await host.attachments.expect(eni(expires_at=end))

    kept = (await host.rows())[MAC].expected.expires_at

    assert kept == pytest.approx(time.time() + attachments.LONGEST_WAIT_S, abs=5.0)


async def test_an_end_long_ago_is_over(host: Host) -> None:
    host.links.come(MAC)
    await host.attachments.expect(eni(expires_at=-math.inf))

    await host.until_gone(MAC)

    assert host.store.outbox.size == 0
    assert not host.store.set_aside


async def test_a_row_that_cannot_be_read_is_set_aside(host: Host) -> None:
    await host.attachments.expect(eni())
    batch = Batch()
    batch.put(ROW, "broken", b'{"expected":7}')
    await host.store.commit(batch)

    await host.restart()

    assert [view.expected.key for view in host.attachments.views] == [MAC]
    assert len(host.store.set_aside) == 1


STEPS = st.lists(
    st.tuples(st.sampled_from(["expect", "come", "go", "restart"]), st.integers(0, 3)), max_size=14
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_whatever_the_order_each_is_reported_once_if_it_was_there(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Things, expectations and restarts in any order."""

    async def play() -> None:
        host = Host(tmp_path_factory.mktemp("store") / "agent.db")
        await host.start()
        awaited: set[str] = set()
        for what, number in steps:
            key = f"02:aa:00:00:00:0{number}"
            if what == "expect":
                await host.attachments.expect(eni(key))
                awaited.add(key)
            elif what == "come":
                host.links.come(key)
            elif what == "go":
                host.known.add(TASK)
                host.links.go(key)
            else:
                await host.restart()
        host.known.add(TASK)
        host.links.come(*awaited)
        reports = await host.reports(len(awaited))
        assert sorted(change.attachments[0].id for change in reports) == sorted(
            f"arn:attachment/{key}" for key in awaited
        )
        await host.stop()

    asyncio.run(play())
