"""The store in etcd: implements the contract for any number of processes, of which one leads (``leading``).

::

    txn, get, range ──► etcd's HTTP/JSON gateway (``etcd_client``): any endpoint, linearizable
    watches         ◄── one watch of etcd, and its history (``etcd_changes``)

etcd's own limits are errors that name them. A full etcd fails changes with ``StoreFull``; what leads then makes
space where it can (``etcd_health``).

Tests: ``tests/unit/controlplane/store``, ``tests/integration/controlplane/test_etcd_faults.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane.store.checks import check_many, check_txn
from agent.controlplane.store.contract import (
    Compacted,
    InvalidTransaction,
    KeyValue,
    LeaseUnknown,
    RangeResult,
    StoreFailure,
    StoreUnavailable,
    TxnResult,
)
from agent.controlplane.store.etcd_calls import Calls
from agent.controlplane.store.etcd_changes import Changes
from agent.controlplane.store.etcd_client import EtcdClient, Header
from agent.controlplane.store.etcd_health import Health
from agent.controlplane.store.etcd_own import OwnKeys, prepare
from agent.controlplane.store.etcd_words import (
    RangeAnswer,
    RawKv,
    Revisions,
    TxnAnswer,
    Words,
    end_of,
)
from agent.controlplane.store.sqlite_file import Watermark

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from agent.controlplane.store.contract import Compare, Op
    from agent.controlplane.store.etcd_settings import EtcdSettings
    from agent.controlplane.store.watching import PrefixWatch

AnswerT = TypeVar("AnswerT", RangeAnswer, TxnAnswer)

HEARTBEAT_S: Final = 2.0

_log = structlog.get_logger(__name__)


class Fence(Struct, frozen=True):
    """What must still be true for anything to be written."""

    key: bytes
    create_revision: int
    """Of etcd."""

    @property
    def compare(self) -> dict[str, Any]:
        """The condition in etcd's words."""
        return {
            "key": self.key,
            "target": "CREATE",
            "result": "EQUAL",
            "create_revision": self.create_revision,
        }


class NotLeading(StoreFailure):
    """Another control leads; nothing was done. This process must end."""

    terminal = True


class _Granted(Struct):
    header: Header = Header()
    id: int = msgspec.field(default=0, name="ID")


class _Kept(Struct, frozen=True):
    ttl: int = msgspec.field(default=0, name="TTL")


class _KeptAlive(Struct):
    result: _Kept = _Kept()


class _Done(Struct):
    header: Header = Header()


class EtcdStore:
    """See ``contract.Store``; open one with ``await EtcdStore.open(settings)``."""

    def __init__(
        self, client: EtcdClient, words: Words, raw_revision: int, watermark: Watermark | None
    ) -> None:
        self.client = client
        self._calls = Calls(client)
        self._changes = Changes(self._calls, words, raw_revision)
        self._watermark = watermark
        self.seen_revision = watermark.read() if watermark is not None else 0
        """The newest revision ever seen from this data directory; greater than ``revision`` for an older copy."""
        self.fence: Fence | None = None
        """Of what leads; None where no leader is needed."""
        self.fenced = asyncio.Event()
        """Set when something was not written because this process no longer leads."""
        self._moving = False
        self.health = Health(self)
        self._running: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        settings: EtcdSettings,
        *,
        data_dir: Path | None = None,
        moving: bool = False,
        makes: bool = True,
    ) -> EtcdStore:
        """Open the fleet's part of an etcd; makes it if it is not there.

        Args:
            settings: where it is.
            data_dir: where the newest revision is noted, so that an older copy is noticed; None for nowhere.
            moving: whether this is for an import, which may find its own unfinished work.
            makes: whether to make a store that is not there; otherwise that is refused.

        Raises:
            StoreUnavailable: etcd does not answer.
            StoreFailure: it refuses, or the store cannot be used; the text says why.
            ConfigError: files of TLS or the password cannot be used.
        """
        client = await EtcdClient.open(settings)
        try:
            words = Words(settings.prefix)
            identity = await prepare(client, settings, makes=makes)
            found = await OwnKeys.read(client, words, moving=moving)
            words = replace(words, revisions=found.revisions(words))
            watermark = None
            if data_dir is not None:
                watermark = await asyncio.to_thread(Watermark, data_dir / f"etcd-{identity[:12]}")
            store = cls(client, words, found.revision, watermark)
            store._moving = moving
        except BaseException:
            await client.close()
            raise
        store.health.quota_bytes = settings.quota_bytes
        store._running = [
            asyncio.create_task(store._changes.run(), name="etcd feed"),
            asyncio.create_task(store._beat(), name="etcd heartbeat"),
        ]
        return store

    @property
    def revision(self) -> int:
        """The newest revision that any answer had."""
        return self.words.revisions.told(self._changes.raw_revision)

    @property
    def words(self) -> Words:
        """How its keys are named in etcd, and what its revisions are there."""
        return self._changes.words

    @property
    def leader_gone(self) -> asyncio.Event:
        """Set whenever nobody leads any more."""
        return self._changes.leader_gone

    @property
    def problem(self) -> str:
        """The current problem of etcd; empty if there is none."""
        return self._calls.problem or self.health.problem

    def warning(self) -> str:
        """Return what an operator should mend before it is a problem; empty if there is nothing."""
        return self.health.warning

    async def get(self, key: str) -> KeyValue | None:
        """Return a key, or None if it does not exist."""
        answer = await self._read("/v3/kv/range", {"key": self.words.key(key)}, RangeAnswer)
        return self.words.kv(answer.kvs[0]) if answer.kvs else None

    async def get_many(self, keys: Iterable[str]) -> dict[str, KeyValue]:
        """Return those of at most ``TXN_LIMIT`` keys that exist."""
        wanted = check_many(keys)
        if not wanted:
            self._calls.check_open()
            return {}
        reads = [{"request_range": {"key": self.words.key(key)}} for key in wanted]
        answer = await self._read("/v3/kv/txn", {"success": reads}, TxnAnswer)
        found = [
            kv for one in answer.responses if one.response_range for kv in one.response_range.kvs
        ]
        return {kv.key: kv for kv in map(self.words.kv, found)}

    async def range(
        self, prefix: str, *, start_after: str | None = None, limit: int | None = None
    ) -> RangeResult:
        """Return the keys under ``prefix``, in order, after ``start_after``."""
        first = self.words.key(prefix)
        end = end_of(first)
        if start_after is not None:
            first = max(first, self.words.key(start_after) + b"\0")
        if first >= end:
            return RangeResult([], self.revision)
        body = {"key": first, "range_end": end} | ({"limit": limit} if limit is not None else {})
        answer = await self._read("/v3/kv/range", body, RangeAnswer)
        items = [self.words.kv(raw) for raw in answer.kvs]
        return RangeResult(items, self.words.revisions.told(answer.header.revision), answer.more)

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

        Raises:
            NotLeading: nothing was done, because another control leads.
        """
        check_txn(compares, then, otherwise, above)
        words = self.words
        body = {
            "compare": [words.compare(one) for one in compares],
            "success": [words.op(one) for one in then],
            "failure": [words.op(one) for one in otherwise],
        }
        shifted = await self._shifted(above) if above > self.revision else None
        if shifted is not None:
            put = {"key": words.own("revisions"), "value": shifted.encode()}
            body["success"].append({"request_put": put})
        answer = await self._fenced(body)
        if shifted is not None and answer.succeeded:
            self._changes.words = replace(words, revisions=shifted)
        self._changes.note(answer.header.revision)
        return TxnResult(answer.succeeded, self.words.revisions.told(answer.header.revision))

    def watch(self, prefix: str, *, after_revision: int) -> PrefixWatch:
        """Follow every change under ``prefix`` later than ``after_revision``."""
        return self._changes.watch(prefix, after_revision)

    async def compact(self, revision: int) -> None:
        """Forget the history up to ``revision``, which is that of all users of this etcd."""
        if revision > self.revision:
            raise InvalidTransaction(
                f"revision {revision} is in the future; the newest is {self.revision}"
            )
        raw = self.words.revisions.raw(revision)
        if raw <= 0:
            return
        with contextlib.suppress(Compacted):
            await self._calls.change("/v3/kv/compaction", {"revision": raw}, _Done)
        self._changes.feed.kept.forget(raw)

    async def grant_lease(self, ttl_s: float) -> int:
        """Start a lease of whole seconds and return its id."""
        if not ttl_s > 0:
            raise InvalidTransaction(f"a lease must be longer than 0 s, not {ttl_s} s")
        return await self._granted(ttl_s, urgent=False)

    async def keep_alive(self, lease: int) -> None:
        """Renew a lease for its full time."""
        # To renew twice does no harm.
        answer = await self._calls.read("/v3/lease/keepalive", {"ID": lease}, _KeptAlive)
        if answer.result.ttl <= 0:
            raise LeaseUnknown(f"lease {lease} has ended or never existed")

    async def keep_alive_at(self, endpoint: str, lease: int, limit_s: float) -> None:
        """Renew a lease at one endpoint."""
        self._calls.check_open()
        body = {"ID": lease}
        answer = await self.client.at(endpoint, "/v3/lease/keepalive", body, _KeptAlive, limit_s)
        if answer.result.ttl <= 0:
            raise LeaseUnknown(f"lease {lease} has ended or never existed")

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys; succeeds if it has already ended."""
        with contextlib.suppress(LeaseUnknown):
            await self._calls.change("/v3/lease/revoke", {"ID": lease}, _Done)

    async def close(self) -> None:
        """Finish accepted calls, end all watches; may be repeated."""
        if self._calls.is_closed:
            return
        self._calls.is_closed = True
        for task in self._running:
            task.cancel()
        await self._changes.close()
        await self._calls.wait_closed()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.client.close()
        if self._watermark is not None:
            self._watermark.close()

    # What others of this package use.

    async def own(self, name: str) -> RawKv | None:
        """Return a key of the store's own use; None if it does not exist. Does not wait for other calls."""
        body = {"key": self.words.own(name)}
        answer = await self._calls.read("/v3/kv/range", body, RangeAnswer, urgent=True)
        self._changes.note(answer.header.revision)
        return answer.kvs[0] if answer.kvs else None

    async def own_lease(self, ttl_s: float) -> int:
        """Start a lease. Does not wait for other calls."""
        return await self._granted(ttl_s, urgent=True)

    async def own_txn(self, body: dict[str, Any]) -> TxnAnswer:
        """Do a transaction in etcd's words, whoever leads. Does not wait for other calls."""
        answer = await self._calls.change("/v3/kv/txn", body, TxnAnswer, urgent=True)
        self._changes.note(answer.header.revision)
        return answer

    async def reload_own(self) -> None:
        """Read again what another process may have written for the store's own use.

        Raises:
            StoreFailure: it began an import and did not finish it.
        """
        words = self.words
        found = await OwnKeys.read(self.client, words, moving=self._moving)
        self._changes.words = replace(words, revisions=found.revisions(words))
        self._changes.note(found.revision)

    async def _shifted(self, above: int) -> Revisions | None:
        """Return revisions of which all later ones are above a number; None if they are already."""
        answer = await self._read("/v3/kv/range", {"key": self.words.own("revisions")}, RangeAnswer)
        if self.words.revisions.told(answer.header.revision) >= above:
            return None
        return self.words.revisions.above(above, answer.header.revision)

    async def _fenced(self, body: dict[str, Any]) -> TxnAnswer:
        """Do a transaction if this process still leads, or needs not to."""
        fence = self.fence
        if fence is not None:
            body = {"compare": [fence.compare], "success": [{"request_txn": body}]}
        answer = await self._calls.change("/v3/kv/txn", body, TxnAnswer)
        if fence is None:
            return answer
        if not answer.succeeded:
            self.fenced.set()
            raise NotLeading("another control leads this fleet now; this one must be started again")
        inner = answer.responses[0].response_txn
        return TxnAnswer(answer.header, inner is not None and inner.succeeded)

    async def _granted(self, ttl_s: float, *, urgent: bool) -> int:
        body = {"TTL": math.ceil(ttl_s)}
        granted = await self._calls.change("/v3/lease/grant", body, _Granted, urgent=urgent)
        return granted.id

    async def _read(self, path: str, body: dict[str, Any], kind: type[AnswerT]) -> AnswerT:
        answer = await self._calls.read(path, body, kind)
        self._changes.note(answer.header.revision)
        return answer

    async def _beat(self) -> None:
        """Ask etcd now and then whether it answers, what it has, and how it is; until cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self.own("progress")
                await self.health.look()
            except StoreUnavailable as error:
                _log.warning("etcd does not answer as it should", error=str(error))
            except StoreFailure as error:
                self.health.warning = f"etcd does not tell how it is: {error}"
            if self._watermark is not None and self.revision > self.seen_revision:
                await asyncio.to_thread(self._watermark.write, self.revision)
