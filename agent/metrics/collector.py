"""One round of sampling: every container's cgroup, every task's links, and the host.

A round blocks on file reads, so run it in a thread; only one thread at a time may use a collector.
It keeps what the next round needs: open files, and counters to compute rates. A container or task
that is gone is skipped silently, because tasks end that way. Counters of a container go on when it
is restarted (``continuity``, ``links.LinkTotals``), but no rate spans a restart.

What did not change since the round before is not built again: of an idle container, a round makes
no new object.

Tests: ``tests/unit/metrics/test_collector.py``.
"""

from __future__ import annotations

import errno
import operator
import time
from typing import TYPE_CHECKING, Final

from agent.metrics import links
from agent.metrics.cgroup import RawTexts
from agent.metrics.continuity import Continuous
from agent.metrics.task_networks import NOWHERE, TaskNetworks
from agent.model.metrics import ContainerSample, MetricsBatch, RoundCost, TaskSample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from agent.metrics.cgroup import CgroupReader, CgroupTree
    from agent.metrics.cgroup_texts import Usage
    from agent.metrics.gpu import GpuReader
    from agent.metrics.host import HostReader
    from agent.metrics.targets import SampleTarget
    from agent.model.metrics import GpuUse, NetworkSample


_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


class _Container:
    """What is known of one container from the rounds before."""

    __slots__ = ("at_ns", "counters", "cpu_ns", "made_of", "pid", "reader", "run", "sample")

    def __init__(self) -> None:
        self.reader: CgroupReader | None = None
        self.counters = Continuous()
        self.run = 0
        """Number of the run that was read last; the next three are of that reading."""
        self.pid = 0
        self.cpu_ns: int | None = None
        self.at_ns = 0
        self.made_of: tuple[object, ...] = ()
        self.sample: ContainerSample | None = None

    def cpu_percent(self, cpu_ns: int | None, pid: int) -> float | None:
        """Return the CPU use since the last reading; None if that was of another run."""
        at_ns, run = time.monotonic_ns(), self.counters.run
        same_run = run == self.run and pid == self.pid
        before_ns, before_at_ns = self.cpu_ns, self.at_ns
        self.run, self.pid, self.cpu_ns, self.at_ns = run, pid, cpu_ns, at_ns
        if not same_run or cpu_ns is None or before_ns is None or at_ns <= before_at_ns:
            return None
        return round(100 * (cpu_ns - before_ns) / (at_ns - before_at_ns), 3)


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
        self._containers: dict[str, _Container] = {}
        self._networks: dict[str, TaskNetworks] = {}
        self._own_namespace = ""
        self._rounds = 0
        self._cpu_s = 0.0

    def collect(self, targets: Iterable[SampleTarget]) -> MetricsBatch:
        """Read every target and the host once."""
        began_s, cpu_began_s = time.monotonic(), time.thread_time()
        at = time.time()
        gpus = self._gpus.read() if self._gpus is not None else None
        by_task: dict[str, list[SampleTarget]] = {}
        for target in targets:
            by_task.setdefault(target.task_arn, []).append(target)
        uses = gpus.uses if gpus is not None else {}
        tasks = [
            sample
            for arn, own in by_task.items()
            if (sample := self._task(arn, at, own, uses)) is not None
        ]
        self._forget(by_task)
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
        networks = sum(network.open_files for network in self._networks.values())
        return self._open_files + networks + self._host.open_files

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
        self._host.close()
        if self._gpus is not None:
            self._gpus.close()

    def _task(
        self,
        arn: str,
        at: float,
        targets: list[SampleTarget],
        uses: Mapping[str, tuple[GpuUse, ...]],
    ) -> TaskSample | None:
        used = [
            (target, usage)
            for target in targets
            if target.running and (usage := self._usage(target)) is not None
        ]
        if not used:
            return None
        running = [target for target, _ in used]
        found = self._networks_of(arn).read(running) if _has_network(running) else NOWHERE
        samples = [
            self._sample(
                target,
                usage,
                found.by_container.get(target.runtime_id),
                uses.get(target.runtime_id, ()),
            )
            for target, usage in used
        ]
        whole = found.whole
        if whole is None:
            return TaskSample(task_arn=arn, at=at, containers=samples)
        return TaskSample(
            task_arn=arn,
            at=at,
            containers=samples,
            network=whole.counters,
            links=whole.links,
            rx_bytes_per_s=whole.rx_bytes_per_s,
            tx_bytes_per_s=whole.tx_bytes_per_s,
        )

    def _usage(self, target: SampleTarget) -> Usage | None:
        """Read one container; after a restart it has a new group with the same name."""
        container = self._containers.get(target.runtime_id)
        if container is None:
            container = self._containers[target.runtime_id] = _Container()
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

    def _drop_reader(self, container: _Container) -> None:
        reader, container.reader = container.reader, None
        if reader is not None:
            self._open_files -= reader.open_files
            reader.close()

    def _sample(
        self,
        target: SampleTarget,
        usage: Usage,
        network: NetworkSample | None,
        gpus: tuple[GpuUse, ...],
    ) -> ContainerSample:
        container = self._containers[target.runtime_id]
        percent = container.cpu_percent(usage.cpu_ns, target.pid)
        made_of = (usage, network, gpus)
        before = container.sample
        if (
            before is not None
            and all(map(operator.is_, made_of, container.made_of))
            and before.cpu_percent == percent
            and before.restarts == target.restarts
        ):
            return before
        container.made_of = made_of
        container.sample = ContainerSample(
            name=target.name,
            runtime_id=target.runtime_id,
            cpu_percent=percent,
            network=network.counters if network else None,
            links=network.links if network else {},
            rx_bytes_per_s=network.rx_bytes_per_s if network else None,
            tx_bytes_per_s=network.tx_bytes_per_s if network else None,
            restarts=target.restarts,
            gpus=gpus,
            **usage._asdict(),
        )
        return container.sample

    def _networks_of(self, arn: str) -> TaskNetworks:
        networks = self._networks.get(arn)
        if networks is None:
            if not self._own_namespace:
                self._own_namespace = links.namespace_of(f"{self._proc}/self")
            networks = self._networks[arn] = TaskNetworks(self._proc, self._own_namespace)
        return networks

    def _forget(self, by_task: Mapping[str, list[SampleTarget]]) -> None:
        seen = {target.runtime_id for targets in by_task.values() for target in targets}
        for runtime_id in self._containers.keys() - seen:
            self._drop_reader(self._containers.pop(runtime_id))
        for arn in self._networks.keys() - by_task.keys():
            self._networks.pop(arn).close()
        for networks in self._networks.values():
            networks.forget(seen)


def _has_network(targets: Iterable[SampleTarget]) -> bool:
    return any(target.network_pid for target in targets)
