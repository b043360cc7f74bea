"""The store in etcd: implements the contract for any number of processes, of which one leads (``leading``).

::

    txn, get, range ──► etcd's HTTP/JSON gateway (``etcd_client``): any endpoint, linearizable
    watches         ◄── hub ◄── one watch of etcd (``etcd_feed``)

``revision`` is the newest one that any answer had. If that of another fleet in the same etcd is newer than what
the watch will tell, a key is put, so that whoever waits for that revision does not wait for ever.

etcd's own limits are errors that name them. A full etcd fails changes with ``StoreFull``; what leads then makes
space where it can (``etcd_health``).

Tests: ``tests/unit/controlplane/store``, ``tests/integration/controlplane/test_etcd_faults.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import uuid
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane.store import etcd_feed
from agent.controlplane.store.checks import check_many, check_txn
from agent.controlplane.store.contract import (
    Compacted,
    Event,
    InvalidTransaction,
    KeyValue,
    LeaseUnknown,
    RangeResult,
    StoreFailure,
    StoreUnavailable,
    TxnResult,
)
from agent.controlplane.store.etcd_client import EtcdClient, Header
from agent.controlplane.store.etcd_health import Health
from agent.controlplane.store.etcd_words import (
    FORMAT,
    RangeAnswer,
    RawEvent,
    RawKv,
    Revisions,
    TxnAnswer,
    Words,
    end_of,
)
from agent.controlplane.store.sqlite_file import Watermark
from agent.controlplane.store.watching import Hub, PrefixWatch
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from agent.controlplane.store.contract import Compare, Op
    from agent.controlplane.store.etcd_settings import EtcdSettings

AnswerT = TypeVar("AnswerT", RangeAnswer, TxnAnswer)

SETTLE_S: Final = 0.02
"""How long a revision may be unseen by the watch before a key is put."""
BEHIND_S: Final = 3.0
"""How far the watch may be behind before it goes on at another endpoint."""
HEARTBEAT_S: Final = 2.0
HISTORY_EVENTS: Final = 1024
HISTORY_S: Final = 60.0
_CLOSE_S: Final = 5.0

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
        self.words = words
        self._raw_revision = raw_revision
        self._watermark = watermark
        self.seen_revision = watermark.read() if watermark is not None else 0
        """The newest revision ever seen from this data directory; greater than ``revision`` for an older copy."""
        self.fence: Fence | None = None
        """Of what leads; None where no leader is needed."""
        self.fenced = asyncio.Event()
        """Set when something was not written because this process no longer leads."""
        self.leader_gone = asyncio.Event()
        """Set whenever nobody leads any more."""
        self._hub = Hub(self._history)
        self.feed = etcd_feed.Feed(
            client, words.everything, raw_revision, deliver=self._deliver, lost=self._lost
        )
        self._delivered = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._moving = False
        self._problem = ""
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
            identity = await _prepare(client, settings, makes=makes)
            found = await _own_keys(client, words)
            _check_whole(found, words, moving=moving)
            words = replace(words, revisions=_revisions(found.get(words.own("revisions"))))
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
            asyncio.create_task(store.feed.run(), name="etcd feed"),
            asyncio.create_task(store._beat(), name="etcd heartbeat"),
        ]
        return store

    @property
    def revision(self) -> int:
        """The newest revision that any answer had."""
        return self.words.revisions.told(self._raw_revision)

    @property
    def problem(self) -> str:
        """The current problem of etcd; empty if there is none."""
        return self._problem or self.health.problem

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
            self._check_open()
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
            self.words = replace(words, revisions=shifted)
        self._note(answer.header.revision)
        return TxnResult(answer.succeeded, self.words.revisions.told(answer.header.revision))

    def watch(self, prefix: str, *, after_revision: int) -> PrefixWatch:
        """Follow every change under ``prefix`` later than ``after_revision``."""
        return self._hub.watch(prefix, after_revision)

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
            await self._change("/v3/kv/compaction", {"revision": raw}, _Done)
        self.feed.kept.forget(raw)

    async def grant_lease(self, ttl_s: float) -> int:
        """Start a lease of whole seconds and return its id."""
        if not ttl_s > 0:
            raise InvalidTransaction(f"a lease must be longer than 0 s, not {ttl_s} s")
        granted = await self._change("/v3/lease/grant", {"TTL": math.ceil(ttl_s)}, _Granted)
        return int(granted.id)

    async def keep_alive(self, lease: int) -> None:
        """Renew a lease for its full time."""
        self._check_open()
        async with self._noted():
            # To renew twice does no harm.
            answer = await self.client.read("/v3/lease/keepalive", {"ID": lease}, _KeptAlive)
        if answer.result.ttl <= 0:
            raise LeaseUnknown(f"lease {lease} has ended or never existed")

    async def keep_alive_at(self, endpoint: str, lease: int, limit_s: float) -> None:
        """Renew a lease at one endpoint."""
        self._check_open()
        body = {"ID": lease}
        answer = await self.client.at(endpoint, "/v3/lease/keepalive", body, _KeptAlive, limit_s)
        if answer.result.ttl <= 0:
            raise LeaseUnknown(f"lease {lease} has ended or never existed")

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys; succeeds if it has already ended."""
        with contextlib.suppress(LeaseUnknown):
            await self._change("/v3/lease/revoke", {"ID": lease}, _Done)

    async def close(self) -> None:
        """Finish accepted calls, end all watches; may be repeated."""
        if self._closed:
            return
        self._closed = True
        self._hub.close()
        running = [*self._running, *([self._settling] if self._settling else [])]
        for task in running:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=_CLOSE_S)
        await asyncio.gather(*running, return_exceptions=True)
        await self.client.close()
        if self._watermark is not None:
            self._watermark.close()

    # What others of this package use.

    async def own(self, name: str) -> RawKv | None:
        """Return a key of the store's own use; None if it does not exist."""
        answer = await self._read("/v3/kv/range", {"key": self.words.own(name)}, RangeAnswer)
        return answer.kvs[0] if answer.kvs else None

    async def own_txn(self, body: dict[str, Any]) -> TxnAnswer:
        """Do a transaction in etcd's words, whoever leads."""
        answer: TxnAnswer = await self._change("/v3/kv/txn", body, TxnAnswer)
        self._note(answer.header.revision)
        return answer

    async def own_put(self, name: str, value: bytes = b"") -> int:
        """Put a key of the store's own use and return etcd's revision."""
        put = {"request_put": {"key": self.words.own(name), "value": value}}
        return (await self.own_txn({"success": [put]})).header.revision

    async def reload_own(self) -> None:
        """Read again what another process may have written for the store's own use.

        Raises:
            StoreFailure: it began an import and did not finish it.
        """
        found = await _own_keys(self.client, self.words)
        _check_whole(found, self.words, moving=self._moving)
        revisions = _revisions(found.get(self.words.own("revisions")))
        self.words = replace(self.words, revisions=revisions)
        self._note(found.revision)

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
        answer: TxnAnswer = await self._change("/v3/kv/txn", body, TxnAnswer)
        if fence is None:
            return answer
        if not answer.succeeded:
            self.fenced.set()
            raise NotLeading("another control leads this fleet now; this one must be started again")
        inner = answer.responses[0].response_txn
        return TxnAnswer(answer.header, inner is not None and inner.succeeded)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    async def _read(self, path: str, body: dict[str, Any], kind: type[AnswerT]) -> AnswerT:
        self._check_open()
        async with self._noted():
            answer = await self.client.read(path, body, kind)
        self._note(answer.header.revision)
        return answer

    async def _change(self, path: str, body: dict[str, Any], kind: type[Any]) -> Any:
        self._check_open()
        async with self._noted():
            return await self.client.change(path, body, kind)

    @contextlib.asynccontextmanager
    async def _noted(self) -> AsyncIterator[None]:
        """Count a call as accepted, and keep its failure as the problem."""
        task = asyncio.current_task()
        is_outer = task is not None and task not in self._calls
        if task is not None and is_outer:
            self._calls.add(task)
        try:
            yield
        except StoreUnavailable as error:
            self._problem = str(error)
            raise
        else:
            self._problem = ""
        finally:
            if task is not None and is_outer:
                self._calls.discard(task)

    def _note(self, raw_revision: int) -> None:
        """Take note of a revision; make sure that the watch will reach it."""
        self._raw_revision = max(self._raw_revision, raw_revision)
        is_settling = self._settling is not None and not self._settling.done()
        if self._raw_revision > self.feed.position and not is_settling and not self._closed:
            self._settling = asyncio.create_task(self._settle(), name="etcd settling")

    async def _settle(self) -> None:
        if await self._reaches(self._raw_revision, SETTLE_S):
            return
        if not self.feed.is_prompt:
            await self._reaches(self._raw_revision, 2 * etcd_feed.BEGINS_S)
        while self._raw_revision > self.feed.position:
            try:
                # Of an own failure the callers know; what waits is ended by the feed.
                target = await self.own_put("progress")
            except StoreFailure:
                target = self._raw_revision
            if not await self._reaches(target, BEHIND_S):
                self.feed.move()
                await asyncio.sleep(1.0)

    async def _reaches(self, raw_revision: int, limit_s: float) -> bool:
        """Wait until the watch has told a revision; False if it takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self.feed.position < raw_revision:
                    self._delivered.clear()
                    await self._delivered.wait()
        return self.feed.position >= raw_revision

    def _deliver(self, raw_revision: int, raw_events: list[RawEvent]) -> None:
        self._raw_revision = max(self._raw_revision, raw_revision)
        words = self.words
        for raw in raw_events:
            if raw.kv.key == words.own("leader") and raw.type == "DELETE":
                self.leader_gone.set()
            elif raw.kv.key == words.own("revisions"):
                words = self.words = replace(words, revisions=_revisions(raw.kv))
        events = self._told(raw_events, "")
        revision = words.revisions.told(raw_revision)
        if events:
            self._hub.publish(revision, events)
        else:
            self._hub.progress(revision)
        self._delivered.set()

    def _told(self, raw_events: list[RawEvent], prefix: str) -> list[Event]:
        wanted = self.words.key(prefix)
        return [self.words.event(raw) for raw in raw_events if raw.kv.key.startswith(wanted)]

    def _lost(self, failure: StoreFailure) -> None:
        if isinstance(failure, Compacted):
            self._hub.begin_again()
        else:
            self._hub.end_all()
        self._delivered.set()

    async def _history(self, prefix: str, after_revision: int) -> tuple[list[Event], int, bool]:
        self._check_open()
        if self.feed.is_down:
            raise StoreUnavailable("etcd does not answer")
        told, after = self.words.revisions.told, self.words.revisions.raw(after_revision)
        kept = self.feed.kept.after(after)
        if kept is not None:
            return self._told(kept, prefix), told(self.feed.position), False
        try:
            async with asyncio.timeout(HISTORY_S):
                return await self._old_history(prefix, after)
        except Compacted as compacted:
            raise Compacted(told(compacted.compact_revision)) from None
        except TimeoutError:
            raise StoreUnavailable("etcd tells its history too slowly") from None

    async def _old_history(self, prefix: str, after: int) -> tuple[list[Event], int, bool]:
        """Read history from etcd up to now; it does not say where it ends, so a key is put there."""
        end = await self.own_put("progress")
        found: list[Event] = []
        endpoint = self.client.preferred()[0]
        async with contextlib.aclosing(
            etcd_feed.changes(self.client, endpoint, self.words.everything, after)
        ) as changes:
            async for revision, raw_events in changes:
                found += self._told(raw_events, prefix)
                if revision >= end or len(found) >= HISTORY_EVENTS:
                    return found, self.words.revisions.told(revision), revision < end
        raise StoreUnavailable("etcd ended its history")

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


class _OwnKeys(dict[bytes, RawKv]):
    revision = 0


async def _own_keys(client: EtcdClient, words: Words) -> _OwnKeys:
    first = words.own("")
    answer = await client.read(
        "/v3/kv/range", {"key": first, "range_end": end_of(first)}, RangeAnswer
    )
    found = _OwnKeys((kv.key, kv) for kv in answer.kvs)
    found.revision = answer.header.revision
    return found


def _check_whole(found: _OwnKeys, words: Words, *, moving: bool) -> None:
    """Refuse a store that an import has left unfinished, unless this is for one."""
    if words.own("moving") in found and not moving:
        raise StoreFailure(
            f"an import into {words.prefix} of etcd has not finished; repeat `ecs-agent control import`"
        )


async def _prepare(client: EtcdClient, settings: EtcdSettings, *, makes: bool) -> str:
    """Make a new store, or check the one that is there; returns what identifies it."""
    key = Words(settings.prefix).own("format")
    read = {"request_range": {"key": key}}
    fresh = {"key": key, "value": FORMAT + b" " + uuid.uuid4().hex.encode()}
    body = {
        "compare": [{"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": 0}],
        "success": [{"request_put": fresh}],
        "failure": [read],
    }
    found = await client.read("/v3/kv/range", {"key": key}, RangeAnswer)
    if not found.kvs and not makes:
        raise StoreFailure(f"{settings.shown} has no fleet; check the prefix")
    if not found.kvs:
        await client.change("/v3/kv/txn", body, TxnAnswer)
        found = await client.read("/v3/kv/range", {"key": key}, RangeAnswer)
    value = found.kvs[0].value if found.kvs else b""
    version, _, identity = value.partition(b" ")
    if version != FORMAT or not identity.isalnum():
        raise StoreFailure(
            f"{key.decode()} in etcd is {value!a:.60}, which this program does not know: use the newer "
            "program, or another prefix"
        )
    return identity.decode()


def _revisions(kv: RawKv | None) -> Revisions:
    if kv is None or not kv.value:
        return Revisions()
    try:
        return Revisions.decode(kv.value)
    except BAD_JSON as error:
        raise StoreFailure(f"{kv.key.decode()} in etcd cannot be read: {error}") from None
