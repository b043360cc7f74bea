"""The option of ``control`` and ``standalone`` about programs that add and remove hosts.

Tests: ``tests/unit/cli/test_host_hooks.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.client import CliError
from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def host_hook_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option to a command, which takes it as a keyword argument."""
    option = click.option(
        "--host-hooks",
        type=click.Path(path_type=Path),
        help="JSON file that names, for capacity providers with managed scaling, the program that adds and removes "
        "their hosts, and how many there may be. Reloaded on SIGHUP.",
    )
    return option(command)


def file(given: Mapping[str, Any]) -> Path | None:
    """Return the file, None if there is none; raises ``CliError`` if it cannot be used."""
    path: Path | None = given["host_hooks"]
    if path is None:
        return None
    from agent.controlplane.host_scaling import hooks  # noqa: PLC0415 - not for --help

    try:
        hooks.read(path)
    except ConfigError as error:
        raise CliError(str(error), exit_code=ExitCode.USAGE) from None
    return path.absolute()


def arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the option again as arguments, for a child process; checks it as ``file`` does."""
    path = file(given)
    return [] if path is None else ["--host-hooks", str(path)]
