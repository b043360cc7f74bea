"""Entry of the processes that ``standalone`` starts: dies with its parent, then runs the command.

``python -m agent.cli.child PARENT_PID ARGUMENTS...``. The kernel sends this process SIGTERM when
its parent is gone, however that came about, so that a killed parent leaves no orphan.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from agent.cli import main
from agent.errors import ExitCode

_PR_SET_PDEATHSIG = 1


def follow_parent(parent_pid: int) -> bool:
    """Tie this process to its parent; return False when that one is gone already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == parent_pid


if __name__ == "__main__":
    if not follow_parent(int(sys.argv[1])):
        sys.exit(ExitCode.SUCCESS)
    sys.exit(main(sys.argv[2:]))
