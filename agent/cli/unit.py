"""Controls the agent's service with `systemctl`: enable, start, restart, state and journal.

Runs `systemctl` and `journalctl`, each with a deadline. Raises ``CliError`` with their error output.

Tests: ``tests/unit/cli/test_join.py``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from agent.cli.client import CliError

NAME: Final = "ecs-agent"
RUNS_HERE: Final = Path("/run/systemd/system")
"""Exists if systemd is the service manager."""
UP: Final = frozenset({"active", "activating", "reloading"})
"""States of a unit that runs or is about to run."""
_LIMIT_S: Final = 60.0
_LAST_LINES: Final = 5


def is_managed() -> bool:
    """Return whether systemd is the service manager of this host."""
    return RUNS_HERE.is_dir()


def state() -> str:
    """Return the unit's state: active, activating, inactive, failed, ..."""
    return _run("is-active", NAME).stdout.strip()


def is_enabled() -> bool:
    """Return whether the unit is started at boot."""
    return _run("is-enabled", "--quiet", NAME).returncode == 0


def start() -> None:
    """Enable and start the unit; does not wait until it is ready."""
    _run("reset-failed", NAME)  # otherwise an old failure is shown until the new start begins
    _ordered("enable", "--now", "--no-block", NAME)


def restart() -> None:
    """Enable and restart the unit so that it reads its settings; tasks keep running."""
    _ordered("enable", NAME)
    _ordered("restart", "--no-block", NAME)


def last_words() -> list[str]:
    """Return the newest lines of the unit's journal; empty if there is none."""
    command = ["journalctl", "--unit", NAME, "--lines", str(_LAST_LINES), "--output", "cat"]
    try:
        done = subprocess.run(
            [*command, "--no-pager", "--quiet"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()


def _ordered(*words: str) -> None:
    done = _run(*words)
    if done.returncode != 0:
        told = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise CliError(
            f"systemctl {' '.join(words)} failed: {told}; install the ecs-agent package, which "
            "contains the service, or run 'ecs-agent run' yourself"
        )


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["systemctl", *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise CliError("there is no systemctl here; run 'ecs-agent run' yourself") from None
    except subprocess.TimeoutExpired:
        raise CliError(
            f"systemctl {' '.join(words)} did not finish within {_LIMIT_S:g} s; check the journal"
        ) from None
