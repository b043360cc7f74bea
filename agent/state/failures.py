"""Words for what SQLite and the file system say: which file, what happened, and the mend."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from agent.errors import StateFailure

if TYPE_CHECKING:
    from pathlib import Path

TROUBLE: Final = (sqlite3.Error, OSError, ValueError, OverflowError, MemoryError)
"""What a statement can raise: SQLite's own errors, the system's, and values it cannot hold."""

DISK_FULL: Final = sqlite3.SQLITE_FULL

_PRIMARY = 0xFF
"""SQLite's extended codes keep the primary one in their low byte."""
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
    sqlite3.SQLITE_IOERR: "check that disk and its space (dmesg tells more)",
    sqlite3.SQLITE_BUSY: "end the other program that has this file open for writing",
    sqlite3.SQLITE_READONLY: "make the file and its directory writable for root",
    sqlite3.SQLITE_PERM: "make the file and its directory writable for root",
    sqlite3.SQLITE_CANTOPEN: "check that its directory exists and is writable for root",
    sqlite3.SQLITE_CORRUPT: "restart the agent: it rescues what can be read and keeps the old file",
    sqlite3.SQLITE_NOTADB: "restart the agent: it rescues what can be read and keeps the old file",
}


def code_of(error: BaseException) -> int:
    """Return SQLite's primary error code, or 0 when the error has none."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & _PRIMARY if isinstance(code, int) else 0


def is_of_the_disk(error: BaseException) -> bool:
    """Tell whether a failure to read says nothing of the file: its disk, its rights, its other users.

    Anything else is damage, whatever it looks like: SQLite's own words of damage, tables that are
    not there, text that is none, and an input or output error where the file's bytes can be read.
    """
    return isinstance(error, OSError | MemoryError) or code_of(error) in _DISK_OR_USE


def is_poison(error: BaseException) -> bool:
    """Tell whether one value caused this: the same batch will fail again, others will not."""
    return isinstance(
        error, sqlite3.DataError | sqlite3.IntegrityError | sqlite3.ProgrammingError
    ) or not isinstance(error, sqlite3.Error | OSError)


def explain(error: BaseException, action: str, path: Path) -> StateFailure:
    """Return the failure that names the file, what was tried, why it failed and the mend."""
    mend = _MENDS.get(code_of(error), "")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        why, mend = f"{path.parent} is no directory", "name one in ECS_DATADIR"
    text = f"cannot {action} {path}: {why}"
    failure = StateFailure(f"{text}; {mend}" if mend else text)
    failure.retryable = code_of(error) in _DISK
    return failure
