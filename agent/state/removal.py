"""Notices the removal of a state file that is open, and writes the file again from the open one.

The kernel keeps a removed file until its last descriptor is closed, so commits continue to succeed,
and all of them are lost when the process ends. Blocking; ``database`` calls it in the store's
thread while it holds the lock. Costs two ``stat`` calls if nothing was removed.
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
"""How often a file that somebody keeps removing is put back, before that counts as a failure."""


class Found(StrEnum):
    """What was found at the path of an open file."""

    OURS = "ours"
    PUT_BACK = "put back"
    """The file was missing and was written again."""
    LOG_PUT_BACK = "log put back"
    """The file was there but its WAL was missing; the content of the WAL is in the file now."""
    ANOTHER = "another"
    """Another file was put in its place."""


Identity = tuple[int, int]
"""Device and inode number: distinguish a file from a later one of the same name."""


def identity(path: Path | str) -> Identity | None:
    """Return the identity of the file at a path; None if there is none."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - companions of the file are names, not paths
    except (FileNotFoundError, NotADirectoryError):
        return None
    return facts.st_dev, facts.st_ino


def write_anew(connection: sqlite3.Connection, path: Path) -> None:
    """Write everything that an open connection sees to a new file at ``path``, durably.

    Also creates the directory, for its owner only. After a failure there is no file at ``path``,
    and the connection can still be used.

    Raises:
        OSError: the directory or the file cannot be created.
        sqlite3.Error: the open file cannot be read, or the disk fails.
    """

    def fill(fresh: Path, _made: int) -> None:
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as target:
            connection.backup(target)

    _make(path, fill)


def copy_anew(handle: int, path: Path) -> None:
    """Copy an open state file, whose WAL was checkpointed, to a new file at ``path``.

    Raises:
        OSError: the directory or the file cannot be created; then there is no file at ``path``.
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
    """Reopen a state file that somebody may be removing at this moment.

    Without this, SQLite would create an empty file if the file were removed just before the open.

    Args:
        handle: a descriptor of the checkpointed state file. The caller keeps it.
        path: where the file belongs.
        connect: opens the file at ``path`` without creating it, and returns the identity of that
            file.

    Raises:
        OSError: the file cannot be put back.
        sqlite3.Error: the file cannot be opened.
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
