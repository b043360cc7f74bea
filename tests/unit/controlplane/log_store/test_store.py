"""The log store: taking, reading both ways, segments, retention, size, restarts."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.log_store import disk
from agent.controlplane.log_store.catalogue import Catalogue
from agent.controlplane.log_store.changes import retained
from agent.controlplane.log_store.contract import (
    BEFORE_ALL,
    DAY_MS,
    Bounds,
    GroupExists,
    GroupMissing,
    LogStoreBusy,
    LogStoreFailure,
    LogStoreFull,
    StreamExists,
    StreamMissing,
)
from agent.controlplane.log_store.paging import Ask
from agent.controlplane.log_store.store import LogStore
from tests.unit.controlplane.log_store.conftest import (
    NOW_MS,
    SMALL,
    Clock,
    batch,
    messages,
    newest,
    sealed,
)

if TYPE_CHECKING:
    from pathlib import Path


async def fill(store: LogStore, count: int, *, size: int = 100, **more: Any) -> list[str]:
    """Take so many events in batches of ten; return their messages."""
    texts = [f"{number:06d} ".ljust(size, "x") for number in range(count)]
    for start in range(0, count, 10):
        await store.append(batch(*texts[start : start + 10], at=NOW_MS + start, **more))
    await sealed(store)
    return texts


async def test_what_was_taken_is_read_both_ways(store: LogStore) -> None:
    texts = await fill(store, 500)
    assert (await store.usage()).segments > 3
    assert await messages(store, streams=["s"]) == texts
    assert await messages(store) == texts
    assert await newest(store, 25) == texts[-25:]


async def test_groups_and_streams_are_made_once_and_must_be_there(store: LogStore) -> None:
    with pytest.raises(GroupMissing):
        await store.append(batch("a", make_group=False))
    await store.create_group("g", tags={"a": "b"})
    with pytest.raises(GroupExists):
        await store.create_group("g")
    with pytest.raises(StreamMissing):
        await store.append(batch("a", make_stream=False))
    await store.create_stream("g", "s")
    with pytest.raises(StreamExists):
        await store.create_stream("g", "s")
    with pytest.raises(GroupMissing):
        await store.create_stream("other", "s")
    with pytest.raises(StreamMissing):
        await messages(store, streams=["none"])
    assert (await store.group("g")).tags == {"a": "b"}
    await store.ensure_stream("g", "s", make_group=False)
    with pytest.raises(GroupMissing):
        await store.ensure_stream("other", "s", make_group=False)


async def test_lists_go_on_behind_a_name(store: LogStore) -> None:
    for name in ("a/1", "a/2", "a/3", "b/1"):
        await store.create_group(name)
        await store.create_stream("a/1", f"s{name}")
    first = await store.groups(prefix="a/", most=2)
    rest = await store.groups(prefix="a/", after=first[-1].name, most=2)
    assert [group.name for group in first + rest] == ["a/1", "a/2", "a/3"]
    assert [group.name for group in await store.groups(pattern="/1", most=9)] == ["a/1", "b/1"]
    streams = await store.streams("a/1", prefix="sa/", most=9)
    assert [stream.name for stream in streams] == ["sa/1", "sa/2", "sa/3"]
    back = await store.streams("a/1", most=2, backwards=True, after="sb/1")
    assert [stream.name for stream in back] == ["sa/3", "sa/2"]


async def test_streams_by_the_time_of_their_last_event(store: LogStore) -> None:
    for number, name in enumerate(["old", "new", "mid"]):
        await store.append(batch("x", at=NOW_MS + [0, 20, 10][number], stream=name))
    await store.create_stream("g", "empty")
    async with asyncio.timeout(40):
        while (await store.streams("g", prefix="mid", most=1))[0].last_event_ms is None:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.05)
    found = await store.streams_by_time("g", after=None, most=9, newest_first=True)
    assert [stream.name for stream in found] == ["new", "mid", "old", "empty"]
    after = (NOW_MS + 10, "mid")
    rest = await store.streams_by_time("g", after=after, most=9, newest_first=True)
    assert [stream.name for stream in rest] == ["old", "empty"]
    forward = await store.streams_by_time("g", after=None, most=2, newest_first=False)
    assert [stream.name for stream in forward] == ["empty", "old"]


async def test_a_batch_is_taken_once_also_after_its_journal_is_gone(store: LogStore) -> None:
    assert not (await store.append(batch("once", id="i/1"))).is_again
    assert (await store.append(batch("once", id="i/1"))).is_again
    await fill(store, 200, stream="other")
    assert (await store.append(batch("once", id="i/1"))).is_again
    assert await messages(store, streams=["s"]) == ["once"]


async def test_the_same_batch_twice_in_one_commit(store: LogStore) -> None:
    both = await asyncio.gather(*(store.append(batch("once", id="i/1")) for _ in range(5)))
    assert sorted(taken.is_again for taken in both) == [False, True, True, True, True]
    assert await messages(store) == ["once"]


async def test_a_restart_keeps_everything(tmp_path: Path, clock: Clock) -> None:
    wanted: list[str] = []
    for turn in range(3):
        store = await LogStore.open(tmp_path / "logs", SMALL, clock=clock)
        assert await (messages(store) if turn else asyncio.sleep(0, [])) == wanted
        texts = [f"{turn} {number}".ljust(90) for number in range(170)]
        for start in range(0, 170, 10):
            at = NOW_MS + turn * 1000 + start
            await store.append(batch(*texts[start : start + 10], at=at, id=f"{turn}/{start}"))
        wanted += texts
        assert (await store.append(batch("again", id=f"{turn}/0"))).is_again
        await store.close()
    store = await LogStore.open(tmp_path / "logs", SMALL, clock=clock)
    assert await messages(store) == wanted
    assert await newest(store, 10) == wanted[-10:]
    assert (await store.append(batch("again", id="0/0"))).is_again
    await store.close()


async def test_two_processes_do_not_share_a_store(store: LogStore) -> None:
    with pytest.raises(LogStoreFailure, match="another process"):
        await LogStore.open(store.directory)


async def test_what_is_deleted_is_gone_and_does_not_come_back(
    store: LogStore, clock: Clock
) -> None:
    await fill(store, 100)
    kept = await fill(store, 100, stream="kept")
    await store.delete_stream("g", "s")
    with pytest.raises(StreamMissing):
        await messages(store, streams=["s"])
    assert await messages(store) == kept
    await store.append(batch("new"))
    assert await messages(store, streams=["s"]) == ["new"]
    await store.delete_group("g")
    with pytest.raises(GroupMissing):
        await messages(store)
    await store.append(batch("newer"))
    assert await messages(store) == ["newer"]
    await store.close()
    again = await LogStore.open(store.directory, SMALL, clock=clock)
    assert await messages(again) == ["newer"]
    await again.close()


async def swept(store: LogStore, clock: Clock, *, later_ms: int = 0) -> None:
    """Sweep as if so much time had passed, until there is nothing more to do."""
    clock.now += later_ms / 1000
    sweep = store._writer._sweep
    while await store._change(sweep):
        pass
    await sealed(store)
    await store._change(lambda _: None)


async def segment_sizes(store: LogStore) -> list[int]:
    segments = await store._read(lambda: Catalogue.segments(store._reader.catalogue))
    return [size for _, _, size, _ in segments]


async def segment_files(store: LogStore) -> dict[str, int]:
    return await asyncio.to_thread(disk.segment_files, store.directory)


async def test_events_go_with_the_retention_of_their_group(store: LogStore, clock: Clock) -> None:
    await fill(store, 300)
    kept = await fill(store, 300, group="kept")
    await store.change_group("g", retained(3))
    assert len(await messages(store)) == 300
    clock.now += 4 * DAY_MS / 1000
    assert await messages(store) == [], "hidden at once"
    before = (await store.usage()).segments
    await swept(store, clock)
    assert (await store.group("g")).stored_bytes == 0
    assert (await store.usage()).segments < before
    assert await messages(store, "kept") == kept


async def test_the_stores_retention_is_for_groups_without_one(tmp_path: Path, clock: Clock) -> None:
    bounds = replace(SMALL, retention_days=2)
    store = await LogStore.open(tmp_path / "logs", bounds, clock=clock)
    await store.append(batch("short"))
    await store.append(batch("long", group="long"))
    await store.change_group("long", retained(30))
    clock.now += 3 * DAY_MS / 1000
    assert await messages(store) == []
    assert await messages(store, "long") == ["long"]
    await store.close()


async def test_the_oldest_events_go_when_there_are_too_many(tmp_path: Path, clock: Clock) -> None:
    bounds = replace(SMALL, most_bytes=500 * 1024)
    store = await LogStore.open(tmp_path / "logs", bounds, clock=clock)
    noise = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(15_000)]
    for start in range(0, len(noise), 50):
        await store.append(batch(*noise[start : start + 50], at=NOW_MS + start))
    await sealed(store)
    await swept(store, clock)
    left = await messages(store)
    assert left == noise[-len(left) :]
    assert 0 < len(left) < len(noise)
    assert (await store.usage()).taken_bytes <= bounds.most_bytes
    await store.close()


async def test_a_segment_that_is_mostly_dead_is_written_anew(
    store: LogStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.controlplane.log_store.sweeping._REWRITE_FROM_BYTES", 1)
    texts = [f"{number * 7919 % 100_003:x}" * 20 for number in range(60)]
    await store.append(batch(*texts[:50], stream="gone"))
    await store.append(batch(*texts[50:], stream="kept"))
    await fill(store, 100, stream="more")
    await store.delete_stream("g", "gone")
    sizes = await segment_sizes(store)
    await swept(store, clock)
    async with asyncio.timeout(40):
        while not any(".1." in file for file in await segment_files(store)):
            await swept(store, clock)
            await asyncio.sleep(0.02)
    assert await messages(store, streams=["kept"]) == texts[50:]
    after = await segment_sizes(store)
    assert sum(after) < sum(sizes)
    await store.close()
    again = await LogStore.open(store.directory, SMALL, clock=clock)
    assert await messages(again, streams=["kept"]) == texts[50:]
    assert len(await segment_files(store)) == len(after), "the old file is gone"
    await again.close()


async def test_more_than_may_wait_is_refused(tmp_path: Path, clock: Clock) -> None:
    bounds = replace(SMALL, waiting_bytes=2000)
    store = await LogStore.open(tmp_path / "logs", bounds, clock=clock)
    results = await asyncio.gather(
        *(store.append(batch("x" * 700, stream=str(n))) for n in range(30)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, LogStoreBusy)]
    assert refused
    assert len(await messages(store)) == 30 - len(refused)
    await store.append(batch("goes on"))
    await store.close()


async def test_a_full_disk_refuses_events_and_nothing_else(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append(batch("before"))
    store._writer._bounds = replace(SMALL, keep_free_bytes=2 * 2**60)
    store._writer._disk_due = 0.0
    with pytest.raises(LogStoreFull, match="free some space"):
        await store.append(batch("refused"))
    await store.create_stream("g", "other")
    assert await messages(store) == ["before"]
    store._writer._bounds = SMALL
    await store.append(batch("after"))
    assert await messages(store) == ["before", "after"]


async def test_a_journal_that_the_disk_refuses_loses_nothing_that_was_taken(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append(batch("before"))

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", refuse)
        both = await asyncio.gather(
            *(store.append(batch("refused", id="i")) for _ in range(2)), return_exceptions=True
        )
        for result in both:
            assert isinstance(result, LogStoreFull), "one that is known again is not kept either"
            assert "No space left" in str(result)
        assert store.problem
    assert await messages(store) == ["before"]
    assert not (await store.append(batch("after", id="i"))).is_again
    assert not store.problem
    await store.close()
    again = await LogStore.open(store.directory, SMALL)
    assert await messages(again) == ["before", "after"]
    await again.close()


async def test_windows_give_everything_once_in_the_order_it_was_taken(store: LogStore) -> None:
    wanted: list[str] = []
    for number in range(150):
        texts = [f"{number}.{part}".ljust(100) for part in range(3)]
        await store.append(batch(*texts, stream=str(number % 7), at=NOW_MS - number))
        wanted += texts
    found: list[str] = []
    sequence = 1
    while True:
        window = await store.window(sequence, most_events=11, most_bytes=10**6)
        if window.next_sequence == sequence:
            break
        assert len(window.events) <= 11
        found += [event.message for event in window.events]
        assert all(window.streams[event.stream_id][0] == "g" for event in window.events)
        sequence = window.next_sequence
    assert found == wanted
    assert sequence == store.next_sequence


async def test_cursors_are_kept(store: LogStore, clock: Clock) -> None:
    assert await store.cursor("loki") is None
    await store.set_cursor("loki", 5)
    assert await store.cursor("loki") == 5


async def test_who_waits_is_told_of_new_events(store: LogStore) -> None:
    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        waiter = group.create_task(store.grown(store.batches_taken))
        await asyncio.sleep(0)
        assert not waiter.done()
        await store.append(batch("x"))


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.lists(st.tuples(st.integers(0, 40), st.text(max_size=30)), min_size=1, max_size=6),
        st.integers(0, 9),
    ),
    max_size=25,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_it_is_a_sorted_list(tmp_path: Path, operations: list[Any]) -> None:
    """Whatever is taken, sealed and reopened on the way: a page is a slice of the sorted list."""
    asyncio.run(_like_a_list(tmp_path, operations))


async def _like_a_list(tmp_path: Path, operations: list[Any]) -> None:
    directory = tmp_path / "model"
    shutil.rmtree(directory, ignore_errors=True)
    bounds = Bounds(journal_bytes=1500, block_bytes=64, keep_free_bytes=0)
    store = await LogStore.open(directory, bounds)
    model: list[tuple[int, int, str, str]] = []
    for stream, events, chance in operations:
        times = sorted(time for time, _ in events)
        texts = [text for _, text in events]
        await store.append(
            batch(*texts, stream=stream, times=[NOW_MS + time * 1_000_000 for time in times])
        )
        for time, text in zip(times, texts, strict=True):
            model.append((time, len(model), stream, text))
        if chance == 0:
            await store.close()
            store = await LogStore.open(directory, bounds)
    model.sort()
    if model:
        assert await messages(store) == [text for *_, text in model]
        for stream in {stream for *_, stream, _ in model}:
            mine = [text for *_, one, text in model if one == stream]
            assert await messages(store, streams=[stream]) == mine
            assert await newest(store, 4, stream=stream) == mine[-4:]
        start = NOW_MS + 20 * 1_000_000
        late = await store.page("g", Ask(BEFORE_ALL, start_ms=start))
        assert [e.message for e in late.page.events] == [t for at, *_, t in model if at >= 20]
    await store.close()
