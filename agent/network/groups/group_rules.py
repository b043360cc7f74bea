"""The kernel's table of security groups: kept as wanted, changed in one transaction, restored as a whole.

It knows all groups and tasks, and compares with what it last wrote; only ``ensure`` and ``differences``
read the kernel. Every method blocks and runs in a thread lane of the caller; any number of threads may
call. There is a table only while a task is in a group.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from agent.errors import NetworkFailure
from agent.network.groups import bridge_filter, transition
from agent.network.groups.compiled import FAMILY, Place, Table, compiled
from agent.network.kernel import nft
from agent.network.kernel.set_elements import AT_ONCE, INET_FAMILY, SetElements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.model.security_groups import SecurityGroup


class GroupRules:
    """The rules of one host's tasks."""

    def __init__(self, table: str, bridge: str, resolvers: Iterable[str] = ()) -> None:
        """Take the names; nothing is changed before the first task is in a group.

        Args:
            table: name of the table, in the inet family.
            bridge: the tasks' bridge, whose frames have to pass the rules.
            resolvers: name servers that tasks reach whatever their rules are.
        """
        self._table = table
        self._bridge = bridge
        self._place = Place(resolvers=frozenset(resolvers))
        self._groups: Mapping[str, SecurityGroup] = {}
        self._tasks: dict[str, tuple[str, ...]] = {}
        self._written: Table | None = None
        """What the kernel has as far as we know; None if unknown."""
        self._lock = threading.Lock()
        self._sets = SetElements(INET_FAMILY, table)

    @property
    def port_id(self) -> int:
        """Netlink port id of the socket by which elements are changed; 0 for none."""
        return self._sets.port_id

    def set_place(self, own_addresses: frozenset[str]) -> None:
        """Take the host's own addresses towards tasks; effective with the next change or ``ensure``."""
        with self._lock:
            self._place = Place(own_addresses, self._place.resolvers)

    def restore(
        self, groups: Mapping[str, SecurityGroup], tasks: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Take what an earlier process knew; written by the next ``ensure``.

        Args:
            groups: what is known of groups, by id.
            tasks: group ids of each task that has any, by address.
        """
        with self._lock:
            self._groups = dict(groups)
            self._tasks = {address: ids for address, ids in tasks.items() if ids}

    def set_groups(self, groups: Mapping[str, SecurityGroup]) -> int:
        """Replace what is known of groups; return the number of transactions, 0 if unknown or none.

        Raises:
            NetworkFailure: the kernel refused; what it had stays, and ``ensure`` tries again.
        """
        with self._lock:
            self._groups = dict(groups)
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
            for address in addresses:
                if ids:
                    self._tasks[address] = ids
                else:
                    self._tasks.pop(address, None)
            return self._write()

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
            listed = nft.listed(FAMILY, self._table)
            if not wanted:
                if listed is not None:
                    nft.remove(FAMILY, self._table)
            else:
                bridge_filter.turn_on(self._bridge)
                if listed is None or not transition.is_in(wanted, listed):
                    self._written = None
                    nft.apply(transition.whole(self._table, wanted))
            self._written = wanted

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
        if listed is None:
            return [f"the table of security groups {self._table} was removed"]
        if not transition.is_in(wanted, listed):
            return [f"the table of security groups {self._table} was changed"]
        return []

    def mend_bridge(self) -> list[str]:
        """Have frames on the bridge pass the rules again, if somebody changed that; say so in words.

        Raises:
            NetworkFailure: the bridge cannot be filtered.
        """
        with self._lock:
            if not self._written or bridge_filter.is_on(self._bridge):
                return []
            bridge_filter.turn_on(self._bridge)
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
            nft.remove(FAMILY, self._table)
        self.close()

    def close(self) -> None:
        """Close the socket; rules stay, and a later change opens it again."""
        self._sets.close()

    def _wanted(self) -> Table:
        return compiled(self._groups, self._tasks, self._place)

    def _write(self) -> int:
        """Bring the kernel from what it has to what is wanted."""
        old, new = self._written, self._wanted()
        if old == new:
            return 0
        if new and not old:
            bridge_filter.turn_on(self._bridge)
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
