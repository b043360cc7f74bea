"""The contract of every store of the control endpoint: pure types, no I/O.

It is modelled on etcd, so that SQLite on one machine and etcd behind its HTTP gateway look the same
to all users:

- One number, the **revision**, grows by one with every transaction that changes anything. Reads
  return the revision at which they were true, and a watch from that revision misses nothing.
- Every key has the revision that created it, the revision of its last change, and its version (the
  number of puts since its creation). A key that does not exist has 0 for all of them.
- A **transaction** compares, then does one of two lists of operations, all or none. It touches each
  key once and has at most ``TXN_LIMIT`` operations. It is durable when it returns.
- A **lease** is a time to live shared by keys. When it ends, its keys are deleted in one revision,
  which watches see. Leases survive a restart of the store, and then start with their full time.

Keys are text, ordered by their UTF-8 bytes; values are bytes. Every call may be cancelled: a
transaction may then still happen. All methods are for one event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, Self

from msgspec import Struct

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

TXN_LIMIT = 127
"""Maximum number of compares, and of operations in either branch, of a transaction.

etcd takes 128 by default (``--max-txn-ops``), of which one is for the question whether the writer still leads.
"""


class StoreFailure(AgentError):
    """The store refused a call or cannot be used."""


class StoreUnavailable(StoreFailure):
    """The store does not answer or is closed; nothing is known about the outcome."""

    retryable = True


class StoreDamaged(StoreFailure):
    """The data of the store is damaged; a person must restore a backup."""

    terminal = True


class StoreFull(StoreUnavailable):
    """The disk is full; nothing was done. Stops and reports of tasks can still be written."""


class InvalidTransaction(StoreFailure):
    """The transaction breaks the contract: too many operations, a key twice, an empty key."""


class LeaseUnknown(StoreFailure):
    """The lease has ended or never existed."""


class Compacted(StoreFailure):
    """The history for a watch is gone: read everything again, then watch from there."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"history before revision {compact_revision} is compacted")
        self.compact_revision = compact_revision
        """A watch with ``after_revision`` of at least this works."""


class KeyValue(Struct, frozen=True):
    """One key as it was at one revision."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0
    """0 if there is none."""


class Compare(Struct, frozen=True):
    """A condition on one key.

    A missing key has 0 in every number; comparing the ``value`` of a missing key is always false.
    """

    key: str
    field: Literal["version", "mod_revision", "create_revision", "lease", "value"]
    op: Literal["=", "!=", "<", ">"]
    value: int | bytes


class Put(Struct, frozen=True):
    """Set a key. Without a lease, the key is removed from the lease that it had."""

    key: str
    value: bytes
    lease: int = 0


class Delete(Struct, frozen=True):
    """Delete a key; a missing one is ignored."""

    key: str


class DeletePrefix(Struct, frozen=True):
    """Delete every key that begins with the prefix."""

    prefix: str


Op = Put | Delete | DeletePrefix


def absent(key: str) -> Compare:
    """Return the condition that a key does not exist."""
    return Compare(key, "create_revision", "=", 0)


def present(key: str) -> Compare:
    """Return the condition that a key exists."""
    return Compare(key, "create_revision", ">", 0)


def unchanged(kv: KeyValue) -> Compare:
    """Return the condition that a key has not changed since it was read."""
    return Compare(kv.key, "mod_revision", "=", kv.mod_revision)


def as_read(key: str, kv: KeyValue | None) -> Compare:
    """Return the condition that a key has not changed since it was read, or is still missing."""
    return absent(key) if kv is None else unchanged(kv)


class TxnResult(Struct, frozen=True):
    """The result of a transaction."""

    succeeded: bool
    """Whether all compares held, so that ``then`` was done; otherwise ``otherwise`` was."""
    revision: int
    """The store's revision after it; a new one only if anything changed."""


class RangeResult(Struct, frozen=True):
    """Keys in order, all true at one revision."""

    items: list[KeyValue]
    revision: int
    more: bool = False
    """Whether the limit left keys out; continue with ``start_after=items[-1].key``."""


class Event(Struct, frozen=True):
    """One key that changed. For a deleted key, ``kv`` has the key and the revision, but no value."""

    type: Literal["put", "delete"]
    kv: KeyValue


class WatchBatch(Struct, frozen=True):
    """Changes in revision order. All changes of one revision are in one batch.

    The reader has then seen everything up to ``revision``. ``events`` may be empty: only progress.
    """

    revision: int
    events: list[Event]


class Watch(Protocol):
    """A stream of changes: ``async with store.watch(...) as watch: async for batch in watch``.

    Iterating raises ``Compacted`` (also later, for a reader that is too slow) and
    ``StoreUnavailable``. Cancelling one ``__anext__`` (by a timeout) loses nothing: call it again.
    """

    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> WatchBatch: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    async def aclose(self) -> None:
        """End the watch; may be called twice."""


class Store(Protocol):
    """Revisioned keys, compare-and-set transactions, watches from a revision, and leases."""

    @property
    def revision(self) -> int:
        """The newest revision known to this store; an empty store starts at 1."""

    @property
    def problem(self) -> str:
        """The current problem of the store, for a person; empty if there is none."""

    async def get(self, key: str) -> KeyValue | None:
        """Return a key, or None if it does not exist."""

    async def get_many(self, keys: Iterable[str]) -> dict[str, KeyValue]:
        """Return those of at most ``TXN_LIMIT`` keys that exist, all at one revision."""

    async def range(
        self, prefix: str, *, start_after: str | None = None, limit: int | None = None
    ) -> RangeResult:
        """Return the keys that begin with ``prefix``, in order, after ``start_after``.

        Each page has its own revision: to follow all changes, watch from the revision of the first.
        """

    async def txn(
        self,
        compares: Sequence[Compare],
        then: Sequence[Op],
        otherwise: Sequence[Op] = (),
        *,
        urgent: bool = False,
        above: int = 0,
    ) -> TxnResult:
        """Compare and change, all or nothing; durable on return.

        Args:
            compares: conditions that must all hold for ``then``.
            then: what is done if they hold.
            otherwise: what is done if they do not.
            urgent: whether it ends tasks or reports about them. A store may reserve some space for
                such transactions, in case the disk is full.
            above: a revision that somebody has seen, which this store may never have had since it
                was replaced by an older copy. The revision of this transaction will be greater.

        Raises:
            InvalidTransaction: it breaks the contract; nothing was done.
            LeaseUnknown: a put names a lease that has ended; nothing was done.
            StoreFull: nothing was done.
            StoreUnavailable: the outcome is unknown.
            StoreDamaged: the store is damaged.
        """

    def watch(self, prefix: str, *, after_revision: int) -> Watch:
        """Follow every change under ``prefix`` later than ``after_revision``.

        With etcd, ask from ``after_revision`` itself and skip its events: if asked from the next
        revision, etcd does not notice that a deletion right after it was compacted.
        """

    async def compact(self, revision: int) -> None:
        """Forget the history up to ``revision`` (current values stay); an older one is a no-op."""

    async def grant_lease(self, ttl_s: float) -> int:
        """Start a lease and return its id.

        A store may round ``ttl_s`` up: etcd does, to whole seconds and at least about two.
        """

    async def keep_alive(self, lease: int) -> None:
        """Renew a lease for its full time; raises ``LeaseUnknown``."""

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys; succeeds if it has already ended."""

    async def close(self) -> None:
        """Finish accepted calls, end all watches with ``StoreUnavailable``; may be repeated."""
