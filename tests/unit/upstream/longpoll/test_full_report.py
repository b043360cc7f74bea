"""Everything that is held goes to control in calls that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.model.changes import TaskChange
from agent.model.wire import ChangeAnswer, ChangesAnswer, Held, HeldTask
from agent.upstream.longpoll.exchange import Identity
from agent.upstream.longpoll.full_report import FullReport
from tests.support.control_host import NothingHeld

if TYPE_CHECKING:
    from agent.state import StateStore
    from agent.upstream.longpoll.http_client import HttpClient

IDENTITY = Identity(instance_arn="arn:i/1", generation=2, control_id="c")


class Client:
    def __init__(self) -> None:
        self.parts: list[Held] = []

    async def held(self, identity: Identity, held: Held) -> ChangesAnswer:
        assert identity is IDENTITY
        self.parts.append(held)
        answers = [ChangeAnswer(id=t.change.id, status="rejected") for t in held.tasks]
        return ChangesAnswer(results=answers)


class Holds(NothingHeld):
    def __init__(self, sizes: list[int], ended: int = 0) -> None:
        self._sizes, self._ended = sizes, ended

    def held(self, control_id: str) -> list[HeldTask]:
        assert control_id == "c"
        return [
            HeldTask(payload=msgspec.Raw(b'"' + b"x" * size + b'"'), change=change(f"t{n}"))
            for n, size in enumerate(self._sizes)
        ]

    def ended(self, control_id: str) -> list[TaskChange]:
        return [change(f"e{n}") for n in range(self._ended)]


def change(arn: str) -> TaskChange:
    return TaskChange(id=f"c-{arn}", task_arn=arn, status="RUNNING", at=1.0)


async def told(store: StateStore, holds: Holds) -> list[Held]:
    client = Client()
    await FullReport(_as_client(client), holds, store).tell(IDENTITY)
    assert [part.last for part in client.parts] == [False] * (len(client.parts) - 1) + [True]
    return client.parts


def _as_client(client: Client) -> HttpClient:
    return client  # type: ignore[return-value]


async def test_nothing_is_said_as_well(store: StateStore) -> None:
    assert [part.tasks for part in await told(store, Holds([]))] == [[]]


async def test_many_tasks_go_in_parts_in_order(store: StateStore) -> None:
    parts = await told(store, Holds([10] * 450))
    assert [len(part.tasks) for part in parts] == [200, 200, 50]
    assert [t.change.task_arn for p in parts for t in p.tasks] == [f"t{n}" for n in range(450)]


async def test_large_tasks_go_in_small_parts(store: StateStore) -> None:
    parts = await told(store, Holds([500_000] * 10))
    assert all(sum(len(t.payload) for t in part.tasks) < 3_000_000 for part in parts)
    assert sum(len(part.tasks) for part in parts) == 10


async def test_the_ends_of_tasks_go_behind_it(store: StateStore) -> None:
    await told(store, Holds([10], ended=3))
    assert [c.task_arn for _, c in await store.outbox.peek(9)] == ["e0", "e1", "e2"]
