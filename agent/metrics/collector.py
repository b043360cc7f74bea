"""One round of sampling: every container's cgroup, every task's links, and the host.

A round blocks on file reads, so run it in a thread; only one thread at a time may use a collector.
It keeps what the next round needs: open files, and counters to compute rates. A container or task
that is gone is skipped silently, because tasks end that way. Counters of a container go on when it
is restarted (``continuity``, ``links.LinkTotals``), but no rate spans a restart.

What did not change since the round before is not built again: of an idle container, a round makes
no new object, and the list of a task's containers is the same one.

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
from agent.metrics.host_ends import HostEnds
from agent.metrics.task_networks import NOWHERE, TaskNetworks
from agent.model.metrics import ContainerSample, MetricsBatch, RoundCost, TaskSample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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
        """Usage, network figures and use of GPUs in the sample."""
        self.sample: ContainerSample | None = None

    def rests(self, usage: Usage) -> bool:
        """Tell whether a sample of this usage says the same as the last one, as to all but GPUs."""
        sample = self.sample
        return sample is not None and sample.cpu_percent == 0.0 and self.made_of[0] is usage

    def _cpu_percent(self, cpu_ns: int | None, pid: int) -> float | None:
        """Return the CPU use since the last reading; None if that was of another run."""
        at_ns, run = time.monotonic_ns(), self.counters.run
        same_run = run == self.run and pid == self.pid
        before_ns, before_at_ns = self.cpu_ns, self.at_ns
        self.run, self.pid, self.cpu_ns, self.at_ns = run, pid, cpu_ns, at_ns
        if not same_run or cpu_ns is None or before_ns is None or at_ns <= before_at_ns:
            return None
        return round(100 * (cpu_ns - before_ns) / (at_ns - before_at_ns), 3)

    def sample_of(
        self,
        target: SampleTarget,
        usage: Usage,
        network: NetworkSample | None,
        gpus: tuple[GpuUse, ...],
    ) -> ContainerSample:
        """Return the sample of a reading; the same object again if all figures are the same."""
        percent = self._cpu_percent(usage.cpu_ns, target.pid)
        made_of = (usage, network, gpus)
        before = self.sample
        if (
            before is not None
            and all(map(operator.is_, made_of, self.made_of))
            and before.cpu_percent == percent
            and before.restarts == target.restarts
        ):
            return before
        self.made_of = made_of
        self.sample = ContainerSample(
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
        return self.sample


class _Task:
    """The containers to read of one task, and what they were like in the last round."""

    __slots__ = ("networks", "running", "sample", "targets")

    def __init__(
        self,
        targets: list[SampleTarget],
        running: list[tuple[SampleTarget, _Container]],
        networks: TaskNetworks | None,
    ) -> None:
        self.targets = targets
        self.running = running
        self.networks = networks
        """None if none of them has a network of its own."""
        self.sample: TaskSample | None = None
        """None if the next one cannot be the same."""


_Used = tuple["SampleTarget", _Container, "Usage"]


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
        self._ends = HostEnds()
        self._targets: list[SampleTarget] = []
        self._tasks: dict[str, _Task] = {}
        self._own_namespace = ""
        self._rounds = 0
        self._cpu_s = 0.0

    def collect(self, targets: Iterable[SampleTarget]) -> MetricsBatch:
        """Read every target and the host once."""
        began_s, cpu_began_s = time.monotonic(), time.thread_time()
        at = time.time()
        gpus = self._gpus.read() if self._gpus is not None else None
        self._aim(list(targets))
        self._ends.look(len(self._networks))
        uses = gpus.uses if gpus is not None else {}
        tasks = [
            sample
            for arn, task in self._tasks.items()
            if (sample := self._task(arn, task, at, uses)) is not None
        ]
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
        return self._open_files + networks + self._ends.open_files + self._host.open_files

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
        self._ends.close()
        self._host.close()
        if self._gpus is not None:
            self._gpus.close()

    def _aim(self, targets: list[SampleTarget]) -> None:
        """Take the targets of a round, and forget what is no longer one."""
        if targets == self._targets:
            return
        self._targets = targets
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

    def _new(self, arn: str, targets: list[SampleTarget]) -> _Task:
        running = []
        for target in targets:
            container = self._containers.setdefault(target.runtime_id, _Container())
            if target.running:
                running.append((target, container))
        networks = None
        if any(target.network_pid for target, _ in running):
            networks = self._networks_of(arn)
        return _Task(targets, running, networks)

    def _task(
        self, arn: str, task: _Task, at: float, uses: Mapping[str, tuple[GpuUse, ...]]
    ) -> TaskSample | None:
        used: list[_Used] = []
        rests = task.sample is not None
        for target, container in task.running:
            usage = self._usage(target, container)
            if usage is None:
                rests = False
                continue
            used.append((target, container, usage))
            rests = (
                rests
                and container.rests(usage)
                and (not self._gpus or container.made_of[2] == uses.get(target.runtime_id, ()))
            )
        if rests and (task.networks is None or task.networks.rest(time.monotonic())):
            return self._again(task, used, at)
        return self._changed(arn, task, used, at, uses)

    @staticmethod
    def _again(task: _Task, used: list[_Used], at: float) -> TaskSample | None:
        """Return the last sample with another time."""
        at_ns = time.monotonic_ns()
        for _, container, _ in used:
            container.at_ns = at_ns
        last = task.sample
        return last and TaskSample(
            task_arn=last.task_arn,
            at=at,
            containers=last.containers,
            network=last.network,
            links=last.links,
            rx_bytes_per_s=last.rx_bytes_per_s,
            tx_bytes_per_s=last.tx_bytes_per_s,
        )

    def _changed(
        self,
        arn: str,
        task: _Task,
        used: list[_Used],
        at: float,
        uses: Mapping[str, tuple[GpuUse, ...]],
    ) -> TaskSample | None:
        before, task.sample = task.sample, None
        if not used:
            return None
        found = NOWHERE
        if task.networks is not None:
            found = task.networks.read(
                [target for target, _, _ in used],
                ran=any(usage.cpu_ns != container.cpu_ns for _, container, usage in used),
                now_s=time.monotonic(),
            )
        samples = [
            container.sample_of(
                target,
                usage,
                found.by_container.get(target.runtime_id),
                uses.get(target.runtime_id, ()),
            )
            for target, container, usage in used
        ]
        if before is not None and _are_same(before.containers, samples):
            samples = before.containers
        whole = found.whole
        sample = TaskSample(
            task_arn=arn,
            at=at,
            containers=samples,
            network=whole.counters if whole else None,
            links=whole.links if whole else {},
            rx_bytes_per_s=whole.rx_bytes_per_s if whole else None,
            tx_bytes_per_s=whole.tx_bytes_per_s if whole else None,
        )
        task.sample = sample if len(used) == len(task.running) else None
        return sample

    def _usage(self, target: SampleTarget, container: _Container) -> Usage | None:
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

    def _drop_reader(self, container: _Container) -> None:
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


def _are_same(before: Sequence[object], now: Sequence[object]) -> bool:
    return len(before) == len(now) and all(map(operator.is_, before, now))
