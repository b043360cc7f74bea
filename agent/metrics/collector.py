"""One round of sampling: every container's cgroup, every task's links, and the host.

A round blocks on file reads, so run it in a thread; only one thread at a time may use a collector.
It keeps what the next round needs: open cgroup files, and counters to compute rates. A container or
task that is gone is skipped silently, because tasks end that way. If a counter decreased (the
container was restarted), there is no rate instead of a negative one.
"""

from __future__ import annotations

import time
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from agent.metrics import links
from agent.model.metrics import ContainerSample, LinkCounters, MetricsBatch, TaskSample

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.metrics.cgroup import CgroupReader, CgroupTree, Usage
    from agent.metrics.host import HostReader


class SampleTarget(NamedTuple):
    """One running container to sample."""

    task_arn: str
    name: str
    """Name of the container within its task."""
    runtime_id: str
    pid: int
    """Its first process, which changes at a restart; 0 if unknown."""
    network_pid: int
    """A process in the task's own network namespace: the sandbox's or, in bridge mode, the
    container's; 0 in ``host`` and ``none`` mode."""
    cgroup: str = ""
    """Path of its task's control group from the top of a hierarchy; empty if it has none."""


class _CpuMark(NamedTuple):
    pid: int
    cpu_ns: int
    at_ns: int


class _LinkMark(NamedTuple):
    namespaces: frozenset[str]
    counters: LinkCounters
    at_ns: int


class _Links(NamedTuple):
    pid: int
    counters: LinkCounters


class Collector:
    """Reads targets; remembers the previous round."""

    def __init__(
        self, tree: CgroupTree, host: HostReader, *, proc: Path, max_open_files: int
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            tree: finds the control groups.
            host: reads the metrics of the host.
            proc: the process file system.
            max_open_files: how many cgroup files may stay open; beyond that, the files of further
                containers are opened for each read.
        """
        self._tree = tree
        self._host = host
        self._proc = str(proc)
        self._max_open_files = max_open_files
        self._open_files = 0
        self._readers: dict[str, CgroupReader] = {}
        self._cpu: dict[str, _CpuMark] = {}
        self._links: dict[str, _LinkMark] = {}
        self._namespaces: dict[tuple[str, int], str] = {}
        self._own_namespace = ""

    def collect(self, targets: Iterable[SampleTarget]) -> MetricsBatch:
        """Read every target and the host once.

        Raises:
            OSError: the host's own metrics cannot be read.
        """
        at = time.time()
        containers: dict[str, list[ContainerSample]] = {}
        network_pids: dict[str, dict[int, str]] = {}
        seen: set[str] = set()
        for target in targets:
            seen.add(target.runtime_id)
            samples = containers.setdefault(target.task_arn, [])
            sample = self._container(target)
            if sample is None:
                continue
            samples.append(sample)
            if target.network_pid:
                owners = network_pids.setdefault(target.task_arn, {})
                owners[target.network_pid] = target.runtime_id
        tasks = [
            self._task(arn, at, samples, network_pids.get(arn, {}))
            for arn, samples in containers.items()
            if samples
        ]
        self._forget(seen, network_pids)
        return MetricsBatch(host=self._host.read(at, time.monotonic()), tasks=tasks)

    def close(self) -> None:
        """Close every file; may be repeated."""
        for runtime_id in list(self._readers):
            self._drop_reader(runtime_id)

    def _container(self, target: SampleTarget) -> ContainerSample | None:
        usage = self._usage(target)
        if usage is None:
            return None
        at_ns = time.monotonic_ns()
        return ContainerSample(
            name=target.name,
            runtime_id=target.runtime_id,
            cpu_percent=self._cpu_percent(target, usage.cpu_ns, at_ns),
            cpu_ns=usage.cpu_ns,
            memory_bytes=usage.memory_bytes,
            memory_limit_bytes=usage.memory_limit_bytes,
            pids=usage.pids,
            io_read_bytes=usage.io_read_bytes,
            io_write_bytes=usage.io_write_bytes,
        )

    def _usage(self, target: SampleTarget) -> Usage | None:
        """Read one container; after a restart it has a new group with the same name."""
        reader = self._readers.get(target.runtime_id)
        if reader is not None:
            try:
                return reader.read()
            except OSError:
                self._drop_reader(target.runtime_id)
        try:
            return self._open_reader(target).read()
        except OSError:
            self._drop_reader(target.runtime_id)
            return None

    def _open_reader(self, target: SampleTarget) -> CgroupReader:
        reader = self._tree.open(
            target.runtime_id,
            pid=target.pid,
            parent=target.cgroup,
            keep_open=self._open_files < self._max_open_files,
        )
        self._readers[target.runtime_id] = reader
        self._open_files += reader.open_files
        return reader

    def _drop_reader(self, runtime_id: str) -> None:
        reader = self._readers.pop(runtime_id, None)
        if reader is not None:
            self._open_files -= reader.open_files
            reader.close()

    def _cpu_percent(self, target: SampleTarget, cpu_ns: int, at_ns: int) -> float | None:
        before = self._cpu.get(target.runtime_id)
        self._cpu[target.runtime_id] = _CpuMark(target.pid, cpu_ns, at_ns)
        if before is None or before.pid != target.pid:
            return None
        if cpu_ns < before.cpu_ns or at_ns <= before.at_ns:
            return None
        return round(100 * (cpu_ns - before.cpu_ns) / (at_ns - before.at_ns), 3)

    def _task(
        self, arn: str, at: float, samples: list[ContainerSample], pids: dict[int, str]
    ) -> TaskSample:
        """Return the sample of a task; ``pids`` maps each process to count to its container."""
        found = self._count_links(arn, pids)
        if not found:
            return TaskSample(task_arn=arn, at=at, containers=samples)
        counters = reduce(links.add, (one.counters for one in found.values()))
        namespaces = frozenset(found)
        if len(found) > 1:
            own = {pids[one.pid]: one.counters for one in found.values()}
            samples = [structs.replace(s, network=own.get(s.runtime_id)) for s in samples]
        mark = _LinkMark(namespaces, counters, time.monotonic_ns())
        before = self._links.get(arn)
        self._links[arn] = mark
        return TaskSample(
            task_arn=arn,
            at=at,
            containers=samples,
            network=counters,
            rx_bytes_per_s=_rate(before, mark, "rx_bytes"),
            tx_bytes_per_s=_rate(before, mark, "tx_bytes"),
        )

    def _count_links(self, arn: str, pids: Iterable[int]) -> dict[str, _Links]:
        """Return the counters of a task's distinct namespaces, by namespace."""
        found: dict[str, _Links] = {}
        for pid in pids:
            try:
                namespace = self._namespace(arn, pid)
                if namespace and namespace not in found:
                    found[namespace] = _Links(pid, links.read_links(pid, proc=self._proc))
            except OSError:
                continue
        return found

    def _namespace(self, arn: str, pid: int) -> str:
        """Return the namespace of a task's process; empty if it is not the task's own.

        If the namespace of a pid changed, the pid was reused. The agent's namespace is the host's,
        whose traffic does not belong to a task.
        """
        namespace = links.namespace_of(pid, proc=self._proc)
        if not self._own_namespace:
            self._own_namespace = links.namespace_of("self", proc=self._proc)
        first = self._namespaces.setdefault((arn, pid), namespace)
        if namespace in (self._own_namespace, "") or namespace != first:
            return ""
        return namespace

    def _forget(self, seen: set[str], network_pids: dict[str, dict[int, str]]) -> None:
        for runtime_id in self._readers.keys() - seen:
            self._drop_reader(runtime_id)
        for runtime_id in self._cpu.keys() - seen:
            del self._cpu[runtime_id]
        for arn in self._links.keys() - network_pids.keys():
            del self._links[arn]
        gone = [key for key in self._namespaces if key[1] not in network_pids.get(key[0], ())]
        for key in gone:
            del self._namespaces[key]


def _rate(before: _LinkMark | None, now: _LinkMark, name: str) -> float | None:
    if before is None or before.namespaces != now.namespaces or now.at_ns <= before.at_ns:
        return None
    grown = getattr(now.counters, name) - getattr(before.counters, name)
    return None if grown < 0 else round(grown * 1e9 / (now.at_ns - before.at_ns), 1)
