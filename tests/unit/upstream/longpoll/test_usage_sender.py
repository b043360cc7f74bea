"""Usage reaches control while it is there, and never waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.model.metrics import HostSample, MetricsBatch
from tests.support.control_host import until
from tests.support.fake_control import drop, refuses, waits

if TYPE_CHECKING:
    from tests.support.control_host import Host
    from tests.support.fake_control import FakeControl

EVERY_S = 0.05


@pytest.fixture(autouse=True)
def often(host: Host) -> None:
    host.usage_s = EVERY_S


def cpu(percent: float) -> MetricsBatch:
    return MetricsBatch(host=HostSample(at=1.0, cpu_percent=percent))


def samples(control: FakeControl) -> int:
    sets = [usage.host.cpu_units for usage in control.usage if usage.host is not None]
    return sum(values.count for values in sets if values is not None)


async def test_all_samples_arrive_in_few_messages(host: Host, control: FakeControl) -> None:
    async with host.running() as client:
        await until(lambda: client.status.connected)
        for number in range(50):
            client.offer(cpu(float(number)))
        await until(lambda: samples(control) == 50)
        await asyncio.sleep(2 * EVERY_S)
    assert len(control.usage) <= 2


async def test_what_was_gathered_while_control_was_away_is_dropped(
    host: Host, control: FakeControl
) -> None:
    async with host.running() as client:
        await until(lambda: client.status.connected)
        control.faults["usage"].append(drop())
        client.offer(cpu(1.0))
        await until(lambda: not control.faults["usage"])
        await control.stop()
        await until(lambda: not client.status.connected)
        client.offer(cpu(2.0))
        await asyncio.sleep(2 * EVERY_S)
        await control.start()
        await until(lambda: client.status.connected)
        client.offer(cpu(100.0))
        await until(lambda: control.usage)
    (usage,) = control.usage
    assert usage.host is not None
    assert usage.host.cpu_units is not None
    assert usage.host.cpu_units.max == 1024.0


async def test_a_slow_answer_delays_no_report(host: Host, control: FakeControl) -> None:
    control.faults["usage"].append(waits(0.5))
    async with host.running() as client:
        await until(lambda: client.status.connected)
        client.offer(cpu(1.0))
        await until(lambda: not control.faults["usage"])
        control.want("arn:task/a")
        await until(lambda: "arn:task/a" in host.arns(), limit_s=0.4)


async def test_an_older_control_is_left_alone(host: Host, control: FakeControl) -> None:
    control.faults["usage"].append(refuses(404, "NoSuchCall"))
    async with host.running() as client:
        await until(lambda: client.status.connected)
        client.offer(cpu(1.0))
        await until(lambda: not control.faults["usage"])
        client.offer(cpu(2.0))
        await asyncio.sleep(3 * EVERY_S)
        assert control.usage == []
        assert client.status.connected


async def test_a_newer_control_is_told_again(host: Host, control: FakeControl) -> None:
    host.usage_again_s = EVERY_S
    control.faults["usage"].append(refuses(404, "NoSuchCall"))
    async with host.running() as client:
        await until(lambda: client.status.connected)
        client.offer(cpu(1.0))
        await until(lambda: not control.faults["usage"])
        client.offer(cpu(2.0))
        await until(lambda: control.usage)
