"""The option of ``control`` and ``standalone`` about the console.

Tests: ``tests/unit/cli/test_console_options.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.console.admission import Console

OFF: Final = "off"
KEYS: Final = "keys"
READ_ONLY: Final = "read-only"


def console_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what adds the option to a command, which takes it as a keyword argument."""
    return click.option(
        "--console",
        type=click.Choice((OFF, KEYS, READ_ONLY)),
        default=default,
        show_default=True,
        help="A page at /console/ that shows clusters, hosts, services, tasks, logs and figures: with "
        "`keys`, to operators who sign in with their key; with `read-only`, to everybody who can reach the "
        "address, without a key, including logs and the environment of containers.",
    )


def console(given: Mapping[str, Any]) -> Console:
    """Return whether there is a console, and for whom."""
    from agent.controlplane.console.admission import Console  # noqa: PLC0415 - not for --help

    return Console(given["console"])


def arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the option again as arguments, for a child process."""
    return ["--console", given["console"]]
