"""What is known of a task and its containers from the rounds before.

Tests: ``tests/unit/metrics/test_collector.py``.
"""

from __future__ import annotations

import operator
import time
from typing import TYPE_CHECKING

from agent.metrics.continuity import Continuous
from agent.metrics.idle_watch import IdleWatch
from agent.model.metrics import ContainerSample

if TYPE_CHECKING:
    from agent.metrics.cgroup import CgroupReader, WatchedFile
    from agent.metrics.cgroup_texts import Usage
    from agent.metrics.idle_watch import ActivitySource
    from agent.metrics.targets import SampleTarget
    from agent.metrics.task_networks import TaskNetworks
    from agent.model.metrics import GpuUse, NetworkSample, TaskSample


class KnownContainer:
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

    @property
    def is_idle(self) -> bool:
        """Whether it did not run between the last two readings."""
        return self.sample is not None and self.sample.cpu_percent == 0.0

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


class KnownTask:
    """The containers to read of one task, and what they were like in the last round."""

    __slots__ = ("networks", "running", "sample", "targets", "watch")

    def __init__(
        self,
        targets: list[SampleTarget],
        running: list[tuple[SampleTarget, KnownContainer]],
        networks: TaskNetworks | None,
    ) -> None:
        self.targets = targets
        self.running = running
        self.networks = networks
        """None if none of them has a network of its own."""
        self.sample: TaskSample | None = None
        """None if no container could be read."""
        self.watch: IdleWatch | None = None
        """Set while the task is idle."""

    def fall_idle(self, now_s: float) -> None:
        """After a reading, begin to watch if everything stood still since the one before."""
        files: list[WatchedFile] = []
        sources: list[ActivitySource] = []
        due_s = float("inf")
        for target, container in self.running:
            reader = container.reader
            watched = reader.watched() if reader is not None and container.is_idle else None
            if reader is None or watched is None:
                return
            files += watched
            due_s = min(due_s, reader.due_s)
            sources.append(target.runtime_id)
        if self.networks is not None:
            links = self.networks.watched(now_s)
            if links is None:
                return
            sources += links.indexes
            due_s = min(due_s, links.due_s)
        self.watch = IdleWatch(files, sources=sources, due_s=due_s, now_ns=time.monotonic_ns())

    def wake(self) -> None:
        """Before a reading, take over until when everything stood still."""
        if self.watch is None:
            return
        for _, container in self.running:
            container.at_ns = self.watch.still_ns
        if self.networks is not None:
            self.networks.were_still(self.watch.still_ns)
        self.watch = None
