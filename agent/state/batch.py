"""A batch: changes to the store that become durable together or not at all.

Values are encoded when they are added, so a record may change right after ``put`` without affecting
the batch. A batch performs no I/O; ``StateStore.commit`` writes it.

Tests: ``tests/unit/state/test_store.py``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from agent.model import changes
from agent.state import schema

if TYPE_CHECKING:
    from agent.model.changes import TaskChange


class Op(NamedTuple):
    """One SQL statement with its values."""

    sql: str
    values: tuple[str | bytes | float | int, ...]


class Batch:
    """Changes that belong together. For one commit; not shared between tasks."""

    __slots__ = ("_ops",)

    def __init__(self) -> None:
        self._ops: list[Op] = []

    def __len__(self) -> int:
        return len(self._ops)

    @property
    def ops(self) -> tuple[Op, ...]:
        """The statements so far, in the order in which they were added."""
        return tuple(self._ops)

    def put(self, kind: str, key: str, body: bytes) -> None:
        """Write one record, replacing any with the same kind and key."""
        self._ops.append(Op(schema.PUT, (kind, key, bytes(body), time.time())))

    def delete(self, kind: str, key: str) -> None:
        """Remove one record; not an error if it does not exist."""
        self._ops.append(Op(schema.DELETE, (kind, key)))

    def put_meta(self, key: str, value: str) -> None:
        """Write one single value."""
        self._ops.append(Op(schema.PUT_META, (key, value)))

    def delete_meta(self, key: str) -> None:
        """Remove one single value; not an error if it does not exist."""
        self._ops.append(Op(schema.DELETE_META, (key,)))

    def enqueue(self, change: TaskChange) -> None:
        """Append one report to the outbox."""
        body = changes.encode(change)
        self._ops.append(Op(schema.ENQUEUE, (change.id, change.task_arn, body, change.at)))

    def settle(self, seq: int) -> None:
        """Remove one row of the outbox; callers outside this package use ``Outbox.settle``."""
        self._ops.append(Op(schema.SETTLE, (seq,)))
