"""Typed access to the store: find, scan and change records.

A record that cannot be decoded is logged, left unchanged and treated as missing, so that one bad row
never stops the rest. Compare-and-set loops wait between tries with ``ConflictRetries``.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import structlog
from msgspec import Struct

from agent.controlplane import records
from agent.controlplane.store.contract import TXN_LIMIT, Put, StoreFailure, unchanged
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from agent.controlplane.store.contract import KeyValue, Store

RecordT = TypeVar("RecordT", bound=Struct)

SCAN_PAGE = 500
TRY_LIMIT_S = 30.0
"""How long a change is retried; callers give up after a minute."""
_FIRST_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.1

_log = structlog.get_logger(__name__)


class Contended(StoreFailure):
    """Others changed a record during every try, until the time limit."""

    retryable = True


class ConflictRetries:
    """Waits between the tries of a compare-and-set loop.

    ::

        tries = Tries("/families/web")
        while True:
            ...  # read, decide, compare and set; return when it succeeded
            await tries.again()
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._deadline = time.monotonic() + TRY_LIMIT_S
        self._wait_s = _FIRST_WAIT_S
        self._draw = random.SystemRandom()

    async def again(self) -> None:
        """Return when it is time for the next try.

        The wait is random and grows, so that concurrent writers of one record take turns.

        Raises:
            Contended: the time limit has passed.
        """
        if time.monotonic() > self._deadline:
            raise Contended(
                f"{self._what} could not be changed: others changed it all the time for "
                f"{TRY_LIMIT_S:g} s; try again"
            )
        await asyncio.sleep(self._draw.uniform(0, self._wait_s))
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)


class Found(NamedTuple, Generic[RecordT]):
    """A record and the key-value that holds it."""

    kv: KeyValue
    record: RecordT


async def find(store: Store, kind: type[RecordT], key: str) -> Found[RecordT] | None:
    """Return the record at a key, or None if it is missing or unreadable."""
    kv = await store.get(key)
    return None if kv is None else read(kind, kv)


async def find_many(
    store: Store, kind: type[RecordT], keys: Iterable[str]
) -> dict[str, Found[RecordT]]:
    """Return the existing records by key, for any number of keys."""
    wanted = list(dict.fromkeys(keys))
    found: dict[str, Found[RecordT]] = {}
    for start in range(0, len(wanted), TXN_LIMIT):
        for kv in (await store.get_many(wanted[start : start + TXN_LIMIT])).values():
            one = read(kind, kv)
            if one is not None:
                found[kv.key] = one
    return found


async def pages(
    store: Store, prefix: str, *, start_after: str | None = None
) -> AsyncIterator[list[KeyValue]]:
    """Yield what is stored under a prefix in key order, undecoded, one page at a time."""
    more = True
    while more:
        page = await store.range(prefix, start_after=start_after, limit=SCAN_PAGE)
        if page.items:
            yield page.items
            start_after = page.items[-1].key
        more = page.more


async def scan(
    store: Store, kind: type[RecordT], prefix: str, *, start_after: str | None = None
) -> AsyncIterator[Found[RecordT]]:
    """Yield the records under a prefix in key order; reads one page at a time."""
    async for page in pages(store, prefix, start_after=start_after):
        for kv in page:
            one = read(kind, kv)
            if one is not None:
                yield one


async def change(
    store: Store,
    kind: type[RecordT],
    key: str,
    decide: Callable[[RecordT], RecordT],
    *,
    urgent: bool = False,
) -> RecordT | None:
    """Change a record; retries with its newest state if others changed it meanwhile.

    Args:
        store: where the record is.
        kind: the record's type.
        key: the record's key.
        decide: pure; takes the record and returns the new one, or the same one to change nothing. It
            may raise to refuse, and may be called more than once. A lease on the key stays.
        urgent: as in ``Store.txn``.

    Returns:
        The record as it is now, or None if there is none.

    Raises:
        Contended: others changed the record during every try for ``TRY_LIMIT_S``.
    """
    tries = ConflictRetries(key)
    while True:
        found = await find(store, kind, key)
        if found is None:
            return None
        new = decide(found.record)
        if new == found.record:
            return new
        put = Put(key, records.encode(new), found.kv.lease)
        if (await store.txn([unchanged(found.kv)], [put], urgent=urgent)).succeeded:
            return new
        await tries.again()


def read(kind: type[RecordT], kv: KeyValue) -> Found[RecordT] | None:
    """Return the record of a key-value; log it and return None if it is unreadable."""
    try:
        return Found(kv, records.decode(kind, kv))
    except BAD_JSON as error:
        _log.error("record is unreadable", key=kv.key, revision=kv.mod_revision, error=str(error))
        return None
