"""An agent with knobs behind the real servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from agent.endpoints.operator import OperatorSocket
from agent.model.exec import STDOUT
from agent.model.metrics import HostSample, MetricsBatch
from agent.model.resources import Wait
from agent.model.views import (
    AgentView,
    ContainerView,
    LaunchView,
    ResourceView,
    TaskView,
    UsageView,
)
from agent.runtime.protocol import ExecResult
from tests.support.fake_network import FakeNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.model.exec import ExecCommand, TerminalSize
    from agent.model.figures import AgentFigures
    from agent.runtime.protocol import ExecSession, LogSelection


def task_view(task_id: str, *containers: ContainerView) -> TaskView:
    return TaskView(
        arn=f"arn:aws:ecs:local:0:task/default/{task_id}",
        id=task_id,
        family="web",
        revision="3",
        status="RUNNING",
        desired="RUNNING",
        network_mode="awsvpc",
        containers=list(containers),
        waits=[Wait(what="something", since=5.0)],
    )


def container_view(name: str, runtime_id: str = "") -> ContainerView:
    return ContainerView(
        name=name, image="i", status="RUNNING", desired="RUNNING", runtime_id=runtime_id
    )


class FakeSession:
    """A command that writes what it is told to, and otherwise repeats its input."""

    def __init__(self, *output: tuple[int, bytes]) -> None:
        self.output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        for piece in output:
            self.output.put_nowait(piece)
        self.how = ExecResult(exit_code=0, started=True)
        self.sizes: list[TerminalSize] = []
        self.reads_input = asyncio.Event()
        self.reads_input.set()
        self.closed = asyncio.Event()
        self.ends_of_input = 0

    async def read(self) -> tuple[int, bytes] | None:
        return await self.output.get()

    async def write(self, data: bytes) -> None:
        await self.reads_input.wait()
        self.output.put_nowait((STDOUT, data))

    async def end_input(self) -> None:
        self.ends_of_input += 1
        self.output.put_nowait(None)

    async def resize(self, size: TerminalSize) -> None:
        self.sizes.append(size)

    async def result(self) -> ExecResult:
        return self.how

    async def close(self) -> None:
        self.closed.set()


class FakeSampler:
    """Takes a round when it is told to or poked."""

    def __init__(self) -> None:
        self.latest: MetricsBatch | None = None
        self.loop_lag_s = self.round_s = 0.0
        self.pokes = 0
        self.callbacks: list[Callable[[MetricsBatch], None]] = []
        self.subscribed = asyncio.Event()

    def subscribe(self, callback: Callable[[MetricsBatch], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        self.subscribed.set()
        return lambda: self.callbacks.remove(callback)

    def poke(self) -> None:
        self.pokes += 1
        self.round(1000.0 + self.pokes)

    def round(self, at: float) -> None:
        self.latest = MetricsBatch(host=HostSample(at=at))
        for callback in list(self.callbacks):
            callback(self.latest)


class FakeAgent:
    """Implements ``AgentSource`` from plain attributes."""

    def __init__(self) -> None:
        self.tasks = [
            task_view("aa11", container_view("app", "r-app")),
            task_view("aa22", container_view("app", "r-2"), container_view("side")),
            task_view("bb33", container_view("app")),
        ]
        self.launches: dict[str, LaunchView] = {}
        self.networks = FakeNetwork()
        self.sampler: FakeSampler | None = None
        self.stopped: list[tuple[str, str]] = []
        self.drains: list[tuple[bool, float]] = []
        self.asked: list[tuple[str, LogSelection]] = []
        self.log: list[bytes | Exception] = [b"one\n", b"two\n"]
        self.hold = asyncio.Event()
        self.hold.set()
        self.produced = 0
        self.log_closed = asyncio.Event()
        self.commands: list[tuple[str, ExecCommand]] = []
        self.exec_session: FakeSession | Exception = FakeSession()

    def agent_view(self) -> AgentView:
        return AgentView(
            version="0.1.0",
            cluster="default",
            running=3,
            resources=[ResourceView(name="CPU", total=2048, used=512)],
        )

    def figures(self) -> AgentFigures | None:
        return None

    def task_views(self) -> list[TaskView]:
        return self.tasks

    def launch_view(self, task_arn: str) -> LaunchView | None:
        return self.launches.get(task_arn)

    def usage_view(self) -> UsageView:
        batch = self.sampler.latest if self.sampler else None
        return UsageView(host_name="h1", at=batch.host.at if batch else None)

    def samples(self) -> FakeSampler | None:
        return self.sampler

    def network(self) -> FakeNetwork:
        return self.networks

    async def stop_task(self, task_arn: str, reason: str) -> None:
        self.stopped.append((task_arn, reason))

    async def drain(self, *, wanted: bool, deadline: float) -> None:
        self.drains.append((wanted, deadline))

    async def start_exec(self, runtime_id: str, command: ExecCommand) -> ExecSession:
        self.commands.append((runtime_id, command))
        if isinstance(self.exec_session, Exception):
            raise self.exec_session
        return self.exec_session

    async def container_logs(
        self, runtime_id: str, selection: LogSelection
    ) -> AsyncIterator[bytes]:
        self.asked.append((runtime_id, selection))
        try:
            for item in self.log:
                if isinstance(item, Exception):
                    raise item
                self.produced += 1
                yield item
            await self.hold.wait()
        finally:
            self.log_closed.set()


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "run/agent.sock"


@pytest.fixture
async def served(agent: FakeAgent, socket_path: Path) -> AsyncIterator[OperatorSocket]:
    server = await OperatorSocket.open(socket_path, agent)
    yield server
    await server.close()


@pytest.fixture
async def http(served: OperatorSocket, socket_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    assert served is not None  # it must be up before anybody connects
    connector = aiohttp.UnixConnector(path=str(socket_path))
    async with aiohttp.ClientSession("http://agent", connector=connector) as session:
        yield session
