"""The store against a model in memory: any sequence of commits, sends, restarts and crashes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.model.changes import TaskChange
from agent.state import Batch, StateStore

KINDS = st.sampled_from(["task", "network"])
KEYS = st.sampled_from(["a", "b", "c", "arn:x/\N{SNOWMAN}"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KINDS, KEYS, st.binary(max_size=20)),
        st.tuples(st.just("delete"), KINDS, KEYS, st.just(b"")),
        st.tuples(st.just("meta"), st.just(""), KEYS, st.binary(max_size=5)),
        st.tuples(st.just("enqueue"), st.just(""), st.just(""), st.just(b"")),
    ),
    max_size=6,
)


def same(body: bytes) -> bytes:
    return body


class StoreMachine(RuleBasedStateMachine):
    """Holds the store to what a dict, a dict and a list would do."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.records: dict[tuple[str, str], bytes] = {}
        self.meta: dict[str, str] = {}
        self.unsent: list[str] = []
        self.counter = 0
        self.generation = 0
        self.store = self.runner.run(StateStore.open(self.file))

    @property
    def file(self) -> Path:
        return self.directory / str(self.generation) / "agent.db"

    def batch(self, steps: list[tuple[str, str, str, bytes]]) -> Batch:
        batch = Batch()
        for what, kind, key, body in steps:
            if what == "put":
                batch.put(kind, key, body)
                self.records[kind, key] = body
            elif what == "delete":
                batch.delete(kind, key)
                self.records.pop((kind, key), None)
            elif what == "meta":
                batch.put_meta(key, body.hex())
                self.meta[key] = body.hex()
            else:
                self.counter += 1
                change = TaskChange(id=str(self.counter), task_arn="a", status="RUNNING", at=1.0)
                batch.enqueue(change)
                self.unsent.append(change.id)
        return batch

    @rule(batches=st.lists(STEPS, min_size=1, max_size=4))
    def commit(self, batches: list[list[tuple[str, str, str, bytes]]]) -> None:
        async def together() -> None:
            await asyncio.gather(*[self.store.commit(self.batch(steps)) for steps in batches])

        self.runner.run(together())

    @precondition(lambda self: self.unsent)
    @rule(limit=st.integers(1, 5), keep=st.integers(0, 2))
    def send(self, limit: int, keep: int) -> None:
        async def some() -> None:
            rows = await self.store.outbox.peek(limit)
            assert [change.id for _, change in rows] == self.unsent[: len(rows)]
            done = rows[: max(0, len(rows) - keep)]
            self.store.outbox.settle([seq for seq, _ in done])
            del self.unsent[: len(done)]

        self.runner.run(some())

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.runner.run(StateStore.open(self.file))

    @rule()
    def crash(self) -> None:
        """Go on with what lies on the disk at this moment."""

        async def quiet() -> None:
            await self.store.commit(Batch())

        self.runner.run(quiet())
        old = self.file
        self.generation += 1
        self.file.parent.mkdir()
        for name in ("agent.db", "agent.db-wal"):
            if (old.parent / name).exists():
                shutil.copyfile(old.parent / name, self.file.parent / name)
        self.runner.run(self.store.close())
        self.store = self.runner.run(StateStore.open(self.file))

    @invariant()
    def agrees(self) -> None:
        async def look() -> None:
            for kind in ("task", "network"):
                expected = {key: body for (k, key), body in self.records.items() if k == kind}
                assert await self.store.load(kind, same) == expected
            for key, value in self.meta.items():
                assert await self.store.get_meta(key) == value
            assert self.store.outbox.size == len(self.unsent)
            rows = await self.store.outbox.peek(1000)
            assert [change.id for _, change in rows] == self.unsent
            assert self.store.problems == []

        self.runner.run(look())

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.directory)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
