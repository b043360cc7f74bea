"""Turns: what a reload ends, begins, and puts back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.config import Settings
from agent.errors import ConfigError, NetworkFailure, StateFailure
from agent.supervision import lifecycle
from agent.supervision.lifecycle import Lifecycle, ServeSession
from agent.supervision.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Manager(Notifier):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def _send(self, message: str, *descriptors: int) -> bool:
        self.said.append(message.partition("\n")[0])
        return True


Behave = Callable[[ServeSession], object]


class Daemon:
    """Serves as it is told to for each cluster name, and keeps what happened."""

    def __init__(self) -> None:
        self.manager = Manager()
        self.next: Settings | ConfigError = Settings()
        self.adopted: list[str] = []
        self.began: list[str] = []
        self.ended: list[str] = []
        self.fails: dict[str, BaseException] = {}
        self.waits: set[str] = set()
        """Clusters whose engine is away: they are ready and never settle."""
        self.fails_to_end: dict[str, Exception] = {}
        self.successors: list[str | None] = []
        self.release = asyncio.Event()
        self.goes_down = True
        self.leave_host: Callable[[], Awaitable[None]] | None = None
        self.life = Lifecycle(
            self.serve,
            reread=self.reread,
            adopt=self.adopt,
            notifier=self.manager,
            host_goes_down=self.host_goes_down,
        )

    async def serve(self, settings: Settings, serve_session: ServeSession) -> None:
        name = settings.cluster
        self.began.append(name)
        try:
            if name in self.waits:
                serve_session.ready()
                await self.release.wait()
            if name in self.fails:
                raise self.fails[name]
            serve_session.leave_host = self.leave_host
            serve_session.settle()
            await asyncio.Event().wait()
        finally:
            self.ended.append(name)
            self.successors.append(
                serve_session.successor.cluster if serve_session.successor else None
            )
            if name in self.fails_to_end:
                raise self.fails_to_end[name]

    async def host_goes_down(self) -> bool:
        return self.goes_down

    def reread(self) -> Settings:
        if isinstance(self.next, ConfigError):
            raise self.next
        return self.next

    def adopt(self, settings: Settings) -> None:
        if settings.log_format == "json":
            raise ConfigError("ECS_LOGFILE: cannot be opened")
        self.adopted.append(settings.cluster)

    async def reload(self, cluster: str | ConfigError) -> None:
        """Have it reload, and return when it has nothing left to do."""
        self.next = cluster if isinstance(cluster, ConfigError) else Settings(cluster=cluster)
        self.life.reload()
        await self.rest()

    async def rest(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(daemon: Daemon, cluster: str = "a") -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(daemon.life.run(Settings(cluster=cluster)))
    await daemon.rest()
    try:
        yield task
    finally:
        daemon.life.leave()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


@pytest.fixture
async def daemon() -> Daemon:
    return Daemon()


async def test_serves_until_told_to_leave(daemon: Daemon) -> None:
    async with running(daemon) as task:
        assert daemon.manager.said == ["READY=1"]
        daemon.life.leave()
        daemon.life.leave()
        await task
    assert daemon.ended == ["a"]
    assert daemon.manager.said == ["READY=1", "STOPPING=1"]


async def test_a_host_that_goes_down_is_left_before_the_session_ends(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "EXTENSION_S", 0.03)
    ended_when_left = []

    async def leave_host() -> None:
        await daemon.rest()
        ended_when_left.append(list(daemon.ended))
        raise StateFailure("the disk is full")

    daemon.leave_host = leave_host
    async with running(daemon) as task:
        daemon.life.leave()
        await task
    assert (ended_when_left, daemon.ended) == ([[]], ["a"])
    assert daemon.manager.said[1] == "STOPPING=1"
    assert daemon.manager.said[2:].count("EXTEND_TIMEOUT_USEC=30000") > 1


async def test_an_agent_that_alone_ends_leaves_tasks_alone(daemon: Daemon) -> None:
    async def leave_host() -> None:
        pytest.fail("the host goes on")

    daemon.leave_host, daemon.goes_down = leave_host, False
    async with running(daemon) as task:
        daemon.life.leave()
        await task
    assert daemon.ended == ["a"]


async def test_other_settings_end_one_turn_and_begin_the_next(daemon: Daemon) -> None:
    async with running(daemon):
        with structlog.testing.capture_logs() as lines:
            await daemon.reload("b")
        assert daemon.began == ["a", "b"]
        assert daemon.ended == ["a"]
        assert daemon.successors == ["b"]
        assert daemon.adopted == ["b"]
        assert daemon.manager.said == ["READY=1", "RELOADING=1", "READY=1"]
        assert lines == [
            {
                "event": "setting changed",
                "log_level": "info",
                "variable": "ECS_CLUSTER",
                "old": "a",
                "new": "b",
            }
        ]
    assert daemon.successors == ["b", None]


async def test_the_same_settings_change_nothing(daemon: Daemon) -> None:
    async with running(daemon):
        with structlog.testing.capture_logs() as lines:
            await daemon.reload("a")
        assert daemon.began == ["a"]
        assert [line["log_level"] for line in lines] == ["info"]
        assert daemon.manager.said == ["READY=1", "RELOADING=1", "READY=1"]


async def test_bad_settings_are_told_line_by_line_and_the_old_ones_stay(daemon: Daemon) -> None:
    async with running(daemon):
        with structlog.testing.capture_logs() as lines:
            await daemon.reload(ConfigError("ECS_A is bad\nECS_B is bad"))
        assert [(line["log_level"], line["problem"]) for line in lines] == [
            ("error", "ECS_A is bad"),
            ("error", "ECS_B is bad"),
        ]
        assert daemon.began == ["a"]
        assert daemon.manager.said[-2:] == ["RELOADING=1", "READY=1"]


async def test_a_log_file_that_cannot_be_opened_is_a_bad_setting(daemon: Daemon) -> None:
    async with running(daemon):
        daemon.next = Settings(cluster="b", log_format="json")
        daemon.life.reload()
        await daemon.rest()
        assert daemon.began == ["a"]


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("registered elsewhere"),
        NetworkFailure("ECS_TASK_POOL_CIDR overlaps"),
        ExceptionGroup("g", [ConfigError("registered elsewhere")]),
        RuntimeError("a fault of ours"),
    ],
)
async def test_settings_that_turn_out_to_be_bad_are_put_back(
    daemon: Daemon, error: Exception
) -> None:
    daemon.fails["b"] = error
    async with running(daemon):
        with structlog.testing.capture_logs() as lines:
            await daemon.reload("b")
        assert daemon.began == ["a", "b", "a"]
        assert daemon.adopted == ["b", "a"]
        assert daemon.manager.said == ["READY=1", "RELOADING=1", "READY=1"]
        assert lines[-1]["log_level"] == "error"
        assert "restoring the old ones" in lines[-1]["event"]


async def test_settings_that_wait_for_the_engine_can_still_be_put_back(daemon: Daemon) -> None:
    daemon.fails["b"] = NetworkFailure("ECS_TASK_POOL_CIDR overlaps")
    daemon.waits.add("b")
    async with running(daemon):
        await daemon.reload("b")
        assert daemon.began == ["a", "b"]
        assert daemon.manager.said[-1] == "READY=1"
        daemon.release.set()
        await daemon.rest()
        assert daemon.began == ["a", "b", "a"]


async def test_a_reload_on_top_of_unproven_settings_goes_back_to_proven_ones(
    daemon: Daemon,
) -> None:
    daemon.waits.add("b")
    daemon.fails["c"] = ConfigError("bad")
    async with running(daemon):
        await daemon.reload("b")
        await daemon.reload("c")
        assert daemon.began == ["a", "b", "c", "a"]


async def test_proven_settings_that_fail_later_end_the_process(daemon: Daemon) -> None:
    daemon.fails["a"] = StateFailure("another agent holds it")
    with pytest.raises(StateFailure):
        await daemon.life.run(Settings(cluster="a"))
    assert daemon.ended == ["a"]


async def test_old_settings_that_fail_after_being_put_back_end_the_process(
    daemon: Daemon,
) -> None:
    daemon.fails["b"] = ConfigError("bad")
    async with running(daemon) as task:
        daemon.fails["a"] = NetworkFailure("and now this")
        await daemon.reload("b")
        with pytest.raises(NetworkFailure):
            await task


async def test_leaving_wins_over_a_reload(daemon: Daemon) -> None:
    async with running(daemon) as task:
        daemon.next = Settings(cluster="b")
        daemon.life.reload()
        daemon.life.leave()
        async with asyncio.timeout(5):
            await task
    assert daemon.began == ["a"]
    assert daemon.manager.said[-1] == "STOPPING=1"


async def test_leaving_in_the_middle_of_a_reload_begins_nothing(daemon: Daemon) -> None:
    async with running(daemon) as task:
        daemon.next = Settings(cluster="b")
        daemon.life.reload()
        await asyncio.sleep(0)
        daemon.life.leave()
        async with asyncio.timeout(5):
            await task
    assert daemon.ended[-1] == daemon.began[-1]


async def test_several_signals_in_a_row_are_one_reload_or_two(daemon: Daemon) -> None:
    async with running(daemon):
        daemon.next = Settings(cluster="b")
        for _ in range(5):
            daemon.life.reload()
            await asyncio.sleep(0)
        await daemon.rest()
        assert daemon.began == ["a", "b"]
        assert daemon.manager.said[-1] == "READY=1"


async def test_what_fails_while_ending_does_not_stop_a_reload(daemon: Daemon) -> None:
    daemon.fails_to_end["a"] = StateFailure("the disk is full")
    async with running(daemon):
        with structlog.testing.capture_logs() as lines:
            await daemon.reload("b")
        assert daemon.began == ["a", "b"]
        assert lines[-1]["error"] == "the disk is full"


async def test_a_turn_that_does_not_end_breaks_a_promise(daemon: Daemon) -> None:
    stay = asyncio.Event()

    async def serve(settings: Settings, serve_session: ServeSession) -> None:
        try:
            serve_session.settle()
            await asyncio.Event().wait()
        finally:
            await stay.wait()

    daemon.life._serve = serve
    async with running(daemon):
        assert daemon.life.liveness.due == float("inf")
        await daemon.reload("b")
        assert daemon.life.liveness.due < float("inf")
        stay.set()
        await daemon.rest()
        assert daemon.life.liveness.due == float("inf")


async def test_settings_of_the_daemon_are_compared_with_those_it_runs_with(
    daemon: Daemon,
) -> None:
    daemon.fails["b"] = ConfigError("bad")
    async with running(daemon):
        await daemon.reload("b")
        await daemon.reload("a")
        assert daemon.began == ["a", "b", "a"], "it runs with these already"
        assert replace(Settings(), cluster="a") == Settings(cluster="a")


async def test_a_terminal_that_is_gone_means_leaving(daemon: Daemon) -> None:
    gone = False
    life = daemon.life = Lifecycle(
        daemon.serve,
        reread=daemon.reread,
        adopt=daemon.adopt,
        notifier=daemon.manager,
        hung_up=lambda: gone,
    )
    async with running(daemon) as task:
        daemon.next = Settings(cluster="b")
        life.hang_up()
        await daemon.rest()
        assert daemon.began == ["a", "b"]
        gone = True
        life.hang_up()
        async with asyncio.timeout(5):
            await task


async def test_a_session_can_be_begun_again_with_the_same_settings(daemon: Daemon) -> None:
    async with running(daemon):
        daemon.life.begin_again()
        daemon.life.begin_again()
        await daemon.rest()
        assert (daemon.began, daemon.ended) == (["a", "a"], ["a"])
        assert daemon.successors == ["a"]
        assert not daemon.adopted
    assert daemon.ended == ["a", "a"]
