"""The options of ``control`` and ``standalone`` about credentials of tasks' roles.

Tests: ``tests/unit/cli/test_role_options.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.client import CliError
from agent.config import values
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.roles.settings import RoleSettings

_URL: Final = re.compile(r"https?://[^/\s@]+/?")
_SHORTEST_S: Final = 900.0
_LONGEST_S: Final = 12 * 3600.0
"""What STS accepts."""


def role_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which takes them as keyword arguments."""
    command = click.option(
        "--task-endpoint",
        default="",
        metavar="URL",
        help="Tell tasks with a task role that this control endpoint keeps that their AWS SDKs reach it under "
        "this URL, for example http://10.0.0.5:6820. [default: tell them nothing]",
    )(command)
    return click.option(
        "--role-duration",
        default="1h",
        show_default=True,
        metavar="TIME",
        help="How long the credentials of tasks' roles are valid, 15m to 12h. Control gets them from STS "
        "with AWS keys from its environment, the shared files or its EC2 instance, and renews them well "
        "before they expire.",
    )(command)


def settings(given: Mapping[str, Any], environ: Mapping[str, str]) -> RoleSettings:
    """Return what the options say; raises ``CliError`` that names the one that is wrong."""
    from agent.controlplane.roles.settings import (  # noqa: PLC0415 - not for --help
        Environ,
        RoleSettings,
    )

    return RoleSettings(
        environ=Environ(environ),
        duration_s=_duration_s(given["role_duration"]),
        task_endpoint=_url(given["task_endpoint"]),
    )


def arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the options again as arguments, for a child process; checks them as ``settings`` does."""
    _duration_s(given["role_duration"])
    url = _url(given["task_endpoint"])
    return ["--role-duration", given["role_duration"], *(["--task-endpoint", url] if url else [])]


def _url(text: str) -> str:
    if text and not _URL.fullmatch(text):
        raise CliError(
            f"--task-endpoint {text}: must be http://HOST:PORT or https://HOST:PORT",
            exit_code=ExitCode.USAGE,
        )
    return text.rstrip("/")


def _duration_s(text: str) -> float:
    try:
        seconds = values.parse_duration_s(text)
    except ValueError as error:
        raise CliError(f"--role-duration {text}: {error}", exit_code=ExitCode.USAGE) from None
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise CliError(
            f"--role-duration {text}: must be between 15m and 12h, and more than 1h only for roles "
            "that allow it",
            exit_code=ExitCode.USAGE,
        )
    return seconds
