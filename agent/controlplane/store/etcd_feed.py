"""The one watch of a store in etcd: every change under its prefix, in order, from the time of its opening.

All watches of the store are fed from it, so a control costs etcd one watch however many loops follow it. The
newest changes stay in memory for watches that begin late; older ones are read from etcd.

If an endpoint fails, the watch goes on at another, with nothing lost. If etcd has compacted what was missed, all
watches read the history themselves and find out. If no endpoint answers for a while, all watches end with
``StoreUnavailable``.

Tests: ``tests/unit/controlplane/store``, ``tests/integration/controlplane/test_etcd_faults.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from agent.controlplane.store.contract import Compacted, StoreFailure, StoreUnavailable
from agent.controlplane.store.etcd_errors import failure_of
from agent.controlplane.store.etcd_words import RawEvent, WatchLine, under
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from agent.controlplane.store.etcd_client import EtcdClient

PATIENCE_S: Final = 5.0
"""How long watches wait for a watch of etcd that broke."""
BEGINS_S: Final = 0.3
_RETRY_S: Final = 0.3
_KEPT_EVENTS: Final = 8192
_KEPT_BYTES: Final = 16 << 20

_decode = msgspec.json.Decoder(WatchLine, strict=False).decode

_log = structlog.get_logger(__name__)


class Kept:
    """The newest changes, by revision."""

    def __init__(self, since: int) -> None:
        """Begin with nothing after a revision of etcd."""
        self.since = since
        """Everything after it is here."""
        self._changes: deque[tuple[int, list[RawEvent]]] = deque()
        self._events = self._bytes = 0

    def add(self, revision: int, events: list[RawEvent]) -> None:
        """Keep what changed in one revision, newer than all before."""
        self._changes.append((revision, events))
        self._events += len(events)
        self._bytes += _size(events)
        while self._changes and (self._events > _KEPT_EVENTS or self._bytes > _KEPT_BYTES):
            self.since, gone = self._changes.popleft()
            self._events -= len(gone)
            self._bytes -= _size(gone)

    def forget(self, revision: int) -> None:
        """Keep nothing up to a revision, because etcd has compacted it."""
        self.since = max(self.since, revision)
        while self._changes and self._changes[0][0] <= revision:
            _, gone = self._changes.popleft()
            self._events -= len(gone)
            self._bytes -= _size(gone)

    def after(self, revision: int) -> list[RawEvent] | None:
        """Return what changed after a revision; None if a part of it is no longer here."""
        if revision < self.since:
            return None
        found: list[list[RawEvent]] = []
        for at, events in reversed(self._changes):
            if at <= revision:
                break
            found.append(events)
        return [event for events in reversed(found) for event in events]


class Feed:
    """Follows etcd; ``run`` must run. All revisions are etcd's own."""

    def __init__(
        self,
        client: EtcdClient,
        prefix: bytes,
        after: int,
        *,
        deliver: Callable[[int, list[RawEvent]], None],
        lost: Callable[[StoreFailure], None],
    ) -> None:
        """Take what is needed.

        Args:
            client: of etcd.
            prefix: of the keys to follow.
            after: the revision to begin after.
            deliver: called for each revision, in order.
            lost: called with ``Compacted`` if changes were missed, and with ``StoreUnavailable`` if etcd does
                not answer for some time.
        """
        self._client = client
        self._prefix = prefix
        self.position = after
        """Everything up to here was delivered."""
        self.kept = Kept(after)
        self._deliver = deliver
        self._lost = lost
        self.is_down = False
        """Whether watches should not wait for it."""
        self.endpoint = ""
        """Where it is followed now; empty if nowhere."""
        self._begun_at = 0.0
        self._moved = asyncio.Event()

    @property
    def is_prompt(self) -> bool:
        """Whether it tells changes at once: not while it begins, which etcd does ten times a second."""
        age_s = asyncio.get_running_loop().time() - self._begun_at
        return bool(self.endpoint) and age_s > BEGINS_S

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        broken_at = 0.0
        while True:
            try:
                await self._follow(self._client.preferred()[0])
            except Compacted as compacted:
                self._skip(compacted)
                continue
            except StoreFailure as error:
                _log.warning("watch of etcd broke", error=str(error))
            if self.endpoint or not broken_at:
                broken_at = loop.time()
            self.endpoint = ""
            if not self.is_down and loop.time() - broken_at > PATIENCE_S:
                self.is_down = True
                self._lost(StoreUnavailable("etcd does not answer"))
            await asyncio.sleep(_RETRY_S)

    def move(self) -> None:
        """Follow at another endpoint: this one is behind."""
        if self.endpoint:
            self._client.avoid(self.endpoint)
        self._moved.set()

    async def _follow(self, endpoint: str) -> None:
        self._moved.clear()
        lines = asyncio.ensure_future(self._take(endpoint))
        moved = asyncio.ensure_future(self._moved.wait())
        try:
            await asyncio.wait((lines, moved), return_when=asyncio.FIRST_COMPLETED)
            if lines.done():
                lines.result()
            else:
                raise StoreUnavailable(f"{endpoint} is behind")
        finally:
            moved.cancel()
            lines.cancel()
            await asyncio.gather(lines, moved, return_exceptions=True)

    async def _take(self, endpoint: str) -> None:
        async with contextlib.aclosing(
            changes(self._client, endpoint, self._prefix, self.position)
        ) as found:
            async for revision, events in found:
                if not self.endpoint:
                    self.endpoint, self._begun_at = endpoint, asyncio.get_running_loop().time()
                self.is_down = False
                if events:
                    self.kept.add(revision, events)
                    self.position = revision
                    self._deliver(revision, events)

    def _skip(self, compacted: Compacted) -> None:
        _log.warning("changes in etcd were missed; all watches begin again")
        self.position = max(self.position, compacted.compact_revision)
        self.kept = Kept(self.position)
        self._lost(compacted)


async def changes(
    client: EtcdClient, endpoint: str, prefix: bytes, after: int
) -> AsyncGenerator[tuple[int, list[RawEvent]], None]:
    """Yield ``(revision, events)`` after a revision, whole revisions only; first, with no events, that it runs.

    Raises:
        Compacted: a part of it is gone.
        StoreUnavailable: the endpoint does not answer.
    """
    # From the revision itself: from the next one, etcd would not notice that a deletion was compacted.
    body = {"create_request": under(prefix) | {"start_revision": max(after, 1)}}
    async with client.stream(endpoint, "/v3/watch", body) as lines:
        async for line in lines:
            try:
                found = _decode(line)
            except BAD_JSON as error:
                raise StoreUnavailable(f"{endpoint} is no etcd: {error}") from None
            if found.error is not None or found.result is None:
                raise failure_of(endpoint, msgspec.json.encode(found.error))
            result = found.result
            if result.compact_revision:
                raise Compacted(result.compact_revision)
            if result.canceled:
                raise StoreUnavailable(f"{endpoint} ended a watch: {result.cancel_reason}")
            if result.created:
                yield after, []
            for revision, events in groupby(result.events, lambda one: one.kv.mod_revision):
                if revision > after:
                    yield revision, list(events)


def _size(events: list[RawEvent]) -> int:
    return sum(len(event.kv.key) + len(event.kv.value) for event in events)
