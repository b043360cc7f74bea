"""The control client says before each wait when it will move again."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from agent.model.liveness import WORK_S
from agent.upstream.longpoll import order_poll
from tests.support.control_host import until

if TYPE_CHECKING:
    import pytest

    from agent.model.wire import Assignments
    from agent.upstream.longpoll.client import LongPollClient
    from tests.support.control_host import Host
    from tests.support.fake_control import FakeControl


def _due(client: LongPollClient) -> float:
    """Return how many seconds are left until the first promise would be broken."""
    return min(p.due for p in client.livenesses) - time.monotonic()


def _doing(client: LongPollClient) -> set[str]:
    return {p.doing for p in client.livenesses if p.due < math.inf}


async def test_nothing_is_promised_before_it_runs(host: Host) -> None:
    client = await host.client()
    assert _due(client) == math.inf
    assert not client.begun.is_set()


async def test_a_held_poll_is_announced_with_its_limits(host: Host) -> None:
    host.wait_s = 20.0
    async with host.running() as client:
        await until(lambda: client.status.connected and "polling" in _doing(client))
        await asyncio.sleep(0.1)
        assert client.begun.is_set()
        longest_s = 20.0 + host.call_s + WORK_S
        assert longest_s - 5 < _due(client) <= longest_s


async def test_while_control_is_away_some_promise_is_always_open_and_kept(
    host: Host, control: FakeControl
) -> None:
    async with host.running() as client:
        await until(lambda: client.status.connected)
        await control.stop()
        await until(lambda: not client.status.connected)
        seen: set[str] = set()
        for _ in range(100):
            assert 0 < _due(client) < math.inf
            seen |= _doing(client)
            await asyncio.sleep(0.002)
        assert "waiting before the next try" in seen


async def test_while_it_cannot_register_the_registration_promises(
    host: Host, control: FakeControl
) -> None:
    await control.stop()
    async with host.running() as client:
        await until(client.begun.is_set)
        seen: set[str] = set()
        for _ in range(60):
            assert 0 < _due(client) < math.inf
            seen |= _doing(client)
            await asyncio.sleep(0.002)
        assert seen <= {"registering", "waiting to register again"}
        assert seen


async def test_a_long_retry_after_is_promised_as_long(host: Host, control: FakeControl) -> None:
    from tests.support import fake_control  # noqa: PLC0415 - only this test makes such an answer

    async def busy(_: object) -> object:
        return fake_control.error(503, "Busy", **{"Retry-After": "200"})

    async with host.running() as client:
        await until(lambda: client.status.connected)
        control.faults["poll"].append(busy)  # type: ignore[arg-type]
        control.want("arn:task/a")
        await until(lambda: "waiting before the next try" in _doing(client))
        assert _due(client) > 200


async def test_orders_that_are_never_taken_break_the_promise(
    host: Host, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_poll, "TAKE_LIMIT_S", 0.05)

    async def take(assignments: Assignments, control_id: str, instance: str = "") -> None:
        await asyncio.Event().wait()

    host.take = take
    control.want("arn:task/a")
    async with host.running() as client:
        await until(lambda: _due(client) < 0)
        assert _doing(client) == {"taking orders"}
