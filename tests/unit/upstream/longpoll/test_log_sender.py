"""Logs on their way to control: in order, once, and whatever control answers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from agent.awslogs import wire
from agent.awslogs.spool import Spool
from agent.awslogs.spool_file import REFUSED, Append, Bounds
from agent.upstream.longpoll import log_sender
from tests.support.control_host import until
from tests.support.fake_control import drop, lose_answer, refuses, says
from tests.support.log_driver import put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.control_host import Host
    from tests.support.fake_control import FakeControl, Fault


@pytest.fixture
async def spool(tmp_path: Path, host: Host) -> AsyncIterator[Spool]:
    made = Spool(tmp_path / "spool.db", Bounds(host_bytes=10**9, task_bytes=10**9))
    writing = asyncio.create_task(made.run())
    host.logs = made
    yield made
    writing.cancel()
    await asyncio.wait([writing])
    await made.close()


async def write(spool: Spool, *messages: str, group: str = "g", create_group: bool = False) -> None:
    for message in messages:
        packed = wire.read_put(json.dumps(put(message, group=group)).encode())
        await spool.append(Append(task="t", create_group=create_group, packed=packed))


def lines(control: FakeControl) -> list[str]:
    """Return what control stores: each batch once, at its first arrival."""
    first = {batch.id: batch for batch in reversed(control.logs)}
    batches = sorted(first.values(), key=control.logs.index)
    return [message for batch in batches for _, message in batch.events]


async def test_logs_arrive_in_order_and_leave_the_spool(
    host: Host, control: FakeControl, spool: Spool
) -> None:
    await write(spool, *map(str, range(50)))
    async with host.running():
        await until(lambda: not spool.held.batches)
        await write(spool, "later", create_group=True)
        await until(lambda: not spool.held.batches)
    assert lines(control) == [*map(str, range(50)), "later"]
    assert len(control.batches) < 10
    assert control.logs[-1].create_group
    assert control.logs[0].stream == "s/c/1"
    assert set(control.encodings) == {"gzip"}


@pytest.mark.parametrize(
    "fault",
    [
        drop(),
        lose_answer(),
        refuses(503, Retry_After="0"),
        refuses(429),
        refuses(404, "NoSuchCall"),
        says(b"nonsense"),
        says(b"{}"),
    ],
)
async def test_whatever_goes_wrong_once_is_sent_again(
    host: Host, control: FakeControl, spool: Spool, fault: Fault
) -> None:
    control.faults["logs"].append(fault)
    await write(spool, "a", "b")
    async with host.running():
        await until(lambda: not spool.held.batches)
    assert lines(control) == ["a", "b"]
    assert not spool.losses


async def test_a_control_that_forgot_the_host_gets_them_after_the_registration(
    host: Host, control: FakeControl, spool: Spool
) -> None:
    async with host.running():
        control.faults["logs"].append(refuses(404, "InstanceUnknown"))
        await write(spool, "a")
        await until(lambda: not spool.held.batches)
    assert len(control.registers) == 2
    assert lines(control) == ["a"]


async def test_what_control_refuses_is_lost_alone_and_counted(
    host: Host, control: FakeControl, spool: Spool
) -> None:
    control.refused_groups.add("missing")
    await write(spool, "a")
    await write(spool, "b", group="missing")
    await write(spool, "c")
    async with host.running():
        await until(lambda: not spool.held.batches)
    (loss,) = spool.losses
    assert (loss.task, loss.why, loss.events) == ("t", REFUSED, 1)
    assert "does not exist" in spool.problems[0]


async def test_a_request_that_is_refused_whole_is_taken_apart(
    host: Host, control: FakeControl, spool: Spool
) -> None:
    control.faults["logs"].extend([refuses(400, "InvalidRequest"), refuses(413, "TooLarge")])
    await write(spool, "a", "b", "c")
    async with host.running():
        await until(lambda: not spool.held.batches)
    assert lines(control) == ["b", "c"]
    assert [loss.events for loss in spool.losses] == [1]


async def test_a_batch_that_is_not_answered_keeps_its_place(
    host: Host, control: FakeControl, spool: Spool
) -> None:
    await write(spool, "a", "b", "c")
    rows = await spool.peek(limit_bytes=10**6, limit=10)
    some = json.dumps({"accepted": [rows[0].id, rows[2].id]}).encode()
    control.faults["logs"].append(says(some))
    async with host.running():
        await until(lambda: not spool.held.batches)
    assert [message for batch in control.logs for _, message in batch.events] == ["b", "c"]


async def test_large_backlogs_go_in_pieces(
    host: Host, control: FakeControl, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sender, "_REQUEST_BYTES", 2000)
    await write(spool, *(f"{n:03} {'x' * 500}" for n in range(30)))
    async with host.running():
        await until(lambda: not spool.held.batches)
    assert len(control.batches) >= 10
    assert [line.split()[0] for line in lines(control)] == [f"{n:03}" for n in range(30)]


async def test_control_says_whether_a_group_exists(
    host: Host, control: FakeControl, spool: Spool
) -> None:
    del spool
    control.refused_groups.add("missing")
    async with host.running() as client:
        assert await client.make_log_stream("missing", "s", create_group=False)  # not connected
        assert not control.streams
        await until(lambda: client.status.connected)
        assert await client.make_log_stream("g", "s", create_group=False)
        assert not await client.make_log_stream("missing", "s", create_group=False)
        assert await client.make_log_stream("missing", "s", create_group=True)
        control.faults["streams"].append(refuses(500))
        assert await client.make_log_stream("missing", "s", create_group=False)
        assert [stream.group for stream in control.streams] == ["g", "missing", "missing"]
