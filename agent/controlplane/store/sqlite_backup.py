"""Backups of the SQLite store: made while it is used, checked, rotated, and restored.

A backup is one consistent state of the store, made with SQLite's online backup; writers do not wait for
it. It is written to a temporary file, checked, synced and renamed, so that a file with the name of a
backup is always complete. Blocking.

Tests: ``tests/unit/controlplane/store/test_backup.py``.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.controlplane.store import sqlite_file
from agent.controlplane.store.contract import StoreDamaged, StoreFailure
from agent.controlplane.store.sqlite_check import CheckReport, check_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"control-[0-9]{8}T[0-9]{6}Z\.db")


def name_at(unix_s: float) -> str:
    """Return the name of a backup made at a time; names sort by time."""
    return time.strftime("control-%Y%m%dT%H%M%SZ.db", time.gmtime(unix_s))


def backups_in(directory: Path) -> list[Path]:
    """Return the backups in a directory, oldest first; empty if the directory does not exist."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))
    return []


def back_up(path: Path, target: Path) -> CheckReport:
    """Copy a store to a new file (mode 0600), whether or not control uses it.

    Raises:
        StoreDamaged: the store is damaged; no file is created.
        StoreFailure: it cannot be read, or the target cannot be written.
    """
    if not path.exists():
        raise StoreFailure(f"{path} does not exist; give control's --data-dir")
    if target.exists():
        raise StoreFailure(f"{target} already exists; give the name of a new file")
    with _made_beside(target) as fresh:
        with (
            sqlite_file.damage_named(path),
            contextlib.closing(sqlite_file.connect(path)) as source,
            contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as copy,
        ):
            # In one step: with several steps, each write of control would start it again.
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        report = check_copy(fresh)
        if report.faults:
            raise sqlite_file.damaged(path, "; ".join(report.faults))
    return report


def keep_newest(directory: Path, count: int) -> None:
    """Remove all but the newest ``count`` backups of a directory."""
    for old in backups_in(directory)[: -count or None]:
        old.unlink(missing_ok=True)


def restore(path: Path, backup: Path) -> tuple[CheckReport, Path | None]:
    """Replace a store that no process uses by a backup.

    The old store is kept next to it, with the time in its name. The watermark stays, so that control
    notices at its next start that the store is older.

    Returns:
        The content of the backup, and where the old store is now; None if there was none.

    Raises:
        StoreDamaged: the backup is damaged; nothing was changed.
        StoreFailure: control runs, or a file cannot be read or written.
    """
    report = check_copy(backup)
    if report.faults:
        raise StoreDamaged(f"{backup} is damaged ({'; '.join(report.faults)}); use another backup")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = sqlite_file.FileLock(path)
    except OSError as error:
        raise StoreFailure(f"{path} cannot be written: {error}") from error
    try:
        with _made_beside(path, replaces=True) as fresh:
            fresh.write_bytes(backup.read_bytes())
            old = _set_aside(path)
    finally:
        lock.release()
    return report, old


def _set_aside(path: Path) -> Path | None:
    """Move a store away with its WAL, which must not be replayed over another store."""
    old = path.with_name(f"{path.name}.before-restore-{int(time.time())}")
    found = None
    for suffix in ("-wal", "-shm", ""):
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{old}{suffix}")
            found = old
    return found


@contextlib.contextmanager
def _made_beside(target: Path, *, replaces: bool = False) -> Iterator[Path]:
    """Yield a temporary file that replaces the target on success, and is removed otherwise."""
    fresh = target.with_name(f".{target.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield fresh
        if target.exists() and not replaces:
            raise StoreFailure(f"{target} already exists; give the name of a new file")
        sqlite_file.put_in_place(fresh, target)
    except (OSError, sqlite3.Error) as error:
        raise StoreFailure(f"{target} cannot be written: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
