"""The ``ecs-agent`` command. This module only chooses the way in.

``ecs-agent run`` is the agent itself and must stay small: it goes past click, rich and everything
else that is made for people. All other commands are click's (``app``); each imports what it needs
when it runs, so that ``--help`` is quick.

::

    run.py  run_command.py     the agent process: settings, log, ``daemon``
    app.py                     the commands for people
    output.py  render.py       all printing: text from outside is shown with escapes
    join.py  membership.py     join a control: a plan first; nothing is written before control has
                               answered and the new configuration was read as the service will
    control.py  standalone.py  the control endpoint, alone or as a parent of ``control`` and ``run``

What was configured for one control (token, authority) is never shown to another. Fails with the
codes of ``errors.ExitCode`` and one line that names the mend. Never imported by the daemon.
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
        from agent.cli import run  # noqa: PLC0415 - the two ways must not load each other

        return run.main(arguments[1:])
    from agent.cli import app  # noqa: PLC0415 - the two ways must not load each other

    return app.main(arguments)
