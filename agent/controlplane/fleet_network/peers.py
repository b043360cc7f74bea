"""What each host needs to know of the others, and what of it changed after a revision.

Who left is remembered for the last changes. A host that was away for longer gets all of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.fleet_network.members import MEMBERS, MemberRecord
from agent.controlplane.store.contract import Compacted, StoreFailure
from agent.controlplane.store.following import Follower
from agent.model.fleet import FleetPeer, FleetUpdate

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.fleet_network.ranges import RangePlan
    from agent.controlplane.store.contract import Event, Store
    from agent.model.fleet import FleetHost

LEFT_MOST: Final = 1000
"""How many hosts that left are remembered."""
_RETRY_S: Final = 1.0

_log = structlog.get_logger(__name__)


class PeerView:
    """The hosts as of the keys seen so far; see ``store.following``."""

    def __init__(self, plan: RangePlan) -> None:
        """Begin with nothing; hosts whose range is of another plan do not count."""
        self._plan = plan
        self._hosts: dict[str, FleetHost] = {}
        self._changed: dict[str, int] = {}
        """Revision by instance id, oldest first; likewise ``_left``."""
        self._left: dict[str, int] = {}
        self._known_from: int | None = None
        """The revision from which on all changes are known; None before ``loaded``."""

    @property
    def hosts(self) -> frozenset[str]:
        """Ids of the hosts that take part."""
        return frozenset(self._hosts)

    def apply(self, event: Event) -> None:
        """Take note of one key; it may come twice."""
        kv = event.kv
        if not kv.key.startswith(MEMBERS):
            return
        instance_id = records.last_element(kv.key)
        found = access.read(MemberRecord, kv) if event.type == "put" else None
        if found is not None and self._counts(found.record):
            self._left.pop(instance_id, None)
            if self._hosts.get(instance_id) != found.record.host:
                self._hosts[instance_id] = found.record.host
                self._changed.pop(instance_id, None)
                self._changed[instance_id] = kv.mod_revision
        elif self._hosts.pop(instance_id, None) is not None:
            del self._changed[instance_id]
            self._left[instance_id] = kv.mod_revision
            if len(self._left) > LEFT_MOST:
                forgotten = self._left.pop(next(iter(self._left)))
                self._known_from = max(self._known_from or 0, forgotten)

    def _counts(self, member: MemberRecord) -> bool:
        return member.takes_part and self._plan.index_of(member.host.range) is not None

    def _placed(self, host: FleetHost) -> FleetHost:
        """Return a host with the ranges of its place; that of IPv6 only if its tasks can have it."""
        place = self._plan.index_of(host.range)
        if place is None:
            return host
        ipv6 = self._plan.of_ipv6(place) if host.has_ipv6 else ""
        return replace(host, range=self._plan.of_ipv4(place), ipv6_range=ipv6)

    def loaded(self, now: int) -> None:
        """Take note that everything up to a revision is known; only the first call has an effect.

        What was loaded did not come in order, and what left before is not known.
        """
        if self._known_from is None:
            self._known_from = now

    def update(self, instance_id: str, after: int, now: int) -> FleetUpdate | None:
        """Return what a host has to learn; None if that is nothing, or it does not take part.

        Args:
            instance_id: the host.
            after: the revision that it has seen; 0 for none.
            now: that of the store, once the view was up to date.
        """
        self.loaded(now)
        own = self._hosts.get(instance_id)
        if own is None:
            return None
        own = self._placed(own)
        is_full = after < (self._known_from or 0) or self._changed[instance_id] > after
        if is_full:
            changed, left = [*self._hosts], []
        else:
            changed, left = _newer(self._changed, after), _newer(self._left, after)
            if not changed and not left:
                return None
        return FleetUpdate(
            range=own.range,
            fleet_range=str(self._plan.ipv4.network) if self._plan.ipv4 is not None else "",
            ipv6_range=own.ipv6_range,
            ipv6_fleet_range=str(self._plan.ipv6.network) if self._plan.ipv6 is not None else "",
            peers=[
                FleetPeer(id=each, host=self._placed(self._hosts[each]))
                for each in sorted(changed)
                if each != instance_id
            ],
            gone=sorted(left),
            full=is_full,
        )


class FleetPeers:
    """The view of one control, kept up to date; for one event loop."""

    def __init__(self, store: Store, plan: RangePlan | None, wake: Callable[[str], None]) -> None:
        """Take what is needed; nothing is read before the first call.

        Args:
            store: what is followed.
            plan: the operator's network; None if there is none: nobody is told anything.
            wake: has the polls of an instance look again.
        """
        self._store = store
        self._wake = wake
        self._turn = asyncio.Lock()
        self._follower = (
            Follower(store, (MEMBERS,), lambda: PeerView(plan)) if plan is not None else None
        )

    async def update(self, instance_id: str, after: int) -> FleetUpdate | None:
        """Return what a host has to learn after a revision that it has seen, 0 for none.

        Includes everything that was committed before the call.

        Raises:
            StoreFailure: the store cannot be read.
        """
        if self._follower is None:
            return None
        async with self._turn:
            view = await self._follower.read()
            return view.update(instance_id, after, self._store.revision)

    async def run(self) -> None:
        """Wake all hosts when one has changed, until cancelled; returns at once without a network."""
        while self._follower is not None:
            try:
                watch = self._store.watch(MEMBERS, after_revision=self._store.revision)
                async with watch:
                    await self._tell(self._follower)
                    async for _ in watch:
                        await self._tell(self._follower)
            except Compacted:
                continue
            except StoreFailure as error:
                _log.warning("changes of the fleet not followed", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _tell(self, follower: Follower[PeerView]) -> None:
        async with self._turn:
            view = await follower.read()
            view.loaded(self._store.revision)
        for instance_id in view.hosts:
            self._wake(instance_id)


def _newer(revisions: dict[str, int], revision: int) -> list[str]:
    found = []
    for instance_id, changed in reversed(revisions.items()):
        if changed <= revision:
            break
        found.append(instance_id)
    return found
