"""What each host needs to know of names in DNS, and what of it changed after a revision.

Which names are gone is remembered for the last changes. A host that was away for longer gets all of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane import access
from agent.controlplane.discovery import health
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery.record import (
    IPV4,
    IPV6,
    PORT,
    WEIGHTED,
    NamespaceRecord,
    RegisteredInstance,
    RegistryRecord,
)
from agent.controlplane.store.contract import Compacted, StoreFailure
from agent.controlplane.store.following import Follower
from agent.model.names import NamedInstance, NameUpdates, TaskName

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.store.contract import Event, Store

GONE_MOST: Final = 1000
"""How many names that are gone are remembered."""
_PREFIX: Final = "/discovery/"
_FOLLOWED: Final = (kinds.NAMESPACES, kinds.REGISTRIES, kinds.INSTANCES)
_RETRY_S: Final = 1.0

_log = structlog.get_logger(__name__)


class NameView:
    """Namespaces, registries and instances as of the keys seen so far; see ``store.following``."""

    def __init__(self, revision: int) -> None:
        """Begin with nothing, at a revision of the store: what was gone before it is not known."""
        self._namespaces: dict[str, NamespaceRecord] = {}
        self._zones_changed = revision
        self._registries: dict[str, RegistryRecord] = {}
        self._instances: dict[str, dict[str, RegisteredInstance]] = {}
        """By registry, and by id."""
        self._changed: dict[str, int] = {}
        """Revision by registry, oldest first; likewise ``_gone`` by name."""
        self._gone: dict[str, int] = {}
        self._known_from = revision
        self._is_loaded = False

    def loaded(self, now: int) -> None:
        """Take note that everything up to a revision is known; only the first call has an effect.

        What was loaded did not come in order.
        """
        if not self._is_loaded:
            self._is_loaded = True
            self._known_from = max(self._known_from, now)

    def apply(self, event: Event) -> None:
        """Take note of one key; it may come twice."""
        key, is_there = event.kv.key, event.type == "put"
        if key.startswith(kinds.INSTANCES):
            self._apply_instance(event, is_there=is_there)
        elif key.startswith(kinds.REGISTRIES):
            found = access.read(RegistryRecord, event.kv) if is_there else None
            self._apply_registry(
                key.removeprefix(kinds.REGISTRIES),
                found.record if found is not None else None,
                event.kv.mod_revision,
            )
        elif key.startswith(kinds.NAMESPACES):
            space = access.read(NamespaceRecord, event.kv) if is_there else None
            self._zones_changed = max(self._zones_changed, event.kv.mod_revision)
            if space is not None:
                self._namespaces[space.record.id] = space.record
            else:
                self._namespaces.pop(key.removeprefix(kinds.NAMESPACES), None)

    def _apply_registry(self, id_: str, new: RegistryRecord | None, revision: int) -> None:
        old = self._registries.pop(id_, None)
        before, after = self._name(old), self._name(new)
        if new is not None:
            self._registries[id_] = new
            self._touch(id_, revision)
        else:
            self._changed.pop(id_, None)
            self._instances.pop(id_, None)
        if after:
            self._gone.pop(after, None)
        if before and before != after:
            self._gone.pop(before, None)
            self._gone[before] = revision
            if len(self._gone) > GONE_MOST:
                self._known_from = self._gone.pop(next(iter(self._gone)))

    def _apply_instance(self, event: Event, *, is_there: bool) -> None:
        registry, _, id_ = event.kv.key.removeprefix(kinds.INSTANCES).partition("/")
        found = access.read(RegisteredInstance, event.kv) if is_there else None
        if found is not None:
            self._instances.setdefault(registry, {})[id_] = found.record
        else:
            self._instances.get(registry, {}).pop(id_, None)
        if registry in self._registries:
            self._touch(registry, event.kv.mod_revision)

    def _touch(self, registry: str, revision: int) -> None:
        self._changed[registry] = max(self._changed.pop(registry, 0), revision)

    def _name(self, registry: RegistryRecord | None) -> str:
        """Return the name of a registry in DNS; empty if it has none."""
        if registry is None or not registry.dns_records:
            return ""
        space = self._namespaces.get(registry.namespace_id)
        return f"{registry.name}.{space.name}".lower() if space is not None else ""

    def updates(self, after: int) -> NameUpdates | None:
        """Return what a host has to learn that has seen a revision, 0 for none; None if that is nothing."""
        is_full = after < self._known_from
        ids = [*self._changed] if is_full else _newer(self._changed, after)
        names = [shown for id_ in ids if (shown := self._shown(id_)) is not None]
        gone = [] if is_full else _newer(self._gone, after)
        if not is_full and not names and not gone and self._zones_changed <= after:
            return None
        zones = {one.name.lower(): one.soa_ttl_s for one in self._namespaces.values() if one.is_dns}
        return NameUpdates(zones=zones, names=names, gone=sorted(gone), full=is_full)

    def _shown(self, id_: str) -> TaskName | None:
        registry = self._registries[id_]
        name = self._name(registry)
        if not name:
            return None
        there = self._instances.get(id_, {})
        answered = health.by_health(
            registry, [there[each] for each in sorted(there)], health.HEALTHY_OR_ELSE_ALL
        )
        return TaskName(
            name=name,
            ttls=registry.dns_records,
            is_weighted=registry.routing_policy == WEIGHTED,
            instances=tuple(
                NamedInstance(
                    id=one.id,
                    ipv4=one.attributes.get(IPV4, ""),
                    ipv6=one.attributes.get(IPV6, ""),
                    port=int(one.attributes.get(PORT) or 0),
                )
                for one in answered
            ),
        )


class NamesOfHosts:
    """The view of one control, kept up to date; for one event loop."""

    def __init__(self, store: Store, wake_all: Callable[[], None]) -> None:
        """Take what is needed; nothing is read before the first call.

        Args:
            store: what is followed.
            wake_all: has the polls of all instances look again.
        """
        self._store = store
        self._wake_all = wake_all
        self._turn = asyncio.Lock()
        self._follower = Follower(store, _FOLLOWED, lambda: NameView(store.revision))

    async def updates(self, after: int) -> NameUpdates | None:
        """Return what a host has to learn after a revision that it has seen, 0 for none.

        Includes everything that was committed before the call.

        Raises:
            StoreFailure: the store cannot be read.
        """
        return (await self._read()).updates(after)

    async def _read(self) -> NameView:
        async with self._turn:
            view = await self._follower.read()
            view.loaded(self._store.revision)
            return view

    async def run(self) -> None:
        """Wake all hosts when a name has changed, until cancelled."""
        while True:
            try:
                watch = self._store.watch(_PREFIX, after_revision=self._store.revision)
                # From here on, what changes is known: hosts are not told everything twice.
                await self._read()
                self._wake_all()
                async with watch:
                    async for batch in watch:
                        if any(event.kv.key.startswith(_FOLLOWED) for event in batch.events):
                            self._wake_all()
            except Compacted:
                continue
            except StoreFailure as error:
                _log.warning("changes of names not followed", error=str(error))
                await asyncio.sleep(_RETRY_S)


def _newer(revisions: dict[str, int], revision: int) -> list[str]:
    """Return what changed after a revision; the newest are last in ``revisions``."""
    found = []
    for name, changed in reversed(revisions.items()):
        if changed <= revision:
            break
        found.append(name)
    return found
