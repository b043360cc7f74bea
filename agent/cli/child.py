"""Entry point of the processes that ``standalone`` starts: ties itself to its parent, then runs.

``python -m agent.cli.child PARENT_PID ARGUMENTS...``. The kernel sends this process SIGTERM when
its parent dies for any reason, so that a killed parent leaves no orphan.
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
    """Tie this process to its parent; return False if the parent has already ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == parent_pid


if __name__ == "__main__":
    if not follow_parent(int(sys.argv[1])):
        sys.exit(ExitCode.SUCCESS)
    sys.exit(main(sys.argv[2:]))
