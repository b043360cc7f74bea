"""The agent's own files that are mounted into a task's containers: hosts files and name servers.

They are in the agent's data directory, and somebody may remove them between the creation of a container and its
start: by hand, or with the whole directory. The engine then makes a directory in place of the file, and refuses
to start the container.

Tests: ``tests/unit/engine/test_loopback_only.py``, ``tests/unit/engine/test_steps.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.engine import shared_network
from agent.model import ids
from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from pathlib import Path

    from agent.engine.tools import StepTools
    from agent.model.payload import Container
    from agent.model.task import AgentTask


class MountedFiles:
    """The files of one task. All methods are idempotent, and raise ``StateFailure``."""

    def __init__(self, record: AgentTask, tools: StepTools) -> None:
        """Take what is needed; nothing is accessed."""
        self._record = record
        self._hosts_files = tools.hosts_files
        self._resolv_files = tools.resolv_files

    async def hosts(self, name: str) -> Path:
        """Write the hosts file of a container without a network unless it has one; return its path."""
        return await self._hosts_files.write(self._digest(name))

    async def resolv_conf(self, definition: Container) -> str:
        """Write the container's own resolv.conf if it asks for one, and return its path.

        Raises:
            NetworkFailure: the task's sandbox has died.
        """
        record = self._record
        own = shared_network.own_resolvers(record.payload, definition)
        if own is None or record.network is None:
            return ""
        path = await self._resolv_files.write(
            self._digest(definition.name), own, sandbox_pid=record.network.sandbox_pid
        )
        return str(path)

    async def write(self, definition: Container) -> None:
        """Write what a container has mounted that is started once more."""
        await self.resolv_conf(definition)
        if self._record.payload.mode is NetworkMode.NONE:
            await self.hosts(definition.name)

    async def write_lost(self, definition: Container) -> bool:
        """Write what a container has mounted if it is gone; return whether it was."""
        mode, digest = self._record.payload.mode, self._digest(definition.name)
        if mode is NetworkMode.NONE:
            if await asyncio.to_thread(self._hosts_files.has, digest):
                return False
            await self.hosts(definition.name)
            return True
        if mode is not NetworkMode.AWSVPC:
            return False
        if await asyncio.to_thread(self._resolv_files.has, digest):
            return False
        return bool(await self.resolv_conf(definition))

    async def remove(self, name: str) -> None:
        """Remove what a container had mounted."""
        if self._record.payload.mode is NetworkMode.AWSVPC:
            await self._resolv_files.remove(self._digest(name))
        elif self._record.payload.mode is NetworkMode.NONE:
            await self._hosts_files.remove(self._digest(name))

    def _digest(self, name: str) -> str:
        return ids.container_digest(self._record.arn, name)
