"""One round of sampling: every container's cgroup, every task's links, and the host.

A round blocks on file reads, so run it in a thread; only one thread at a time may use a collector.
It keeps what the next round needs: open files, and counters to compute rates. A container or task
that is gone is skipped silently, because tasks end that way. Counters of a container go on when it
is restarted (``continuity``, ``links.LinkTotals``), but no rate spans a restart.

What did not change since the round before is not built again: the sample of an idle task is the same
object, and the task is not even looked at but for its ``IdleWatch``.

Tests: ``tests/unit/metrics/test_collector.py``.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Final

from agent.metrics import links
from agent.metrics.cgroup import RawTexts
from agent.metrics.host_ends import HostEnds
from agent.metrics.known import KnownContainer, KnownTask
from agent.metrics.task_networks import NOWHERE, TaskNetworks
from agent.model.metrics import MetricsBatch, RoundCost, TaskSample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from agent.metrics.cgroup import CgroupReader, CgroupTree
    from agent.metrics.cgroup_texts import Usage
    from agent.metrics.gpu import GpuReader, GpuReading
    from agent.metrics.host import HostReader
    from agent.metrics.idle_watch import ActivitySource
    from agent.metrics.targets import SampleTarget
    from agent.model.metrics import GpuUse


_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


class Collector:
    """Reads targets; remembers the previous round."""

    def __init__(
        self,
        tree: CgroupTree,
        host: HostReader,
        *,
        proc: Path,
        max_open_files: int,
        gpus: GpuReader | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            tree: finds the control groups.
            host: reads the metrics of the host.
            proc: the process file system.
            max_open_files: how many files of containers may stay open; beyond that, those of
                further containers are opened for each read.
            gpus: reads the GPUs; None on a host without any.
        """
        self._tree = tree
        self._host = host
        self._gpus = gpus
        self._proc = str(proc)
        self._max_open_files = max_open_files
        self._open_files = 0
        """Of containers; the next is of networks."""
        self._network_files: int | None = None
        """None since one may have been opened or closed."""
        self._containers: dict[str, KnownContainer] = {}
        self._networks: dict[str, TaskNetworks] = {}
        self._ends = HostEnds()
        self._targets: list[SampleTarget] = []
        self._tasks: dict[str, KnownTask] = {}
        self._own_namespace = ""
        self._uses: Mapping[str, tuple[GpuUse, ...]] = {}
        self._rounds = 0
        self._cpu_s = 0.0
        self.has_newcomers = False
        """Whether the last round was the first of a container, which has no rate yet."""

    def collect(self, targets: Iterable[SampleTarget]) -> MetricsBatch:
        """Read every target and the host once."""
        began_s, cpu_began_s = time.monotonic(), time.thread_time()
        at = time.time()
        gpus = self._gpus.read() if self._gpus is not None else None
        self._aim(list(targets))
        active = self._active_sources(gpus)
        self.has_newcomers = False
        for arn, task in self._tasks.items():
            if task.watch is None or not task.watch.is_still(began_s, active):
                self._read(arn, task)
                self._network_files = None
        tasks = [task.sample for task in self._tasks.values() if task.sample is not None]
        host = self._host.read(at, began_s, gpus)
        self._rounds += 1
        cpu_s = time.thread_time() - cpu_began_s
        self._cpu_s += cpu_s
        cost = RoundCost(
            duration_s=round(time.monotonic() - began_s, 6),
            cpu_s=round(cpu_s, 6),
            cpu_total_s=round(self._cpu_s, 6),
            rounds=self._rounds,
            open_files=self.open_files,
        )
        return MetricsBatch(host=host, tasks=tasks, cost=cost)

    @property
    def open_files(self) -> int:
        """How many descriptors are held."""
        if self._network_files is None:
            self._network_files = sum(each.open_files for each in self._networks.values())
        return (
            self._open_files + self._network_files + self._ends.open_files + self._host.open_files
        )

    def raw_texts(self, runtime_id: str) -> RawTexts:
        """Return files of a container as last read; empty ones if it is not sampled.

        May be called from any thread.
        """
        container = self._containers.get(runtime_id)
        reader = container.reader if container is not None else None
        return reader.raw if reader is not None else RawTexts()

    def close(self) -> None:
        """Close every file; may be repeated."""
        for container in self._containers.values():
            self._drop_reader(container)
        for networks in self._networks.values():
            networks.close()
        self._containers.clear()
        self._networks.clear()
        self._tasks.clear()
        self._targets = []
        self._network_files = None
        self._ends.close()
        self._host.close()
        if self._gpus is not None:
            self._gpus.close()

    def _aim(self, targets: list[SampleTarget]) -> None:
        """Take the targets of a round, and forget what is no longer one."""
        if targets == self._targets:
            return
        self._targets, self._network_files = targets, None
        by_task: dict[str, list[SampleTarget]] = {}
        for target in targets:
            by_task.setdefault(target.task_arn, []).append(target)
        before = self._tasks
        self._tasks = {
            arn: before[arn]
            if arn in before and before[arn].targets == own
            else self._new(arn, own)
            for arn, own in by_task.items()
        }
        seen = {target.runtime_id for target in targets}
        for runtime_id in self._containers.keys() - seen:
            self._drop_reader(self._containers.pop(runtime_id))
        for arn in self._networks.keys() - by_task.keys():
            self._networks.pop(arn).close()
        for networks in self._networks.values():
            networks.forget(seen)

    def _new(self, arn: str, targets: list[SampleTarget]) -> KnownTask:
        running = []
        for target in targets:
            container = self._containers.setdefault(target.runtime_id, KnownContainer())
            if target.running:
                running.append((target, container))
        networks = None
        if any(target.network_pid for target, _ in running):
            networks = self._networks_of(arn)
        return KnownTask(targets, running, networks)

    def _active_sources(self, gpus: GpuReading | None) -> set[ActivitySource]:
        """Look at what is read for all tasks together; return what changed since the round before."""
        active: set[ActivitySource] = set()
        moved = self._ends.look(len(self._networks))
        if moved is None:
            for task in self._tasks.values():
                if task.networks is not None:
                    task.wake()
        else:
            active |= moved
        before, self._uses = self._uses, gpus.uses if gpus is not None else {}
        if before or self._uses:
            known = before.keys() | self._uses.keys()
            active |= {one for one in known if before.get(one) != self._uses.get(one)}
        return active

    def _read(self, arn: str, task: KnownTask) -> None:
        """Read a task that may have changed."""
        task.wake()
        before, task.sample = task.sample, None
        used = [
            (target, container, usage)
            for target, container in task.running
            if (usage := self._usage(target, container)) is not None
        ]
        if not used:
            return
        now_s = time.monotonic()
        found = NOWHERE
        if task.networks is not None:
            found = task.networks.read(
                [target for target, _, _ in used],
                ran=any(usage.cpu_ns != container.cpu_ns for _, container, usage in used),
                now_s=now_s,
            )
        samples = [
            container.sample_of(
                target,
                usage,
                found.by_container.get(target.runtime_id),
                self._uses.get(target.runtime_id, ()),
            )
            for target, container, usage in used
        ]
        if any(one.cpu_percent is None and one.cpu_ns is not None for one in samples):
            self.has_newcomers = True
        whole = found.whole
        sample = TaskSample(
            task_arn=arn,
            containers=samples,
            network=whole.counters if whole else None,
            links=whole.links if whole else {},
            rx_bytes_per_s=whole.rx_bytes_per_s if whole else None,
            tx_bytes_per_s=whole.tx_bytes_per_s if whole else None,
        )
        task.sample = before if sample == before else sample
        if len(used) == len(task.running):
            task.fall_idle(now_s)

    def _usage(self, target: SampleTarget, container: KnownContainer) -> Usage | None:
        """Read one container; after a restart it has a new group with the same name."""
        usage: Usage | None = None
        if container.reader is not None:
            try:
                usage = container.reader.read()
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    return None  # the group is there: another reader would count it twice
                self._drop_reader(container)
        if usage is not None:
            return container.counters.of(usage, new_run=False)
        try:
            container.reader = self._open_reader(target)
            usage = container.reader.read()
        except OSError:
            self._drop_reader(container)
            return None
        return container.counters.of(usage, new_run=True)

    def _open_reader(self, target: SampleTarget) -> CgroupReader:
        reader = self._tree.open(
            target.runtime_id,
            pid=target.pid,
            parent=target.cgroup,
            keep_open=self._open_files < self._max_open_files,
        )
        self._open_files += reader.open_files
        return reader

    def _drop_reader(self, container: KnownContainer) -> None:
        reader, container.reader = container.reader, None
        if reader is not None:
            self._open_files -= reader.open_files
            reader.close()

    def _networks_of(self, arn: str) -> TaskNetworks:
        networks = self._networks.get(arn)
        if networks is None:
            if not self._own_namespace:
                self._own_namespace = links.namespace_of(f"{self._proc}/self")
            networks = self._networks[arn] = TaskNetworks(
                self._proc, self._own_namespace, self._ends
            )
        return networks
