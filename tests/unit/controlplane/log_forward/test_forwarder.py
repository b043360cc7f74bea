"""The loop that forwards: everything once, whatever the destination does, and from where it was."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from agent.controlplane.log_forward import forwarder as forwarding
from agent.controlplane.log_store.changes import Batch
from tests.unit.controlplane.log_forward.conftest import Scripted, running

if TYPE_CHECKING:
    import pytest

    from agent.controlplane.log_store.store import LogStore


async def put(store: LogStore, *messages: str, stream: str = "s", **more: Any) -> None:
    now_ms = int(time.time() * 1000)
    await store.append(
        Batch(
            group="g",
            stream=stream,
            times=[now_ms + n for n in range(len(messages))],
            messages=messages,
            make_group=True,
            make_stream=True,
            **more,
        )
    )


async def delivered(store: LogStore) -> None:
    """Return when the cursor is behind everything."""
    async with asyncio.timeout(40):
        while await store.cursor("scripted") != store.next_sequence:  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.005)


async def test_what_comes_from_now_on_is_forwarded(store: LogStore, destination: Scripted) -> None:
    await put(store, "before")
    async with running(store, destination):
        await put(store, "one", "two")
        await destination.until(2)
        await put(store, "three", stream="t")
        await destination.until(3)
    assert destination.got == ["one", "two", "three"]


async def test_a_restart_goes_on_where_it_was(store: LogStore, destination: Scripted) -> None:
    wanted = [f"{number:04}".ljust(100) for number in range(400)]
    async with running(store, destination):
        await put(store, *wanted[:100])
        await destination.until(100)
        await delivered(store)
    for start in range(100, 400, 20):
        await put(store, *wanted[start : start + 20])
    async with running(store, destination):
        await destination.until(400)
    assert sorted(destination.got) == wanted


async def test_a_destination_that_is_away_loses_and_doubles_nothing(
    store: LogStore, destination: Scripted
) -> None:
    async with running(store, destination) as forwarder:
        destination.is_away = True
        with capture_logs() as told:
            await put(store, "one")
            await put(store, "two", stream="t")
            for _ in range(3):
                await destination.until_called()
        assert [line["event"] for line in told] == ["logs cannot be forwarded; tried again"]
        assert told[0]["error"] == "it is away"
        destination.is_away = False
        destination.away = {"t"}
        await destination.until(1)
        await destination.until_called()
        assert destination.got == ["one"]
        destination.away = set()
        await destination.until(2)
    assert destination.got == ["one", "two"], "what was delivered is not sent again"
    assert forwarder.problem == ""


async def test_what_is_refused_is_told_and_passed(store: LogStore, destination: Scripted) -> None:
    destination.refused = {"bad"}
    async with running(store, destination):
        with capture_logs() as told:
            await put(store, "a", "b", stream="bad")
            await put(store, "c", stream="good")
            await destination.until(1)
    assert [(line["stream"], line["events"], line["error"]) for line in told] == [
        ("bad", 2, "never")
    ]
    assert destination.got == ["c"]


async def test_what_went_before_it_was_forwarded_is_counted(
    store: LogStore, destination: Scripted
) -> None:
    async with running(store, destination):
        await put(store, "first")
        await destination.until(1)
        await delivered(store)
    await put(store, *["gone"] * 5, stream="gone")
    await store.delete_stream("g", "gone")
    with capture_logs() as told:
        async with running(store, destination):
            await put(store, "last")
            await destination.until(2)
    assert destination.got == ["first", "last"]
    assert sum(line.get("events", 0) for line in told) == 5


async def test_a_lag_is_told(
    store: LogStore, destination: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "LAGS_S", 0.0)
    async with running(store, destination) as forwarder:
        destination.is_away = True
        assert forwarder.problem == ""
        await put(store, "one")
        await destination.until_called()
        await asyncio.sleep(0.01)
        assert forwarder.lag_s > 0
        assert forwarder.problem.startswith("forwarding to scripted lags by 0 s: it is away")
        destination.is_away = False
        await destination.until(1)
        async with asyncio.timeout(40):
            while forwarder.problem:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.005)


async def test_a_large_backlog_goes_in_windows(
    store: LogStore, destination: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "WINDOW_EVENTS", 30)
    async with running(store, destination):
        pass
    wanted = [f"{number:04}".ljust(200) for number in range(500)]
    for start in range(0, 500, 10):
        await put(store, *wanted[start : start + 10], stream=str(start % 3))
    async with running(store, destination):
        await destination.until(500)
    assert sorted(destination.got) == wanted
    assert destination.calls >= 500 // 30
