"""The ``ecs-agent`` command. This module only chooses the way in.

``ecs-agent run`` is the agent itself and must stay small: it goes past click, rich and everything
else that is made for people. All other commands are click's (``agent.cli.app``).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see ``agent.errors.ExitCode``)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:
        from agent.cli import run  # noqa: PLC0415 - the two ways must not load each other

        return run.main(arguments[1:])
    from agent.cli import app  # noqa: PLC0415 - the two ways must not load each other

    return app.main(arguments)
