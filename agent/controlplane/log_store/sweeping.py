"""What goes by itself: events past their retention, and the oldest ones when there is too much.

A job of the writer, in pieces of some thousand blocks, between which events are taken.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane.log_store import disk
from agent.controlplane.log_store.contract import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.controlplane.log_store.contract import Bounds
    from agent.controlplane.log_store.writer import Turn

PIECE_BLOCKS: Final = 2000
BATCH_KEPT_MS: Final = DAY_MS
BATCHES_MOST: Final = 500_000
IDLE_STREAM_MS: Final = 90 * DAY_MS
"""After which a stream that holds nothing is forgotten; CloudWatch Logs keeps it for ever."""
_REWRITE_FROM_BYTES: Final = 256 * 1024
_TIDY_MS: Final = 3600 * 1000

_log = structlog.get_logger(__name__)


class Sweep:
    """Sweeps one store; ``Sweep(...)(turn)`` is the job, which returns whether there is more to do."""

    def __init__(
        self,
        directory: Path,
        bounds: Bounds,
        graveyard: disk.Graveyard,
        rewrite: Callable[[int], None],
    ) -> None:
        """``rewrite`` begins to write a segment anew without what is dead in it."""
        self._directory = directory
        self._bounds = bounds
        self._graveyard = graveyard
        self._rewrite = rewrite
        self._tidy_due_ms = 0

    def __call__(self, turn: Turn) -> bool:
        """Do a piece of it."""
        turn.effects.append(self._graveyard.remove)
        has_more = self._expired(turn) or turn.catalogue.drop_doomed(PIECE_BLOCKS) > 0
        self._too_much(turn)
        self._dead(turn)
        if turn.now_ms >= self._tidy_due_ms:
            self._tidy_due_ms = turn.now_ms + _TIDY_MS
            self._tidy(turn)
        return has_more

    def _tidy(self, turn: Turn) -> None:
        """Forget old batches and streams that hold nothing any more."""
        turn.catalogue.forget_batches(turn.now_ms - BATCH_KEPT_MS, BATCHES_MOST)
        busy = {
            stream_id
            for generation in (turn.recent.frozen, turn.recent.active)
            if generation is not None
            for stream_id in generation.runs
        }
        turn.catalogue.drop_idle_streams(turn.now_ms - IDLE_STREAM_MS, busy)

    def _expired(self, turn: Turn) -> bool:
        """Drop blocks whose last event is past the retention of its group."""
        for group_id, own_days in turn.catalogue.retentions():
            days = own_days or self._bounds.retention_days
            if days is None:
                continue
            before_ms = turn.now_ms - days * DAY_MS
            dropped = turn.catalogue.drop_blocks(
                "group_id = ? AND most_ms < ?", group_id, before_ms, most=PIECE_BLOCKS
            )
            if dropped == PIECE_BLOCKS:
                return True
        return False

    def _too_much(self, turn: Turn) -> None:
        """Drop the oldest segments until the size is kept, and others have room on the disk."""
        segments = turn.catalogue.segments()
        taken = disk.size_bytes(self._directory) + sum(size for *_, size, _ in segments)
        lacking = self._bounds.keep_free_bytes - disk.free_bytes(self._directory)
        over = max(taken - self._bounds.most_bytes, lacking)
        dropped = 0
        for number, file, size_bytes, _ in segments:
            if over <= 0:
                break
            self._drop(turn, number, file)
            over -= size_bytes
            dropped += 1
        if dropped:
            _log.info(
                "oldest log events dropped to keep the size", segments=dropped, of=len(segments)
            )

    def _dead(self, turn: Turn) -> None:
        """Drop segments that hold nothing any more; have one written anew that is mostly dead."""
        for number, file, size_bytes, alive_bytes in turn.catalogue.segments():
            if alive_bytes <= 0:
                self._drop(turn, number, file)
            elif 2 * alive_bytes < size_bytes and size_bytes >= _REWRITE_FROM_BYTES:
                turn.effects.append(partial(self._rewrite, number))
                break

    def _drop(self, turn: Turn, number: int, file: str) -> None:
        turn.catalogue.drop_segment(number)
        turn.effects.append(lambda: self._graveyard.bury(file))
