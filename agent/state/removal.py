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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Found(StrEnum):
    """What is at the path of a file that is open."""

    OURS = "ours"
    PUT_BACK = "put back"
    """Nothing was, and now the file is there again."""
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
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.anew")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    made = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as target:
            connection.backup(target)
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
