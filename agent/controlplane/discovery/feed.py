"""What each host needs to know of names in DNS and of aliases, and what of it changed after a revision.

An alias is a name of Service Connect, with the instances of its registries.

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
    AliasRecord,
    NamespaceRecord,
    RegisteredInstance,
    RegistryRecord,
)
from agent.controlplane.store.contract import Compacted, StoreFailure
from agent.controlplane.store.following import Follower
from agent.model.names import Alias, NamedInstance, NameUpdates, TaskName

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.store.contract import Event, Store

GONE_MOST: Final = 1000
"""How many names that are gone are remembered."""
_PREFIX: Final = "/discovery/"
_FOLLOWED: Final = (kinds.NAMESPACES, kinds.REGISTRIES, kinds.INSTANCES, kinds.ALIASES)
_RETRY_S: Final = 1.0

_log = structlog.get_logger(__name__)


class NameView:
    """Namespaces, registries, instances and aliases as of the keys seen so far; see ``store.following``."""

    def __init__(self, revision: int) -> None:
        """Begin with nothing, at a revision of the store: what was gone before it is not known."""
        self._namespaces: dict[str, NamespaceRecord] = {}
        self._zones_changed = revision
        self._registries: dict[str, RegistryRecord] = {}
        self._instances: dict[str, dict[str, RegisteredInstance]] = {}
        """By registry, and by id."""
        self._aliases: dict[str, AliasRecord] = {}
        """By namespace, a slash and the name."""
        self._aliases_of: dict[str, set[str]] = {}
        """By registry."""
        self._changed: dict[str, int] = {}
        """Revision by registry or alias, oldest first; likewise ``_gone`` by name or alias. Only aliases have a slash."""
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
        elif key.startswith(kinds.ALIASES):
            alias = access.read(AliasRecord, event.kv) if is_there else None
            self._apply_alias(
                key.removeprefix(kinds.ALIASES),
                alias.record if alias is not None else None,
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
            self._remember_gone(before, revision)

    def _apply_alias(self, alias: str, new: AliasRecord | None, revision: int) -> None:
        old = self._aliases.pop(alias, None)
        for registry in old.registries if old is not None else ():
            of = self._aliases_of.get(registry, set())
            of.discard(alias)
            if not of:
                self._aliases_of.pop(registry, None)
        if new is not None:
            self._aliases[alias] = new
            for registry in new.registries:
                self._aliases_of.setdefault(registry, set()).add(alias)
            self._gone.pop(alias, None)
            self._touch(alias, revision)
        else:
            self._changed.pop(alias, None)
            if old is not None:
                self._remember_gone(alias, revision)

    def _remember_gone(self, name: str, revision: int) -> None:
        self._gone.pop(name, None)
        self._gone[name] = revision
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
        for alias in self._aliases_of.get(registry, ()):
            self._touch(alias, event.kv.mod_revision)

    def _touch(self, what: str, revision: int) -> None:
        self._changed[what] = max(self._changed.pop(what, 0), revision)

    def _name(self, registry: RegistryRecord | None) -> str:
        """Return the name of a registry in DNS; empty if it has none."""
        if registry is None or not registry.dns_records:
            return ""
        space = self._namespaces.get(registry.namespace_id)
        return f"{registry.name}.{space.name}".lower() if space is not None else ""

    def updates(self, after: int) -> NameUpdates | None:
        """Return what a host that has seen a revision (0 for none) has to learn; None for nothing."""
        is_full = after < self._known_from
        ids = [*self._changed] if is_full else _newer(self._changed, after)
        names = [shown for id_ in ids if "/" not in id_ and (shown := self._shown(id_)) is not None]
        aliases = [self._shown_alias(each) for each in ids if "/" in each]
        gone = [] if is_full else sorted(_newer(self._gone, after))
        is_same = not names and not aliases and not gone and self._zones_changed <= after
        if not is_full and is_same:
            return None
        zones = {one.name.lower(): one.soa_ttl_s for one in self._namespaces.values() if one.is_dns}
        return NameUpdates(
            zones=zones,
            names=names,
            gone=[each for each in gone if "/" not in each],
            aliases=aliases,
            gone_aliases=[_parts(each) for each in gone if "/" in each],
            full=is_full,
        )

    def _shown_alias(self, alias: str) -> Alias:
        namespace, name = _parts(alias)
        healthy: dict[str, RegisteredInstance] = {}
        others: dict[str, RegisteredInstance] = {}
        for id_ in self._aliases[alias].registries:
            for one in self._instances.get(id_, {}).values():
                into = others if one.health == kinds.UNHEALTHY else healthy
                into[one.id] = one
        chosen = healthy or others
        return Alias(
            namespace=namespace,
            name=name,
            instances=tuple(_named(chosen[each]) for each in sorted(chosen)),
        )

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
            instances=tuple(_named(one) for one in answered),
        )


def _named(instance: RegisteredInstance) -> NamedInstance:
    attributes = instance.attributes
    return NamedInstance(
        id=instance.id,
        ipv4=attributes.get(IPV4, ""),
        ipv6=attributes.get(IPV6, ""),
        port=int(attributes.get(PORT) or 0),
    )


def _parts(alias: str) -> tuple[str, str]:
    """Return the namespace and the name of an alias."""
    namespace, _, name = alias.partition("/")
    return namespace, name


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
