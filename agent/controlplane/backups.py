"""Backs up the store periodically while control runs, and keeps the newest backups.

If nothing has changed since the last backup, none is made. A backup that fails is logged and tried
again; it never stops control.
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
    from collections.abc import Callable, Coroutine
    from typing import Any

    from agent.controlplane.store.contract import Store
    from agent.controlplane.store.sqlite_check import CheckReport

    BackUp = Callable[[Path], Coroutine[Any, Any, CheckReport]]
    """Writes a backup to a new file; raises ``StoreFailure``."""

_TRY_AGAIN_S = 300.0
_FIRST_S = 60.0
"""Delay after a start, when control has other work to do."""

_log = structlog.get_logger(__name__)


class Schedule(Struct, frozen=True, kw_only=True):
    """When backups are made, and how many are kept."""

    directory: Path
    every_s: float = 6 * 3600.0
    """0 for never."""
    keep: int = 8


class Backups:
    """Makes the backups of one store."""

    def __init__(self, store: Store, back_up: BackUp, schedule: Schedule) -> None:
        self._store = store
        self._back_up = back_up
        self._schedule = schedule
        self._copied_revision = 0

    async def run(self) -> None:
        """Make backups until cancelled; returns at once if none are scheduled."""
        if not self._schedule.every_s:
            return
        await asyncio.sleep(max(_FIRST_S, await asyncio.to_thread(self._due_in_s)))
        while True:
            wait_s = self._schedule.every_s
            if self._store.revision != self._copied_revision:
                revision = self._store.revision
                try:
                    path = await self._copy()
                except StoreFailure as error:
                    _log.error("backup failed", error=str(error))
                    wait_s = min(wait_s, _TRY_AGAIN_S)
                else:
                    self._copied_revision = revision
                    _log.info("backup made", file=str(path))
            await asyncio.sleep(wait_s)

    async def _copy(self) -> Path:
        path = await asyncio.to_thread(self._next_file)
        await self._back_up(path)
        await asyncio.to_thread(
            sqlite_backup.keep_newest, self._schedule.directory, self._schedule.keep
        )
        return path

    def _next_file(self) -> Path:
        directory = self._schedule.directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailure(f"{directory} cannot be created: {error}") from error
        return directory / sqlite_backup.name_at(time.time())

    def _due_in_s(self) -> float:
        """Return the seconds until the next backup, by the age of the newest one on disk."""
        newest = sqlite_backup.backups_in(self._schedule.directory)[-1:]
        with contextlib.suppress(OSError):
            for path in newest:
                return path.stat().st_mtime + self._schedule.every_s - time.time()
        return 0.0
