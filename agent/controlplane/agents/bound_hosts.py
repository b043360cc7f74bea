"""Checks that a call comes from the host of the container instance that it names, and binds instances to hosts.

The rules are in ``bindings``. A refused call is counted, logged at most once in ten seconds, and for an hour among the
troubles of control. Reads and writes the store; safe to use concurrently.

Tests: ``tests/unit/controlplane/agents/test_bindings.py``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.agents import bindings
from agent.controlplane.agents.bindings import Verdict
from agent.controlplane.agents.longpoll.errors import InstanceUnknown
from agent.controlplane.records import InstanceRecord
from agent.controlplane.store.contract import Put, as_read, unchanged
from agent.throttle import RepeatedWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.access import Found
    from agent.controlplane.agents.bindings import Shown
    from agent.controlplane.monitoring.figures import Figures
    from agent.controlplane.store.contract import Compare, KeyValue, Op, Store

TOLD_S: Final = 3600.0
_SHOWN: Final = 256
_log = structlog.get_logger(__name__)


class NotItsHost(InstanceUnknown):
    """The call names a container instance of another host; the instance may exist."""


class Refusals:
    """Tells of calls that were refused because they came from another host. For one event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._warning = RepeatedWarning("call in the name of another host refused")
        self.copies = RepeatedWarning(
            "the identity of a host is used on a second host, which is refused"
        )
        self._count = 0
        self._last_at = 0.0
        self._last = ""

    def note(self, figures: Figures, arn: str, shown: Shown, *, hostname: str = "") -> None:
        """Count a refused call, and tell of it; ``hostname`` is what the caller says, if it says one."""
        wire = "amazon" if shown.is_signed else "longpoll"
        figures.refused_hosts[wire] += 1
        if self._clock() - self._last_at > TOLD_S:
            self._count = 0
        self._count += 1
        self._last_at = self._clock()
        self._last = f"from {shown.peer or 'an unknown address'} in the name of {arn[:_SHOWN]}"
        self._warning.tell(instance=arn[:_SHOWN], peer=shown.peer, wire=wire, hostname=hostname)

    def problem(self) -> str:
        """Return what was refused lately, for a person; empty for nothing."""
        if not self._count or self._clock() - self._last_at > TOLD_S:
            return ""
        return (
            f"hosts: {self._count} calls in the name of another host were refused, the last one {self._last}; "
            "somebody there has a token of the fleet, or a copy of a host's state"
        )


class BoundHosts:
    """Knows which host may speak for which container instance."""

    def __init__(self, store: Store, figures: Figures, refusals: Refusals) -> None:
        self._store = store
        self._figures = figures
        self._refusals = refusals

    def refuse(self, arn: str, shown: Shown) -> NotItsHost:
        """Count and tell of a refused call; return the error for the caller."""
        self._refusals.note(self._figures, arn, shown)
        return NotItsHost("this call does not come from the host of the container instance")

    def refuse_copy(self, arn: str, shown: Shown, hostname: str) -> None:
        """Count and tell of a second host with the identity of one that is connected."""
        self._refusals.note(self._figures, arn, shown, hostname=hostname)
        self._refusals.copies.tell(instance=arn, peer=shown.peer, hostname=hostname)

    def still(self, found: Found[InstanceRecord], shown: Shown) -> InstanceRecord:
        """Return the instance of a connection that was checked before, unless it was bound to another host since.

        Raises:
            NotItsHost: that is so.
        """
        if bindings.verdict(found.record.bound_to, shown) is Verdict.REFUSED:
            raise self.refuse(found.record.arn, shown)
        return found.record

    async def check(self, found: Found[InstanceRecord], shown: Shown) -> Found[InstanceRecord]:
        """Return the instance, bound to the host that calls if it was not bound yet.

        Raises:
            NotItsHost: the call does not come from its host.
            StoreFailure: it may not be bound; the next call tries again.
        """
        while True:
            record = found.record
            match bindings.verdict(record.bound_to, shown):
                case Verdict.ALLOWED:
                    return found
                case Verdict.REFUSED:
                    raise self.refuse(record.arn, shown)
            compares, ops = await self.name_rows(record, shown)
            proof = shown.proof
            attributes = record.attributes | bindings.attribute(proof)
            bound = replace(
                record, bound_to=proof, attributes=attributes, version=record.version + 1
            )
            put = Put(found.kv.key, records.encode(bound))
            done = await self._store.txn([unchanged(found.kv), *compares], [put, *ops], urgent=True)
            again = await access.find(self._store, InstanceRecord, found.kv.key)
            if again is None:
                raise InstanceUnknown(
                    "this container instance is not registered; register it again"
                )
            if done.succeeded:
                _log.info("instance bound to its host", instance=record.arn, to=_kind(proof))
            found = again

    async def name_rows(
        self, instance: InstanceRecord, shown: Shown
    ) -> tuple[list[Compare], list[Op]]:
        """Return what to compare and to write so that a token with a name is this instance's alone.

        Raises:
            NotItsHost: the token is another instance's.
        """
        if not shown.name:
            return [], []
        key = records.token_name_key(shown.name)
        kv = await self._store.get(key)
        owner = await self.owner(kv)
        if owner is not None and owner.record.arn != instance.arn:
            raise self.refuse(instance.arn, shown)
        return [as_read(key, kv)], [Put(key, instance.arn.encode())]

    async def owner(self, row: KeyValue | None) -> Found[InstanceRecord] | None:
        """Return the instance that a token with a name belongs to; None for one that is free."""
        if row is None:
            return None
        found = await access.find(
            self._store, InstanceRecord, records.key_of_instance(row.value.decode())
        )
        return found if found is not None and found.record.status != "INACTIVE" else None

    async def owner_of_name(self, name: str) -> Found[InstanceRecord] | None:
        """Return the instance of the token with this name; None if it has none, or the name is empty."""
        if not name:
            return None
        return await self.owner(await self._store.get(records.token_name_key(name)))


def _kind(proof: str) -> str:
    return proof.partition(":")[0]
