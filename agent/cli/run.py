"""``ecs-agent run``: from the command line to ``agent.start`` without click and rich.

Reads the settings, sets up logging and starts the daemon. Bad settings, and anything else that a
restart cannot fix, end it with exit code 5 and one line per problem on standard error. In the
journal, these lines have the priority of errors.

Tests: ``tests/unit/cli/test_command_line.py``.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import lean_imports
from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.supervision.held_sockets import HeldSockets
    from agent.supervision.notify import Notifier


class _UsageError(Exception):
    pass


def main(arguments: Sequence[str]) -> int:
    """Run the agent until it is asked to stop; return its exit code."""
    try:
        config = _parse(arguments)
    except _UsageError as error:
        _complain(f"{error}\nTry 'ecs-agent run --help'.")
        return ExitCode.USAGE
    if config == "--help":
        from agent.cli import app  # noqa: PLC0415 - only help may load click

        return app.main(["run", "--help"])
    lean_imports.begin()
    from agent.supervision.held_sockets import HeldSockets  # noqa: PLC0415 - after lean_imports
    from agent.supervision.notify import Notifier  # noqa: PLC0415 - as above

    notifier = Notifier.take(os.environ)
    sockets = HeldSockets.take(os.environ, notifier)
    try:
        return _run(config, notifier, sockets)
    except ConfigError as error:
        _complain(str(error))
        notifier.status(str(error).splitlines()[0])
        return ExitCode.TERMINAL


def _run(config: str, notifier: Notifier, sockets: HeldSockets) -> int:
    from agent.config import DEFAULT_FILES, load  # noqa: PLC0415 - only after the command line is checked

    files = [Path(config)] if config else DEFAULT_FILES
    read = partial(load, os.environ, files, required=bool(config))
    settings = read()
    from agent.upstream import backends  # noqa: PLC0415 - after lean_imports

    backends.check(settings)
    if os.geteuid() != 0:
        raise ConfigError("run needs root to create networks and namespaces; use sudo")

    from agent import start  # noqa: PLC0415 - after lean_imports

    lean_imports.end()
    start.adopt_log(settings)
    return start.main(settings, reread=read, notifier=notifier, sockets=sockets)


def _parse(arguments: Sequence[str]) -> str:
    """Return the configuration file, ``--help``, or an empty string."""
    config, rest = "", list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in {"--help", "-h"}:
            return "--help"
        if name != "--config":
            raise _UsageError(_unknown(name))
        if not equals:
            value = rest.pop(0) if rest else ""
        if not value:
            raise _UsageError("--config needs a file name")
        config = value
    return config


def _unknown(word: str) -> str:
    if not word.startswith("-"):
        return f"run takes no arguments; remove {word!r}"
    import difflib  # noqa: PLC0415 - only for a wrong command line

    near = difflib.get_close_matches(word, ("--config", "--help"), n=1, cutoff=0.5)
    return f"run has no option {word}" + (f"; did you mean {near[0]}?" if near else "")


def _complain(text: str) -> None:
    from agent import escapes  # noqa: PLC0415 - only needed for errors
    from agent.logs import is_journal  # noqa: PLC0415 - after lean_imports

    mark = "<3>" if is_journal(sys.stderr) else ""
    for line in text.split("\n"):
        sys.stderr.write(f"{mark}ecs-agent: {escapes.shown(line)}\n")
