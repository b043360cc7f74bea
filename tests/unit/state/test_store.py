from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.errors import StateFailure
from agent.model.changes import TaskChange
from agent.state import Batch, StateStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from agent.state.batch import Op
    from agent.state.database import OutboxRow


def same(body: bytes) -> bytes:
    return body


def record(key: str, body: bytes) -> Batch:
    batch = Batch()
    batch.put("task", key, body)
    return batch


def report(number: int) -> TaskChange:
    return TaskChange(id=f"c{number}", task_arn="arn", status="RUNNING", at=float(number))


def edit(path: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql, values)
    connection.close()


class TestCommit:
    async def test_is_there_after_a_restart(self, path: Path) -> None:
        store = await StateStore.open(path)
        batch = record("a", b"1")
        batch.put("network", "a", b"2")
        batch.put_meta("instanceArn", "arn:1")
        batch.enqueue(report(1))
        await store.commit(batch)
        await store.close()
        store = await StateStore.open(path)
        assert await store.load("task", same) == {"a": b"1"}
        assert await store.load("network", same) == {"a": b"2"}
        assert await store.get_meta("instanceArn") == "arn:1"
        assert await store.get_meta("other") is None
        assert [change for _, change in await store.outbox.peek(5)] == [report(1)]
        await store.close()

    async def test_overwrites_and_deletes(self, store: StateStore) -> None:
        batch = Batch()
        for key in ("a", "b", "c"):
            batch.put("task", key, b"old")
        batch.put_meta("m", "1")
        await store.commit(batch)
        batch = Batch()
        batch.put("task", "a", b"new")
        batch.delete("task", "b")
        batch.delete("task", "never there")
        batch.delete_meta("m")
        await store.commit(batch)
        assert await store.load("task", same) == {"a": b"new", "c": b"old"}
        assert await store.get_meta("m") is None

    async def test_takes_the_batch_when_called_in_the_order_of_the_calls(
        self, store: StateStore
    ) -> None:
        answers = [store.commit(record("a", str(n).encode())) for n in range(50)]
        for answer in reversed(answers):
            await answer
        assert await store.load("task", same) == {"a": b"49"}

    async def test_does_not_see_what_is_put_in_later(self, store: StateStore) -> None:
        batch = record("a", b"early")
        answer = store.commit(batch)
        batch.put("task", "b", b"late")
        await answer
        assert await store.load("task", same) == {"a": b"early"}

    async def test_shares_transactions(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []
        apply = store._writer.database.apply

        def counted(batches: Iterable[Sequence[Op]], *, durable: bool) -> list[OutboxRow]:
            listed = list(batches)
            sizes.append(len(listed))
            return apply(listed, durable=durable)

        monkeypatch.setattr(store._writer.database, "apply", counted)
        await asyncio.gather(*(store.commit(record(str(n), b"x")) for n in range(200)))
        assert sum(sizes) == 200
        assert len(sizes) < 40

    async def test_survives_the_cancellation_of_its_caller(self, store: StateStore) -> None:
        async def caller() -> None:
            await store.commit(record("a", b"1"))

        task = asyncio.create_task(caller())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.load("task", same) == {"a": b"1"}

    async def test_one_impossible_value_fails_its_own_batch_only(self, store: StateStore) -> None:
        answers = [
            store.commit(record("a", b"1")),
            store.commit(record("\udc80", b"2")),
            store.commit(record("c", b"3")),
        ]
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), StateFailure, type(None)]
        assert await store.load("task", same) == {"a": b"1", "c": b"3"}
        assert store.healthy

    async def test_fails_while_another_program_writes_and_works_afterwards(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store._writer.call(
            lambda: store._writer.database.file.connect().execute("PRAGMA busy_timeout = 50"),
            "set up",
        )
        other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        batch = record("a", b"1")
        batch.enqueue(report(1))
        with pytest.raises(StateFailure, match="locked") as failure:
            await store.commit(batch)
        assert failure.value.retryable
        assert "agent.db" in store.problems[0]
        assert (store.healthy, store.outbox.size) == (False, 0)
        await asyncio.to_thread(other.execute, "ROLLBACK")
        other.close()
        await store.commit(batch)
        assert store.problems == []
        assert (store.healthy, store.outbox.size) == (True, 1)

    async def test_is_refused_after_close(self, path: Path) -> None:
        store = await StateStore.open(path)
        last = store.commit(record("a", b"1"))
        await store.close()
        await store.close()
        await last
        with pytest.raises(StateFailure, match="closed"):
            await store.commit(Batch())
        with pytest.raises(StateFailure, match="closed"):
            await store.get_meta("m")


class TestOpen:
    async def test_keeps_everything_private(self, path: Path) -> None:
        before = os.umask(0)
        try:
            store = await StateStore.open(path)
            await store.commit(record("a", b"1"))
            modes = {
                name.name: name.stat().st_mode & 0o777
                for name in [path.parent, *path.parent.iterdir()]
            }
            await store.close()
        finally:
            os.umask(before)
        assert modes.pop("data") == 0o700
        assert set(modes) == {"agent.db", "agent.db-wal", "agent.db-shm", "agent.db.lock"}
        assert set(modes.values()) == {0o600}

    async def test_takes_an_existing_file_from_everybody_else(self, path: Path) -> None:
        await (await StateStore.open(path)).close()
        path.chmod(0o644)
        await (await StateStore.open(path)).close()
        assert path.stat().st_mode & 0o777 == 0o600

    async def test_uses_the_safe_settings(self, store: StateStore) -> None:
        await store.commit(record("a", b"1"))

        def ask() -> list[object]:
            names = ("journal_mode", "synchronous")
            connection = store._writer.database.file.connect()
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await store._writer.call(ask, "ask") == ["wal", 2]

    async def test_refuses_a_second_one(self, store: StateStore) -> None:
        with pytest.raises(StateFailure, match=rf"another agent \(pid {os.getpid()}\) uses "):
            await StateStore.open(store.path)
        await store.commit(record("a", b"1"))

    async def test_refuses_a_second_process(self, store: StateStore) -> None:
        code = (
            "import asyncio, sys, pathlib\n"
            "from agent.state import StateStore\n"
            "asyncio.run(StateStore.open(pathlib.Path(sys.argv[1])))\n"
        )
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code, str(store.path)],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == 1
        assert f"StateFailure: another agent (pid {os.getpid()}) uses " in done.stderr

    async def test_refuses_a_newer_schema_and_leaves_it_alone(self, path: Path) -> None:
        await (await StateStore.open(path)).close()
        edit(path, "PRAGMA user_version = 99")
        with pytest.raises(StateFailure, match=r"newer agent \(schema 99, this agent knows 1\)"):
            await StateStore.open(path)
        edit(path, "PRAGMA user_version = 1")
        await (await StateStore.open(path)).close()

    async def test_refuses_the_database_of_another_program(self, path: Path) -> None:
        path.parent.mkdir()
        edit(path, "CREATE TABLE theirs (x)")
        before = path.read_bytes()
        with pytest.raises(StateFailure, match="another program"):
            await StateStore.open(path)
        assert path.read_bytes() == before

    async def test_takes_an_empty_file_for_a_new_one(self, path: Path) -> None:
        path.parent.mkdir()
        path.touch()
        store = await StateStore.open(path)
        assert await store.load("task", same) == {}
        await store.close()

    async def test_names_the_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "data").touch()
        with pytest.raises(StateFailure, match=r"cannot open .*data/agent\.db"):
            await StateStore.open(tmp_path / "data" / "agent.db")


class TestUnreadableRows:
    async def test_are_set_aside_and_told(self, path: Path) -> None:
        store = await StateStore.open(path)
        for key, body in (("a", b"1"), ("b", b"x"), ("c", b"3")):
            await store.commit(record(key, body))
        await store.close()
        store = await StateStore.open(path)
        assert await store.load("task", int) == {"a": 1, "c": 3}
        assert [(row.kind, row.key) for row in store.set_aside] == [("task", "b")]
        assert "task 'b': ValueError" in store.problems[0]
        assert await store.load("task", int) == {"a": 1, "c": 3}
        assert len(store.set_aside) == 1
        await store.close()
        store = await StateStore.open(path)
        assert [row.key for row in store.set_aside] == ["b"]
        await store.close()
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT kind, key, body FROM set_aside").fetchall() == [
            ("task", "b", b"x")
        ]
        connection.close()

    async def test_may_be_anything(self, path: Path) -> None:
        await (await StateStore.open(path)).close()
        insert = "INSERT INTO records VALUES ('task', {}, {}, 0)"
        edit(path, insert.format("CAST(x'ff' AS TEXT)", "x'31'"))
        edit(path, insert.format("x'00ff'", "x'31'"))
        edit(path, insert.format("'text'", "'31'"))
        edit(path, insert.format("'number'", "31"))
        edit(path, insert.format("'good'", "x'31'"))
        store = await StateStore.open(path)
        assert await store.load("task", int) == {"good": 1}
        assert len(store.set_aside) == 4
        await store.close()

    async def test_in_the_outbox_do_not_hold_up_the_others(self, path: Path) -> None:
        store = await StateStore.open(path)
        batch = Batch()
        for number in range(4):
            batch.enqueue(report(number))
        await store.commit(batch)
        await store.close()
        edit(path, "UPDATE outbox SET body = x'7b' WHERE seq IN (1, 3)")
        store = await StateStore.open(path)
        assert [change.id for _, change in await store.outbox.peek(9)] == ["c1", "c3"]
        assert store.outbox.size == 2
        assert [row.key for row in store.set_aside] == ["c0", "c2"]
        await store.close()


class TestOutbox:
    async def test_wakes_with_the_commit_and_keeps_order(self, store: StateStore) -> None:
        waiter = asyncio.create_task(store.outbox.wait())
        await asyncio.sleep(0.01)
        assert not waiter.done()
        answers = []
        for number in range(20):
            batch = Batch()
            batch.enqueue(report(number))
            answers.append(store.commit(batch))
        await waiter
        await asyncio.gather(*answers)
        assert store.outbox.size == 20
        rows = await store.outbox.peek(8)
        assert [change.id for _, change in rows] == [f"c{n}" for n in range(8)]
        store.outbox.settle(seq for seq, _ in rows)
        assert store.outbox.size == 12
        assert (await store.outbox.peek(1))[0][1].id == "c8"

    async def test_longer_than_memory(self, path: Path) -> None:
        store = await StateStore.open(path)
        total = 1250
        batch = Batch()
        for number in range(total):
            batch.enqueue(report(number))
        await store.commit(batch)
        seen: list[str] = []
        extra = total
        while store.outbox.size:
            rows = await store.outbox.peek(100)
            seen += [change.id for _, change in rows]
            store.outbox.settle([seq for seq, _ in rows])
            if extra < total + 5:
                batch = Batch()
                batch.enqueue(report(extra))
                extra += 1
                await store.commit(batch)
        assert seen == [f"c{n}" for n in range(extra)]
        assert await store.outbox.peek(1) == []
        await store.close()
        store = await StateStore.open(path)
        assert store.outbox.size == 0
        await store.close()

    async def test_settles_out_of_order_and_twice(self, store: StateStore) -> None:
        batch = Batch()
        for number in range(5):
            batch.enqueue(report(number))
        await store.commit(batch)
        seqs = [seq for seq, _ in await store.outbox.peek(5)]
        store.outbox.settle([seqs[1], seqs[3]])
        store.outbox.settle([seqs[1]])
        assert store.outbox.size == 3
        assert [change.id for _, change in await store.outbox.peek(9)] == ["c0", "c2", "c4"]

    async def test_a_failed_removal_goes_with_the_next(self, path: Path) -> None:
        store = await StateStore.open(path)
        batch = Batch()
        for number in range(3):
            batch.enqueue(report(number))
        await store.commit(batch)
        await store._writer.call(
            lambda: store._writer.database.file.connect().execute("PRAGMA busy_timeout = 50"),
            "set up",
        )
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        seqs = [seq for seq, _ in await store.outbox.peek(5)]
        store.outbox.settle(seqs[:2])
        await store.get_meta("anything after it in the queue")
        assert not store.healthy
        await asyncio.to_thread(other.execute, "ROLLBACK")
        other.close()
        assert [change.id for _, change in await store.outbox.peek(9)] == ["c2"]
        store.outbox.settle(seqs[2:])
        await store.close()
        store = await StateStore.open(path)
        assert store.outbox.size == 0
        await store.close()


async def test_a_directory_that_is_a_file_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(StateFailure) as caught:
            await StateStore.open(place / "agent.db")
        assert str(caught.value).endswith(
            f"{place} is not a directory; set ECS_DATADIR to a directory"
        )
        assert "Errno" not in str(caught.value)


class TestTheFile:
    async def test_holds_everything_soon_after_the_last_commit(self, path: Path) -> None:
        """Not 4,096 bytes beside a large log: whoever removes the log removes nothing."""
        store = await StateStore.open(path)
        assert await asyncio.to_thread(lambda: path.stat().st_size) > 4096
        for number in range(30):
            await store.commit(record(f"t{number}", b"x" * 10_000))

        def kept_without_log() -> int:
            copy = path.with_name("copy.db")
            shutil.copyfile(path, copy)
            try:
                with contextlib.closing(sqlite3.connect(copy)) as database:
                    return int(database.execute("SELECT count(*) FROM records").fetchone()[0])
            except sqlite3.DatabaseError:
                return 0  # copied while it was being written

        async with asyncio.timeout(30):
            while await asyncio.to_thread(kept_without_log) < 30:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.1)
        await store.close()
