"""``ecs-agent run``: from the command line to ``agent.daemon`` without click and rich.

Reads settings, sets up logging and hands over. Settings that are bad, and anything else that a
restart cannot mend, end with exit code 5 and one line per problem on standard error, marked as errors
where that is the journal.

Tests: ``tests/unit/cli/test_command_line.py``.
"""

from __future__ import annotations

import difflib
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.supervision.notify import Notifier


class _UsageError(Exception):
    pass


def main(arguments: Sequence[str]) -> int:
    """Run the agent until it is told to stop; return its exit code."""
    try:
        config = _parse(arguments)
    except _UsageError as error:
        _complain(f"{error}\nTry 'ecs-agent run --help'.")
        return ExitCode.USAGE
    if config == "--help":
        from agent.cli import app  # noqa: PLC0415 - help alone may load click

        return app.main(["run", "--help"])
    keep_rich_out()
    from agent.supervision.notify import Notifier  # noqa: PLC0415 - after keep_rich_out

    notifier = Notifier.take(os.environ)
    try:
        return _run(config, notifier)
    except ConfigError as error:
        _complain(str(error))
        notifier.status(str(error).splitlines()[0])
        return ExitCode.TERMINAL


def keep_rich_out() -> None:
    """Make ``import rich`` fail in this process.

    structlog loads rich wherever it is installed, for tracebacks that the agent never draws: 60 ms
    of start-up and several MiB that stay. Call it before anything imports structlog.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def _run(config: str, notifier: Notifier) -> int:
    from agent.config import DEFAULT_FILES, load  # noqa: PLC0415 - after the command line is right

    files = [Path(config)] if config else DEFAULT_FILES
    read = partial(load, os.environ, files, required=bool(config))
    settings = read()
    from agent.upstream import backends  # noqa: PLC0415 - after keep_rich_out

    backends.check(settings)
    if os.geteuid() != 0:
        raise ConfigError("run needs root, because it makes networks and namespaces; use sudo")

    from agent import daemon  # noqa: PLC0415 - after keep_rich_out

    daemon.adopt_log(settings)
    return daemon.main(settings, reread=read, notifier=notifier)


def _parse(arguments: Sequence[str]) -> str:
    """Return the configuration file, ``--help``, or nothing."""
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
            raise _UsageError("--config needs a file")
        config = value
    return config


def _unknown(word: str) -> str:
    if not word.startswith("-"):
        return f"run takes no argument, and was given {word!r}"
    near = difflib.get_close_matches(word, ("--config", "--help"), n=1, cutoff=0.5)
    return f"run knows no option {word}" + (f"; did you mean {near[0]}?" if near else "")


def _complain(text: str) -> None:
    from agent import escapes  # noqa: PLC0415 - only for those who complain
    from agent.logs import is_journal  # noqa: PLC0415 - after keep_rich_out

    mark = "<3>" if is_journal(sys.stderr) else ""
    for line in text.split("\n"):
        sys.stderr.write(f"{mark}ecs-agent: {escapes.shown(line)}\n")
