"""When the watchdog is fed, and when it is left hungry."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import StateFailure
from agent.model.liveness import WORK_S, Liveness
from agent.state import Batch, StateStore
from agent.supervision.notify import Notifier
from agent.supervision.watchdog import WRITER_LIMIT_S, Watchdog, overdue

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """A steady clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Manager(Notifier):
    """Keeps what it was told instead of sending it."""

    def __init__(self, *, watchdog_s: float = 60.0) -> None:
        super().__init__(watchdog_s=watchdog_s)
        self.said: list[str] = []

    def _send(self, message: str, *descriptors: int) -> bool:
        self.said.append(message)
        return True

    @property
    def fed(self) -> int:
        return self.said.count("WATCHDOG=1")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def watchdog(manager: Manager, clock: Clock) -> Watchdog:
    return Watchdog(manager, clock=clock)


def _fed(watchdog: Watchdog, manager: Manager, late_s: float = 0.0) -> bool:
    before = manager.fed
    watchdog.look(late_s)
    return manager.fed > before


class TestPromises:
    def test_a_kept_promise_feeds_and_a_broken_one_does_not(
        self, watchdog: Watchdog, manager: Manager, clock: Clock
    ) -> None:
        liveness = Liveness("control loop", clock)
        with watchdog.holding([liveness]), liveness.within(30, "polling"):
            assert _fed(watchdog, manager)
            clock.now += 29
            assert _fed(watchdog, manager)
            clock.now += 2
            with structlog.testing.capture_logs() as lines:
                assert not _fed(watchdog, manager)
                assert not _fed(watchdog, manager)
        (line,) = lines
        assert line["log_level"] == "error"
        assert line["part"] == "control loop"
        assert line["doing"] == "polling"
        assert line["stuck_s"] == 31
        assert line["late_s"] == 1

    def test_a_part_that_moves_again_is_fed_again(
        self, watchdog: Watchdog, manager: Manager, clock: Clock
    ) -> None:
        liveness = Liveness("control loop", clock)
        with watchdog.holding([liveness]):
            with liveness.within(1, "polling"):
                clock.now += 2
                assert not _fed(watchdog, manager)
            assert _fed(watchdog, manager)

    def test_a_wait_that_nobody_announced_is_bounded(
        self, watchdog: Watchdog, manager: Manager, clock: Clock
    ) -> None:
        liveness = Liveness("control loop", clock)
        with watchdog.holding([liveness]):
            with liveness.within(5, "polling"):
                pass
            clock.now += WORK_S - 1
            assert _fed(watchdog, manager)
            clock.now += 2
            assert not _fed(watchdog, manager)

    def test_nothing_promised_is_nothing_broken(
        self, watchdog: Watchdog, manager: Manager, clock: Clock
    ) -> None:
        liveness = Liveness("control loop", clock)
        with watchdog.holding([liveness]):
            clock.now += 1e6
            assert _fed(watchdog, manager)
            with liveness.resting("waiting for a registration"):
                clock.now += 1e6
                assert _fed(watchdog, manager)

    def test_what_is_not_held_any_more_does_not_count(
        self, watchdog: Watchdog, manager: Manager, clock: Clock
    ) -> None:
        liveness = Liveness("control loop", clock)
        with watchdog.holding([liveness]), liveness.within(1, "polling"):
            clock.now += 2
        clock.now += 1000
        assert _fed(watchdog, manager)

    def test_a_failing_wait_renews_the_promise_as_well(self, clock: Clock) -> None:
        liveness = Liveness("control loop", clock)
        with pytest.raises(OSError, match="away"), liveness.within(5, "polling"):
            raise OSError("away")
        assert liveness.due == clock.now + WORK_S

    def test_after_the_process_stood_still_everybody_gets_another_look(
        self, watchdog: Watchdog, manager: Manager, clock: Clock
    ) -> None:
        liveness = Liveness("control loop", clock)
        with watchdog.holding([liveness]), liveness.within(5, "polling"):
            clock.now += 600
            assert _fed(watchdog, manager, late_s=590)
            assert not _fed(watchdog, manager)

    @given(
        st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6) | st.just(math.inf))),
        st.floats(0, 2e6),
    )
    def test_only_what_is_late_is_late(self, made: list[tuple[float, float]], now: float) -> None:
        livenesses = []
        for at, seconds in made:
            liveness = Liveness("p", lambda at=at: at)  # type: ignore[misc]
            liveness.liveness(seconds, "x")
            livenesses.append(liveness)
        late = overdue(livenesses, now)
        assert all(p.due < now for p in late)
        assert all(p.due >= now for p in livenesses if p not in late)
        assert [p.due for p in late] == sorted(p.due for p in late)


class TestWriter:
    async def test_a_writer_that_answers_feeds(
        self, watchdog: Watchdog, manager: Manager, clock: Clock, tmp_path: Path
    ) -> None:
        store = await StateStore.open(tmp_path / "agent.db")
        try:
            with watchdog.beating(store.beat):
                for _ in range(3):
                    assert _fed(watchdog, manager)
                    await asyncio.wait_for(store.beat(), 5)
                    clock.now += WRITER_LIMIT_S + 1
        finally:
            await store.close()

    async def test_a_writer_that_hangs_starves(
        self, watchdog: Watchdog, manager: Manager, clock: Clock, tmp_path: Path
    ) -> None:
        store = await StateStore.open(tmp_path / "agent.db")
        disk = threading.Event()
        try:
            batch = Batch()
            batch.put("task", "a", b"")
            await store.commit(batch)
            hung = asyncio.ensure_future(store.load("task", lambda _: disk.wait(20)))
            await asyncio.sleep(0)
            with watchdog.beating(store.beat):
                assert _fed(watchdog, manager)
                clock.now += WRITER_LIMIT_S - 1
                assert _fed(watchdog, manager)
                clock.now += 2
                with structlog.testing.capture_logs() as lines:
                    assert not _fed(watchdog, manager)
                assert lines[0]["part"] == "state writer"
                disk.set()
                await asyncio.wait_for(store.beat(), 5)
                assert _fed(watchdog, manager)
            await hung
        finally:
            disk.set()
            await store.close()

    async def test_a_closed_store_is_not_stuck(
        self, watchdog: Watchdog, manager: Manager, clock: Clock, tmp_path: Path
    ) -> None:
        store = await StateStore.open(tmp_path / "agent.db")
        await store.close()
        with pytest.raises(StateFailure):
            await store.beat()
        with watchdog.beating(store.beat):
            assert _fed(watchdog, manager)
            clock.now += 1e4
            assert _fed(watchdog, manager)

    async def test_a_full_disk_is_not_a_stuck_writer(
        self,
        watchdog: Watchdog,
        manager: Manager,
        clock: Clock,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store = await StateStore.open(tmp_path / "agent.db")
        try:
            monkeypatch.setattr(store._writer.database, "apply", _no_space)
            with watchdog.beating(store.beat):
                for _ in range(3):
                    batch = Batch()
                    batch.put("task", "a", b"")
                    with pytest.raises(StateFailure):
                        await store.commit(batch)
                    assert _fed(watchdog, manager)
                    await asyncio.wait_for(store.beat(), 5)
                    clock.now += WRITER_LIMIT_S + 1
        finally:
            await store.close()


def _no_space(*_: object, **__: object) -> list[object]:
    raise OSError(28, "No space left on device")


class TestLoop:
    async def test_it_feeds_three_times_per_limit_and_passes_the_status_on(self) -> None:
        manager = Manager(watchdog_s=0.15)
        watchdog = Watchdog(manager)
        lines = iter(["starting", "1 task running", "1 task running"])
        with watchdog.describing(lambda: next(lines, "1 task running")):
            feeder = asyncio.create_task(watchdog.run())
            await asyncio.sleep(0.5)
            feeder.cancel()
            await asyncio.wait([feeder])
        assert 5 <= manager.fed <= 11
        assert [s for s in manager.said if s.startswith("STATUS")] == [
            "STATUS=starting",
            "STATUS=1 task running",
        ]

    def test_a_status_that_fails_does_not_end_the_feeding(
        self, watchdog: Watchdog, manager: Manager
    ) -> None:
        with watchdog.describing(lambda: str(1 / 0)):
            assert _fed(watchdog, manager)
        assert any("ZeroDivisionError" in said for said in manager.said)

    def test_the_status_says_what_is_stuck(
        self, watchdog: Watchdog, manager: Manager, clock: Clock
    ) -> None:
        liveness = Liveness("control loop", clock)
        with (
            watchdog.describing(lambda: "3 tasks running"),
            watchdog.holding([liveness]),
            liveness.within(1, "polling"),
        ):
            clock.now += 2
            watchdog.look()
        assert manager.said[-1] == "STATUS=stuck: control loop; 3 tasks running"

    def test_a_manager_without_a_watchdog_is_looked_after_nevertheless(self, clock: Clock) -> None:
        manager = Manager(watchdog_s=0.0)
        watchdog = Watchdog(manager, clock=clock)
        assert watchdog._interval_s == 10.0
