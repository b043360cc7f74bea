from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from agent.endpoints.operator import OperatorSocket
from agent.errors import EngineRefused
from agent.model.metrics import ContainerSample, LinkCounters, TaskSample
from agent.model.resources import Wait
from agent.model.task import NetworkBinding
from agent.model.views import (
    AgentView,
    ContainerView,
    LaunchView,
    ResourceView,
    TaskView,
    UsageView,
)
from tests.support.fake_network import FakeNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.endpoints.source import SampleSource
    from agent.model.exec import ExecCommand
    from agent.runtime.protocol import ExecSession, LogSelection


def rfc3339(stamp: int) -> str:
    """Return a time in nanoseconds since the epoch as the engine writes it."""
    seconds, nanoseconds = divmod(stamp, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


class Source:
    """An agent with two tasks, one that runs and one that waits."""

    def __init__(self) -> None:
        self.stopped: list[tuple[str, str]] = []
        self.drains: list[tuple[bool, float]] = []
        self.selections: list[tuple[str, LogSelection]] = []
        self.lines: dict[str, list[tuple[int, str]]] = {}
        """What containers wrote, by their id: nanoseconds since the epoch, and the line."""
        self.agent = AgentView(
            version="0.1.0",
            cluster="prod",
            instance_arn="arn:aws:ecs:local:0:container-instance/prod/i1",
            instance_status="ACTIVE",
            control_endpoint="http://127.0.0.1:6820",
            control_connected=False,
            control_since=time.time() - 90,
            control_error="connection refused",
            control_next_try=time.time() + 75.5,
            unsent_changes=3,
            engine_version="20.10.24",
            engine_connected=True,
            degraded=["control is away: connection refused"],
            started_at=time.time() - 7200,
            running=1,
            pending=1,
            resources=[ResourceView(name="MEMORY", total=2048, used=512)],
        )
        self.tasks = [_running(), _waiting()]
        self.launches: dict[str, LaunchView] = {}
        self.networks = FakeNetwork()
        self.usage = UsageView(host_name="h1")
        self.sampler: SampleSource | None = None

    def agent_view(self) -> AgentView:
        return self.agent

    def task_views(self) -> list[TaskView]:
        return self.tasks

    def launch_view(self, task_arn: str) -> LaunchView | None:
        return self.launches.get(task_arn)

    def usage_view(self) -> UsageView:
        return self.usage

    def samples(self) -> SampleSource | None:
        return self.sampler

    def network(self) -> FakeNetwork:
        return self.networks

    async def stop_task(self, task_arn: str, reason: str) -> None:
        self.stopped.append((task_arn, reason))

    async def drain(self, *, wanted: bool, deadline: float) -> None:
        self.drains.append((wanted, deadline))

    async def start_exec(self, runtime_id: str, command: ExecCommand) -> ExecSession:
        raise EngineRefused(f"nothing runs in {runtime_id}: {command.words}")

    async def container_logs(
        self, runtime_id: str, selection: LogSelection
    ) -> AsyncIterator[bytes]:
        self.selections.append((runtime_id, selection))
        if runtime_id == "broken":
            raise EngineRefused("the log driver cannot be read")
        if runtime_id in self.lines:
            # Like an engine: only what is new enough.
            for stamp, text in self.lines[runtime_id]:
                if stamp >= selection.since_ns:
                    moment = f"{rfc3339(stamp)} " if selection.timestamps else ""
                    yield f"{moment}{text}\n".encode()
            return
        time_ = b"2026-01-02T03:04:05.000000006Z " if selection.timestamps else b""
        yield time_ + b"one\n" + time_[:5]
        yield time_[5:] + f"two tail={selection.tail} follow={selection.follow}\n".encode()
        yield time_ + b"rest"


def _running() -> TaskView:
    return TaskView(
        arn="arn:aws:ecs:local:0:task/prod/aa11",
        id="aa11",
        family="web",
        revision="3",
        status="RUNNING",
        desired="RUNNING",
        network_mode="awsvpc",
        ipv4="10.207.0.2",
        accepted_at=time.time() - 60,
        started_at=time.time() - 58,
        containers=[
            ContainerView(
                name="httpd",
                image="web:1",
                status="RUNNING",
                desired="RUNNING",
                runtime_id="c1",
                bindings=[NetworkBinding(container_port=80, host_port=8080)],
            )
        ],
        sample=TaskSample(
            task_arn="arn:aws:ecs:local:0:task/prod/aa11",
            containers=[
                ContainerSample(
                    name="httpd", runtime_id="c1", cpu_percent=1.25, memory_bytes=3 << 20, pids=2
                )
            ],
            network=LinkCounters(rx_bytes=2048, tx_bytes=100),
            rx_bytes_per_s=10.0,
            tx_bytes_per_s=0.0,
        ),
    )


def _waiting() -> TaskView:
    return TaskView(
        arn="arn:aws:ecs:local:0:task/prod/aa22",
        id="aa22",
        family="batch",
        revision="1",
        status="PENDING",
        desired="RUNNING",
        network_mode="bridge",
        accepted_at=time.time() - 30,
        containers=[
            ContainerView(
                name="job", image="job:1", status="NONE", desired="RUNNING", runtime_id="broken"
            ),
            ContainerView(name="log", image="log:1", status="NONE", desired="RUNNING"),
        ],
        waits=[
            Wait(what="2048 MiB of memory; 1536 of 2048 MiB are free", since=time.time() - 30),
            Wait(
                what="the pull of job:1",
                since=time.time() - 5,
                next_try=time.time() + 600,
                container="job",
            ),
        ],
    )


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def agent_socket(source: Source, tmp_path: Path) -> AsyncIterator[str]:
    """The path of a real operator socket in front of ``source``."""
    endpoint = await OperatorSocket.open(tmp_path / "a.sock", source)
    yield str(tmp_path / "a.sock")
    await endpoint.close()
