"""Separate resolv.conf files for containers that join their task's network namespace.

The engine shares the sandbox's file with every container that joins, and refuses name servers for
single containers. But it allows a container to mount a file in its place.

Accesses these files, and reads those of sandboxes through ``/proc``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import NetworkFailure
from agent.network.names import resolvers
from agent.network.names.container_files import ContainerFiles

if TYPE_CHECKING:
    from agent.network.names.resolvers import Resolvers

IN_CONTAINER = "/etc/resolv.conf"


class ResolvFiles(ContainerFiles):
    """The files of all containers on this host that requested their own name servers.

    All methods are idempotent, and may run in parallel for different names.
    """

    def __init__(self, directory: Path, *, proc: Path = Path("/proc")) -> None:
        """Take the paths; nothing is accessed before the first call. ``proc`` is for tests."""
        super().__init__(directory)
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

    def _write(self, name: str, own: Resolvers, sandbox_pid: int) -> Path:
        of_sandbox = self._proc / str(sandbox_pid) / "root/etc/resolv.conf"
        try:
            base = resolvers.parse(of_sandbox.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            text = f"the name servers of the task's sandbox cannot be read: {error.strerror}"
            raise NetworkFailure(text) from None
        return self.put(name, resolvers.text_of(resolvers.overlaid(base, own)))
