"""Typed access to the store: find, scan and change records.

A record that cannot be decoded is logged, left where it is and treated as missing, so that one bad
row never stops the rest. ``change`` is the one place where compare-and-set is retried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import msgspec
import structlog
from msgspec import Struct

from agent.controlplane import records
from agent.controlplane.store.contract import TXN_LIMIT, Put, StoreFailure, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from agent.controlplane.store.contract import KeyValue, Store

RecordT = TypeVar("RecordT", bound=Struct)

SCAN_PAGE = 500
TRIES = 32
"""How often a change is tried before it gives up: far more writers than one record ever has."""

_log = structlog.get_logger(__name__)


class Contended(StoreFailure):
    """A record changed under every try: too many writers at once."""

    retryable = True


class Found(NamedTuple, Generic[RecordT]):
    """A record and the key-value that holds it."""

    kv: KeyValue
    record: RecordT


async def find(store: Store, kind: type[RecordT], key: str) -> Found[RecordT] | None:
    """Return the record at a key, or None when it is missing or unreadable."""
    kv = await store.get(key)
    return None if kv is None else read(kind, kv)


async def find_many(
    store: Store, kind: type[RecordT], keys: Iterable[str]
) -> dict[str, Found[RecordT]]:
    """Return the records that exist, by their keys; any number of keys."""
    wanted = list(dict.fromkeys(keys))
    found: dict[str, Found[RecordT]] = {}
    for start in range(0, len(wanted), TXN_LIMIT):
        for kv in (await store.get_many(wanted[start : start + TXN_LIMIT])).values():
            one = read(kind, kv)
            if one is not None:
                found[kv.key] = one
    return found


async def scan(
    store: Store, kind: type[RecordT], prefix: str, *, start_after: str | None = None
) -> AsyncIterator[Found[RecordT]]:
    """Yield the records under a prefix in key order, a page at a time."""
    more = True
    while more:
        page = await store.range(prefix, start_after=start_after, limit=SCAN_PAGE)
        for kv in page.items:
            one = read(kind, kv)
            if one is not None:
                yield one
        more = page.more
        if page.items:
            start_after = page.items[-1].key


async def change(
    store: Store, kind: type[RecordT], key: str, decide: Callable[[RecordT], RecordT]
) -> RecordT | None:
    """Change a record, again from its newest state whenever somebody else changed it meanwhile.

    Args:
        store: where the record is.
        kind: the record's type.
        key: the record's key.
        decide: pure; takes the record, returns the new one, or the same to leave it. It may raise
            to refuse, and may be called more than once. A lease on the key is kept.

    Returns:
        The record as it now is, or None when there is none.

    Raises:
        Contended: others were faster ``TRIES`` times.
    """
    for _ in range(TRIES):
        found = await find(store, kind, key)
        if found is None:
            return None
        new = decide(found.record)
        if new == found.record:
            return new
        put = Put(key, records.encode(new), found.kv.lease)
        if (await store.txn([unchanged(found.kv)], [put])).succeeded:
            return new
    raise Contended(f"{key} changed {TRIES} times while it was being changed")


def read(kind: type[RecordT], kv: KeyValue) -> Found[RecordT] | None:
    """Return the record of a key-value; None, logged, for one that is unreadable."""
    try:
        return Found(kv, records.decode(kind, kv))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _log.error("record is unreadable", key=kv.key, revision=kv.mod_revision, error=str(error))
        return None
