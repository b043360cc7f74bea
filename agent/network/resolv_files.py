"""A resolv.conf of its own for a container that joins its task's network namespace.

The engine shares the sandbox's file with every container that joins, and refuses name servers for
one of them. What it does let a container bring along is a mount in the place of that file. The files
lie in the agent's data directory, one for each such container, from before it is made until it has
been removed; the name is the container's digest, so that none is lost in a crash.

Touches these files and reads the sandboxes' through ``/proc``.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import NetworkFailure, StateFailure
from agent.network import resolvers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.resolvers import Resolvers

IN_CONTAINER = "/etc/resolv.conf"
_READABLE = 0o644
"""For whatever user the container runs as; the directory around it is the agent's alone."""


class ResolvFiles:
    """The files of all containers of this host that asked for name servers of their own.

    All methods may be repeated and called side by side for different names.
    """

    def __init__(self, directory: Path, *, proc: Path = Path("/proc")) -> None:
        """Nothing is touched before the first call; ``proc`` is where processes are looked up."""
        self._directory = directory
        self._proc = proc

    async def write(self, name: str, own: Resolvers, *, sandbox_pid: int) -> Path:
        """Write the file of a container: what it asked for, and the rest as its siblings have it.

        Args:
            name: names the container among all; safe as a file name.
            own: what the container asked for.
            sandbox_pid: a process of the sandbox whose network it joins.

        Raises:
            NetworkFailure: the sandbox's own file cannot be read: it has died.
            StateFailure: the file cannot be written.
        """
        return await asyncio.to_thread(self._write, name, own, sandbox_pid)

    async def remove(self, name: str) -> None:
        """Remove the file of a container; an absent one is success.

        Raises:
            StateFailure: it cannot be removed.
        """
        await asyncio.to_thread(self._remove, name)

    async def keep_only(self, names: Iterable[str]) -> None:
        """Remove the files of containers that are not known any more; what resists stays."""
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
