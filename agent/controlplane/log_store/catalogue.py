"""The catalogue: groups, streams, and which block is where, in SQLite. Blocking.

What the writer changes is one transaction for each group commit; readers have connections of their
own. ``catalogue_file`` makes and opens it.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

import msgspec

from agent.controlplane.log_store.contract import (
    Group,
    GroupExists,
    GroupMissing,
    Stream,
    StreamExists,
    StreamMissing,
)
from agent.controlplane.log_store.segments import Block

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from agent.controlplane.log_store.contract import Run
    from agent.controlplane.log_store.recent import Times
    from agent.controlplane.log_store.segments import Footer

_GROUP: Final = "id, name, created_ms, retention_days, tags, stored_bytes"
STREAM: Final = "id, group_id, name, created_ms, first_ms, last_ms, ingested_ms"
BLOCK: Final = (
    "segment, offset, length, group_id, stream_id, least_ms, most_ms, first_sequence, "
    "last_sequence, count"
)
_PREFIX: Final = "name >= ? AND name < ? AND substr(name, 1, ?) = ?"

_tags = msgspec.json.Decoder(dict[str, str])


class Catalogue:
    """Typed access over one connection; transactions are the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    # Groups.

    def group(self, name: str) -> Group:
        """Return a group; raises ``GroupMissing``."""
        found = self._groups("name = ?", name)
        if not found:
            raise GroupMissing(name)
        return found[0]

    def groups(self, prefix: str, pattern: str, after: str, most: int) -> list[Group]:
        """Return groups by name, whose names begin with one text and hold another, behind one."""
        return self._groups(
            f"name > ? AND {_PREFIX} AND instr(name, ?) ORDER BY name LIMIT ?",
            after,
            *_prefix(prefix),
            pattern,
            most,
        )

    def groups_by_id(self, ids: Iterable[int]) -> list[Group]:
        """Return those groups that exist."""
        return [group for one in ids for group in self._groups("id = ?", one)]

    def retentions(self) -> list[tuple[int, int | None]]:
        """Return id and days of every group."""
        return self.connection.execute("SELECT id, retention_days FROM log_group").fetchall()

    def create_group(
        self, name: str, now_ms: int, retention_days: int | None, tags: dict[str, str]
    ) -> None:
        """Make a group; raises ``GroupExists``."""
        try:
            self.connection.execute(
                "INSERT INTO log_group (name, created_ms, retention_days, tags) VALUES (?, ?, ?, ?)",
                (name, now_ms, retention_days, tags_text(tags)),
            )
        except sqlite3.IntegrityError:
            raise GroupExists(name) from None

    def change_group(self, group: Group) -> None:
        """Write retention and tags of a group."""
        self.connection.execute(
            "UPDATE log_group SET retention_days = ?, tags = ? WHERE id = ?",
            (group.retention_days, tags_text(group.tags), group.id),
        )

    def delete_group(self, name: str) -> list[int]:
        """Delete a group with its streams, whose ids are returned; its blocks are left to the sweep."""
        group = self.group(name)
        ids = self._ids("SELECT id FROM log_stream WHERE group_id = ?", group.id)
        self.connection.execute("DELETE FROM log_stream WHERE group_id = ?", (group.id,))
        self.connection.execute("DELETE FROM log_group WHERE id = ?", (group.id,))
        self.connection.execute("INSERT INTO doomed VALUES (?)", (group.id,))
        return ids

    def drop_doomed(self, most: int) -> int:
        """Delete blocks of groups that were deleted; return how many."""
        for group_id in self._ids("SELECT group_id FROM doomed"):
            dropped = self.drop_blocks("group_id = ?", group_id, most=most)
            if dropped:
                return dropped
            self.connection.execute("DELETE FROM doomed WHERE group_id = ?", (group_id,))
        return 0

    # Streams.

    def stream(self, group_id: int, name: str) -> Stream:
        """Return a stream; raises ``StreamMissing``."""
        found = self._streams("group_id = ? AND name = ?", group_id, name)
        if not found:
            raise StreamMissing(name)
        return found[0]

    def streams(self, group_id: int, prefix: str, after: str, most: int) -> list[Stream]:
        """Return streams by name."""
        return self._streams(
            f"group_id = ? AND name > ? AND {_PREFIX} ORDER BY name LIMIT ?",
            group_id,
            after,
            *_prefix(prefix),
            most,
        )

    def streams_backwards(self, group_id: int, prefix: str, before: str, most: int) -> list[Stream]:
        """Return streams by name, the last one first; all where ``before`` is empty."""
        return self._streams(
            f"group_id = ? AND (? = '' OR name < ?) AND {_PREFIX} ORDER BY name DESC LIMIT ?",
            group_id,
            before,
            before,
            *_prefix(prefix),
            most,
        )

    def streams_by_time(
        self, group_id: int, after: tuple[int, str] | None, most: int, *, newest_first: bool
    ) -> list[Stream]:
        """Return streams by the time of their last event, behind one; those without come as time 0."""
        way, order = ("<", "DESC") if newest_first else (">", "ASC")
        where = f"(ifnull(last_ms, 0), name) {way} (?, ?) AND" if after is not None else ""
        return self._streams(
            f"{where} group_id = ? ORDER BY ifnull(last_ms, 0) {order}, name {order} LIMIT ?",
            *(after or ()),
            group_id,
            most,
        )

    def streams_by_id(self, ids: Iterable[int]) -> list[Stream]:
        """Return those streams that exist."""
        return [stream for one in ids for stream in self._streams("id = ?", one)]

    def create_stream(self, group_id: int, name: str, now_ms: int) -> Stream:
        """Make a stream; raises ``StreamExists``."""
        try:
            cursor = self.connection.execute(
                "INSERT INTO log_stream (group_id, name, created_ms) VALUES (?, ?, ?)",
                (group_id, name, now_ms),
            )
        except sqlite3.IntegrityError:
            raise StreamExists(name) from None
        return Stream(int(cursor.lastrowid or 0), group_id, name, now_ms)

    def adopt(self, run: Run) -> None:
        """Make group and stream of a run, with their ids, where there are none of the names."""
        self.connection.execute(
            "INSERT OR IGNORE INTO log_group (id, name, created_ms, tags) VALUES (?, ?, ?, '{}')",
            (run.group_id, run.group, run.ingested_ms),
        )
        self.connection.execute(
            "INSERT OR IGNORE INTO log_stream (id, group_id, name, created_ms) "
            "SELECT ?, id, ?, ? FROM log_group WHERE id = ? AND name = ?",
            (run.stream_id, run.stream, run.ingested_ms, run.group_id, run.group),
        )

    def delete_stream(self, stream: Stream) -> None:
        """Delete a stream with its blocks."""
        self.connection.execute("DELETE FROM log_stream WHERE id = ?", (stream.id,))
        self.drop_blocks("stream_id = ?", stream.id)

    def note_times(self, stream_id: int, seen: Times) -> None:
        """Note the times of events of a stream."""
        self.connection.execute(
            "UPDATE log_stream SET first_ms = min(ifnull(first_ms, ?1), ?1), "
            "last_ms = max(ifnull(last_ms, ?2), ?2), ingested_ms = max(ifnull(ingested_ms, ?3), ?3) "
            "WHERE id = ?4",
            (*seen, stream_id),
        )

    def drop_idle_streams(self, before_ms: int, busy: Collection[int]) -> list[int]:
        """Delete streams that were made and last written before then and hold nothing any more."""
        found = self._ids(
            "SELECT id FROM log_stream s WHERE created_ms < ?1 AND ifnull(ingested_ms, 0) < ?1 AND "
            "NOT EXISTS (SELECT 1 FROM block WHERE stream_id = s.id) LIMIT 1000",
            before_ms,
        )
        idle = [one for one in found if one not in busy]
        self.connection.executemany("DELETE FROM log_stream WHERE id = ?", [(one,) for one in idle])
        return idle

    # Segments and their blocks.

    def segments(self) -> list[tuple[int, str, int, int]]:
        """Return number, file, size and living bytes of every segment, the oldest first."""
        return self.connection.execute(
            "SELECT number, file, size_bytes, alive_bytes FROM segment ORDER BY number"
        ).fetchall()

    def segment_with(self, sequence: int) -> tuple[int, int] | None:
        """Return the first segment with events of that sequence or later, and its last sequence."""
        found: tuple[int, int] | None = self.connection.execute(
            "SELECT number, last_sequence FROM segment WHERE last_sequence >= ? ORDER BY number LIMIT 1",
            (sequence,),
        ).fetchone()
        return found

    def file_of(self, number: int) -> str:
        """Return the name of a segment's file; empty where it is gone."""
        row = self.connection.execute(
            "SELECT file FROM segment WHERE number = ?", (number,)
        ).fetchone()
        return "" if row is None else str(row[0])

    def stored_blocks(self, how: str, values: tuple[object, ...]) -> Iterator[Block]:
        """Yield blocks as a query goes on, from ``INDEXED BY`` or ``WHERE`` on."""
        for row in self.connection.execute(f"SELECT {BLOCK} FROM block {how}", values):  # noqa: S608 - fixed texts
            yield Block(*row)

    def blocks(self, where: str, *values: object) -> list[Block]:
        """Return blocks that a condition chooses."""
        rows = self.connection.execute(f"SELECT {BLOCK} FROM block WHERE {where}", values)  # noqa: S608 - fixed texts
        return [Block(*row) for row in rows]

    def add_segment(self, footer: Footer, file: str, size_bytes: int) -> None:
        """Add a segment with its blocks; those of streams that are gone are left out."""
        streams = {one for block in footer.blocks for one in self._alive(block.stream_id)}
        blocks = [block for block in footer.blocks if block.stream_id in streams]
        self._put_segment(footer.number, file, size_bytes, blocks)
        for block in blocks:
            self._count(block.group_id, block.length)

    def replace_segment(self, footer: Footer, file: str, size_bytes: int) -> None:
        """Put a segment that was rewritten in place of itself; what died meanwhile stays dead."""
        alive = {
            (block.stream_id, block.least_ms, block.first_sequence)
            for block in self.blocks("segment = ?", footer.number)
        }
        self.connection.execute("DELETE FROM block WHERE segment = ?", (footer.number,))
        self._put_segment(
            footer.number,
            file,
            size_bytes,
            [b for b in footer.blocks if (b.stream_id, b.least_ms, b.first_sequence) in alive],
        )

    def drop_segment(self, number: int) -> None:
        """Delete a segment with its blocks."""
        self.drop_blocks("segment = ?", number)
        self.connection.execute("DELETE FROM segment WHERE number = ?", (number,))

    def drop_blocks(self, where: str, *values: object, most: int = -1) -> int:
        """Delete blocks that a condition chooses; return how many."""
        rows = self.connection.execute(
            "DELETE FROM block WHERE (segment, offset) IN "  # noqa: S608 - fixed texts
            f"(SELECT segment, offset FROM block WHERE {where} LIMIT ?) "
            "RETURNING segment, group_id, length",
            (*values, most),
        ).fetchall()
        for number, group_id, length in rows:
            self.connection.execute(
                "UPDATE segment SET alive_bytes = alive_bytes - ? WHERE number = ?",
                (length, number),
            )
            self._count(group_id, -length)
        return len(rows)

    # The rest.

    def meta(self, name: str) -> int:
        """Return a number that is kept; 0 for one that is not."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def set_meta(self, name: str, value: int) -> None:
        """Keep a number."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def has_batch(self, digest: bytes) -> bool:
        """Tell whether a batch was taken."""
        row = self.connection.execute("SELECT 1 FROM batch WHERE digest = ?", (digest,)).fetchone()
        return row is not None

    def add_batches(self, digests: Iterable[bytes], now_ms: int) -> None:
        """Keep that batches were taken."""
        self.connection.executemany(
            "INSERT OR IGNORE INTO batch VALUES (?, ?)", [(digest, now_ms) for digest in digests]
        )

    def forget_batches(self, before_ms: int, most: int) -> None:
        """Forget batches that were taken before then, and the oldest of more than so many."""
        self.connection.execute("DELETE FROM batch WHERE taken_ms < ?", (before_ms,))
        self.connection.execute(
            "DELETE FROM batch WHERE taken_ms <= "
            "(SELECT taken_ms FROM batch ORDER BY taken_ms DESC LIMIT 1 OFFSET ?)",
            (most,),
        )

    def cursor(self, name: str) -> int | None:
        """Return up to which sequence a reader of all has come; None for one that is not known."""
        row = self.connection.execute(
            "SELECT sequence FROM cursor WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else int(row[0])

    def set_cursor(self, name: str, sequence: int) -> None:
        """Keep how far a reader of all has come."""
        self.connection.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?)", (name, sequence))

    def _groups(self, where: str, *values: object) -> list[Group]:
        rows = self.connection.execute(f"SELECT {_GROUP} FROM log_group WHERE {where}", values)  # noqa: S608 - fixed texts
        return [
            Group(id_, name, created, days, _tags.decode(tags), stored)
            for id_, name, created, days, tags, stored in rows
        ]

    def _streams(self, where: str, *values: object) -> list[Stream]:
        rows = self.connection.execute(f"SELECT {STREAM} FROM log_stream WHERE {where}", values)  # noqa: S608 - fixed texts
        return [Stream(*row) for row in rows]

    def _ids(self, query: str, *values: object) -> list[int]:
        return [row[0] for row in self.connection.execute(query, values)]

    def _alive(self, stream_id: int) -> list[int]:
        return self._ids("SELECT id FROM log_stream WHERE id = ?", stream_id)

    def _put_segment(
        self, number: int, file: str, size_bytes: int, blocks: Sequence[Block]
    ) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?, ?)",
            (
                number,
                file,
                size_bytes,
                sum(block.length for block in blocks),
                max((block.last_sequence for block in blocks), default=0),
            ),
        )
        places = ", ".join("?" * len(Block.__struct_fields__))
        self.connection.executemany(
            f"INSERT INTO block ({BLOCK}) VALUES ({places})",  # noqa: S608 - fixed texts
            [msgspec.structs.astuple(block) for block in blocks],
        )

    def _count(self, group_id: int, more_bytes: int) -> None:
        self.connection.execute(
            "UPDATE log_group SET stored_bytes = stored_bytes + ? WHERE id = ?",
            (more_bytes, group_id),
        )


def _prefix(prefix: str) -> tuple[str, str, int, str]:
    """Return the values of ``_PREFIX``; the first two let an index find them."""
    return prefix, f"{prefix}\U0010ffff", len(prefix), prefix


def tags_text(tags: dict[str, str]) -> str:
    """Return tags as they are stored."""
    return msgspec.json.encode(tags).decode()
