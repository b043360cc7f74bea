"""Lines of several containers: their times, their order, and following them through restarts.

Each container has a connection of its own. What is there already is merged by time; new lines are
gathered for a moment and sorted, because they arrive over different connections.
"""

from __future__ import annotations

import heapq
import queue
import re
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.cli.client import AgentNotRunning, CliError, NotAllowed
from agent.config.values import parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.cli.client import AgentClient

_TIME: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)\Z")
_DAYS: Final = re.compile(r"(\d+)d(.*)\Z")
_UNIX: Final = re.compile(r"(\d{9,11})(?:\.(\d{1,9}))?\Z")
_DAY_S: Final = 86400
_GATHER_S: Final = 0.1
_RETRY_S: Final = 0.5
_AHEAD: Final = 10_000
_BATCH: Final = 5_000


class LogLine(NamedTuple):
    """A line that a container wrote."""

    stamp_ns: int
    """Nanoseconds since the epoch."""
    container: str
    time: str
    """As the engine writes it; empty if it wrote none."""
    text: bytes
    """Without its line break."""
    is_whole: bool = True
    """False for the last one if it has no line break."""


def lines(container: str, chunks: Iterable[bytes]) -> Iterator[LogLine]:
    """Yield lines from output in which each comes after its time."""
    rest, stamp = b"", 0
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for each in whole:
            line = _line(container, each, stamp, is_whole=True)
            stamp = line.stamp_ns
            yield line
    if rest:
        yield _line(container, rest, stamp, is_whole=False)


def _line(container: str, raw: bytes, before: int, *, is_whole: bool) -> LogLine:
    """Read one line; one without a time has that of the line before it."""
    moment, _, text = raw.partition(b" ")
    stamp = stamp_of(moment)
    if stamp is None:
        return LogLine(before, container, "", raw, is_whole)
    return LogLine(stamp, container, moment.decode(), text, is_whole)


def stamp_of(moment: bytes) -> int | None:
    """Return a time of RFC 3339 in nanoseconds since the epoch; None if it is invalid."""
    match = _TIME.match(moment)
    if match is None:
        return None
    zone = b"+00:00" if match[3] == b"Z" else match[3]
    try:
        seconds = datetime.fromisoformat((match[1] + zone).decode()).timestamp()
    except ValueError:
        return None
    return int(seconds) * 10**9 + int((match[2] or b"0").ljust(9, b"0"))


def since_ns(text: str, now: float) -> int:
    """Return the beginning that a person means, in nanoseconds since the epoch.

    Args:
        text: how long ago (``90s``, ``10m``, ``1h30m``, ``2d``), a time of ISO 8601, which is local without
            a zone, or Unix seconds.
        now: Unix time.

    Raises:
        ValueError: it has none of these forms.
    """
    if (unix := _UNIX.match(text)) is not None:
        return int(unix[1]) * 10**9 + int((unix[2] or "0").ljust(9, "0"))
    days = _DAYS.match(text)
    try:
        ago_s = int(days[1]) * _DAY_S if days else 0.0
        if days is None or days[2]:
            ago_s += parse_duration_s(days[2] if days else text)
        return max(int((now - ago_s) * 1e9), 1)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        local = moment if moment.tzinfo else moment.astimezone()
        return max(int(local.astimezone(UTC).timestamp()) * 10**9 + local.microsecond * 1000, 1)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time; use, for example, 10m, 2d, 2026-01-31T14:00 or 2026-01-31T14:00Z"
        ) from None


class TaskLogs:
    """Logs of containers of one task.

    Args:
        client: the agent.
        task: id of the task.
        containers: their names.
        trouble: called with a container and a sentence if its log cannot be read.
    """

    def __init__(
        self,
        client: AgentClient,
        task: str,
        containers: list[str],
        trouble: Callable[[str, str], None],
    ) -> None:
        self._client = client
        self._task = task
        self._containers = containers
        self._trouble = trouble
        self.unreadable: set[str] = set()
        """Containers whose log cannot be read."""

    def written(self, *, tail: int | None, since: int) -> Iterator[LogLine]:
        """Yield what the containers wrote so far, by time.

        Args:
            tail: only so many lines of each; None for all.
            since: nothing older, in nanoseconds since the epoch.
        """
        sources = [self._written_by(name, tail, since) for name in self._containers]
        return heapq.merge(*sources, key=lambda line: line.stamp_ns)

    def _written_by(self, name: str, tail: int | None, since: int) -> Iterator[LogLine]:
        chunks = self._client.logs(
            self._task, container=name, tail=tail, since_ns=since, timestamps=True
        )
        try:
            yield from lines(name, chunks)
        except (AgentNotRunning, NotAllowed):
            raise
        except CliError as error:
            self._note(name, error)

    def _note(self, name: str, error: CliError) -> None:
        self.unreadable.add(name)
        self._trouble(name, str(error))

    def following(self, since: Mapping[str, int]) -> Iterator[LogLine]:
        """Yield what the containers write, through restarts, until each has stopped for good.

        Args:
            since: for each container, nothing older, in nanoseconds since the epoch.
        """
        news: queue.Queue[LogLine | CliError | None] = queue.Queue(_AHEAD)
        names = [name for name in self._containers if name not in self.unreadable]
        for name in names:
            threading.Thread(
                target=self._follow, args=(name, since[name], news), daemon=True, name=name
            ).start()
        left = len(names)
        while left:
            batch = _gathered(news)
            left -= sum(item is None for item in batch)
            yield from sorted(
                (item for item in batch if isinstance(item, LogLine)),
                key=lambda line: line.stamp_ns,
            )
            for item in batch:
                if isinstance(item, CliError):
                    raise item

    def _follow(self, name: str, since: int, news: queue.Queue[LogLine | CliError | None]) -> None:
        """Pass a container's lines on; None at its end. Runs in a thread."""
        while True:
            trouble: CliError | None = None
            try:
                chunks = self._client.logs(
                    self._task, container=name, follow=True, since_ns=since, timestamps=True
                )
                for line in lines(name, chunks):
                    news.put(line)
                    since = max(since, line.stamp_ns + 1)
            except CliError as error:
                trouble = error
            try:
                task = self._client.task(self._task)
            except CliError as error:
                # Forgotten after its clean-up, or the agent is away.
                news.put(error if isinstance(error, AgentNotRunning | NotAllowed) else None)
                return
            container = next((c for c in task.containers if c.name == name), None)
            if container is None or container.status == "STOPPED":
                news.put(None)
                return
            if trouble is not None and container.runtime_id:
                self._note(name, trouble)
                news.put(None)
                return
            time.sleep(_RETRY_S)


def _gathered(
    news: queue.Queue[LogLine | CliError | None],
) -> list[LogLine | CliError | None]:
    """Return what arrives within a moment, at least one thing."""
    batch = [news.get()]
    until = time.monotonic() + _GATHER_S
    while len(batch) < _BATCH and (left_s := until - time.monotonic()) > 0:
        try:
            batch.append(news.get(timeout=left_s))
        except queue.Empty:
            break
    return batch
