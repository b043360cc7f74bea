"""Files that the agent mounts into single containers, in place of those that the engine would write.

They are in the agent's data directory, one for each such container, from before its creation until
after its removal. The file name is a digest of the container's name, so that none is lost in a crash. An engine
that starts a container whose file is gone makes an empty directory in its place, which counts as no file.

Accesses these files alone. Tests: ``tests/unit/network/names/test_container_files.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from agent.errors import StateFailure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_READABLE = 0o644
"""Readable for any user that the container runs as; the directory itself is only the agent's."""


class ContainerFiles:
    """The files of one sort, of all containers on this host that have one.

    All methods are idempotent, and may run in parallel for different names.
    """

    def __init__(self, directory: Path) -> None:
        """Take the path; nothing is accessed before the first call."""
        self._directory = directory

    async def remove(self, name: str) -> None:
        """Remove the file of a container; not an error if it does not exist.

        Raises:
            StateFailure: it cannot be removed.
        """
        await asyncio.to_thread(self._remove, name)

    async def keep_only(self, names: Iterable[str]) -> None:
        """Remove the files of unknown containers; those that cannot be removed stay."""
        await asyncio.to_thread(self._keep_only, frozenset(names))

    def put(self, name: str, text: str) -> Path:
        """Write the file of a container, and return its path. Blocks.

        Raises:
            StateFailure: it cannot be written.
        """
        path = self._directory / name
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_directory(path)
            path.write_text(text, encoding="utf-8")
            path.chmod(_READABLE)
        except OSError as error:
            raise StateFailure(f"{path} cannot be written: {error.strerror}") from None
        return path

    def path_of(self, name: str) -> Path:
        """Return where the file of a container is, or would be."""
        return self._directory / name

    def has(self, name: str) -> Path | None:
        """Return the path of the file of a container; None if it does not exist. Blocks."""
        path = self._directory / name
        return path if path.is_file() else None

    def _remove(self, name: str) -> None:
        path = self._directory / name
        try:
            _remove_directory(path)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StateFailure(f"{path} cannot be removed: {error.strerror}") from None

    def _keep_only(self, names: frozenset[str]) -> None:
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                if path.name not in names:
                    _remove_directory(path)
                    path.unlink(missing_ok=True)


def _remove_directory(path: Path) -> None:
    """Remove what the engine made in place of a file; nothing else is a directory here."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
