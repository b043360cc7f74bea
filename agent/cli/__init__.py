"""The ``ecs-agent`` command. This module only chooses the entry point.

``ecs-agent run`` is the agent itself and must stay small: it does not load click, rich or anything
else that only people need. All other commands are click commands (``app``); each imports what it
needs when it runs, so that ``--help`` is quick.

::

    run.py  run_command.py     the agent process: settings, log, ``daemon``
    healthcheck.py             whether the agent answers; imports next to nothing
    app.py                     all other commands
    output.py  render.py       all printing: text from outside is shown with escapes
    join.py  membership.py     join a control: makes a plan first, and writes nothing until control
                               has answered and the new configuration has been checked
    control.py  standalone.py  the control endpoint, alone or together with an agent

What was configured for one control (token, CA certificate) is never sent to another. Commands fail
with the codes of ``errors.ExitCode`` and one line that says how to fix it. Never imported by the daemon.
Tests: ``tests/unit/cli``, ``tests/integration/cli``.
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
        from agent.cli import run  # noqa: PLC0415 - the agent must not load click

        return run.main(arguments[1:])
    if arguments[:1] == ["healthcheck"]:
        from agent.cli import healthcheck  # noqa: PLC0415 - as above

        return healthcheck.main(arguments[1:])
    from agent.cli import app  # noqa: PLC0415 - as above

    return app.main(arguments)
