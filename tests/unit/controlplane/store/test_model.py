"""Any sequence of calls leaves the store as a dict that was changed the same way would be."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.controlplane.store.contract import (
    Compare,
    Delete,
    DeletePrefix,
    InvalidTransaction,
    LeaseUnknown,
    Op,
    Put,
)
from agent.controlplane.store.sqlite import SqliteStore

KEYS = st.sampled_from(["/a", "/a/1", "/a/2", "/b", "/b/1", "/é", "/z"])
PREFIXES = st.sampled_from(["/a", "/a/", "/b", "/b/", "/"])
VALUES = st.binary(max_size=4)
COMPARES = st.lists(
    st.one_of(
        st.builds(
            Compare,
            KEYS,
            st.sampled_from(["version", "mod_revision", "create_revision"]),
            st.sampled_from(["=", "!=", "<", ">"]),
            st.integers(0, 8),
        ),
        st.builds(Compare, KEYS, st.just("value"), st.sampled_from(["=", "!=", "<", ">"]), VALUES),
    ),
    max_size=2,
)
OPS = st.lists(
    st.one_of(
        st.builds(Put, KEYS, VALUES, st.integers(0, 3)),
        st.builds(Delete, KEYS),
        st.builds(DeletePrefix, PREFIXES),
    ),
    max_size=3,
)


class Model:
    """The contract over a dict: key to (value, create revision, mod revision, version, lease)."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.data: dict[str, tuple[bytes, int, int, int, int]] = {}
        self.leases: set[int] = set()
        self.log: list[tuple[int, str, str, bytes]] = []

    def holds(self, compare: Compare) -> bool:
        value, created, modified, version, _ = self.data.get(compare.key, (None, 0, 0, 0, 0))
        found: Any = {
            "value": value,
            "create_revision": created,
            "mod_revision": modified,
            "version": version,
        }[compare.field]
        if found is None:
            return False
        wanted: Any = compare.value
        outcomes = {"=": found == wanted, "!=": found != wanted}
        outcomes |= {"<": found < wanted, ">": found > wanted}
        return bool(outcomes[compare.op])

    def apply(self, ops: list[Op]) -> None:
        revision, events = self.revision + 1, []
        for op in ops:
            if isinstance(op, Put):
                _, created, _, version, _ = self.data.get(op.key, (b"", revision, 0, 0, 0))
                self.data[op.key] = (op.value, created, revision, version + 1, op.lease)
                events.append((revision, "put", op.key, op.value))
            else:
                chosen = [
                    key
                    for key in sorted(self.data)
                    if (key == op.key if isinstance(op, Delete) else key.startswith(op.prefix))
                ]
                for key in chosen:
                    del self.data[key]
                    events.append((revision, "delete", key, b""))
        if events:
            self.revision = revision
            self.log += events

    def end_lease(self, lease: int) -> None:
        self.leases.discard(lease)
        self.apply([Delete(key) for key in sorted(self.data) if self.data[key][4] == lease])


class StoreMachine(RuleBasedStateMachine):
    """Drives the store and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.model = Model()
        self.store: SqliteStore

    def run(self, call: Any) -> Any:
        return self.loop.run_until_complete(call)

    @initialize()
    def open(self) -> None:
        self.store = self.run(SqliteStore.open(Path(self.directory.name) / "control.db"))

    @rule(compares=COMPARES, then=OPS, otherwise=OPS)
    def txn(self, compares: list[Compare], then: list[Op], otherwise: list[Op]) -> None:
        succeeded = all(self.model.holds(compare) for compare in compares)
        ops = then if succeeded else otherwise
        try:
            result = self.run(self.store.txn(compares, then, otherwise))
        except InvalidTransaction:
            return
        except LeaseUnknown:
            assert any(
                isinstance(op, Put) and op.lease not in {0, *self.model.leases} for op in ops
            )
            return
        self.model.apply(ops)
        assert (result.succeeded, result.revision) == (succeeded, self.model.revision)

    @rule()
    def grant(self) -> None:
        self.model.leases.add(self.run(self.store.grant_lease(1000)))

    @rule(lease=st.integers(1, 3))
    def revoke(self, lease: int) -> None:
        self.run(self.store.revoke_lease(lease))
        self.model.end_lease(lease)

    @rule(back=st.integers(0, 5))
    def compact(self, back: int) -> None:
        revision = max(0, self.model.revision - back)
        self.run(self.store.compact(revision))
        self.model.compacted = max(self.model.compacted, revision)

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.open()

    @rule(prefix=PREFIXES, ahead=st.integers(0, 6))
    def history(self, prefix: str, ahead: int) -> None:
        after = min(self.model.compacted + ahead, self.model.revision)
        expected = sorted(
            entry for entry in self.model.log if entry[0] > after and entry[2].startswith(prefix)
        )
        seen = sorted(self.run(self._read(prefix, after, len(expected))))
        assert seen == expected

    async def _read(self, prefix: str, after: int, count: int) -> list[tuple[int, str, str, bytes]]:
        seen: list[tuple[int, str, str, bytes]] = []
        async with self.store.watch(prefix, after_revision=after) as watch:
            while len(seen) < count:
                batch = await anext(watch)
                seen += [(e.kv.mod_revision, e.type, e.kv.key, e.kv.value) for e in batch.events]
        return seen

    @rule(prefix=PREFIXES, limit=st.integers(1, 4))
    def pages(self, prefix: str, limit: int) -> None:
        keys: list[str] = []
        more, after = True, None
        while more:
            page = self.run(self.store.range(prefix, start_after=after, limit=limit))
            keys += [kv.key for kv in page.items]
            more, after = page.more, keys[-1] if keys else None
        expected = [key for key in self.model.data if key.startswith(prefix)]
        assert keys == sorted(expected, key=str.encode)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "store"):
            return
        found = self.run(self.store.range(""))
        assert found.revision == self.store.revision == self.model.revision
        assert {
            kv.key: (kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
            for kv in found.items
        } == self.model.data

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.directory.cleanup()


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
