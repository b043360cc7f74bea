"""Points on disk: minutes for hours, five minutes for days. Blocking; one thread at a time.

::

    scope    what points are of, when it last had some, and which metrics it ever had, as bits
    minute   the points of a scope in one minute       five   the same of five minutes, merged

Rows are written in the order of time, so that what is written together lies together, and what is too
old goes as one piece. A point is 29 bytes: metric, minimum, maximum, sum, count.

Raises ``sqlite3.Error`` and ``OSError``. Tests: ``tests/unit/controlplane/metric_store/test_file.py``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from agent.controlplane.metric_store import catalogue
from agent.controlplane.metric_store.scopes import Kind, Scope
from agent.errors import AgentError
from agent.model.statistics import StatisticSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from agent.controlplane.metric_store.roll_up import Row

VERSION: Final = 1
FIVE: Final = 5
"""Minutes of a long point."""
IN_MEMORY: Final = ":memory:"
_SUMMED: Final = (Kind.CLUSTER, Kind.SERVICE, Kind.FAMILY)
"""The scopes that have long points."""
_POINT: Final = struct.Struct("<BdddI")
_COUNT_MOST: Final = 2**32 - 1
_SCHEMA: Final = """
CREATE TABLE scope (
    id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, cluster TEXT NOT NULL, name TEXT NOT NULL,
    detail TEXT NOT NULL, last INTEGER NOT NULL, metrics INTEGER NOT NULL,
    UNIQUE (kind, cluster, name, detail)
);
CREATE TABLE minute (
    at INTEGER NOT NULL, scope INTEGER NOT NULL, points BLOB NOT NULL, PRIMARY KEY (at, scope)
) WITHOUT ROWID;
CREATE TABLE five (
    at INTEGER NOT NULL, scope INTEGER NOT NULL, points BLOB NOT NULL, PRIMARY KEY (at, scope)
) WITHOUT ROWID;
"""
_OF_SCOPE: Final = """
WITH RECURSIVE moment(at) AS (
    SELECT :first UNION ALL SELECT at + :step FROM moment WHERE at + :step < :end
)
SELECT row.at, row.points FROM moment CROSS JOIN {table} AS row
WHERE row.at = moment.at AND row.scope = :scope
"""


class MetricsFileNewer(AgentError):
    """A newer program made the file."""


class Bounds(Struct, frozen=True, kw_only=True):
    """How much is kept."""

    minutes: int = 3 * 60
    """How long points of one minute are kept."""
    days: int = 15
    """How long points of five minutes are kept."""
    most_bytes: int = 2 * 1024**3
    """Of the file."""


class Point(NamedTuple):
    """The values of a metric in one minute, or in five."""

    at: int
    """The minute when it begins, since 1970."""
    values: StatisticSet


class Listed(NamedTuple):
    """A scope that has points."""

    scope: Scope
    last: int
    """The last minute that has some."""
    metrics: int
    """The metrics that it has or had, as bits."""


class MetricsFile:
    """The file; made anew if it is damaged."""

    def __init__(self, connection: sqlite3.Connection, bounds: Bounds) -> None:
        self._db = connection
        self._bounds = bounds

    @classmethod
    def open(cls, path: str | Path, bounds: Bounds) -> MetricsFile:
        """Open or make the file; ``IN_MEMORY`` for none.

        Raises:
            MetricsFileNewer: it was made by a newer program.
            OSError, sqlite3.Error: it cannot be used; ``sqlite3.DatabaseError`` itself if it is damaged.
        """
        if path != IN_MEMORY:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=10.0
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # Losing the last minutes in a power failure does no harm; the file stays whole.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA journal_size_limit = 4194304")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise MetricsFileNewer(
                    f"{path} has the format {version}, which a newer ecs-agent made; run that one"
                )
            if version == 0:
                connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
            connection.execute("SELECT count(*) FROM scope").fetchone()
        except BaseException:
            connection.close()
            raise
        return cls(connection, bounds)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, at: int, rows: Mapping[Scope, Row]) -> None:
        """Keep the points of a minute, in place of older ones of it. Drops what is too old."""
        with self._transaction():
            ids = {scope: self._noted(at, scope, row) for scope, row in rows.items()}
            self._db.executemany(
                "INSERT OR REPLACE INTO minute VALUES (?, ?, ?)",
                ((at, ids[scope], packed(row)) for scope, row in rows.items()),
            )
        with self._transaction():
            self._sum_up(at)
            self._drop_old(at)
        self._shrink()

    def points(self, scope: Scope, metric: int, first: int, end: int) -> list[Point]:
        """Return the points of a metric that begin in these minutes, in order.

        Where minutes are gone, points of five minutes take their place.
        """
        found = self._db.execute(
            "SELECT id FROM scope WHERE kind = ? AND cluster = ? AND name = ? AND detail = ?", scope
        ).fetchone()
        if found is None or first >= end:
            return []
        (oldest,) = self._db.execute("SELECT min(at) FROM minute").fetchone()
        (oldest_five,) = self._db.execute("SELECT min(at) FROM five").fetchone()
        # Minutes go by fives: of the five of the oldest none is gone.
        horizon = end if oldest is None else oldest - oldest % FIVE
        result: list[Point] = []
        if oldest_five is not None:
            start = max(-(-first // FIVE) * FIVE, oldest_five)
            result += self._read("five", found[0], metric, (start, min(end, horizon), FIVE))
        if oldest is not None:
            result += self._read("minute", found[0], metric, (max(first, horizon), end, 1))
        return result

    def rows(self, scopes: Iterable[Scope], at: int) -> dict[Scope, Row]:
        """Return the points of these scopes in one minute."""
        result: dict[Scope, Row] = {}
        for scope in scopes:
            found = self._db.execute(
                "SELECT points FROM minute JOIN scope ON scope.id = minute.scope "
                "WHERE at = ? AND kind = ? AND cluster = ? AND name = ? AND detail = ?",
                (at, *scope),
            ).fetchone()
            if found is not None:
                result[scope] = unpacked(found[0])
        return result

    def listed(self, first: Scope | None, most: int) -> list[Listed]:
        """Return scopes that have points, in order, from one of them."""
        found = self._db.execute(
            "SELECT kind, cluster, name, detail, last, metrics FROM scope "
            "WHERE (kind, cluster, name, detail) >= (?, ?, ?, ?) "
            "ORDER BY kind, cluster, name, detail LIMIT ?",
            (*(first or (0, "", "", "")), most),
        )
        return [
            Listed(Scope(Kind(kind), cluster, name, detail), last, metrics)
            for kind, cluster, name, detail, last, metrics in found
        ]

    def size_bytes(self) -> int:
        """Return how much of the file is used."""
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (each,) = self._db.execute("PRAGMA page_size").fetchone()
        size: int = (pages - free) * each
        return size

    def _noted(self, at: int, scope: Scope, row: Row) -> int:
        """Return the number of a scope, which has these points now."""
        (number,) = self._db.execute(
            "INSERT INTO scope (kind, cluster, name, detail, last, metrics) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "last = max(last, excluded.last), metrics = metrics | excluded.metrics RETURNING id",
            (*scope, at, catalogue.mask(row)),
        ).fetchone()
        return int(number)

    def _sum_up(self, at: int) -> None:
        """Make the points of five minutes that have ended before this minute.

        Points of later times are from a clock that was ahead, and hold nothing up.
        """
        end = at - at % FIVE
        (done,) = self._db.execute("SELECT max(at) FROM five WHERE at < ?", (end,)).fetchone()
        first = 0 if done is None else done + FIVE
        marks = ", ".join("?" * len(_SUMMED))
        sums: dict[tuple[int, int], Row] = {}
        for minute, scope, points in self._db.execute(
            "SELECT at, scope, points FROM minute JOIN scope ON scope.id = minute.scope "  # noqa: S608 - marks alone
            f"WHERE at >= ? AND at < ? AND kind IN ({marks})",
            (first, end, *_SUMMED),
        ):
            key = minute - minute % FIVE, scope
            sums[key] = merged(sums.get(key), unpacked(points))
        self._db.executemany(
            "INSERT OR REPLACE INTO five VALUES (?, ?, ?)",
            ((*key, packed(row)) for key, row in sums.items()),
        )

    def _drop_old(self, at: int) -> None:
        minutes, days = at - self._bounds.minutes, at - self._bounds.days * 24 * 60
        # Whole fives, so that those take over where the minutes end.
        minutes -= minutes % FIVE
        self._db.execute("DELETE FROM minute WHERE at < ?", (minutes,))
        self._db.execute("DELETE FROM five WHERE at < ?", (days,))
        # None that still has points: the next scope may get its number.
        self._db.execute(
            "DELETE FROM scope WHERE last < ? OR (last < ? AND kind IN (?, ?))",
            (days, minutes, Kind.TASK, Kind.INSTANCE),
        )

    def _shrink(self) -> None:
        """Drop the oldest tenth, minutes first, until the file is no larger than it may be."""
        while self.size_bytes() > self._bounds.most_bytes:
            for table in ("minute", "five"):
                first, last = self._db.execute(f"SELECT min(at), max(at) FROM {table}").fetchone()  # noqa: S608 - a fixed name
                if first is not None and first < last:
                    edge = first + max(FIVE, (last - first) // 10)
                    with self._transaction():
                        self._db.execute(
                            f"DELETE FROM {table} WHERE at < ?",  # noqa: S608 - as above
                            (min(edge - edge % FIVE, last),),
                        )
                    break
            else:
                return

    def _read(
        self, table: str, scope: int, metric: int, times: tuple[int, int, int]
    ) -> list[Point]:
        first, end, step = times
        if first >= end:
            return []
        # One lookup for each moment: rows of one moment lie together, those of one scope do not.
        (last,) = self._db.execute(f"SELECT max(at) FROM {table}").fetchone()  # noqa: S608 - a fixed name
        found = self._db.execute(
            _OF_SCOPE.format(table=table),
            {"first": first, "end": min(end, last + 1), "step": step, "scope": scope},
        )
        points = ((at, unpacked(raw).get(metric)) for at, raw in found)
        return [Point(at, values) for at, values in points if values is not None]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def packed(row: Row) -> bytes:
    """Return the points of a row as they are stored. Pure."""
    return b"".join(
        _POINT.pack(number, values.min, values.max, values.sum, min(values.count, _COUNT_MOST))
        for number, values in row.items()
    )


def unpacked(raw: bytes) -> Row:
    """Return a row from its stored form. Pure."""
    return {number: StatisticSet(*values) for number, *values in _POINT.iter_unpack(raw)}


def merged(one: Row | None, other: Row) -> Row:
    """Return a row with the values of both. Pure."""
    if not one:
        return dict(other)
    result = dict(one)
    for number, values in other.items():
        known = result.get(number)
        result[number] = values if known is None else known.plus(values)
    return result
