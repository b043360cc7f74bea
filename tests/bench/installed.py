"""Agents that are started as the package's service starts them: without docstrings and asserts.

The bytecode is below the bench's directory, since that of the checkout is for commands.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tests.support import forked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fleet import Agent

_SWITCHES: Final = ("-OO", "-X", "no_debug_ranges")
"""Those of ``/opt/ecs-agent/bin/ecs-agent``, and what its bytecode is made with (packaging/files/byte-compile)."""


def as_the_service(agent: Agent, directory: Path) -> Agent:
    """Return the agent, not started, as one that starts from bytecode below a directory; takes seconds."""
    places = {"PYTHONPYCACHEPREFIX": str(directory / "bytecode")}
    loaded = "\n".join(f"import {name}" for name in forked.KINDS["run"])
    subprocess.run(
        [sys.executable, *_SWITCHES, "-c", f"from agent.cli import lean_imports, run\n{loaded}"],
        env={**os.environ, **places, "PYTHONDONTWRITEBYTECODE": ""},
        check=True,
        timeout=120,
    )
    agent.wrapper = [sys.executable, *_SWITCHES]
    agent.environment |= places
    return agent
