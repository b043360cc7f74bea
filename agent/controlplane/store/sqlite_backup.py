"""Copies of the SQLite store: made while it is used, checked, kept in number, and put back.

A copy is one state of the store, by SQLite's own online backup; writers do not wait for it. It is
written beside its place, checked, synced and renamed there, so that a file with the name of a backup
is a whole one. Blocking.

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
    """Return the name of a backup that is made at a moment; names sort as moments do."""
    return time.strftime("control-%Y%m%dT%H%M%SZ.db", time.gmtime(unix_s))


def backups_in(directory: Path) -> list[Path]:
    """Return the backups in a directory, oldest first; none where there is no such directory."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))
    return []


def back_up(path: Path, target: Path) -> CheckReport:
    """Copy a store to a new file (mode 0600), whether or not control uses it.

    Raises:
        StoreDamaged: the store is not whole; no file is made.
        StoreFailure: it cannot be read, or the target cannot be written.
    """
    if not path.exists():
        raise StoreFailure(f"{path} does not exist; name control's --data-dir")
    if target.exists():
        raise StoreFailure(f"{target} exists; name a new file")
    with _made_beside(target) as fresh:
        with (
            sqlite_file.damage_named(path),
            contextlib.closing(sqlite_file.connect(path)) as source,
            contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as copy,
        ):
            # In one step: in several, each write of control would begin it anew.
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        report = check_copy(fresh)
        if report.faults:
            raise sqlite_file.damaged(path, "; ".join(report.faults))
    return report


def keep_newest(directory: Path, count: int) -> None:
    """Remove all but the newest backups of a directory."""
    for old in backups_in(directory)[: -count or None]:
        old.unlink(missing_ok=True)


def restore(path: Path, backup: Path) -> tuple[CheckReport, Path | None]:
    """Put a backup in the place of a store that no process uses.

    What was there is kept beside it, under a name with the moment. The watermark stays, so that
    control knows at its next start that the store went back.

    Returns:
        What is in the backup, and where the old store is now; None where there was none.

    Raises:
        StoreDamaged: the backup is not whole; nothing was changed.
        StoreFailure: control runs, or a file cannot be read or written.
    """
    report = check_copy(backup)
    if report.faults:
        raise StoreDamaged(f"{backup} is damaged ({'; '.join(report.faults)}): take another backup")
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
    """Move a store away with its WAL, which must not be replayed over another one."""
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
    """Give a file to write that takes its place when all went well, and is gone otherwise."""
    fresh = target.with_name(f".{target.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield fresh
        if target.exists() and not replaces:
            raise StoreFailure(f"{target} exists; name a new file")
        sqlite_file.put_in_place(fresh, target)
    except (OSError, sqlite3.Error) as error:
        raise StoreFailure(f"{target} cannot be written: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
