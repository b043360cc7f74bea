"""The file of the catalogue: its tables, opening it, and making it anew. Blocking."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.log_store.catalogue import STREAM, Catalogue, tags_text
from agent.controlplane.log_store.contract import LogStoreFailure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.controlplane.log_store.segments import Footer

VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE log_group (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL,
    retention_days INTEGER, tags TEXT NOT NULL, stored_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE log_stream (
    id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL, name TEXT NOT NULL,
    created_ms INTEGER NOT NULL, first_ms INTEGER, last_ms INTEGER, ingested_ms INTEGER,
    UNIQUE (group_id, name)
);
CREATE INDEX stream_by_time ON log_stream (group_id, ifnull(last_ms, 0), name);
CREATE TABLE segment (
    number INTEGER PRIMARY KEY, file TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    alive_bytes INTEGER NOT NULL, last_sequence INTEGER NOT NULL
);
CREATE TABLE doomed (group_id INTEGER PRIMARY KEY);
CREATE TABLE block (
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    group_id INTEGER NOT NULL, stream_id INTEGER NOT NULL, least_ms INTEGER NOT NULL,
    most_ms INTEGER NOT NULL, first_sequence INTEGER NOT NULL, last_sequence INTEGER NOT NULL,
    count INTEGER NOT NULL, PRIMARY KEY (segment, offset)
) WITHOUT ROWID;
CREATE INDEX block_of_stream_by_least ON block (stream_id, least_ms);
CREATE INDEX block_of_stream_by_most ON block (stream_id, most_ms);
CREATE INDEX block_of_group_by_least ON block (group_id, least_ms);
CREATE INDEX block_of_group_by_most ON block (group_id, most_ms);
CREATE TABLE batch (digest BLOB PRIMARY KEY, taken_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX batch_by_time ON batch (taken_ms);
CREATE TABLE cursor (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that one thread at a time may use; the file is made when missing.

    Raises:
        OSError, sqlite3.Error: it cannot be used.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 4194304")
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none.

    Raises:
        LogStoreFailure: a newer program made them.
        sqlite3.Error: the file cannot be used.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise LogStoreFailure(
            f"the log catalogue has the format {version}, which a newer ecs-agent made; run that one"
        )
    if version == 0:
        connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")


def rebuild(connection: sqlite3.Connection, footers: Iterable[tuple[Footer, str, int]]) -> None:
    """Fill an empty catalogue from footers, with the files and sizes of their segments.

    Of several groups or streams of one name the newest is kept: the others were deleted.
    """
    catalogue = Catalogue(connection)
    known = list(footers)
    groups = {
        group.name: group
        for footer, *_ in known
        for group in sorted(footer.groups, key=lambda g: g.id)
    }
    streams: dict[tuple[int, str], Any] = {}
    for footer, *_ in known:
        for stream in footer.streams:
            old = streams.get((stream.group_id, stream.name))
            if old is None or old.id <= stream.id:
                streams[stream.group_id, stream.name] = stream
    ids = {group.id for group in groups.values()}
    connection.execute("BEGIN IMMEDIATE")
    for group in groups.values():
        connection.execute(
            "INSERT INTO log_group (id, name, created_ms, retention_days, tags) VALUES (?, ?, ?, ?, ?)",
            (group.id, group.name, group.created_ms, group.retention_days, tags_text(group.tags)),
        )
    for stream in streams.values():
        if stream.group_id in ids:
            connection.execute(
                f"INSERT INTO log_stream ({STREAM}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - fixed texts
                msgspec.structs.astuple(stream),
            )
    for footer, file, size_bytes in known:
        catalogue.add_segment(footer, file, size_bytes)
    last = max((b.last_sequence for footer, *_ in known for b in footer.blocks), default=0)
    catalogue.set_meta("sequence", last)
    catalogue.set_meta("segment", max((footer.number for footer, *_ in known), default=0))
    connection.execute("COMMIT")
