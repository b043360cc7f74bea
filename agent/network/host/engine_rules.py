"""Checks Docker's own firewall rules, which ours depend on, and reports when they were removed.

Docker makes its rules when it starts, and puts none back. Without them containers in bridge mode
have no way out. Its chain for users, which holds rules of ours, works only while forwarding leads
there; Docker drops what nobody accepts, so that this one jump is put back for tasks in ``awsvpc``
mode.

Tests: ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.errors import NetworkFailure
from agent.network.host.firewall import generation

if TYPE_CHECKING:
    from concurrent.futures import Executor

_CHAIN = "DOCKER-USER"
_JUMP = f"-A FORWARD -j {_CHAIN}"
_NO_JUMP = f"FORWARD no longer jumped to {_CHAIN}"
_LIMIT_S = 15.0
_GONE = (
    "the firewall rules of Docker are missing: containers in bridge mode cannot reach the outside; "
    "restart Docker (with live-restore, tasks keep running)"
)

_log = structlog.get_logger(__name__)


class _Found(NamedTuple):
    """The state of Docker's rules."""

    jump: bool
    """The FORWARD chain jumps to DOCKER-USER."""
    chain: bool
    """The chain DOCKER-USER exists."""
    others: bool
    """The FORWARD chain jumps to other chains of Docker."""


class EngineRules:
    """Checks whether Docker's rules exist. One ``look`` at a time."""

    def __init__(self, files: Executor) -> None:
        self.problem = ""
        """What is wrong, and how to fix it; empty if nothing is."""
        self._files = files
        self._was_there = False
        self._seen: int | None = None

    async def look(self) -> list[str]:
        """Check again, if any rule of the host has changed; return what was repaired, in words.

        Raises:
            NetworkFailure: the jump to Docker's chain cannot be restored.
        """
        loop = asyncio.get_running_loop()
        number = await loop.run_in_executor(self._files, generation)
        if number is not None and number == self._seen:
            return []
        found = await loop.run_in_executor(self._files, _look)
        if found is None:
            return []
        self._was_there = self._was_there or found.chain
        gone = self._was_there and not found.others
        if gone and not self.problem:
            _log.error("the firewall rules of Docker are missing", mend="restart Docker")
        self.problem = _GONE if gone else ""
        if found.chain and not found.jump:
            await loop.run_in_executor(self._files, _put_jump)
            return [_NO_JUMP]
        self._seen = number
        return []

    async def differences(self) -> list[str]:
        """Return in words what ``look`` would repair now; changes nothing."""
        found = await asyncio.get_running_loop().run_in_executor(self._files, _look)
        return [_NO_JUMP] if found is not None and found.chain and not found.jump else []


def _look() -> _Found | None:
    """Return the state; None if it cannot be read. Blocks."""
    forward = _iptables("-S", "FORWARD")
    if forward is None or forward.returncode != 0:
        return None
    rules = forward.stdout.splitlines()
    others = any("-j DOCKER" in rule and not rule.endswith(f"-j {_CHAIN}") for rule in rules)
    if _JUMP in rules:
        return _Found(jump=True, chain=True, others=others)
    chain = _iptables("-S", _CHAIN)
    # 4: another process holds the lock, or memory is short.
    if chain is None or chain.returncode not in (0, 1):
        return None
    return _Found(jump=False, chain=chain.returncode == 0, others=others)


def _put_jump() -> None:
    answer = _iptables("-I", "FORWARD", "1", "-j", _CHAIN)
    if answer is None or answer.returncode != 0:
        why = answer.stderr.strip()[:300] if answer else "iptables does not answer"
        raise NetworkFailure(f"the jump from FORWARD to {_CHAIN} cannot be added: {why}")


def _iptables(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    command = ("iptables", "-w", "5", *arguments)
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
