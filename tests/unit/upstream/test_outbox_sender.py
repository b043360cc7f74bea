from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.control_host import until
from tests.support.fake_control import (
    breaks_off,
    change,
    drips,
    drop,
    lose_answer,
    refuses,
    says,
    waits,
)

if TYPE_CHECKING:
    from tests.support.control_host import Host
    from tests.support.fake_control import FakeControl, Fault


def ids(control: FakeControl) -> list[str]:
    return list(control.seen)


async def test_sends_in_order_one_request_at_a_time(host: Host, control: FakeControl) -> None:
    await host.report(*(change(number) for number in range(350)))
    async with host.running():
        await until(lambda: len(control.seen) == 350)
        for number in range(350, 400):
            await host.report(change(number))
        await until(lambda: len(control.seen) == 400)
        await until(lambda: host.store.outbox.size == 0)
    assert [one.id for one in control.sent] == [f"c{number}" for number in range(400)]
    assert control.batches[:3] == [100, 100, 100]
    assert control.most_in_flight == 1


async def test_compresses_what_is_large(host: Host, control: FakeControl) -> None:
    async with host.running():
        await host.report(change(1))
        await until(lambda: control.seen)
        await host.report(change(2, reason="x" * 5000))
        await until(lambda: len(control.seen) == 2)
    assert control.encodings == ["", "gzip"]
    assert control.seen["c2"].reason == "x" * 5000


@pytest.mark.parametrize(
    "fault",
    [
        drop(),
        lose_answer(),
        refuses(500),
        refuses(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        refuses(404, "InstanceUnknown"),
        refuses(404, "NoSuchPage"),
        refuses(410, "RevisionCompacted"),
        refuses(401, "Unauthorized"),
        says(b""),
        says(b"", status=204),
        says(b"junk"),
        says(b'{"results": 7}'),
        says(b'{"results": []}'),
        says(b'{"results": [{"id": "other", "status": "ok"}]}'),
        says(b'{"results": [{"id": "c0", "status": "perhaps"}]}'),
        says(b'{"results": [{"id": "c1", "status": "ok"}]}'),
        says(b'{"results": [{"id": "c0", "status": 1}]}'),
        breaks_off(b'{"results": [', 1000),
        drips(b'{"results": []}' * 50, 0.01),
        waits(3.0),
    ],
)
async def test_keeps_order_through_any_trouble(
    host: Host, control: FakeControl, fault: Fault
) -> None:
    host.call_s = 0.3
    await host.report(*(change(number) for number in range(3)))
    control.faults["changes"].extend([fault, fault])
    async with host.running() as client:
        await until(lambda: len(control.seen) == 3)
        await host.report(change(3))
        await until(lambda: len(control.seen) == 4)
        await until(lambda: client.status.unsent == 0)
        await until(lambda: client.status.error == "")
    assert ids(control) == ["c0", "c1", "c2", "c3"]


async def test_settles_only_what_was_answered(host: Host, control: FakeControl) -> None:
    await host.report(*(change(number) for number in range(3)))
    control.faults["changes"].append(says(b'{"results": [{"id": "c0", "status": "ok"}]}'))
    async with host.running():
        await until(lambda: len(control.seen) == 2)
    assert [one.id for one in control.sent] == ["c1", "c2"]


async def test_lets_go_of_what_is_refused(host: Host, control: FakeControl) -> None:
    control.reject = lambda one: one.id == "c1"
    await host.report(*(change(number) for number in range(3)))
    async with host.running() as client:
        await until(lambda: client.status.unsent == 0)
    assert [one.id for one in control.sent] == ["c0", "c1", "c2"]


async def test_finds_the_one_that_spoils_the_request(host: Host, control: FakeControl) -> None:
    await host.report(*(change(number) for number in range(4)))
    control.faults["changes"].extend(
        [refuses(400, "InvalidRequest"), waits(0), refuses(400, "InvalidRequest")]
    )
    async with host.running() as client:
        await until(lambda: client.status.unsent == 0)
    assert ids(control) == ["c0", "c2", "c3"]


async def test_waits_out_an_outage_and_goes_on_at_once(host: Host, control: FakeControl) -> None:
    async with host.running() as client:
        await until(lambda: client.status.connected)
        await control.stop()
        for number in range(120):
            await host.report(change(number))
        await until(lambda: not client.status.connected)
        assert client.status.unsent == 120
        await control.start()
        await until(lambda: client.status.unsent == 0)
    assert ids(control) == [f"c{number}" for number in range(120)]


async def test_survives_restarts_of_both_sides(host: Host, control: FakeControl) -> None:
    """Whatever stops whenever: every report arrives, first arrivals in order."""
    total = 60

    async def produce() -> None:
        for number in range(total):
            await host.report(change(number))
            await asyncio.sleep(0.005)

    async def trouble() -> None:
        for number in range(6):
            await asyncio.sleep(0.02)
            if number % 2:
                await control.stop()
                await asyncio.sleep(0.02)
                await control.start()
            else:
                control.faults["changes"].extend([lose_answer(), drop()])

    async with asyncio.TaskGroup() as group:
        producer = group.create_task(produce())
        group.create_task(trouble())
        while not producer.done():
            async with host.running():
                await asyncio.sleep(0.04)
    async with host.running():
        await until(lambda: host.store.outbox.size == 0)
    assert ids(control) == [f"c{number}" for number in range(total)]


async def test_a_row_that_can_be_neither_read_nor_moved_is_no_busy_loop(
    host: Host, control: FakeControl
) -> None:
    database = host.store._writer.database
    await host.report(change(1))
    await host.store._writer.call(
        lambda: database.file.connect().execute("UPDATE outbox SET body = x'7b'"), "spoil"
    )
    await host.store._writer.call(
        lambda: database.file.connect().execute(
            "CREATE TRIGGER full BEFORE INSERT ON set_aside BEGIN SELECT RAISE(ABORT, 'full'); END"
        ),
        "spoil",
    )
    host.store.outbox._head.clear()
    async with host.running() as client:
        await until(lambda: "cannot be read" in client.status.error)
        await until(lambda: host.taken)
    assert control.seen == {}


async def test_a_report_is_on_its_way_as_soon_as_it_is_durable(
    host: Host, control: FakeControl
) -> None:
    sent_s: list[float] = []
    async with host.running() as client:
        await until(lambda: client.status.connected)
        for number in range(40):
            await host.report(change(number))
            durable = time.perf_counter()
            await until(lambda number=number: f"c{number}" in control.sent_at)  # type: ignore[misc]
            sent_s.append(control.sent_at[f"c{number}"] - durable)
    assert statistics.median(sent_s) < 0.05
