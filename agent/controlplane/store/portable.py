"""Backups of a store in etcd, and moves between etcd and a file: a backup is a store in a file, as SQLite's is.

So one kind of file is backed up, checked, restored and moved, whatever keeps the fleet::

    back_up   etcd ──► file     all keys as they were at one revision; their leases, with their full time
    restore   file ──► etcd     replaces the fleet's part of etcd

What is written has revisions above all that was copied, so that no agent that saw it takes a newer revision for
an older one. So revisions no longer show whether an agent has seen more than was copied, and the copy begins a new
history (``controlplane.history``): agents keep their tasks, and report all of them.

A restore that is cut short leaves a mark with which no control starts; it is done again from the beginning.

Tests: ``tests/unit/controlplane/store/test_portable.py``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.controlplane.records import HISTORY_KEY
from agent.controlplane.store import sqlite_backup, sqlite_check
from agent.controlplane.store import sqlite_schema as schema
from agent.controlplane.store.contract import KeyValue, Put, StoreDamaged, StoreFailure
from agent.controlplane.store.etcd import EtcdStore
from agent.controlplane.store.etcd_words import RangeAnswer, end_of, under
from agent.controlplane.store.leading import Leadership
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.controlplane.store.etcd_settings import EtcdSettings
    from agent.controlplane.store.sqlite_check import CheckReport

PAGE: Final = 500
PUTS_MOST: Final = 100
PUT_BYTES_MOST: Final = 1 << 20
"""In one transaction; etcd takes 1.5 MiB."""
_LEASE_S: Final = 60.0
"""Of a key whose lease ended while it was read."""


class _Ttl(Struct):
    granted: int = msgspec.field(default=0, name="grantedTTL")


class Restored(Struct, frozen=True):
    """What a restore did."""

    keys: int
    revision: int
    """Of the backup."""


async def back_up(store: EtcdStore, target: Path) -> CheckReport:
    """Write all keys, as they were at one revision, to a new file (mode 0600).

    Raises:
        StoreFailure: etcd does not answer, or the target cannot be written.
    """
    directory = await asyncio.to_thread(_directory_beside, target)
    path = Path(directory.name) / "store.db"
    try:
        copy = await SqliteStore.open(path)
        try:
            await _fill(copy, store)
        finally:
            await copy.close()
        return await asyncio.to_thread(sqlite_backup.back_up, path, target)
    finally:
        await asyncio.to_thread(directory.cleanup)


def _directory_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    if target.exists():
        raise StoreFailure(f"{target} already exists; give the name of a new file")
    try:
        return tempfile.TemporaryDirectory(prefix=".control-backup-", dir=target.parent)
    except OSError as error:
        raise StoreFailure(f"{target} cannot be written: {error.strerror}") from error


async def _fill(copy: SqliteStore, store: EtcdStore) -> None:
    leases: dict[int, int] = {}
    above = 0
    async for page, revision in _pages(store):
        # Above it with the first key, so that each key counts as newer than what agents have seen.
        above = max(above, revision)
        for part in _parts(page):
            puts = [Put(kv.key, kv.value, await _lease(copy, store, kv, leases)) for kv in part]
            await copy.txn([], puts, above=above)


async def _pages(store: EtcdStore) -> AsyncIterator[tuple[list[KeyValue], int]]:
    """Yield all keys as they were at one revision, and that revision."""
    first, end, raw_revision, more = store.words.keys, end_of(store.words.keys), 0, True
    while more:
        body = {"key": first, "range_end": end, "limit": PAGE, "revision": raw_revision}
        answer = await store.client.read("/v3/kv/range", body, RangeAnswer)
        raw_revision = raw_revision or answer.header.revision
        items = [store.words.kv(raw) for raw in answer.kvs]
        yield (
            [kv for kv in items if kv.key != HISTORY_KEY],
            store.words.revisions.told(raw_revision),
        )
        more = answer.more
        if answer.kvs:
            first = answer.kvs[-1].key + b"\0"


async def _lease(copy: SqliteStore, store: EtcdStore, kv: KeyValue, leases: dict[int, int]) -> int:
    """Return the lease of a key in the copy; 0 if it has none."""
    if not kv.lease:
        return 0
    if kv.lease not in leases:
        found = await store.client.read("/v3/lease/timetolive", {"ID": kv.lease}, _Ttl)
        leases[kv.lease] = await copy.grant_lease(float(found.granted) or _LEASE_S)
    return leases[kv.lease]


def _parts(items: list[KeyValue]) -> Iterator[list[KeyValue]]:
    """Yield keys in parts that one transaction can take."""
    part: list[KeyValue] = []
    size = 0
    for kv in items:
        more = len(kv.key.encode()) + len(kv.value)
        if part and (len(part) >= PUTS_MOST or size + more > PUT_BYTES_MOST):
            yield part
            part, size = [], 0
        part.append(kv)
        size += more
    if part:
        yield part


async def restore(settings: EtcdSettings, backup: Path) -> Restored:
    """Replace a fleet's part of an etcd by a backup; can be repeated if it was cut short.

    Raises:
        StoreDamaged: the backup is damaged; nothing was changed.
        StoreFailure: a control runs, the file cannot be read, or etcd refused something.
    """
    report = await asyncio.to_thread(sqlite_check.check_copy, backup)
    if report.faults:
        raise StoreDamaged(f"{backup} is damaged ({'; '.join(report.faults)}); use another backup")
    store = await EtcdStore.open(settings, moving=True)
    try:
        leadership = await Leadership.acquire(store, what="ecs-agent control restore")
        try:
            return await _replace(store, backup, report)
        finally:
            await leadership.close()
    finally:
        await store.close()


async def _replace(store: EtcdStore, backup: Path, report: CheckReport) -> Restored:
    keys, moving = under(store.words.keys), store.words.own("moving")
    await _own(store, {"request_put": {"key": moving, "value": b""}})
    await _own(store, {"request_delete_range": keys})
    leases: dict[int, int] = {}
    async for page, ttls in _file_pages(backup):
        wanted = [kv for kv in page if kv.key != HISTORY_KEY]
        for part in _parts(wanted):
            puts = [Put(kv.key, kv.value, await _new_lease(store, kv, ttls, leases)) for kv in part]
            await store.txn([], puts, above=report.revision)
    await _own(store, {"request_delete_range": {"key": moving}})
    return Restored(report.keys, report.revision)


async def _own(store: EtcdStore, op: dict[str, Any]) -> None:
    """Do one operation in etcd's words, if this process still leads."""
    fence = store.fence
    answer = await store.own_txn({"compare": [fence.compare] if fence else [], "success": [op]})
    if not answer.succeeded:
        raise StoreFailure("another process leads this fleet now; repeat the restore")


async def _file_pages(backup: Path) -> AsyncIterator[tuple[list[KeyValue], dict[int, float]]]:
    """Yield the keys of a file, and the times of all of its leases."""
    connection = await asyncio.to_thread(_open_file, backup)
    try:
        ttls = dict(await asyncio.to_thread(_leases_in, connection))
        after: str | None = None
        while page := await asyncio.to_thread(schema.read_range, connection, "", after, PAGE):
            yield page, ttls
            after = page[-1].key
    except (sqlite3.Error, schema.Garbled) as error:
        raise StoreFailure(f"{backup} cannot be read: {error}") from error
    finally:
        connection.close()


def _open_file(backup: Path) -> sqlite3.Connection:
    address = f"{backup.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def _leases_in(connection: sqlite3.Connection) -> list[tuple[int, float]]:
    return connection.execute("SELECT id, ttl_s FROM lease").fetchall()


async def _new_lease(
    store: EtcdStore, kv: KeyValue, ttls: dict[int, float], leases: dict[int, int]
) -> int:
    """Return the lease of a key in etcd; 0 if it has none."""
    if not kv.lease:
        return 0
    if kv.lease not in leases:
        leases[kv.lease] = await store.grant_lease(ttls.get(kv.lease, _LEASE_S))
    return leases[kv.lease]
