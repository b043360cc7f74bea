"""A host for tests of the control client: a real store, the client, and what control sees."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from agent.model.resources import HostResources
from agent.resources.role_credentials import RoleCredentials
from agent.state import Batch
from agent.upstream.longpoll.client import LongPollClient, LongPollSettings
from agent.upstream.longpoll.exchange import CallLimits
from agent.upstream.protocol import RegisterInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.model.changes import TaskChange
    from agent.model.wire import Assignments, HeldTask
    from agent.state import StateStore
    from agent.upstream.protocol import LogSource, TakeAssignments
    from tests.support.fake_control import FakeControl


class NothingHeld:
    """A host without tasks."""

    async def brought(self, control_id: str, instance: str) -> list[HeldTask]:
        return []

    def belongs_to(self, task_arn: str, instance: str) -> None:
        raise AssertionError

    def not_wanted(self, task_arn: str, why: str) -> None:
        raise AssertionError

    def keep(self, task_arns: frozenset[str]) -> None:
        assert not task_arns

    def held(self, control_id: str) -> list[HeldTask]:
        return []

    def ended(self, control_id: str) -> list[TaskChange]:
        return []


class Host(NothingHeld):
    """An agent reduced to what control sees of it: a store, a client, and the orders it took."""

    def __init__(self, store: StateStore, control: FakeControl) -> None:
        self.store = store
        self.control = control
        self.credentials = RoleCredentials()
        self.taken: list[Assignments] = []
        self.control_ids: list[str] = []
        self.known_tasks: list[str] = []
        self.holds: list[HeldTask] = []
        self.has_ended: list[TaskChange] = []
        self.asked: list[str] = []
        """The controls on whose behalf it was asked what is held."""
        self.cluster = "default"
        self.wait_s = 0.5
        self.usage_s = 20.0
        self.usage_again_s = 3600.0
        self.call_s = 2.0
        self.answer_bytes = 1_000_000
        self.token_file: Path | None = None
        self.ca_file: Path | None = None
        self.data_dir: Path | None = None
        self.take: TakeAssignments = self._take
        self.logs: LogSource | None = None
        self._clients: list[LongPollClient] = []

    async def _take(self, assignments: Assignments, control_id: str, instance: str = "") -> None:
        self.taken.append(assignments)
        self.control_ids.append(control_id)

    def describe(self) -> RegisterInfo:
        return RegisterInfo(
            resources=HostResources(cpu_units=2048, memory_mib=1024),
            attributes={"ecs.os-type": "linux"},
            agent_version="1.2.3",
            known_tasks=list(self.known_tasks),
        )

    def held(self, control_id: str) -> list[HeldTask]:
        self.asked.append(control_id)
        return list(self.holds)

    def ended(self, control_id: str) -> list[TaskChange]:
        return list(self.has_ended)

    async def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            await client.close()

    async def client(self) -> LongPollClient:
        client = await LongPollClient.open(
            LongPollSettings(
                endpoint=self.control.url,
                cluster=self.cluster,
                token_file=self.token_file,
                ca_file=self.ca_file,
                data_dir=self.data_dir,
                wait_s=self.wait_s,
                usage_s=self.usage_s,
                usage_again_s=self.usage_again_s,
                backoff_first_s=0.01,
                backoff_limit_s=0.05,
                limits=CallLimits(
                    connect_s=1.0, call_s=self.call_s, answer_bytes=self.answer_bytes
                ),
            ),
            self.store,
            self.describe,
            self.take,
            self,
            self.credentials,
            self.logs,
        )
        self._clients.append(client)
        return client

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[LongPollClient]:
        client = await self.client()
        task = asyncio.create_task(client.run())
        try:
            yield client
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await client.close()

    async def report(self, *changes: TaskChange) -> None:
        batch = Batch()
        for change in changes:
            batch.enqueue(change)
        await self.store.commit(batch)

    def arns(self) -> set[str]:
        return {order.task_arn for answer in self.taken for order in answer.tasks}


async def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event of its own
            await asyncio.sleep(0.002)
