"""Whether the host itself is going down, asked of systemd when the agent is told to end.

Runs ``systemctl is-system-running``, which talks to systemd without the message bus: that one ends at the
same time. A host without systemd is never taken to go down. Nothing here raises.
Tests: ``tests/unit/supervision/test_shutdown.py``, ``tests/vm/test_service.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

COMMAND: Final = ("systemctl", "is-system-running")
LIMIT_S: Final = 5.0
_KILL_LIMIT_S: Final = 1.0
_STOPPING: Final = b"stopping"

_log = structlog.get_logger(__name__)


async def is_going_down() -> bool:
    """Tell whether the host shuts down or reboots; false where that cannot be known."""
    try:
        async with asyncio.timeout(LIMIT_S):
            process = await asyncio.create_subprocess_exec(
                *COMMAND, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                said, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await _ended(process)
    except (OSError, TimeoutError) as error:
        cause = str(error) or f"no answer within {LIMIT_S:g} s"
        _log.warning("cannot tell whether the host shuts down", cause=cause)
        return False
    return said.strip() == _STOPPING


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait until a killed process is gone, and its output with it: else its pipe would outlive the event loop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KILL_LIMIT_S):
            await process.communicate()
