"""The metric store as the event loop works with it.

::

    take(...)  ─► newest usage, in memory
               └► open minute ──run: once a minute──► roll_up ─► file
    points, utilization, ...  ◄── the file, and the open minute as it is now

``take`` is quick and never waits. The file is used in one thread. Whatever fails there is told in the log
and costs figures alone; who reads figures gets ``MetricsUnavailable``, a failure of a store like any other.

Tests: ``tests/unit/controlplane/metric_store/test_store.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import structlog

from agent.controlplane.metric_store import catalogue, scopes
from agent.controlplane.metric_store.file import (
    IN_MEMORY,
    Bounds,
    MetricsFile,
    MetricsFileNewer,
    Point,
)
from agent.controlplane.metric_store.roll_up import Facts, HostMinute, roll_up
from agent.controlplane.store.contract import StoreFailure, StoreUnavailable
from agent.throttle import RepeatedWarning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from agent.controlplane.metric_store.catalogue import Metric
    from agent.controlplane.metric_store.file import Listed
    from agent.controlplane.metric_store.roll_up import Row
    from agent.controlplane.metric_store.scopes import Scope
    from agent.controlplane.records import TaskRecord
    from agent.model.usage import HostUsage, TaskUsage, Usage

    ReadFacts = Callable[[], Awaitable[Facts]]

FILE: Final = "metrics.db"
"""In the data directory of control."""
LAG_S: Final = 10.0
"""Usage counts for the minute of the middle of its 20 seconds."""
FRESH_S: Final = 120.0
"""Usage that is older is not the newest any more: its agent is away, or its task has ended."""
OPEN_AGAIN_S: Final = 5.0
"""How old the open minute may be in an answer."""
SET_BACK_MINUTES: Final = 2
"""A clock that goes back by more was set; by less, the same minute is closed only once."""
TASKS_MOST: Final = 2000
"""Of one instance in one minute; others are not taken."""
FILE_LIMIT_S: Final = 120.0
CLOSE_LIMIT_S: Final = 1.0
"""How long the last minute may take when control stops."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class MetricsUnavailable(StoreUnavailable):
    """The file of figures cannot be read or written now; the next call may succeed."""


class Newest(NamedTuple):
    """The last usage that an agent told of a task."""

    at: float
    """When it came: Unix seconds of control's clock."""
    usage: TaskUsage


class NewestHost(NamedTuple):
    """The last usage that an agent told of its host."""

    at: float
    usage: HostUsage


class Utilization(NamedTuple):
    """What tasks used, by what they reserve; None where no task has figures, or reserves any."""

    cpu_percent: float | None
    memory_percent: float | None
    tasks: int
    """How many had figures."""


class MetricStore:
    """The figures of one control endpoint; for one event loop."""

    def __init__(
        self,
        file: MetricsFile,
        lane: ThreadPoolExecutor,
        read_facts: ReadFacts,
        clock: Callable[[], float],
    ) -> None:
        """Take what ``open`` opened."""
        self._file = file
        self._read_facts = read_facts
        self._lane = lane
        self._clock = clock
        self._newest: dict[str, dict[str, Newest]] = {}
        """By instance id and task ARN."""
        self._hosts: dict[str, NewestHost] = {}
        self._minutes: dict[int, dict[str, HostMinute]] = {}
        """Those that are not in the file yet, by instance id."""
        self._closed = _minute_of(clock() - LAG_S) - 1
        """The last minute that was closed."""
        self._kept = 0
        """The last minute that was closed and whose points are in the file, if they could be written."""
        self._keeping = asyncio.Condition()
        self._open: tuple[int, float, dict[Scope, Row]] = (0, float("-inf"), {})
        self._opening = asyncio.Lock()
        self._listeners: list[Callable[[str, Usage], None]] = []
        self._failed = RepeatedWarning("metrics of a minute are lost", every_s=600.0)

    @classmethod
    async def open(
        cls,
        path: Path | None,
        read_facts: ReadFacts,
        *,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = time.time,
    ) -> MetricStore:
        """Open the store; a file that cannot be used is told in the log, and metrics stay in memory.

        Args:
            path: the file; None to keep everything in memory.
            read_facts: returns what control knows of tasks and hosts at this moment (``facts.read``).
            bounds: how much is kept.
            clock: Unix seconds.
        """
        lane = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(lane, _opened, path, bounds or Bounds())
        return cls(file, lane, read_facts, clock)

    async def close(self) -> None:
        """Write the open minute, and close the file. Control's store must still be open."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self.close_minutes(also_open=True)
        with contextlib.suppress(MetricsUnavailable):
            await self._do(self._file.close)
        self._lane.shutdown(wait=False)

    def take(self, instance_id: str, usage: Usage) -> None:
        """Take what an agent told of its host and tasks. Returns at once."""
        now = self._clock()
        minute = self._minutes.setdefault(_minute_of(now - LAG_S), {})
        told = minute.setdefault(instance_id, HostMinute())
        newest = self._newest.setdefault(instance_id, {})
        if usage.host is not None:
            self._hosts[instance_id] = NewestHost(now, usage.host)
            told.host = usage.host if told.host is None else told.host.plus(usage.host)
        for task in usage.tasks:
            known = told.tasks.get(task.task_arn)
            if known is None and len(told.tasks) >= TASKS_MOST:
                continue
            told.tasks[task.task_arn] = task if known is None else known.plus(task)
            newest[task.task_arn] = Newest(now, task)
        for listener in self._listeners:
            listener(instance_id, usage)

    @contextlib.contextmanager
    def heard_by(self, listener: Callable[[str, Usage], None]) -> Iterator[None]:
        """Tell usage to a listener, with the id of the instance, as it comes; it must return at once."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def newest(self, instance_id: str, task_arn: str) -> Newest | None:
        """Return the newest usage of a task on its instance; None if there is none of late."""
        found = self._newest.get(instance_id, {}).get(task_arn)
        return found if found is not None and _is_fresh(found.at, self._clock()) else None

    def newest_host(self, instance_id: str) -> NewestHost | None:
        """Return the newest usage of a host; None if there is none of late."""
        found = self._hosts.get(instance_id)
        return found if found is not None and _is_fresh(found.at, self._clock()) else None

    async def points(self, scope: Scope, metric: Metric, start: float, end: float) -> list[Point]:
        """Return the points of a metric that begin in a time, in order.

        Points of one minute; where these are gone, of five. The open minute is among them.

        Args:
            scope: what it is a metric of.
            metric: one of the catalogue.
            start: Unix seconds, included.
            end: Unix seconds, not included.

        Raises:
            MetricsUnavailable: of the file, as the next calls; StoreFailure: of control's store.
        """
        first, behind = -int(-start // 60), -int(-end // 60)
        found = await self._do(self._file.points, scope, metric.number, first, behind)
        return found + await self._open_points(scope, metric, max(first, 0), behind)

    async def utilization(self, tasks: Iterable[TaskRecord], *, minutes: int = 3) -> Utilization:
        """Return what tasks used in the last whole minutes by what they reserve.

        A task counts with each minute in which it has figures; one that reserves nothing does not.
        """
        wanted = [scopes.task(task.cluster, task.id, task.family) for task in tasks]
        end = _minute_of(self._clock() - LAG_S)
        rows = [await self._do(self._file.rows, wanted, at) for at in range(end - minutes, end)]
        return Utilization(
            _share(rows, catalogue.CPU_UTILIZED, catalogue.CPU_RESERVED),
            _share(rows, catalogue.MEMORY_UTILIZED, catalogue.MEMORY_RESERVED),
            len({scope for row in rows for scope in row}),
        )

    async def minute(self, wanted: Collection[Scope], at: int) -> dict[Scope, Row]:
        """Return the points of these scopes in one minute that is closed."""
        return await self._do(self._file.rows, wanted, at)

    async def next_minute(self, known: int) -> int:
        """Wait until another minute than this is the last that was closed, and return it.

        It may be an earlier one, after the clock was set back.
        """
        async with self._keeping:
            await self._keeping.wait_for(lambda: self._kept not in (0, known))
            return self._kept

    async def listed(self, first: Scope | None, most: int) -> list[Listed]:
        """Return scopes that have points in the file, in order, from one of them."""
        return await self._do(self._file.listed, first, most)

    async def run(self) -> None:
        """Close each minute soon after its end, until cancelled."""
        while True:
            now = self._clock() - LAG_S
            await asyncio.sleep(60 - now % 60)
            await self.close_minutes()

    async def close_minutes(self, *, also_open: bool = False) -> None:
        """Roll up the minutes that have ended, and write them; ``also_open`` at the end of control."""
        now = self._clock()
        current = _minute_of(now - LAG_S)
        if current - 1 > self._closed:
            # Also one without usage: counts and reservations are of every minute.
            self._minutes.setdefault(current - 1, {})
            self._closed = current - 1
        elif current + SET_BACK_MINUTES < self._closed:
            self._closed = (
                current - 1
            )  # else no minute would be filled until the old time is reached
        for at in sorted(self._minutes):
            if at == current and not also_open:
                continue
            told = self._minutes.pop(at)
            try:
                rows = await self._rolled_up(told)
                async with asyncio.timeout(FILE_LIMIT_S):
                    await self._do(self._file.add, at, rows)
            except (StoreFailure, TimeoutError) as error:
                self._failed.tell(error=f"{type(error).__name__}: {error}")
        self._forget(now)
        async with self._keeping:
            self._kept = self._closed
            self._keeping.notify_all()

    async def _rolled_up(self, told: dict[str, HostMinute]) -> dict[Scope, Row]:
        facts = await self._read_facts()
        # Pure, and a second for a large fleet: not on the event loop.
        return await self._do(roll_up, told, facts)

    async def _open_points(
        self, scope: Scope, metric: Metric, first: int, behind: int
    ) -> list[Point]:
        at = _minute_of(self._clock() - LAG_S)
        if not first <= at < behind or at not in self._minutes:
            return []
        async with self._opening:
            known_at, read_at, rows = self._open
            if known_at != at or self._clock() - read_at > OPEN_AGAIN_S:
                rows = await self._rolled_up(dict(self._minutes.get(at, {})))
                self._open = at, self._clock(), rows
        values = rows.get(scope, {}).get(metric.number)
        return [] if values is None else [Point(at, values)]

    def _forget(self, now: float) -> None:
        for instance_id, tasks in list(self._newest.items()):
            fresh = {arn: newest for arn, newest in tasks.items() if _is_fresh(newest.at, now)}
            if fresh:
                self._newest[instance_id] = fresh
            else:
                del self._newest[instance_id]
        self._hosts = {id_: host for id_, host in self._hosts.items() if _is_fresh(host.at, now)}

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._lane, work, *arguments)
        except (sqlite3.Error, OSError) as error:
            raise MetricsUnavailable(f"{type(error).__name__}: {error}") from error


def _opened(path: Path | None, bounds: Bounds) -> MetricsFile:
    if path is None:
        return MetricsFile.open(IN_MEMORY, bounds)
    try:
        try:
            return MetricsFile.open(path, bounds)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = path.with_name(f"{path.name}.damaged")
            _log.error(
                "metrics are damaged; a new file is used", old_file=str(aside), error=str(error)
            )
            path.replace(aside)
            for tail in ("-wal", "-shm"):
                with contextlib.suppress(OSError):
                    path.with_name(f"{path.name}{tail}").unlink()
            return MetricsFile.open(path, bounds)
    except (MetricsFileNewer, sqlite3.Error, OSError) as error:
        _log.error("metrics are kept in memory only", file=str(path), error=str(error))
        return MetricsFile.open(IN_MEMORY, bounds)


def _is_fresh(at: float, now: float) -> bool:
    """Tell whether something came lately; what is from the future came before the clock was set back."""
    return abs(now - at) < FRESH_S


def _minute_of(at: float) -> int:
    return int(at // 60)


def _share(rows: Iterable[dict[Scope, Row]], used: Metric, reserved: Metric) -> float | None:
    total_used = total_reserved = 0.0
    for row in (row for minute in rows for row in minute.values()):
        if used.number in row and reserved.number in row:
            total_used += row[used.number].average
            total_reserved += row[reserved.number].average
    return 100 * total_used / total_reserved if total_reserved else None
