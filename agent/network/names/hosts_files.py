"""Hosts files for containers whose network the engine leaves out: it then writes none for them.

Tests: ``tests/unit/network/names/test_container_files.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.network.names.container_files import ContainerFiles

if TYPE_CHECKING:
    from pathlib import Path

IN_CONTAINER: Final = "/etc/hosts"
_LOCAL_NAMES: Final = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
"""What the engine gives to a container that has only a loopback."""


class HostsFiles(ContainerFiles):
    """The hosts files of containers that have only a loopback."""

    async def write(self, name: str) -> Path:
        """Write the file of a container unless it has one, which it may have changed; return its path.

        Raises:
            StateFailure: the file cannot be written.
        """
        return await asyncio.to_thread(lambda: self.has(name) or self.put(name, _LOCAL_NAMES))
