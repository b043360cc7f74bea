"""Ends a process in a container from the host, because the engine's API cannot end a command.

Like the end of a terminal's connection: SIGHUP to the process group of the command, then SIGKILL if the
command ignores it. What has left the group, for example with ``setsid``, is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

GRACE_S: Final = 5.0
"""How long a command may take to end after SIGHUP."""


async def end(pid: int, container_id: str, *, grace_s: float = GRACE_S) -> bool:
    """End a command and return once it has ended; cancelling it kills the command at once.

    Args:
        pid: its process id on this host.
        container_id: the container that it must belong to, else nothing is done.
        grace_s: time between SIGHUP and SIGKILL.

    Returns:
        Whether it was a process of the container.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not await asyncio.to_thread(_is_in, pid, container_id):
            return False
        _signal(pid, signal.SIGHUP)
        try:
            async with asyncio.timeout(grace_s):
                await _ended(handle)
        except (TimeoutError, asyncio.CancelledError) as error:
            _signal(pid, signal.SIGKILL)
            if isinstance(error, asyncio.CancelledError):
                raise
        return True
    finally:
        os.close(handle)


def _is_in(pid: int, container_id: str) -> bool:
    """Tell whether a process is in a container's control group. Reads ``/proc``."""
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    """Signal the process group that a process leads, or only the process if it leads none."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


async def _ended(handle: int) -> None:
    """Return when the process of a pidfd has ended."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(handle, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(handle)
