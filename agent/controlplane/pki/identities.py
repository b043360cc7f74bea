"""The identities of hosts: certificates that were issued, and revoked.

An identity is an id that control chose. Its host renews the certificate, with a new key each time, and keeps the id;
the container instance is bound to it (``agents.bindings``). A revoked identity is not admitted from that moment on, with
no certificate, and its instance is deregistered: for control its tasks have stopped, and services replace them.

What is revoked is also in memory, so that a call needs no look into the store; calls that are being answered end. One per store; for one event loop.

Tests: ``tests/unit/controlplane/pki/test_identities.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.pki import names, requests
from agent.controlplane.pki.requests import RequestRefused
from agent.controlplane.records import HostIdentityRecord
from agent.controlplane.store.contract import Delete, Put, absent, unchanged
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from agent.controlplane.access import Found
    from agent.controlplane.pki.authority import Authority, Signed
    from agent.controlplane.store.contract import Store

HOST_DAYS: Final = 30
LIFE_S: Final = HOST_DAYS * 86_400.0
FORGOTTEN_AFTER_S: Final = 30 * 86_400.0
"""How long an identity is listed after its certificate has expired."""
RENEWED_AT: Final = 2 / 3
"""Of its life, a certificate is renewed."""
RESTORED: Final = "revoked before the store was restored from a backup"
REPLACED: Final = "replaced by a new identity of the same host"
_log = structlog.get_logger(__name__)


class IdentityRevoked(AgentError):
    """The identity is revoked."""


class IdentityCopied(AgentError):
    """A certificate is used that was replaced twice: whoever renewed it last is another one."""


class IssuedIdentity(NamedTuple):
    """A certificate for a host."""

    id: str
    signed: Signed
    renew_at: float
    """Unix time."""


class HostIdentities:
    """Issues, renews and revokes identities."""

    def __init__(
        self,
        store: Store,
        authority: Callable[[], Authority],
        *,
        revoked: set[str],
        clock: Callable[[], float] = time.time,
        life_s: float = LIFE_S,
        remember: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        """Take the ids of those that are revoked (``revoked_in``); ``authority`` returns the present one.

        ``remember`` writes all of them to a place that outlives the store; it blocks, and raises ``OSError``.
        """
        self._store = store
        self._authority = authority
        self._revoked = revoked
        self._clock = clock
        self._life_s = life_s
        self._remember = remember
        self._watching: defaultdict[str, set[Callable[[], None]]] = defaultdict(set)

    def check(self, host_id: str) -> None:
        """Raise ``IdentityRevoked`` for an identity that is revoked."""
        if host_id in self._revoked:
            raise IdentityRevoked(
                "the identity of this host was revoked; to admit the host again, stop the agent, remove "
                "its state directory, and join it with a token"
            )

    async def issue(
        self,
        request: str,
        *,
        shown: names.Shown | None = None,
        hostname: str = "",
        peer: str = "",
    ) -> IssuedIdentity:
        """Sign a certificate request: of a new identity, or of one that is renewed.

        Args:
            request: PKCS #10 as PEM.
            shown: the certificate to renew; None for a new identity.
            hostname: what the host says of itself, for display.
            peer: where the call comes from, for display.

        Raises:
            RequestRefused: the request is not signed.
            IdentityRevoked: the identity may not be renewed.
            IdentityCopied: the certificate is neither the newest one nor the one before.
            StoreFailure: it could not be stored; nothing was issued.
        """
        now = self._clock()
        found = None
        if shown is not None:
            self.check(shown.host)
            found = await self._found(shown.host)
            _check_newest(found.record if found is not None else None, shown)
        # One that is not known is of a time after the backup that the store was restored from.
        new_id = shown.host if shown is not None else uuid.uuid4().hex
        signed = await asyncio.to_thread(self._signed, request, new_id, now)
        old = found.record if found is not None else HostIdentityRecord(id=new_id, issued_at=now)
        record = replace(
            old,
            hostname=hostname[:253] or old.hostname,
            peer=peer,
            serial=signed.serial,
            # What it was renewed from, and not what was newest: if an answer was lost, the host renews from the same one
            # again, while a copy that renewed in between is found out at its next renewal.
            serial_before=shown.serial if shown is not None else "",
            renewed_at=now if shown is not None else 0.0,
            expires_at=signed.expires_at,
        )
        key = records.host_identity_key(new_id)
        compare = absent(key) if found is None else unchanged(found.kv)
        done = await self._store.txn([compare], [Put(key, records.encode(record))], urgent=True)
        if not done.succeeded:
            raise RequestRefused("the identity was changed at the same time; try again")
        _log.info(
            "host certificate renewed" if shown is not None else "host identity issued",
            identity=new_id,
            hostname=record.hostname,
            peer=peer,
            serial=signed.serial,
        )
        return IssuedIdentity(new_id, signed, now + (signed.expires_at - now) * RENEWED_AT)

    def _signed(self, request: str, host_id: str, now: float) -> Signed:
        key = requests.read(request)
        return self._authority().sign_host(key, host_id, now=now, life_s=self._life_s)

    async def revoke(self, host_id: str, *, reason: str) -> HostIdentityRecord | None:
        """Revoke an identity, from the moment this returns; None if it does not exist. Idempotent.

        Its instance is not changed.

        Raises:
            StoreFailure: it may not be revoked.
        """
        now = self._clock()
        key = records.host_identity_key(host_id)
        changed = await access.change(
            self._store,
            HostIdentityRecord,
            key,
            lambda old: (
                old if old.revoked_at else replace(old, revoked_at=now, revoked_because=reason)
            ),
            urgent=True,
        )
        if changed is not None:
            self._revoked.add(host_id)
            for end in self._watching.pop(host_id, ()):
                end()
            await self._write_down()
        return changed

    async def revoke_again(self, host_ids: Iterable[str]) -> None:
        """Revoke what was revoked before the store was restored from an older backup; raises ``StoreFailure``."""
        for host_id in sorted(host_ids):
            self._revoked.add(host_id)  # also one that the older store does not know
            changed = await self.revoke(host_id, reason=RESTORED)
            _log.warning(
                "identity of a host revoked again: the store is older than its revocation; if its instance is "
                "listed, deregister it",
                identity=host_id,
                instance=changed.instance_arn if changed is not None else "",
            )

    async def _write_down(self) -> None:
        try:
            await asyncio.to_thread(self._remember, frozenset(self._revoked))
        except OSError as error:
            _log.error(
                "revoked identities not written beside the store; a restored backup would not know them",
                error=str(error),
            )

    @contextlib.contextmanager
    def watching(self, host_id: str, end: Callable[[], None]) -> Iterator[None]:
        """Call ``end`` once if an identity is revoked within the block; at once if it is already.

        It must neither block nor raise.
        """
        if not self.watch(host_id, end):
            end()
            yield
            return
        try:
            yield
        finally:
            self.unwatch(host_id, end)

    def watch(self, host_id: str, end: Callable[[], None]) -> bool:
        """Do the same until ``unwatch``; False, and nothing is watched, if it is revoked already."""
        if host_id in self._revoked:
            return False
        self._watching[host_id].add(end)
        return True

    def unwatch(self, host_id: str, end: Callable[[], None]) -> None:
        """Watch no longer; ignored if nothing is watched."""
        if (watchers := self._watching.get(host_id)) is not None:
            watchers.discard(end)
            if not watchers:
                del self._watching[host_id]

    async def bound(self, host_id: str, instance_arn: str) -> None:
        """Note which container instance an identity has, for display; raises ``StoreFailure``."""
        await access.change(
            self._store,
            HostIdentityRecord,
            records.host_identity_key(host_id),
            lambda old: (
                old if old.instance_arn == instance_arn else replace(old, instance_arn=instance_arn)
            ),
        )

    async def list(self) -> list[HostIdentityRecord]:
        """Return all identities, also those that have ended lately; raises ``StoreFailure``."""
        return [
            one
            async for _, one in access.scan(
                self._store, HostIdentityRecord, records.HOST_IDENTITIES
            )
        ]

    async def sweep(self) -> None:
        """Forget the identities whose certificates expired long ago; raises ``StoreFailure``."""
        until = self._clock() - FORGOTTEN_AFTER_S
        old = [
            (kv, one)
            async for kv, one in access.scan(
                self._store, HostIdentityRecord, records.HOST_IDENTITIES
            )
            if one.expires_at < until
        ]
        for kv, one in old:
            if (await self._store.txn([unchanged(kv)], [Delete(kv.key)])).succeeded:
                self._revoked.discard(one.id)
        if any(one.revoked_at for _, one in old):
            await self._write_down()

    async def _found(self, host_id: str) -> Found[HostIdentityRecord] | None:
        key = records.host_identity_key(host_id)
        return await access.find(self._store, HostIdentityRecord, key)


def _check_newest(record: HostIdentityRecord | None, shown: names.Shown) -> None:
    """Raise ``IdentityCopied`` unless a certificate is the newest one of its identity, or the one before.

    One that was signed after everything that is recorded is newer than the store, which was restored from a backup.
    """
    if record is None or shown.serial in (record.serial, record.serial_before):
        return
    if shown.made_at > max(record.issued_at, record.renewed_at) + 1.0:
        return
    raise IdentityCopied(
        "the certificate was renewed already, by somebody else who has its key: there is a copy of this "
        "host's identity; revoke it, and join the host again"
    )


async def revoked_in(store: Store) -> set[str]:
    """Return the ids of the revoked identities of a store; raises ``StoreFailure``."""
    return {
        one.id
        async for _, one in access.scan(store, HostIdentityRecord, records.HOST_IDENTITIES)
        if one.revoked_at
    }
