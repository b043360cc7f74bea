"""What each host needs to know of security groups, and what of it changed after a revision.

::

    /security-groups/, /tasks/ ──watch──► view: groups, members, groups of each host's tasks
                                             └──► poll of a host: changes after its revision

A host needs the groups of its tasks, and those that their rules name. Who joined or left a group is known
for the last changes, so what a change costs depends on its size and not on the group's. A host that was
away for longer, or that needs a group anew, gets all of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.security_groups import group_records
from agent.controlplane.security_groups.group_records import SecurityGroupRecord
from agent.controlplane.security_groups.users import TaskGroups
from agent.controlplane.store.contract import Compacted, StoreFailure
from agent.controlplane.store.following import Follower
from agent.model.security_groups import GroupUpdate, GroupUpdates

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Event, Store

LEFT_MOST: Final = 1000
"""How many addresses that left a group are remembered."""
_RETRY_S: Final = 1.0

_log = structlog.get_logger(__name__)


class _Members:
    """The members of one group, in the order in which they joined."""

    def __init__(self, since: int) -> None:
        self.joined: dict[str, int] = {}
        """Revision by address, oldest first; likewise ``left``."""
        self.left: dict[str, int] = {}
        self.changed = since
        self._holders: defaultdict[str, set[str]] = defaultdict(set)
        """Keys of the tasks that have an address: a new task may have it before the old one is gone."""
        self._known_from = since

    def join(self, address: str, task: str, revision: int) -> None:
        """Add the address of a task."""
        self._holders[address].add(task)
        if address not in self.joined:
            self.left.pop(address, None)
            self.joined[address] = self.changed = revision

    def leave(self, address: str, task: str, revision: int) -> None:
        """Remove the address of a task, unless another task has it, too."""
        holders = self._holders[address]
        holders.discard(task)
        if holders:
            return
        del self._holders[address]
        if self.joined.pop(address, None) is None:
            return
        self.left[address] = self.changed = revision
        if len(self.left) > LEFT_MOST:
            oldest = next(iter(self.left))
            self._known_from = self.left.pop(oldest)

    def after(self, revision: int) -> tuple[frozenset[str], frozenset[str]] | None:
        """Return who joined and who left after a revision; None if that is not known."""
        if revision < self._known_from:
            return None
        return _newer(self.joined, revision), _newer(self.left, revision)


class GroupView:
    """Groups and members as of the keys seen so far; see ``store.following``."""

    def __init__(self, names: Names, revision: int) -> None:
        """Begin with nothing, at a revision of the store: what happened before it is not known."""
        default = group_records.default_group(names)
        self._default = default
        self._records: dict[str, SecurityGroupRecord] = {default.id: default}
        self._rules_changed: dict[str, int] = {default.id: revision}
        self._members: dict[str, _Members] = {}
        self._tasks: dict[str, TaskGroups] = {}
        self._of_hosts: defaultdict[str, dict[str, TaskGroups]] = defaultdict(dict)
        """Tasks by instance id and key."""
        self._hosts_of: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """By group: how many of its tasks each instance has."""
        self._needed: defaultdict[str, dict[str, int]] = defaultdict(dict)
        """By instance id and group: since which revision the host needs it."""
        self._since = revision
        self._touched: set[str] = set()
        """Groups that changed since ``concerned`` was called."""

    def apply(self, event: Event) -> None:
        """Take note of one key; it may come twice."""
        kv = event.kv
        if kv.key.startswith(records.TASKS):
            found = access.read(TaskGroups, kv) if event.type == "put" else None
            task = found.record if found is not None and found.record.is_member else None
            self._apply_task(kv.key, task, kv.mod_revision)
        elif kv.key.startswith(group_records.GROUPS):
            group_id = records.last_element(kv.key)
            known = access.read(SecurityGroupRecord, kv) if event.type == "put" else None
            if known is not None:
                self._records[group_id] = known.record
            else:
                self._records.pop(group_id, None)
            self._rules_changed[group_id] = kv.mod_revision
            self._touched.add(group_id)

    def _apply_task(self, key: str, new: TaskGroups | None, revision: int) -> None:
        old = self._tasks.pop(key, None)
        before = _places(old)
        after = _places(new)
        for group, address in before - after:
            self._of(group).leave(address, key, revision)
            self._touched.add(group)
        for group, address in after - before:
            self._of(group).join(address, key, revision)
            self._touched.add(group)
        if old is not None:
            self._of_hosts[old.instance_id].pop(key, None)
            self._count(old, -1)
        if new is not None:
            self._tasks[key] = new
            self._of_hosts[new.instance_id][key] = new
            self._count(new, 1)

    def _count(self, task: TaskGroups, number: int) -> None:
        for group in task.groups:
            hosts = self._hosts_of[group]
            hosts[task.instance_id] += number
            if not hosts[task.instance_id]:
                del hosts[task.instance_id]

    def _of(self, group: str) -> _Members:
        return self._members.setdefault(group, _Members(self._since))

    def concerned(self) -> set[str]:
        """Return the ids of the hosts that need one of the groups that changed since the last call."""
        touched, self._touched = self._touched, set()
        if not touched:
            return set()
        naming = {
            group.id for group in self._records.values() if not touched.isdisjoint(group.peers)
        }
        return {host for group in touched | naming for host in self._hosts_of.get(group, ())}

    def _needs(self, host: str) -> set[str]:
        own = {group for task in self._of_hosts.get(host, {}).values() for group in task.groups}
        peers = {
            peer for group in own if group in self._records for peer in self._records[group].peers
        }
        return own | peers

    def updates(self, host: str, after: int, now: int) -> GroupUpdates | None:
        """Return what a host has to learn; None if that is nothing.

        Args:
            host: id of its instance.
            after: the revision that it has seen; 0 for none.
            now: that of the view.
        """
        # A group that is not there yet is needed from when it comes, so that all of it is told then.
        needs = self._needs(host) & self._records.keys()
        if not needs:
            self._needed.pop(host, None)
            return GroupUpdates(full=True) if not after else None
        known = self._needed[host]
        for group in known.keys() - needs:
            del known[group]
        for group in needs - known.keys():
            known[group] = now
        found = [
            update
            for group in sorted(needs)
            if (update := self._update(group, after, since=known[group])) is not None
        ]
        if after and not found:
            return None
        return GroupUpdates(groups=found, full=not after)

    def _update(self, group_id: str, after: int, *, since: int) -> GroupUpdate | None:
        record = self._records.get(group_id)
        if record is None:
            return None
        members = self._of(group_id)
        is_new = not after or since > after
        if not is_new and max(self._rules_changed[group_id], members.changed) <= after:
            return None
        changes = None if is_new else members.after(after)
        if changes is None:
            group = replace(record.group, members=frozenset(members.joined))
            return GroupUpdate(group=group, whole=True)
        joined, left = changes
        return GroupUpdate(group=replace(record.group, members=joined), left=left)


class GroupsOfHosts:
    """The view of one control, kept up to date; for one event loop."""

    def __init__(self, store: Store, names: Names, wake: Callable[[str], None]) -> None:
        """Take what is needed; nothing is read before the first call.

        Args:
            store: what is followed.
            names: names the default group.
            wake: has the polls of an instance look again.
        """
        self._store = store
        self._wake = wake
        self._turn = asyncio.Lock()
        self._follower = Follower(
            store,
            (group_records.GROUPS, records.TASKS),
            lambda: GroupView(names, store.revision),
        )

    async def updates(self, instance_id: str, after: int) -> GroupUpdates | None:
        """Return what a host has to learn after a revision that it has seen, 0 for none.

        Includes everything that was committed before the call.

        Raises:
            StoreFailure: the store cannot be read.
        """
        async with self._turn:
            now = self._store.revision
            view = await self._follower.read()
            return view.updates(instance_id, after, now)

    async def run(self) -> None:
        """Wake hosts whose groups have changed, until cancelled."""
        while True:
            try:
                async with self._store.watch("/", after_revision=self._store.revision) as watch:
                    await self._tell()
                    async for batch in watch:
                        if any(_concerns(event.kv.key) for event in batch.events):
                            await self._tell()
            except Compacted:
                continue
            except StoreFailure as error:
                _log.warning("changes of security groups not followed", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _tell(self) -> None:
        async with self._turn:
            view = await self._follower.read()
            for instance_id in view.concerned():
                self._wake(instance_id)


def _concerns(key: str) -> bool:
    return key.startswith((records.TASKS, group_records.GROUPS))


def _places(task: TaskGroups | None) -> set[tuple[str, str]]:
    if task is None:
        return set()
    return {(group, address) for group in task.groups for address in task.addresses}


def _newer(revisions: dict[str, int], revision: int) -> frozenset[str]:
    found = set()
    for address, changed in reversed(revisions.items()):
        if changed <= revision:
            break
        found.add(address)
    return frozenset(found)
