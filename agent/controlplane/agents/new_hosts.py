"""Limits how many hosts may register for the first time if control requires no token.

Anyone who can reach such a control can register hosts that do not exist: tasks would be placed on
them, and the store would grow. So an address may register ``BURST`` new hosts at once and then
``PER_S`` per second. For all addresses together, at most ``UNHEARD_MOST`` hosts may be unheard: they
have made no call since they registered. An unheard host that stays silent for ``PATIENCE_S`` is
removed when others come, unless it has a task; if it has an agent, that agent registers again.

A known host may register again without a limit. With a token file, none of these limits apply.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from agent.controlplane import access, records
from agent.controlplane.agents.longpoll.errors import TooManyHosts
from agent.controlplane.records import InstanceRecord
from agent.controlplane.store.contract import Delete, Put
from agent.controlplane.tasks.retire import LEFT, retire_idle

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.parts import Parts
    from agent.controlplane.store.contract import Op

BURST: Final = 100.0
PER_S: Final = 1.0
UNHEARD_MOST: Final = 1000
PATIENCE_S: Final = 600.0
_ADDRESSES_MOST: Final = 4096
_TAKEN_OUT_AT_ONCE: Final = 16
_MEND: Final = "give control a --token-file, and give the hosts its token"


class NewHosts:
    """Admits or refuses hosts that are not known yet; for one event loop."""

    def __init__(
        self,
        parts: Parts,
        *,
        note: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the store and the clocks.

        Args:
            parts: the store, and the clock of records.
            note: called with the address and the reason of a refusal; logs some of them.
            clock: monotonic, for the rates.
        """
        self._parts = parts
        self._note = note
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """How many hosts an address may still register, and when that was computed."""
        self._unheard: dict[str, str] | None = None
        """Keys of unheard hosts by id, oldest first; None before they were read."""

    async def admit(self, address: str) -> None:
        """Check that a new host may register from an address now, and count it.

        Raises:
            TooManyHosts: it may not.
            StoreFailure: the store cannot be read.
        """
        unheard = await self._known()
        await self._take_out_silent()
        wait_s = self._wait_s(group_of(address))
        if wait_s:
            self._refuse(
                address,
                f"{address} registered too many new hosts: without a token, an address may register "
                f"{BURST:.0f} at once and {PER_S:g} more each second; {_MEND}",
                wait_s,
            )
        if len(unheard) >= UNHEARD_MOST:
            self._refuse(
                address,
                f"{len(unheard)} hosts have registered and made no call since, which is the limit "
                f"without a token; {_MEND}, or deregister the hosts that do not exist",
                PATIENCE_S / 10,
            )

    def rows(self, record: InstanceRecord) -> list[Op]:
        """Return what to write with a new host: that it is unheard."""
        key = records.instance_key(record.cluster, record.id)
        return [Put(records.unheard_key(record.id), key.encode())]

    def made(self, record: InstanceRecord) -> None:
        """Remember a new host as unheard."""
        if self._unheard is not None:
            self._unheard[record.id] = records.instance_key(record.cluster, record.id)

    async def heard(self, record: InstanceRecord) -> None:
        """Record that a host made a call; only the first call is written.

        Raises:
            StoreFailure: it may not be written; the next call then counts as the first.
        """
        unheard = await self._known()
        if record.id not in unheard:
            return
        await self._parts.store.txn([], [Delete(records.unheard_key(record.id))], urgent=True)
        unheard.pop(record.id, None)

    def _refuse(self, address: str, text: str, wait_s: float) -> None:
        self._note(address, text)
        raise TooManyHosts(text, retry_after_s=wait_s)

    def _wait_s(self, group: str) -> float:
        """Take one from the allowance of a group of addresses; else return how long to wait."""
        now = self._clock()
        left, at = self._left.pop(group, (BURST, now))
        left = min(BURST, left + (now - at) * PER_S)
        taken = left >= 1
        self._left[group] = (left - taken, now)
        if len(self._left) > _ADDRESSES_MOST:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / PER_S

    async def _known(self) -> dict[str, str]:
        """Return the unheard hosts, including those from before control started."""
        if self._unheard is None:
            store = self._parts.store
            rows = (await store.range(records.UNHEARD)).items
            keys = [kv.value.decode() for kv in rows]
            found = await access.find_many(store, InstanceRecord, keys)
            oldest_first = sorted(found.values(), key=lambda one: one.record.registered_at)
            if self._unheard is None:  # another call may have read it meanwhile
                self._unheard = {one.record.id: one.kv.key for one in oldest_first}
        return self._unheard

    async def _take_out_silent(self) -> None:
        """Remove some of the hosts that were silent for too long."""
        unheard = self._unheard or {}
        parts = self._parts
        for instance_id, key in list(unheard.items())[:_TAKEN_OUT_AT_ONCE]:
            found = await access.find(parts.store, InstanceRecord, key)
            if found is not None and found.record.status != "INACTIVE":
                if parts.clock() - found.record.registered_at < PATIENCE_S:
                    return  # all later ones are younger
                left = await retire_idle(parts.store, found.record, reason=LEFT, clock=parts.clock)
                if left is None:  # it has a task; try the others first
                    unheard[instance_id] = unheard.pop(instance_id, key)
                    continue
            unheard.pop(instance_id, None)


def group_of(address: str) -> str:
    """Return the group that counts as one address: for IPv6, its /64 network. Pure."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
