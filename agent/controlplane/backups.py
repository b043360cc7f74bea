"""Copies the store every so often, while control runs, and keeps the newest copies.

Nothing is copied when nothing changed since the last copy. A copy that fails is told of in the log and
tried again; it never stops control.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct

from agent.controlplane.store import sqlite_backup
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from agent.controlplane.store.sqlite import SqliteStore

_TRY_AGAIN_S = 300.0
_FIRST_S = 60.0
"""After a start: control has other things to do then."""

_log = structlog.get_logger(__name__)


class Schedule(Struct, frozen=True, kw_only=True):
    """When copies are made, and how many are kept."""

    directory: Path
    every_s: float = 6 * 3600.0
    """0 for never."""
    keep: int = 8


class Backups:
    """Makes the copies of one store."""

    def __init__(self, store: SqliteStore, schedule: Schedule) -> None:
        self._store = store
        self._schedule = schedule
        self._copied_revision = 0

    async def run(self) -> None:
        """Copy when it is time, until cancelled; returns at once where nothing is to be copied."""
        if not self._schedule.every_s:
            return
        await asyncio.sleep(max(_FIRST_S, await asyncio.to_thread(self._due_in_s)))
        while True:
            wait_s = self._schedule.every_s
            if self._store.revision != self._copied_revision:
                revision = self._store.revision
                try:
                    path = await asyncio.to_thread(self._copy)
                except StoreFailure as error:
                    _log.error("backup failed", error=str(error))
                    wait_s = min(wait_s, _TRY_AGAIN_S)
                else:
                    self._copied_revision = revision
                    _log.info("backup made", file=str(path))
            await asyncio.sleep(wait_s)

    def _copy(self) -> Path:
        directory = self._schedule.directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailure(f"{directory} cannot be made: {error}") from error
        path = directory / sqlite_backup.name_at(time.time())
        sqlite_backup.back_up(self._store.path, path)
        sqlite_backup.keep_newest(directory, self._schedule.keep)
        return path

    def _due_in_s(self) -> float:
        """Return how long the newest copy, of whatever process, is still new enough."""
        newest = sqlite_backup.backups_in(self._schedule.directory)[-1:]
        with contextlib.suppress(OSError):
            for path in newest:
                return path.stat().st_mtime + self._schedule.every_s - time.time()
        return 0.0
