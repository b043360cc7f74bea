"""Separate resolv.conf files for containers that join their task's network namespace.

The engine shares the sandbox's file with every container that joins, and refuses name servers for
single containers. But it allows a container to mount a file in its place. The files are in the
agent's data directory, one for each such container, from before its creation until after its
removal. The file name is a digest of the container's name, so that none is lost in a crash.

Accesses these files, and reads those of sandboxes through ``/proc``.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import NetworkFailure, StateFailure
from agent.network.names import resolvers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.names.resolvers import Resolvers

IN_CONTAINER = "/etc/resolv.conf"
_READABLE = 0o644
"""Readable for any user that the container runs as; the directory itself is only the agent's."""


class ResolvFiles:
    """The files of all containers on this host that requested their own name servers.

    All methods are idempotent, and may run in parallel for different names.
    """

    def __init__(self, directory: Path, *, proc: Path = Path("/proc")) -> None:
        """Take the paths; nothing is accessed before the first call. ``proc`` is for tests."""
        self._directory = directory
        self._proc = proc

    async def write(self, name: str, own: Resolvers, *, sandbox_pid: int) -> Path:
        """Write the file of a container: what it requested, and the rest from its sandbox.

        Args:
            name: unique name of the container; safe as a file name.
            own: what the container requested.
            sandbox_pid: a process of the sandbox whose network it joins.

        Raises:
            NetworkFailure: the sandbox's own file cannot be read, because it has died.
            StateFailure: the file cannot be written.
        """
        return await asyncio.to_thread(self._write, name, own, sandbox_pid)

    async def remove(self, name: str) -> None:
        """Remove the file of a container; not an error if it does not exist.

        Raises:
            StateFailure: it cannot be removed.
        """
        await asyncio.to_thread(self._remove, name)

    async def keep_only(self, names: Iterable[str]) -> None:
        """Remove the files of unknown containers; those that cannot be removed stay."""
        await asyncio.to_thread(self._keep_only, frozenset(names))

    def _write(self, name: str, own: Resolvers, sandbox_pid: int) -> Path:
        of_sandbox = self._proc / str(sandbox_pid) / "root/etc/resolv.conf"
        try:
            base = resolvers.parse(of_sandbox.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            text = f"the name servers of the task's sandbox cannot be read: {error.strerror}"
            raise NetworkFailure(text) from None
        path = self._directory / name
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(resolvers.text_of(resolvers.overlaid(base, own)), encoding="utf-8")
            path.chmod(_READABLE)
        except OSError as error:
            raise StateFailure(f"{path} cannot be written: {error.strerror}") from None
        return path

    def _remove(self, name: str) -> None:
        path = self._directory / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StateFailure(f"{path} cannot be removed: {error.strerror}") from None

    def _keep_only(self, names: frozenset[str]) -> None:
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                if path.name not in names:
                    path.unlink(missing_ok=True)
