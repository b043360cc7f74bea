"""A state file that somebody removes while it is open: noticed, and written anew from what is open.

The kernel keeps a removed file for whoever has it open, so that commits go on to succeed and all of
them are lost with the process. Blocking; called by ``database`` in the store's thread, with the lock
held. Costs two looks at the directory while all is well.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_COPIED_BYTES: Final = 1024 * 1024
_TRIES: Final = 10
"""How often a file is put back that somebody goes on removing, before that is told as a failure."""


class Found(StrEnum):
    """What is at the path of a file that is open."""

    OURS = "ours"
    PUT_BACK = "put back"
    """Nothing was, and now the file is there again."""
    LOG_PUT_BACK = "log put back"
    """The file was, its log was not; what the log held is in the file now."""
    ANOTHER = "another"
    """A file that somebody has put there meanwhile."""


Identity = tuple[int, int]
"""Device and inode: what tells a file from a later one of the same name."""


def identity(path: Path | str) -> Identity | None:
    """Return what a name stands for now; None where it stands for nothing."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - companions of the file are names, not paths
    except (FileNotFoundError, NotADirectoryError):
        return None
    return facts.st_dev, facts.st_ino


def write_anew(connection: sqlite3.Connection, path: Path) -> None:
    """Put everything that an open connection sees into a new file at ``path``, durably.

    The directory is made as well, for its owner alone. On failure there is nothing at ``path``, and
    the connection is as good as before.

    Raises:
        OSError: directory or file cannot be made.
        sqlite3.Error: what is open cannot be read, or the disk refuses.
    """

    def fill(fresh: Path, _made: int) -> None:
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as target:
            connection.backup(target)

    _make(path, fill)


def copy_anew(handle: int, path: Path) -> None:
    """Put what an open state file holds, whose log was folded in, into a new file at ``path``.

    Raises:
        OSError: the directory or the file cannot be made; there is nothing at ``path`` then.
    """

    def fill(_fresh: Path, made: int) -> None:
        at, size = 0, os.fstat(handle).st_size
        while at < size:
            at += os.write(made, os.pread(handle, _COPIED_BYTES, at))

    _make(path, fill)


def _make(path: Path, fill: Callable[[Path, int], None]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.anew")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    made = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fill(fresh, made)
        os.fsync(made)
        fresh.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    finally:
        os.close(made)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def reopen(handle: int, path: Path, connect: Callable[[], Identity | None]) -> None:
    """Have a state file opened anew that somebody may be removing at this moment.

    Without this, SQLite would make an empty file where the file is gone just before it is opened.

    Args:
        handle: the state file, open, its log folded in. It stays the caller's.
        path: where it belongs.
        connect: opens what is at ``path``, without making it, and returns what it opened.

    Raises:
        OSError: it cannot be put back.
        sqlite3.Error: it cannot be opened.
    """
    for left in reversed(range(_TRIES)):
        if identity(path) is None:
            copy_anew(handle, path)
        try:
            opened = connect()
        except (sqlite3.Error, OSError):
            if not left or identity(path) is not None:
                raise
        else:
            if opened is not None or not left:
                return
