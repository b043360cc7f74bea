"""Ends processes in control groups whose containers are gone, or that their engine has forgotten.

An engine that dies while it starts a container leaves what was to become it, or what has become of it, and never
asks for it again. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Final

from agent.cgroups.mount import processes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LIMIT_S: Final = 10.0


def kill(groups: Iterable[Path]) -> list[int]:
    """Kill all processes in some groups and below them; return their ids once they have ended.

    Raises:
        TimeoutError: one did not end within ten seconds, as when it waits for a broken disk.
    """
    with contextlib.ExitStack() as stack:
        killed: dict[int, int] = {}
        for pid in {pid for group in groups for pid in processes(group)}:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                stack.callback(os.close, handle)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                killed[handle] = pid
        _wait(killed)
        return sorted(killed.values())


def _wait(killed: dict[int, int]) -> None:
    """Return when all have ended; their handles are readable then."""
    poll, left = select.poll(), set(killed)
    for handle in left:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + _LIMIT_S
    while left:
        wait_s = deadline - time.monotonic()
        if wait_s <= 0.0:
            raise TimeoutError(f"processes {sorted(killed[each] for each in left)} do not end")
        for handle, _ in poll.poll(wait_s * 1000):
            poll.unregister(handle)
            left.discard(handle)
