"""The option of ``control`` and ``standalone`` about services that control does not serve.

Tests: ``tests/unit/cli/test_forward_options.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent.cli.client import CliError
from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.front.forward_targets import Target


def forward_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option to a command, which takes it as a keyword argument."""
    option = click.option(
        "--forward",
        multiple=True,
        metavar="SERVICE=URL",
        help="Send calls of a service that control does not serve on to a URL, for example "
        "s3=http://10.0.0.5:9000; * stands for all other services. With ,host behind it, the Host header is that of "
        "the URL. Can be given several times.",
    )
    return option(command)


def targets(given: Mapping[str, Any]) -> dict[str, Target]:
    """Return what the option says, by service; raises ``CliError`` that says what is wrong."""
    from agent.controlplane.front import forward_targets  # noqa: PLC0415 - not for --help

    try:
        return forward_targets.parse(given["forward"])
    except ConfigError as error:
        raise CliError(f"--forward {error}", exit_code=ExitCode.USAGE) from None


def arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the option again as arguments, for a child process; checks it as ``targets`` does."""
    targets(given)
    return [part for text in given["forward"] for part in ("--forward", text)]
