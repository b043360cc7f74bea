"""The timer for all metrics: samples all running containers and publishes each batch.

Reads files with ``collector`` in its own thread; the event loop never waits for a file. A round
that hangs (a dead network disk) is reported once, and rounds are skipped until it returns. Nothing
queues up, and the process can still end. No failure here stops the agent.

The default interval of 10 s is that of Amazon ECS (``ECS_POLLING_METRICS_WAIT_DURATION``); two
samples cover the 20 s that ECS aggregates. A round costs about 30 µs for each idle container, so the
interval follows the needs of consumers, not the cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agent.metrics.cgroup import CgroupTree, RawTexts
from agent.metrics.collector import Collector
from agent.metrics.gpu import GpuReader
from agent.metrics.host import HostReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.metrics.targets import SampleTarget
    from agent.model.metrics import MetricsBatch

_log = structlog.get_logger()

INTERVAL_S = 10.0

_SECOND_LOOK_S = 1.0
"""A new container is read again after this time, to get its first CPU value."""

_ROUND_LIMIT_S = 5.0

_Job = tuple[
    "Callable[[], MetricsBatch]", "Callable[[MetricsBatch | None, Exception | None], None]"
]


def next_beat_s(start_s: float, now_s: float, interval_s: float) -> float:
    """Return the next timer after now; missed ones are skipped, and later ones do not shift."""
    return start_s + (int((now_s - start_s) / interval_s) + 1) * interval_s


class _Thread:
    """A daemon thread that runs one job at a time, and calls ``last`` when it ends."""

    def __init__(self, last: Callable[[], None]) -> None:
        self.busy = False
        self._last = last
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="sampler", daemon=True).start()

    def do(self, job: Callable[[], MetricsBatch]) -> asyncio.Future[MetricsBatch]:
        """Start a job; the caller must check that the thread is not busy."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[MetricsBatch] = loop.create_future()

        def settle(batch: MetricsBatch | None, error: Exception | None) -> None:
            self.busy = False
            if future.done():
                return
            if batch is not None:
                future.set_result(batch)
            elif error is not None:
                future.set_exception(error)

        def done(batch: MetricsBatch | None, error: Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop ended before the job did
                loop.call_soon_threadsafe(settle, batch, error)

        self.busy = True
        self._jobs.put((job, done))
        return future

    def end(self) -> None:
        """End the thread after its current job, if any; returns at once."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            try:
                batch = work()
            except Exception as error:  # noqa: BLE001 - the waiting round handles it
                done(None, error)
            else:
                done(batch, None)
        self._last()


class Sampler:
    """Samples targets at a fixed interval; created and used on one event loop."""

    def __init__(  # noqa: PLR0913 - one is needed, the others have defaults
        self,
        targets: Callable[[], Iterable[SampleTarget]],
        *,
        interval_s: float = INTERVAL_S,
        cgroup_root: Path = Path("/sys/fs/cgroup"),
        cgroup_driver: str = "",
        disks: Mapping[str, Path] | None = None,
        gpus: Sequence[str] = (),
        proc: Path = Path("/proc"),
        round_limit_s: float = _ROUND_LIMIT_S,
        poked: asyncio.Event | None = None,
    ) -> None:
        """Prepare; nothing is read before ``run``.

        Args:
            targets: called on the event loop at the start of each round; must be quick.
            interval_s: time between rounds.
            cgroup_root: where control groups are mounted.
            cgroup_driver: the engine's driver, ``cgroupfs`` or ``systemd``; empty tries both.
            disks: a path on each file system whose usage is reported, by its name; ``data`` is
                that of the containers. Without it, the root is both.
            gpus: UUIDs of the GPUs that the host offers.
            proc: the process file system.
            round_limit_s: how long a round may take before it counts as hanging.
            poked: set it, or call ``poke``, to have a round now; at most one per second.
        """
        self._targets = targets
        self._interval_s = interval_s
        self._round_limit_s = round_limit_s
        self._cgroup = (cgroup_root, cgroup_driver)
        self._disks = disks or {"data": Path("/"), "root": Path("/")}
        self._gpus = tuple(gpus)
        self._proc = proc
        self._collector: Collector | None = None
        self._callbacks: list[Callable[[MetricsBatch], None]] = []
        self._poked = poked or asyncio.Event()
        self._last_round_s = float("-inf")
        self._in_trouble = False
        self.latest: MetricsBatch | None = None
        """The newest round; None before the first."""
        self.before: MetricsBatch | None = None
        """The round before it; None before the second."""
        self.loop_lag_s = 0.0
        """How late the event loop was at the last timer."""
        self.round_s = 0.0
        """How long the last round took, including its wait for the thread."""

    def subscribe(self, callback: Callable[[MetricsBatch], None]) -> Callable[[], None]:
        """Call ``callback`` on the event loop after each round; return a function that ends this.

        The callback must be quick; its exceptions are logged and not propagated.
        """
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._callbacks.remove(callback)

        return unsubscribe

    def poke(self) -> None:
        """Request a round now, for example when a task started; at most one per second."""
        self._poked.set()

    def raw_texts(self, runtime_id: str) -> RawTexts:
        """Return files of a container as last read; empty ones if it is not sampled."""
        return self._collector.raw_texts(runtime_id) if self._collector is not None else RawTexts()

    async def run(self) -> None:
        """Sample until cancelled; the first round starts at once."""
        loop = asyncio.get_running_loop()
        thread = _Thread(self._close)
        start_s = loop.time()
        try:
            while True:
                await self._round(thread)
                now_s = loop.time()
                due_s = next_beat_s(start_s, now_s, self._interval_s)
                if self._has_newcomers():
                    due_s = min(due_s, now_s + _SECOND_LOOK_S)
                await self._sleep_until(due_s)
        finally:
            thread.end()

    async def _sleep_until(self, due_s: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(due_s):
                await self._poked.wait()
        except TimeoutError:
            self.loop_lag_s = max(0.0, loop.time() - due_s)
            return
        await asyncio.sleep(max(0.0, self._last_round_s + _SECOND_LOOK_S - loop.time()))

    async def _round(self, thread: _Thread) -> None:
        self._poked.clear()
        if thread.busy:
            return
        loop = asyncio.get_running_loop()
        started_s = self._last_round_s = loop.time()
        try:
            targets = list(self._targets())
            async with asyncio.timeout(self._round_limit_s):
                batch = await thread.do(lambda: self._collect(targets))
        except TimeoutError:
            self._trouble(f"a sampling round took longer than {self._round_limit_s:g} s")
            return
        except Exception as error:  # noqa: BLE001 - metrics may fail; the agent continues
            self._trouble(f"{type(error).__name__}: {error}")
            return
        self._in_trouble = False
        self.round_s = loop.time() - started_s
        self._publish(batch)

    def _collect(self, targets: list[SampleTarget]) -> MetricsBatch:
        if self._collector is None:
            root, driver = self._cgroup
            self._collector = Collector(
                CgroupTree(root, proc=self._proc, driver=driver),
                HostReader(self._disks, proc=self._proc),
                proc=self._proc,
                gpus=GpuReader(self._gpus, proc=self._proc) if self._gpus else None,
                max_open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4,
            )
        return self._collector.collect(targets)

    def _close(self) -> None:
        if self._collector is not None:
            self._collector.close()
            self._collector = None

    def _publish(self, batch: MetricsBatch) -> None:
        self.before, self.latest = self.latest, batch
        for callback in list(self._callbacks):
            try:
                callback(batch)
            except Exception:  # noqa: BLE001 - one consumer must not affect the others
                _log.exception("a consumer of samples failed")

    def _has_newcomers(self) -> bool:
        collector = self._collector
        return collector is not None and collector.has_newcomers and not self._in_trouble

    def _trouble(self, cause: str) -> None:
        """Log the first of several consecutive failed rounds."""
        if not self._in_trouble:
            _log.warning("sampling failed", cause=cause, next_try_s=self._interval_s)
        self._in_trouble = True
