"""The network figures of one task: of each namespace that is its own, and of all together.

In ``awsvpc`` mode all containers share the sandbox's namespace, in ``bridge`` mode each has its own.
Totals of a task never decrease: they include containers that are gone. Blocks on file reads.

Tests: ``tests/unit/metrics/test_collector.py``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from agent.metrics import links
from agent.metrics.cgroup import ALL_S
from agent.metrics.links import LinkReader, LinkTotals
from agent.model.metrics import NetworkSample

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.metrics.host_ends import HostEnds, Mark
    from agent.metrics.links import Links
    from agent.metrics.targets import SampleTarget


class TaskLinks(NamedTuple):
    """The network figures of a task at one moment."""

    whole: NetworkSample | None
    by_container: dict[str, NetworkSample]
    """By the engine's id; empty if one namespace says it all."""


NOWHERE = TaskLinks(None, {})


class WatchedLinks(NamedTuple):
    """What tells whether a reading would say anything else."""

    indexes: list[int]
    due_s: float
    """Monotonic time at which the namespaces are to be read again."""


class _Network:
    """One namespace: its reader, and what is known of it from the rounds before."""

    __slots__ = (
        *("at_ns", "before", "pid", "pid_namespace", "run"),
        *("reader", "sample", "totals", "counted", "mark", "due_s", "nsid", "nsid_asked_at"),
    )

    def __init__(self) -> None:
        self.reader: LinkReader | None = None
        self.pid = 0
        self.pid_namespace = ""
        self.totals = LinkTotals()
        self.run = 0
        self.before = links.NOTHING
        self.at_ns = 0
        self.sample: NetworkSample | None = None
        self.counted: Links = {}
        self.mark: Mark | None = None
        """The host's ends when ``counted`` was read; None if it must be read again."""
        self.due_s = 0.0
        self.nsid = -1
        self.nsid_asked_at = -1

    @property
    def had_no_traffic(self) -> bool:
        """Whether both rates were 0 in the last round."""
        sample = self.sample
        return sample is not None and sample.rx_bytes_per_s == sample.tx_bytes_per_s == 0.0

    def is_quiet(self, ends: HostEnds, now_s: float) -> bool:
        """Tell whether no packet has passed since the namespace was read, not too long ago."""
        mark = self.mark
        return mark is not None and now_s < self.due_s and ends.is_quiet(mark)

    def read(self, reader: LinkReader, ends: HostEnds, now_s: float, *, ran: bool) -> Links:
        """Return the counters of the namespace, read only if something may have changed them.

        Raises:
            OSError: see ``LinkReader.read``.
        """
        if not ran and self.is_quiet(ends, now_s):
            return self.counted
        if self.nsid < 0 and self.nsid_asked_at != ends.changes:
            self.nsid_asked_at = ends.changes
            self.nsid = _nsid(reader, ends)
        self.counted = reader.read()
        self.mark = ends.mark(self.nsid, len(self.counted)) if self.nsid >= 0 else None
        self.due_s = now_s + ALL_S
        return self.counted

    def open(self, pid: int, proc: str) -> LinkReader:
        """Return the reader of a process; raises ``OSError`` if the process is gone.

        If the namespace of a pid changed, the pid was reused.
        """
        if self.reader is not None and self.pid == pid:
            return self.reader
        self.close()
        reader = LinkReader(pid, proc=proc)
        if pid == self.pid and reader.namespace != self.pid_namespace:
            reader.close()
            raise ProcessLookupError(f"process {pid} is another one by now")
        self.reader, self.pid, self.pid_namespace = reader, pid, reader.namespace
        self.mark, self.nsid, self.nsid_asked_at = None, -1, -1
        return reader

    def advance(self, namespace: str, counted: Links) -> NetworkSample:
        """Take a reading; return the same object again if all figures are the same."""
        self.totals.advance(namespace, counted)
        now, at_ns = self.totals.counters, time.monotonic_ns()
        rx_per_s = tx_per_s = None
        if self.totals.run == self.run and at_ns > self.at_ns:
            elapsed_s = (at_ns - self.at_ns) / 1e9
            rx_per_s = round((now.rx_bytes - self.before.rx_bytes) / elapsed_s, 1)
            tx_per_s = round((now.tx_bytes - self.before.tx_bytes) / elapsed_s, 1)
        self.run, self.before, self.at_ns = self.totals.run, now, at_ns
        last = self.sample
        if (
            last is None
            or last.counters is not now
            or last.rx_bytes_per_s != rx_per_s
            or last.tx_bytes_per_s != tx_per_s
        ):
            last = self.sample = NetworkSample(
                counters=now,
                links=self.totals.links,
                rx_bytes_per_s=rx_per_s,
                tx_bytes_per_s=tx_per_s,
            )
        return last

    def close(self) -> None:
        """Close the reader; may be repeated."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None


class TaskNetworks:
    """Reads the namespaces of one task; not thread-safe."""

    def __init__(self, proc: str, own_namespace: str, ends: HostEnds) -> None:
        """Prepare; nothing is read yet.

        Args:
            proc: the process file system.
            own_namespace: that of the agent. It is the host's, whose traffic belongs to no task.
            ends: the ends of links in it, as they are in this round.
        """
        self._proc = proc
        self._ends = ends
        self._own_namespace = own_namespace
        self._networks: dict[str, _Network] = {}
        """By the container's id; empty for one that containers share."""
        self._gone = links.NOTHING
        self._last: list[_Network] = []
        """Those that were read in the last round; empty if some could not be."""

    @property
    def open_files(self) -> int:
        """How many descriptors are held."""
        return sum(network.reader is not None for network in self._networks.values())

    def read(self, targets: Iterable[SampleTarget], *, ran: bool, now_s: float) -> TaskLinks:
        """Return the figures of each namespace of the running containers.

        Args:
            targets: the running containers of the task.
            ran: whether one of them ran since the last round, and may have changed anything in its
                namespace. If none did, a namespace is read only if packets have come in.
            now_s: monotonic time.
        """
        found: dict[str, NetworkSample] = {}
        read: list[_Network] = []
        self._last = []
        complete = True
        namespaces: set[str] = set()
        pids: set[int] = set()
        for target in targets:
            pid = target.network_pid
            if not pid or pid in pids:
                continue
            pids.add(pid)
            key = target.runtime_id if pid == target.pid else ""
            network = self._networks.get(key)
            if network is None:
                network = self._networks[key] = _Network()
            try:
                reader = network.open(pid, self._proc)
                if reader.namespace == self._own_namespace or reader.namespace in namespaces:
                    continue
                counted = network.read(reader, self._ends, now_s, ran=ran)
            except OSError:
                network.close()
                complete = False
                continue
            namespaces.add(reader.namespace)
            read.append(network)
            found[target.runtime_id] = network.advance(reader.namespace, counted)
        if complete:
            self._last = read
        if not found:
            return NOWHERE
        if len(found) == len(self._networks) == 1 and self._gone is links.NOTHING:
            return TaskLinks(next(iter(found.values())), {})
        whole = self._together(list(found.values()))
        return TaskLinks(whole, found if len(found) > 1 else {})

    def watched(self, now_s: float) -> WatchedLinks | None:
        """Return the links of the host without whose traffic the last figures hold on.

        None if these are not enough: there was traffic, or some of it would not pass there.
        """
        indexes: list[int] = []
        due_s = float("inf")
        for network in self._last:
            mark = network.mark
            if (
                mark is None
                or not network.had_no_traffic
                or not network.is_quiet(self._ends, now_s)
            ):
                return None
            indexes += mark.indexes
            due_s = min(due_s, network.due_s)
        return WatchedLinks(indexes, due_s) if indexes else None

    def were_still(self, until_ns: int) -> None:
        """Take it that there was no traffic until a moment, although ``read`` was not called."""
        for network in self._last:
            network.at_ns = until_ns

    def forget(self, seen: Collection[str]) -> None:
        """Close what is no longer of a container in ``seen``, which has ids of the engine."""
        if len(self._networks) == 1 and "" in self._networks:
            return
        for key in [key for key in self._networks if key and key not in seen]:
            network = self._networks.pop(key)
            network.close()
            if network.totals.counters != links.NOTHING:
                self._gone = links.add(self._gone, network.totals.counters)

    def close(self) -> None:
        """Close every file; may be repeated."""
        for network in self._networks.values():
            network.close()

    def _together(self, networks: list[NetworkSample]) -> NetworkSample:
        """Return the sum of all namespaces; there is a rate only if each of them has one."""
        by_name: Links = {}
        for network in networks:
            for name, counters in network.links.items():
                by_name[name] = links.add(by_name[name], counters) if name in by_name else counters
        ever = [network.totals.counters for network in self._networks.values()]
        return NetworkSample(
            counters=links.total([*ever, self._gone]),
            links=by_name,
            rx_bytes_per_s=_sum([one.rx_bytes_per_s for one in networks]),
            tx_bytes_per_s=_sum([one.tx_bytes_per_s for one in networks]),
        )


def _nsid(reader: LinkReader, ends: HostEnds) -> int:
    try:
        descriptor = reader.open_namespace()
    except OSError:  # it has just ended, which the reader will notice
        return -1
    try:
        return ends.nsid_of(descriptor)
    finally:
        os.close(descriptor)


def _sum(rates: list[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return round(sum(known), 1) if len(known) == len(rates) else None
