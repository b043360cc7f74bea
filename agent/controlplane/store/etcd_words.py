"""What the store says to etcd and hears from it: keys under a prefix, revisions, operations. Pure.

::

    <prefix>/keys<key>          a key of the store
    <prefix>/store/format       which program can read this
    <prefix>/store/revisions    see ``Revisions``
    <prefix>/store/moving       there while an import is not finished
    <prefix>/store/leader       who leads, under a lease
    <prefix>/store/led          put by everyone who begins to lead
    <prefix>/store/files        digests of files that all controls must have alike (``server.site_files``)
    <prefix>/store/progress     put to get a revision that a watch will see

Tests: ``tests/unit/controlplane/store/test_etcd_words.py``.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct, field

from agent.controlplane.store.contract import (
    Compare,
    Delete,
    DeletePrefix,
    Event,
    KeyValue,
    Op,
    Put,
)
from agent.controlplane.store.etcd_client import Header

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT: Final = b"1"
_RESULTS: Final = {"=": "EQUAL", "!=": "NOT_EQUAL", "<": "LESS", ">": "GREATER"}
_NUMBERS: Final = {
    "version": "VERSION",
    "mod_revision": "MOD",
    "create_revision": "CREATE",
    "lease": "LEASE",
}


class RawKv(Struct):
    """A key as etcd has it."""

    key: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    value: bytes = b""
    lease: int = 0


class RangeAnswer(Struct):
    """Of a range."""

    header: Header = Header()
    kvs: list[RawKv] = []
    more: bool = False


class OpAnswer(Struct):
    """Of one operation of a transaction."""

    response_range: RangeAnswer | None = None
    response_txn: TxnAnswer | None = None


class TxnAnswer(Struct):
    """Of a transaction."""

    header: Header = Header()
    succeeded: bool = False
    responses: list[OpAnswer] = []


class RawEvent(Struct):
    """A change as a watch tells it."""

    kv: RawKv
    type: str = "PUT"


class WatchResult(Struct):
    """One answer of a watch."""

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: list[RawEvent] = []


class WatchError(Struct):
    """Why a stream ended."""

    message: str = ""
    error: str = ""


class WatchLine(Struct):
    """One line of a watch."""

    result: WatchResult | None = None
    error: WatchError | None = None


class Shift(Struct, frozen=True, array_like=True):
    """From one revision of etcd on, the store's revisions are greater by a number."""

    since: int
    by: int


class Revisions:
    """Revisions of the store from those of etcd: the same, until the store had to get above some other number.

    A fleet that is moved here from another store, and an etcd that was restored from a backup, must not use
    revisions again that agents have seen. etcd cannot skip revisions, so the store adds a number to all that
    come later. Revisions never change once they are told, and keep their order.
    """

    def __init__(self, shifts: Sequence[Shift] = ()) -> None:
        self.shifts = [Shift(0, 0), *shifts]

    @classmethod
    def decode(cls, value: bytes) -> Revisions:
        """Return them as they are stored; raises ``msgspec.DecodeError``."""
        return cls(msgspec.json.decode(value, type=list[Shift]))

    def encode(self) -> bytes:
        """Return what is stored."""
        return msgspec.json.encode(self.shifts[1:])

    def above(self, revision: int, newest_raw: int) -> Revisions:
        """Return them so that all after ``newest_raw`` are above a revision."""
        by = max(self.shifts[-1].by, revision - newest_raw)
        return Revisions([*self.shifts[1:], Shift(newest_raw + 1, by)])

    def told(self, raw: int) -> int:
        """Return the store's revision for one of etcd; 0 stays 0."""
        if not raw:
            return 0
        for shift in reversed(self.shifts):
            if raw >= shift.since:
                return raw + shift.by
        return raw

    def raw(self, revision: int) -> int:
        """Return the newest revision of etcd whose told revision is not above this one."""
        place = bisect.bisect_right(self.shifts, revision, key=lambda one: one.since + one.by) - 1
        if place < 0:
            return min(revision, 0)
        newest = self.shifts[place + 1].since - 1 if place + 1 < len(self.shifts) else revision
        return min(revision - self.shifts[place].by, newest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Revisions) and self.shifts == other.shifts

    __hash__ = None  # type: ignore[assignment]


class Words(Struct, frozen=True):
    """How one store's keys are named in etcd."""

    prefix: str

    revisions: Revisions = field(default_factory=Revisions)

    @property
    def keys(self) -> bytes:
        """The prefix of all keys of the store."""
        return f"{self.prefix}/keys".encode()

    @property
    def everything(self) -> bytes:
        """The prefix of everything that belongs to this store."""
        return f"{self.prefix}/".encode()

    def own(self, name: str) -> bytes:
        """Return a key for the store's own use."""
        return f"{self.prefix}/store/{name}".encode()

    def key(self, key: str) -> bytes:
        """Return etcd's key for one of the store."""
        return self.keys + key.encode()

    def kv(self, raw: RawKv) -> KeyValue:
        """Return a key of the store as etcd has it."""
        told = self.revisions.told
        return KeyValue(
            raw.key[len(self.keys) :].decode(),
            raw.value,
            told(raw.create_revision),
            told(raw.mod_revision),
            raw.version,
            raw.lease,
        )

    def event(self, raw: RawEvent) -> Event:
        """Return a change of a key of the store."""
        return Event("delete" if raw.type == "DELETE" else "put", self.kv(raw.kv))

    def compare(self, compare: Compare) -> dict[str, Any]:
        """Return a condition in etcd's words."""
        words: dict[str, Any] = {"key": self.key(compare.key), "result": _RESULTS[compare.op]}
        if compare.field == "value":
            return words | {"target": "VALUE", "value": compare.value}
        number = int(compare.value)
        if compare.field in ("mod_revision", "create_revision"):
            number = self._compared(number, compare.op)
        return words | {"target": _NUMBERS[compare.field], compare.field: number}

    def _compared(self, revision: int, op: str) -> int:
        """Return the revision of etcd to compare with; one that no key has if there is none."""
        if revision <= 0:
            return revision
        raw = self.revisions.raw(revision)
        if self.revisions.told(raw) == revision and raw:
            return raw
        # Between two revisions, or before the first.
        return {"<": raw + 1, ">": raw}.get(op, -1)

    def op(self, op: Op) -> dict[str, Any]:
        """Return an operation in etcd's words."""
        match op:
            case Put(key, value, lease):
                return {"request_put": {"key": self.key(key), "value": value, "lease": lease}}
            case Delete(key):
                return {"request_delete_range": {"key": self.key(key)}}
            case DeletePrefix(prefix):
                return {"request_delete_range": under(self.key(prefix))}


def under(prefix: bytes) -> dict[str, Any]:
    """Return the range of the keys with a prefix of UTF-8, which has no byte 255."""
    return {"key": prefix, "range_end": end_of(prefix)}


def end_of(prefix: bytes) -> bytes:
    """Return the first key after all with a prefix of UTF-8."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
