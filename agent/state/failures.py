"""Error texts for failures of SQLite and the file system: the file, what happened, the fix."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from agent.errors import StateFailure

if TYPE_CHECKING:
    from pathlib import Path

TROUBLE: Final = (sqlite3.Error, OSError, ValueError, OverflowError, MemoryError)
"""What a statement can raise: errors of SQLite and of the system, and values it cannot store."""

DISK_FULL: Final = sqlite3.SQLITE_FULL

_PRIMARY = 0xFF
"""SQLite's extended error codes contain the primary code in their low byte."""
_DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY})
_DISK_OR_USE = frozenset(
    {
        *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN),
        sqlite3.SQLITE_NOMEM,
    }
)
_MENDS: Final = {
    sqlite3.SQLITE_FULL: "free space on that disk; nothing else needs to be done",
    sqlite3.SQLITE_IOERR: "check that disk and its space (see dmesg)",
    sqlite3.SQLITE_BUSY: "stop the other program that has this file open for writing",
    sqlite3.SQLITE_READONLY: "make the file and its directory writable for root",
    sqlite3.SQLITE_PERM: "make the file and its directory writable for root",
    sqlite3.SQLITE_CANTOPEN: "check that its directory exists and is writable for root",
    sqlite3.SQLITE_CORRUPT: "restart the agent: it rescues what can be read and keeps the old file",
    sqlite3.SQLITE_NOTADB: "restart the agent: it rescues what can be read and keeps the old file",
}


def code_of(error: BaseException) -> int:
    """Return SQLite's primary error code, or 0 if the error has none."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & _PRIMARY if isinstance(code, int) else 0


def is_of_the_disk(error: BaseException) -> bool:
    """Return whether the disk, permissions or another process caused a failure to read.

    Anything else counts as damage of the file: SQLite's errors for it, missing tables, invalid
    text, and an I/O error although the bytes of the file can be read.
    """
    return isinstance(error, OSError | MemoryError) or code_of(error) in _DISK_OR_USE


def is_poison(error: BaseException) -> bool:
    """Return whether a value caused this: the same batch would fail again, but others would not."""
    return isinstance(
        error, sqlite3.DataError | sqlite3.IntegrityError | sqlite3.ProgrammingError
    ) or not isinstance(error, sqlite3.Error | OSError)


def explain(error: BaseException, action: str, path: Path) -> StateFailure:
    """Return the failure with the file, the attempted action, the cause and the fix."""
    mend = _MENDS.get(code_of(error), "")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        why, mend = f"{path.parent} is not a directory", "set ECS_DATADIR to a directory"
    text = f"cannot {action} {path}: {why}"
    failure = StateFailure(f"{text}; {mend}" if mend else text)
    failure.retryable = code_of(error) in _DISK
    return failure
