"""Which of several control processes over one etcd leads: the one whose key is there, under a lease.

Only what leads writes: each of its transactions has the condition that its key is still the same
(``EtcdStore.fence``), so a process that was stopped for a while and goes on can do no harm. Others wait for the
key to go: at once when the leader ends in order, and within ``LEASE_S`` and a second otherwise.

Tests: ``tests/unit/controlplane/store/test_leading.py``, ``tests/integration/controlplane/test_etcd_control.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import structlog
from msgspec import Struct

from agent.controlplane.store.contract import (
    LeaseUnknown,
    StoreFailure,
    StoreFull,
    StoreUnavailable,
)
from agent.controlplane.store.etcd import Fence
from agent.errors import BAD_JSON, ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.controlplane.store.etcd import EtcdStore
    from agent.controlplane.store.etcd_words import RawKv

LEASE_S: Final = 3
RENEW_S: Final = 0.7
FIT_S: Final = 30.0
_LOOK_S: Final = 1.0
"""A wait for the leader's end looks again after this time, in case a watch has not told."""
_END_S: Final = 1.5

_log = structlog.get_logger(__name__)


class Leader(Struct, frozen=True):
    """Who leads, for a person."""

    host: str = ""
    pid: int = 0
    since: float = 0.0
    """Unix seconds."""
    what: str = "control"

    @classmethod
    def here(cls, what: str) -> Self:
        """Return this process."""
        return cls(socket.gethostname(), os.getpid(), time.time(), what)

    def __str__(self) -> str:
        return f"{self.what} on {self.host} (process {self.pid})"


class Leadership:
    """This process leads until ``close``, or until ``lost`` is set."""

    def __init__(self, store: EtcdStore, me: Leader) -> None:
        self._store = store
        self._me = me
        self._lease = 0
        self._renewing: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()
        """Set once another process leads: this one must end."""

    @classmethod
    async def acquire(
        cls,
        store: EtcdStore,
        *,
        what: str = "control",
        standing_by: Callable[[Leader], None] | None = None,
        fit: Callable[[], Awaitable[None]] | None = None,
    ) -> Self:
        """Return once this process leads; from then on only what it writes counts.

        Args:
            store: whose leader is wanted.
            what: what this process is, for a person.
            standing_by: called with each other process that leads meanwhile; None to refuse at once.
            fit: raises ``ConfigError`` while this process must not lead; asked now and then while it stands by.

        Raises:
            StoreFailure: etcd refuses, or another process leads and ``standing_by`` is None.
        """
        made = cls(store, Leader.here(what))
        candidate = _Candidate(store, standing_by, fit)
        while True:
            store.leader_gone.clear()
            try:
                if await candidate.may_lead() and await made._take():
                    break
            except StoreUnavailable as error:
                if standing_by is None:
                    raise
                _log.warning("this control cannot lead yet", error=str(error))
                if isinstance(error, StoreFull):
                    # Nobody leads, so nobody else makes space for the lease.
                    store.health.may_mend = True
                    store.health.look_soon()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await store.leader_gone.wait()
        made._renewing = asyncio.create_task(made._renew(), name="leader")
        try:
            await store.reload_own()
        except BaseException:
            await made.close()
            raise
        return made

    async def close(self) -> None:
        """Lead no longer: another process may at once. May be repeated."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None
        lease, self._lease = self._lease, 0
        if lease:
            with contextlib.suppress(StoreFailure, TimeoutError):
                async with asyncio.timeout(_END_S):
                    await self._store.revoke_lease(lease)

    async def _take(self) -> bool:
        """Try to lead, again only if nobody else has in between; False if another process does."""
        store, key, led = self._store, self._store.words.own("leader"), self._store.words.own("led")
        earlier = store.fence
        if await store.own("leader") is not None:
            return False
        self._lease = await store.own_lease(LEASE_S)
        put = {"key": key, "value": msgspec.json.encode(self._me), "lease": self._lease}
        body: dict[str, Any] = {
            "compare": [{"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": 0}],
            # Put whenever somebody begins to lead, so it tells who did last.
            "success": [{"request_put": put}, {"request_put": {"key": led, "value": b""}}],
        }
        if earlier is not None:
            # What this process remembers is only true if nobody else has written.
            revision = {"mod_revision": earlier.create_revision}
            body["compare"].append({"key": led, "target": "MOD", "result": "EQUAL"} | revision)
        with contextlib.suppress(StoreUnavailable, LeaseUnknown):
            # Whether it was done is read below.
            await store.own_txn(body)
        found = await store.own("leader")
        if found is None or found.lease != self._lease:
            lease, self._lease = self._lease, 0
            with contextlib.suppress(StoreFailure):
                await store.revoke_lease(lease)
            return False
        store.fence = Fence(key, found.create_revision)
        store.health.may_mend = True
        return True

    async def _renew(self) -> None:
        """Keep the lease; take it again if it ended and nobody else leads."""
        async with asyncio.TaskGroup() as group:
            for turn in itertools.count():
                # Not one after the other: an endpoint that hangs or is slow must not cost the lease.
                renewal = group.create_task(self._renew_at(turn))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_S):
                        await self._store.fenced.wait()
                if self._store.fenced.is_set() and not await self._taken_again():
                    _log.critical("another control leads this fleet now; this one ends")
                    self.lost.set()
                    renewal.cancel()
                    return

    async def _renew_at(self, turn: int) -> None:
        """Renew the lease once, at the endpoints in turn."""
        lease, client = self._lease, self._store.client
        endpoints = client.preferred()
        try:
            await self._store.keep_alive_at(endpoints[turn % len(endpoints)], lease, LEASE_S)
        except LeaseUnknown:
            if lease == self._lease:
                self._store.fenced.set()
        except StoreFailure as error:
            _log.warning("leadership not renewed; trying again", error=str(error))

    async def _taken_again(self) -> bool:
        """Return whether this process still leads after its lease ended, or something was refused."""
        while True:
            self._store.fenced.clear()
            try:
                found = await self._store.own("leader")
                if found is not None:
                    # Its own, if what was refused had begun before leadership was taken again.
                    if found.lease != self._lease:
                        return False
                    self._store.fence = Fence(found.key, found.create_revision)
                    return True
                last, fence = await self._store.own("led"), self._store.fence
                if last is not None and fence and last.mod_revision > fence.create_revision:
                    return False
                if await self._take():
                    _log.warning("leadership had ended, and was taken again")
                    return True
            except StoreFailure as error:
                _log.warning("leadership not taken again; trying again", error=str(error))
            await asyncio.sleep(RENEW_S)


class _Candidate:
    """A process that waits to lead."""

    def __init__(
        self,
        store: EtcdStore,
        standing_by: Callable[[Leader], None] | None,
        fit: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._store = store
        self._standing_by = standing_by
        self._fit = fit
        self._told: Leader | None = None
        self._next_look = 0.0

    async def may_lead(self) -> bool:
        """Return whether nobody leads and this process may; raises ``StoreFailure``."""
        leader = await current(self._store)
        if leader is not None and self._standing_by is None:
            raise StoreFailure(f"{leader} leads this fleet; stop it first")
        now = time.monotonic()
        if leader is None or now >= self._next_look:
            self._next_look = now + FIT_S
            is_fit = await self._is_fit()
        if leader is None:
            return is_fit
        if leader != self._told and self._standing_by is not None:
            self._told = leader
            self._standing_by(leader)
        return False

    async def _is_fit(self) -> bool:
        if self._fit is None:
            return True
        try:
            await self._fit()
        except ConfigError as error:
            _log.error("this control cannot take over", error=str(error))
            return False
        return True


async def current(store: EtcdStore) -> Leader | None:
    """Return who leads; None if nobody does."""
    return _decoded(await store.own("leader"))


def _decoded(kv: RawKv | None) -> Leader | None:
    if kv is None:
        return None
    try:
        return msgspec.json.decode(kv.value, type=Leader)
    except BAD_JSON:
        return Leader(host="an unknown host")
