"""Jobs that change the SQLite file: each checks everything before it changes anything.

Run by the writer, in its thread and in its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from agent.controlplane.store.contract import (
    Compare,
    Delete,
    DeletePrefix,
    Event,
    InvalidTransaction,
    KeyValue,
    LeaseUnknown,
    Op,
    Put,
    TxnResult,
)
from agent.controlplane.store.sqlite_schema import (
    PLACE_BITS,
    meta,
    prefix_end,
    read_key,
    row_checksum,
    set_meta,
)

if TYPE_CHECKING:
    import sqlite3

COMPACT_CHUNK = 2000
"""How many rows one compaction job deletes at most, so that other jobs do not wait long."""


class Job(Protocol):
    """One change of the file."""

    @property
    def urgent(self) -> bool:
        """Whether it may use the space that is reserved for a full disk."""

    def do(self, change: Change) -> Any:
        """Check everything, then change; raises ``StoreFailure`` only before any change."""


class Change:
    """The state during one job: the connection, and what the job has changed so far."""

    def __init__(self, connection: sqlite3.Connection, revision: int) -> None:
        self.connection = connection
        self.revision = revision
        """The newest revision before the job."""
        self.events: list[Event] = []
        self.keys_more = 0
        """The number of keys after the job minus the number before."""

    @property
    def revision_after(self) -> int:
        """The newest revision after the job."""
        return self.revision + 1 if self.events else self.revision

    def put(self, key: str, value: bytes, lease: int) -> None:
        """Set one key."""
        old = read_key(self.connection, key)
        revision = self.revision + 1
        created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        self.keys_more += old is None
        row_id = self._record(KeyValue(key, value, created, revision, version, lease), "put")
        self.connection.execute(
            "INSERT OR REPLACE INTO current VALUES (?, ?, ?, ?, ?)",
            (key.encode(), row_id, created, version, lease),
        )

    def delete(self, raw_key: bytes) -> None:
        """Delete one key if it exists."""
        cursor = self.connection.execute("DELETE FROM current WHERE key = ?", (raw_key,))
        if cursor.rowcount:
            self.keys_more -= 1
            self._record(KeyValue(raw_key.decode(), b"", 0, self.revision + 1, 0, 0), "delete")

    def delete_all(self, where: str, values: tuple[Any, ...]) -> None:
        """Delete the keys that a condition on ``current`` selects."""
        rows = self.connection.execute(
            f"SELECT key FROM current WHERE {where} ORDER BY key",  # noqa: S608 - fixed texts
            values,
        )
        for (raw_key,) in rows.fetchall():
            self.delete(raw_key)

    def _record(self, kv: KeyValue, kind: str) -> int:
        row_id = (kv.mod_revision << PLACE_BITS) | len(self.events)
        value = kv.value if kind == "put" else None
        row = (row_id, kv.key.encode(), value, kv.create_revision, kv.version, kv.lease)
        self.connection.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, row_checksum(*row))
        )
        self.events.append(Event("put" if kind == "put" else "delete", kv))
        return row_id


class Txn(Struct, frozen=True):
    """Compare and change; ``check_txn`` has checked the operations."""

    compares: Sequence[Compare]
    then: Sequence[Op]
    otherwise: Sequence[Op]
    urgent: bool = False
    above: int = 0

    def do(self, change: Change) -> TxnResult:
        """See ``contract.Store.txn``."""
        connection = change.connection
        succeeded = all(_holds(c, read_key(connection, c.key)) for c in self.compares)
        ops = self.then if succeeded else self.otherwise
        for lease in {op.lease for op in ops if isinstance(op, Put) and op.lease}:
            _check_lease(connection, lease)
        change.revision = max(change.revision, self.above) if ops else change.revision
        for op in ops:
            match op:
                case Put(key, value, lease):
                    change.put(key, value, lease)
                case Delete(key):
                    change.delete(key.encode())
                case DeletePrefix(prefix):
                    change.delete_all("key >= ? AND key < ?", (prefix.encode(), prefix_end(prefix)))
        return TxnResult(succeeded, change.revision_after)


class Granted(Struct, frozen=True):
    """A lease that was granted."""

    lease: int
    ttl_s: float


class GrantLease(Struct, frozen=True):
    """Grant a lease."""

    ttl_s: float
    urgent: bool = True

    def do(self, change: Change) -> Granted:
        """See ``contract.Store.grant_lease``."""
        cursor = change.connection.execute("INSERT INTO lease (ttl_s) VALUES (?)", (self.ttl_s,))
        return Granted(int(cursor.lastrowid or 0), self.ttl_s)


class EndLease(Struct, frozen=True):
    """Delete a lease with its keys."""

    lease: int
    urgent: bool = True

    def do(self, change: Change) -> None:
        """See ``contract.Store.revoke_lease``."""
        change.connection.execute("DELETE FROM lease WHERE id = ?", (self.lease,))
        change.delete_all("lease = ? AND lease != 0", (self.lease,))


class Compact(Struct, frozen=True):
    """Forget a part of the history; returns the row to continue from, or None when done."""

    revision: int
    from_row: int = 0
    urgent: bool = True

    def do(self, change: Change) -> int | None:
        """See ``contract.Store.compact``; the caller repeats this until it is done."""
        connection = change.connection
        if self.revision > change.revision:
            raise InvalidTransaction(
                f"revision {self.revision} is in the future; the newest is {change.revision}"
            )
        if self.revision > meta(connection, "compact_revision"):
            set_meta(connection, "compact_revision", self.revision)
        last: int | None = connection.execute(
            "SELECT max(id) FROM (SELECT id FROM log WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
            (self.from_row, (self.revision + 1) << PLACE_BITS, COMPACT_CHUNK),
        ).fetchone()[0]
        if last is None:
            return None
        connection.execute(
            "DELETE FROM log WHERE id BETWEEN ? AND ? AND NOT EXISTS"
            " (SELECT 1 FROM current c WHERE c.key = log.key AND c.id = log.id)",
            (self.from_row, last),
        )
        return last + 1


def _check_lease(connection: sqlite3.Connection, lease: int) -> None:
    if connection.execute("SELECT 1 FROM lease WHERE id = ?", (lease,)).fetchone() is None:
        raise LeaseUnknown(f"lease {lease} has ended or never existed")


def _holds(compare: Compare, kv: KeyValue | None) -> bool:
    if compare.field == "value":
        if kv is None:
            return False
        return _compared(kv.value, compare.op, bytes(compare.value))
    found = 0 if kv is None else int(getattr(kv, compare.field))
    return _compared(found, compare.op, int(compare.value))


def _compared(found: Any, op: str, wanted: Any) -> bool:
    match op:
        case "=":
            return bool(found == wanted)
        case "!=":
            return bool(found != wanted)
        case "<":
            return bool(found < wanted)
        case _:
            return bool(found > wanted)
