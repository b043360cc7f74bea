"""The contract that every store of the control endpoint keeps: pure types, no I/O.

The shape is etcd's, so that SQLite on one machine and etcd behind its HTTP gateway are the same to
all users:

- One number, the **revision**, grows by one with every transaction that changes anything. Reads say
  at which revision they were true, and a watch from that revision misses nothing.
- Every key knows the revision that created it, the one that changed it last, and its version (how
  often it was put since it was created). A key that does not exist has 0 for all of them.
- A **transaction** compares, then does one of two lists of operations, all or nothing. It touches
  each key once and holds at most ``TXN_LIMIT`` operations. It is durable when it returns.
- A **lease** is a time to live shared by keys. When it ends, its keys are deleted in one revision,
  which watches see. Leases survive a restart of the store, and start anew then.

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

TXN_LIMIT = 128
"""Most compares, and most operations of either branch, in one transaction (etcd's default)."""


class StoreFailure(AgentError):
    """The store refused a call or cannot be used."""


class StoreUnavailable(StoreFailure):
    """The store does not answer or is closed; nothing is known about the outcome."""

    retryable = True


class StoreDamaged(StoreFailure):
    """What the store holds is not whole; a person has to put a backup back."""

    terminal = True


class StoreFull(StoreUnavailable):
    """The disk is full; nothing was done. What ends tasks or tells of them may still be written."""


class InvalidTransaction(StoreFailure):
    """The transaction breaks the contract: too many operations, a key twice, an empty key."""


class LeaseUnknown(StoreFailure):
    """The lease has ended or never was."""


class Compacted(StoreFailure):
    """The history that a watch asked for is gone: read everything again, then watch from there."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"history before revision {compact_revision} is compacted")
        self.compact_revision = compact_revision
        """A watch with ``after_revision`` at least this succeeds."""


class KeyValue(Struct, frozen=True):
    """One key as it was at one revision."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0
    """0 for none."""


class Compare(Struct, frozen=True):
    """A condition on one key.

    A missing key has 0 in every number; comparing the ``value`` of a missing key is always false.
    """

    key: str
    field: Literal["version", "mod_revision", "create_revision", "lease", "value"]
    op: Literal["=", "!=", "<", ">"]
    value: int | bytes


class Put(Struct, frozen=True):
    """Set a key. Without a lease, the key leaves the lease that it had."""

    key: str
    value: bytes
    lease: int = 0


class Delete(Struct, frozen=True):
    """Delete a key; a missing one is fine."""

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
    """Return the condition that a key still is as it was read."""
    return Compare(kv.key, "mod_revision", "=", kv.mod_revision)


def as_read(key: str, kv: KeyValue | None) -> Compare:
    """Return the condition that a key still is as it was read, or still missing."""
    return absent(key) if kv is None else unchanged(kv)


class TxnResult(Struct, frozen=True):
    """What became of a transaction."""

    succeeded: bool
    """True when all compares held, so that ``then`` was done; else ``otherwise`` was."""
    revision: int
    """The store's revision after it; a new one only if anything changed."""


class RangeResult(Struct, frozen=True):
    """Keys in order, all true at one revision."""

    items: list[KeyValue]
    revision: int
    more: bool = False
    """True when the limit left keys out; go on with ``start_after=items[-1].key``."""


class Event(Struct, frozen=True):
    """One key that changed. Of a deleted key ``kv`` has the key and the revision, and no value."""

    type: Literal["put", "delete"]
    kv: KeyValue


class WatchBatch(Struct, frozen=True):
    """Changes in revision order. All changes of one revision are in one batch.

    Everything up to ``revision`` has been seen then. ``events`` may be empty: only progress.
    """

    revision: int
    events: list[Event]


class Watch(Protocol):
    """A stream of changes: ``async with store.watch(...) as watch: async for batch in watch``.

    Iterating raises ``Compacted`` (also later, for a reader that is too slow) and
    ``StoreUnavailable``. Cancelling one ``__anext__`` (a timeout, say) loses nothing: ask again.
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
        """The newest revision that this store knows of; starts at 1 when empty."""

    @property
    def problem(self) -> str:
        """What is wrong with the store at this moment, for a person; empty when all is well."""

    async def get(self, key: str) -> KeyValue | None:
        """Return a key, or None when it does not exist."""

    async def get_many(self, keys: Iterable[str]) -> dict[str, KeyValue]:
        """Return those of at most ``TXN_LIMIT`` keys that exist, all true at one revision."""

    async def range(
        self, prefix: str, *, start_after: str | None = None, limit: int | None = None
    ) -> RangeResult:
        """Return the keys that begin with ``prefix``, in order, from behind ``start_after``.

        Pages are each true at their own revision: to follow all, watch from the first page's.
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
            compares: conditions that all must hold for ``then``.
            then: what is done when they hold.
            otherwise: what is done when they do not.
            urgent: that it ends tasks or tells what became of them. A store may keep some space
                for such transactions, for a disk that is full.
            above: a revision that somebody saw of this store, although it may never have had it
                since it was put back to an older copy. That of this transaction is greater.

        Raises:
            InvalidTransaction: it breaks the contract; nothing was done.
            LeaseUnknown: a put names a lease that has ended; nothing was done.
            StoreFull: nothing was done.
            StoreUnavailable: the outcome is unknown.
            StoreDamaged: the store is not whole.
        """

    def watch(self, prefix: str, *, after_revision: int) -> Watch:
        """Follow every change under ``prefix`` later than ``after_revision``.

        An etcd must be asked from ``after_revision`` itself, less its events of that revision: asked
        from the next one, it does not notice that a deletion just behind it was compacted.
        """

    async def compact(self, revision: int) -> None:
        """Forget the history up to ``revision`` (current values stay); an older one is a no-op."""

    async def grant_lease(self, ttl_s: float) -> int:
        """Start a lease and return its id.

        A store may round ``ttl_s`` up: etcd to whole seconds, and to about two at least.
        """

    async def keep_alive(self, lease: int) -> None:
        """Give a lease its full time again; raises ``LeaseUnknown``."""

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys; an ended one is success."""

    async def close(self) -> None:
        """Finish what was accepted, end all watches with ``StoreUnavailable``; may be repeated."""
