"""A batch: changes of the store that become durable together or not at all.

Everything is encoded when it is put in, so that a record may change right after ``put`` without
changing what will be written. A batch touches nothing; ``Store.commit`` takes it.

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
    """One statement with its values."""

    sql: str
    values: tuple[str | bytes | float | int, ...]


class Batch:
    """Changes that belong together. Not shared between tasks; used for one commit."""

    __slots__ = ("_ops",)

    def __init__(self) -> None:
        self._ops: list[Op] = []

    def __len__(self) -> int:
        return len(self._ops)

    @property
    def ops(self) -> tuple[Op, ...]:
        """The statements so far, in the order they were put in."""
        return tuple(self._ops)

    def put(self, kind: str, key: str, body: bytes) -> None:
        """Write one record, over an older one of the same kind and key."""
        self._ops.append(Op(schema.PUT, (kind, key, bytes(body), time.time())))

    def delete(self, kind: str, key: str) -> None:
        """Remove one record; an absent one is success."""
        self._ops.append(Op(schema.DELETE, (kind, key)))

    def put_meta(self, key: str, value: str) -> None:
        """Write one single value."""
        self._ops.append(Op(schema.PUT_META, (key, value)))

    def delete_meta(self, key: str) -> None:
        """Remove one single value; an absent one is success."""
        self._ops.append(Op(schema.DELETE_META, (key,)))

    def enqueue(self, change: TaskChange) -> None:
        """Put one report at the end of the outbox."""
        body = changes.encode(change)
        self._ops.append(Op(schema.ENQUEUE, (change.id, change.task_arn, body, change.at)))

    def settle(self, seq: int) -> None:
        """Remove one row of the outbox; ``Outbox.settle`` is the door for users."""
        self._ops.append(Op(schema.SETTLE, (seq,)))
