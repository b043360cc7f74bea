"""A host for tests of the ACS session: remembers what it was ordered, and can be made to fail."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from agent.resources.role_credentials import RoleCredentials
from agent.upstream.amazon.acs.session import AcsParts, AcsSession, AcsSettings
from agent.upstream.amazon.registration import Instance
from agent.upstream.amazon.websocket import Dialer, SocketLimits
from agent.upstream.connection import ConnectionStatus
from tests.support.fake_aws import FakeChain, FakeHttp, FakeSigner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.model.telemetry import TaskFacts
    from agent.model.wire import Assignment, Assignments
    from agent.state import StateStore
    from agent.upstream.amazon.attachments import ExpectedAttachment
    from tests.support.ws_server import WsServer

CLUSTER = "arn:aws:ecs:eu-west-1:123456789012:cluster/c"
INSTANCE = "arn:aws:ecs:eu-west-1:123456789012:container-instance/c/0123456789abcdef"
ORIGIN = {"clusterArn": CLUSTER, "containerInstanceArn": INSTANCE}

SETTINGS = AcsSettings(
    agent_version="1.105.1",
    agent_hash="0123abcd",
    docker_version="20.10.24",
    silence_s=5.0,
    silence_jitter_s=0.0,
    steady_s=5.0,
    steady_jitter_s=0.0,
    backoff_first_s=0.02,
    backoff_limit_s=0.1,
    inactive_wait_s=30.0,
    hasty_s=0.2,
    hasty_first_s=0.02,
    hasty_limit_s=0.3,
)


def arn(name: str) -> str:
    return f"arn:aws:ecs:eu-west-1:123456789012:task/c/{name}"


def task(name: str, **changes: Any) -> dict[str, Any]:
    """Return a task as ECS orders it."""
    container = {"name": "main", "image": "img", "cpu": 1, "memory": 8}
    whole = {"arn": arn(name), "family": "f", "version": "1", "desiredStatus": "RUNNING"}
    return whole | {"containers": [container]} | changes


class FakeTasks:
    """The host's tasks: stores what it gets, unless a test makes it fail."""

    def __init__(self) -> None:
        self.engine_up = True
        self.taken: list[tuple[Assignments, str]] = []
        self.held: dict[str, str] = {}
        """Desired status by ARN."""
        self.over: set[str] = set()
        """Tasks that have ended and are forgotten, or were refused."""
        self.lists = 0
        self.failure: Exception | None = None
        self.poison: set[str] = set()
        """Orders about these make every call that contains them fail."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.taking = asyncio.Event()

    async def take(self, assignments: Assignments, control_id: str, instance: str = "") -> None:
        self.taking.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if any(one.task_arn in self.poison for one in assignments.tasks):
            raise OverflowError("poison")
        self.taken.append((assignments, control_id))
        for one in assignments.tasks:
            if one.desired_status == "RUNNING":
                self.held.setdefault(one.task_arn, "RUNNING")
            elif one.task_arn in self.held:
                self.held[one.task_arn] = "STOPPED"

    @property
    def orders(self) -> list[Assignment]:
        return [one for assignments, _ in self.taken for one in assignments.tasks]

    def wanted(self, _control_id: str) -> list[str]:
        return [task_arn for task_arn, desired in self.held.items() if desired == "RUNNING"]

    def knows(self, task_arn: str) -> bool:
        return task_arn in self.held

    def is_over(self, task_arn: str) -> bool:
        return task_arn in self.over

    def listed(self) -> None:
        self.lists += 1

    def facts(self) -> list[TaskFacts]:
        return []


class AcsHost:
    """The parts that a session uses; ``running`` runs the session."""

    def __init__(self, store: StateStore, server: WsServer) -> None:
        self.store = store
        self.server = server
        self.tasks = FakeTasks()
        self.keep = RoleCredentials()
        self.expected: list[ExpectedAttachment] = []
        self.expect_failure: Exception | None = None
        self.inactive = 0
        self.heartbeats = 0
        self.instance_arn = INSTANCE
        self.endpoint_failure: Exception | None = None
        self.chain = FakeChain()
        self.link: ConnectionStatus = ConnectionStatus("acs")
        self.session: AcsSession

    async def _expect(self, expected: ExpectedAttachment) -> None:
        if self.expect_failure is not None:
            raise self.expect_failure
        self.expected.append(expected)

    async def _instance(self) -> Instance:
        return Instance(arn=self.instance_arn, cluster="c")

    async def _endpoint(self, _arn: str) -> str:
        if self.endpoint_failure is not None:
            raise self.endpoint_failure
        return self.server.url

    def _count(self, name: str) -> Callable[[], None]:
        return lambda: setattr(self, name, getattr(self, name) + 1)

    @contextlib.asynccontextmanager
    async def running(
        self, settings: AcsSettings = SETTINGS, limits: SocketLimits | None = None
    ) -> AsyncIterator[AcsSession]:
        """Run a session until the block ends."""
        async with FakeHttp.opened() as http:
            signer: Any = FakeSigner()
            chain: Any = self.chain
            dialer = Dialer(http, chain, signer, limits or SocketLimits(close_s=0.1))
            self.session = AcsSession(
                settings,
                AcsParts(
                    dialer=dialer,
                    instance=self._instance,
                    endpoint=self._endpoint,
                    link=self.link,
                    take=self.tasks.take,
                    host=self.tasks,
                    keep=self.keep,
                    expect=self._expect,
                    store=self.store,
                    on_inactive=self._count("inactive"),
                    on_heartbeat=self._count("heartbeats"),
                    clock=lambda: 1000.0,
                ),
            )
            running = asyncio.create_task(self.session.run())
            try:
                yield self.session
            finally:
                running.cancel()
                await asyncio.wait([running])
            assert running.cancelled(), running
