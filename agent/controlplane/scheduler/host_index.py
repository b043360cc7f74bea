"""Hosts in order of their free CPU and memory, and parted by attributes: what a search begins with.

Changing one host costs a few comparisons, however many hosts there are. An index is parted by an attribute when somebody
asks for that, and stays parted for a while.

Pure. Tests: ``tests/unit/controlplane/scheduler/test_host_index.py``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ATTRIBUTES_MOST: Final = 16
"""By how many attributes one index stays parted; the one that was not asked for longest gives way."""

Order = list[tuple[int, str]]
"""What is free on each host, and its ARN; ascending."""


class Slab(NamedTuple):
    """A part of an order, from ``start`` to before ``end``."""

    order: Order
    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of hosts."""
        return self.end - self.start


class Entry(NamedTuple):
    """What an index has of a host."""

    cpu: tuple[int, str]
    memory: tuple[int, str]
    attributes: Mapping[str, str]


class HostIndex:
    """Some hosts; for one event loop."""

    __slots__ = ("_by_cpu", "_by_memory", "_entries", "_parts")

    def __init__(self) -> None:
        """Begin without hosts."""
        self._entries: dict[str, Entry] = {}
        self._by_cpu: Order = []
        self._by_memory: Order = []
        self._parts: dict[str, dict[str | None, HostIndex]] = {}
        """By name and value of an attribute; None for hosts that do not have it."""

    def __len__(self) -> int:
        """Return the number of hosts."""
        return len(self._entries)

    def put(self, arn: str, cpu_units: int, memory_mib: int, attributes: Mapping[str, str]) -> None:
        """Take in a host, or what has changed of it."""
        self.take(arn, Entry((cpu_units, arn), (memory_mib, arn), attributes))

    def discard(self, arn: str) -> None:
        """Forget a host; an unknown one is ignored."""
        old = self._entries.pop(arn, None)
        if old is None:
            return
        _remove(self._by_cpu, old.cpu)
        _remove(self._by_memory, old.memory)
        for name, parts in self._parts.items():
            _leave(parts, old.attributes.get(name), arn)

    def take(self, arn: str, new: Entry) -> None:
        """Take in a host, or what has changed of it, as an entry that parts share."""
        old = self._entries.get(arn)
        self._entries[arn] = new
        _move(self._by_cpu, old.cpu if old is not None else None, new.cpu)
        _move(self._by_memory, old.memory if old is not None else None, new.memory)
        for name, parts in self._parts.items():
            value = new.attributes.get(name)
            if old is not None and (before := old.attributes.get(name)) != value:
                _leave(parts, before, arn)
            part = parts.get(value)
            if part is None:
                part = parts[value] = HostIndex()
            part.take(arn, new)

    def parts(self, name: str) -> Mapping[str | None, HostIndex]:
        """Return the hosts by their value of an attribute; None for those without it. No part is empty."""
        parts = self._parts.pop(name, None)
        if parts is not None:
            self._parts[name] = parts  # as the one that was asked for last
        else:
            parts = self._parts[name] = {}
            for arn, entry in self._entries.items():
                part = parts.setdefault(entry.attributes.get(name), HostIndex())
                part.take(arn, entry)
        return parts

    def trim(self) -> None:
        """Be parted by no more attributes than ``ATTRIBUTES_MOST``; parts that are held by others get stale."""
        while len(self._parts) > ATTRIBUTES_MOST:
            del self._parts[next(iter(self._parts))]

    def with_room(self, cpu_units: int, memory_mib: int) -> Slab:
        """Return the hosts with so much CPU, or those with so much memory: the fewer of them."""
        by_cpu = bisect_left(self._by_cpu, (cpu_units, ""))
        by_memory = bisect_left(self._by_memory, (memory_mib, ""))
        if by_cpu >= by_memory:
            return Slab(self._by_cpu, by_cpu, len(self._by_cpu))
        return Slab(self._by_memory, by_memory, len(self._by_memory))

    def order_of(self, field: str) -> Order:
        """Return all hosts by what is free of ``cpu`` or ``memory``; do not change it."""
        return self._by_cpu if field == "cpu" else self._by_memory


def fullest_first(
    region: Sequence[HostIndex], field: str, at_least: int
) -> Iterator[tuple[Slab, ...]]:
    """Yield the hosts of some indexes on which equally much is free, those with the least first.

    Args:
        region: the indexes; not to be changed meanwhile.
        field: ``cpu`` or ``memory``.
        at_least: how much has to be free.
    """
    orders = [index.order_of(field) for index in region]
    at = [bisect_left(order, (at_least, "")) for order in orders]
    while True:
        heads = [
            order[start][0] for order, start in zip(orders, at, strict=True) if start < len(order)
        ]
        if not heads:
            return
        least = min(heads)
        ends = [
            bisect_left(order, (least + 1, ""), start)
            for order, start in zip(orders, at, strict=True)
        ]
        yield tuple(
            Slab(order, start, end)
            for order, start, end in zip(orders, at, ends, strict=True)
            if start < end
        )
        at = ends


def _move(order: Order, old: tuple[int, str] | None, new: tuple[int, str]) -> None:
    if old == new:
        return
    if old is not None:
        _remove(order, old)
    insort(order, new)


def _remove(order: Order, entry: tuple[int, str]) -> None:
    del order[bisect_left(order, entry)]


def _leave(parts: dict[str | None, HostIndex], value: str | None, arn: str) -> None:
    part = parts[value]
    part.discard(arn)
    if not part:
        del parts[value]
