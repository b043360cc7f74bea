"""The engine's own firewall rules: not ours to make, but told of when somebody removed them.

Docker makes its rules when it starts, and puts none back. Without them containers in bridge mode have no
way out. That its chain for users is gone although it was there shows it, since nothing but a restart
of Docker makes that chain.
"""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import structlog

from agent.network.firewall import generation

if TYPE_CHECKING:
    from concurrent.futures import Executor

_CHAIN = "DOCKER-USER"
_LIMIT_S = 15.0
_GONE = (
    f"the firewall rules of Docker are gone (there is no chain {_CHAIN} any more), so that containers in "
    "bridge mode have no way out; restart Docker (with live-restore, tasks run on)"
)

_log = structlog.get_logger(__name__)


class EngineRules:
    """Whether Docker's rules are there. One ``look`` at a time."""

    def __init__(self, files: Executor) -> None:
        self.problem = ""
        """What is wrong and how to mend it; empty when nothing is."""
        self._files = files
        self._was_there = False
        self._seen: int | None = None

    async def look(self) -> None:
        """Look anew, if any rule of the host has changed since the last look."""
        loop = asyncio.get_running_loop()
        number = await loop.run_in_executor(self._files, generation)
        if number is not None and number == self._seen:
            return
        self._seen = number
        is_there = await loop.run_in_executor(self._files, _has_chain)
        if is_there is None:
            return
        self._was_there = self._was_there or is_there
        gone = self._was_there and not is_there
        if gone and not self.problem:
            _log.error("the firewall rules of Docker are gone", mend="restart Docker")
        self.problem = _GONE if gone else ""


def _has_chain() -> bool | None:
    """Tell whether Docker's chain exists; None where that cannot be asked. Blocks."""
    command = ("iptables", "-w", "5", "-S", _CHAIN)
    try:
        answer = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # 4 is what the lock or the kernel's memory being short ends with.
    return None if answer.returncode not in (0, 1) else answer.returncode == 0
