"""The option of ``control`` and ``standalone`` about events.

Tests: ``tests/unit/cli/test_events.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.client import CliError
from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def event_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option to a command, which takes it as a keyword argument."""
    option = click.option(
        "--event-webhook-file",
        type=click.Path(path_type=Path),
        help="File with the URL that gets every event of tasks, hosts, services and deployments, as "
        "EventBridge would send it; below it headers, one per line.",
    )
    return option(command)


def webhook_file(given: Mapping[str, Any]) -> Path | None:
    """Return the file, None if there is none; raises ``CliError`` if it names no webhook."""
    path: Path | None = given["event_webhook_file"]
    if path is None:
        return None
    from agent.controlplane.events import webhook_file as files  # noqa: PLC0415 - not for --help

    try:
        files.read(path)
    except ConfigError as error:
        raise CliError(str(error), exit_code=ExitCode.USAGE) from None
    return path.absolute()


def arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the option again as arguments, for a child process; checks it as ``webhook_file`` does."""
    path = webhook_file(given)
    return [] if path is None else ["--event-webhook-file", str(path)]
