"""The kernel's table of security groups: kept as wanted, changed in one transaction, restored as a whole.

It knows all groups and tasks, and compares with what it last wrote; only ``ensure`` and ``differences``
read the kernel. Every method blocks and runs in a thread lane of the caller; any number of threads may
call. There is a table only while a task is in a group.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from agent.errors import NetworkFailure
from agent.network.groups import bridge_filter, transition
from agent.network.groups.compiled import FAMILY, Place, Table, compiled
from agent.network.kernel import nft
from agent.network.kernel.set_elements import AT_ONCE, INET_FAMILY, SetElements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.model.security_groups import SecurityGroup


UNTOLD: Final = "untold"
"""In the place of the groups of a task of which nobody has said them: a group that allows nothing."""


class GroupRules:
    """The rules of one host's tasks."""

    def __init__(self, table: str, bridge: str, resolvers: Iterable[str] = ()) -> None:
        """Take the names; nothing is changed before the first task is in a group.

        Args:
            table: name of the table, in the inet family.
            bridge: the tasks' bridge, whose frames have to pass the rules; empty if they have none.
            resolvers: name servers that tasks reach whatever their rules are.
        """
        self._table = table
        self._bridge = bridge
        self._place = Place(resolvers=frozenset(resolvers))
        self._groups: Mapping[str, SecurityGroup] = {}
        self._tasks: dict[str, tuple[str, ...]] = {}
        self._shared: Counter[tuple[str, ...]] = Counter()
        """How many addresses are in each combination of groups."""
        self._written: Table | None = None
        """What the kernel has as far as we know; None if unknown."""
        self._is_current = False
        """Whether that is what is wanted for the groups, the place and the tasks that are known."""
        self._is_inherited = False
        """Whether the kernel's table is that of an earlier process, and says more than is known here."""
        self._lock = threading.Lock()
        self._sets = SetElements(INET_FAMILY, table)

    @property
    def port_id(self) -> int:
        """Netlink port id of the socket by which elements are changed; 0 for none."""
        return self._sets.port_id

    def set_place(self, own_addresses: frozenset[str]) -> None:
        """Take the host's own addresses towards tasks; effective with the next change or ``ensure``."""
        with self._lock:
            place = Place(own_addresses, self._place.resolvers)
            self._is_current = self._is_current and place == self._place
            self._place = place

    def restore(
        self,
        groups: Mapping[str, SecurityGroup],
        tasks: Mapping[str, tuple[str, ...]],
        untold: Iterable[str] = (),
    ) -> None:
        """Take what an earlier process knew; written by the next ``ensure``.

        If part of that was lost, the table stays as the earlier process left it until control has said
        what groups allow. Without the table, tasks whose groups nobody knows are closed until then.

        Args:
            groups: what is known of groups, by id.
            tasks: group ids of each task that has any, by address.
            untold: addresses of tasks whose groups were lost.

        Raises:
            NetworkFailure: ``nft`` is missing or did not answer.
        """
        known = {address: ids for address, ids in tasks.items() if ids}
        lost = set(untold) - known.keys()
        listed = None
        if lost or any(group not in groups for ids in known.values() for group in ids):
            listed = nft.listed(FAMILY, self._table)
        if listed is None:
            known |= dict.fromkeys(lost, (UNTOLD,))
        else:
            # What it does not filter, the process that knew the groups did not filter either.
            kept = transition.groups_in(listed)
            known |= {address: kept[address] for address in lost if address in kept}
        with self._lock:
            self._groups = dict(groups)
            self._tasks = known
            self._shared = Counter(self._tasks.values())
            self._is_inherited = listed is not None and bool(known)

    def set_groups(self, groups: Mapping[str, SecurityGroup]) -> int:
        """Replace what is known of groups; return the number of transactions, 0 if unknown or none.

        Raises:
            NetworkFailure: the kernel refused; what it had stays, and ``ensure`` tries again.
        """
        with self._lock:
            self._groups = dict(groups)
            self._is_current = self._is_inherited = False
            return self._write()

    def admit(self, addresses: Iterable[str], groups: Iterable[str]) -> int:
        """Apply groups to a task; idempotent. Returns as ``set_groups`` does.

        Args:
            addresses: of the task.
            groups: their ids; without any, nothing is filtered.

        Raises:
            NetworkFailure: the kernel refused; the task must not start.
        """
        ids = tuple(sorted(set(groups)))
        with self._lock:
            made = 0
            left = list(addresses)
            while left and (quickly := self._admit_quickly(left[0], ids)) is not None:
                made += quickly
                del left[0]
            if not left:
                return made
            for address in left:
                self._note(address, ids)
            if self._is_inherited:
                if not ids:
                    return made
                self._is_inherited = False
            return made + self._write()

    def _admit_quickly(self, address: str, ids: tuple[str, ...]) -> int | None:
        """Change the elements of one address; None, and nothing is done, if that is not enough."""
        if not self._written:
            return None
        before = self._tasks.get(address, ())
        if before == ids:
            return 0 if self._is_current else None
        # What remains must have the same chains: others are in the same groups.
        if not self._is_current or (before and ids) or self._shared[before or ids] <= bool(before):
            return None
        changes = transition.of_one_task(
            self._written, self._groups, address, before or ids, comes=bool(ids)
        )
        if changes is None:
            return None
        written, self._written = self._written, None
        try:
            self._sets.commit(changes)
        except (FileNotFoundError, NetworkFailure):
            return None
        self._note(address, ids)
        self._written = transition.after(written, address, changes)
        return 1

    def _note(self, address: str, ids: tuple[str, ...]) -> None:
        before = self._tasks.pop(address, ())
        if before:
            self._shared[before] -= 1
        if ids:
            self._tasks[address] = ids
            self._shared[ids] += 1

    def dismiss(self, addresses: Iterable[str]) -> int:
        """Forget a task; idempotent. Returns as ``set_groups`` does.

        Raises:
            NetworkFailure: the kernel refused.
        """
        return self.admit(addresses, ())

    def ensure(self) -> None:
        """Create or correct the table; idempotent.

        Raises:
            NetworkFailure: ``nft`` is missing or failed, or the bridge cannot be filtered.
        """
        with self._lock:
            wanted = self._wanted()
            if not wanted and self._written is not None and not self._written:
                return
            listed = nft.listed(FAMILY, self._table)
            self._is_inherited = self._is_inherited and listed is not None
            if self._is_inherited:
                self._filter_bridge()
                return
            if not wanted:
                if listed is not None:
                    nft.remove(FAMILY, self._table)
            else:
                self._filter_bridge()
                if listed is None or not transition.is_in(wanted, listed):
                    self._written = None
                    nft.apply(transition.whole(self._table, wanted))
            self._written = wanted
            self._is_current = True

    def differences(self) -> list[str]:
        """Return in words what differs from the state after ``ensure``; empty if nothing does.

        Raises:
            NetworkFailure: ``nft`` is missing or did not answer.
        """
        with self._lock:
            wanted = self._wanted()
            if not wanted:
                return []
            listed = nft.listed(FAMILY, self._table)
            is_inherited = self._is_inherited
        if listed is None:
            return [f"the table of security groups {self._table} was removed"]
        if is_inherited:
            return []
        if not transition.is_in(wanted, listed):
            return [f"the table of security groups {self._table} was changed"]
        return []

    def mend_bridge(self) -> list[str]:
        """Have frames on the bridge pass the rules again, if somebody changed that; say so in words.

        Raises:
            NetworkFailure: the bridge cannot be filtered.
        """
        with self._lock:
            has_rules = self._written or self._is_inherited
            if not (has_rules and self._bridge) or bridge_filter.is_on(self._bridge):
                return []
            self._filter_bridge()
        return [f"frames on {self._bridge} passed by the security groups"]

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return packets and bytes that each rule allowed, by its id, and that were dropped.

        Raises:
            NetworkFailure: ``nft`` is missing or did not answer.
        """
        return transition.counts(nft.listed(FAMILY, self._table) or [])

    def remove(self) -> None:
        """Remove the table; not an error if it does not exist.

        Raises:
            NetworkFailure: ``nft`` is missing or failed.
        """
        with self._lock:
            self._written = None
            self._is_current = False
            nft.remove(FAMILY, self._table)
        self.close()

    def close(self) -> None:
        """Close the socket; rules stay, and a later change opens it again."""
        self._sets.close()

    def _filter_bridge(self) -> None:
        if self._bridge:
            bridge_filter.turn_on(self._bridge)

    def _wanted(self) -> Table:
        return compiled(self._groups, self._tasks, self._place)

    def _write(self) -> int:
        """Bring the kernel from what it has to what is wanted."""
        old, new = self._written, self._wanted()
        if old == new:
            self._is_current = True
            return 0
        self._is_current = False
        if new and not old:
            self._filter_bridge()
        self._written = None
        made = 0
        if old is None or not (old and new):
            self._replace(new)
        else:
            try:
                made = self._change(old, new)
            except (FileNotFoundError, NetworkFailure):
                # Somebody removed the table, or changed it: only all of it is certain to be right.
                self._replace(new)
        self._written = new
        self._is_current = True
        return made

    def _replace(self, new: Table) -> None:
        if new:
            nft.apply(transition.whole(self._table, new))
        else:
            nft.remove(FAMILY, self._table)

    def _change(self, old: Table, new: Table) -> int:
        changes = transition.only_elements(old, new)
        if changes is None or len(changes) > AT_ONCE:
            nft.apply(transition.between(self._table, old, new))
            return 0
        self._sets.commit(changes)
        return 1
