"""The options of ``control`` and ``standalone`` about the logs of tasks.

Tests: ``tests/unit/cli/test_log_options.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.client import CliError
from agent.cli.sizes import size_bytes
from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.log_forward.targets import Target
    from agent.controlplane.log_settings import LogSettings

_LEAST_SIZE: Final = "64m"


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which takes them as keyword arguments."""
    options = [
        click.option(
            "--log-max-size",
            default="2g",
            show_default=True,
            metavar="SIZE",
            help="Most that logs of tasks take of the disk, compressed (512m, 2g, 1t); beyond it the "
            "oldest go.",
        ),
        click.option(
            "--log-retention",
            type=click.IntRange(0, 36_500),
            default=0,
            show_default=True,
            metavar="DAYS",
            help="How long logs are kept in log groups without a policy of their own; 0 until "
            "--log-max-size is reached.",
        ),
        click.option(
            "--log-forward",
            multiple=True,
            metavar="TARGET",
            help="Send all log events on to cloudwatch:REGION, with the AWS keys that this process finds, "
            "or to Loki at a URL, for example http://loki:3100. Can be given several times.",
        ),
        click.option(
            "--log-forward-headers",
            type=click.Path(path_type=Path),
            help="File with headers for Loki, one per line: Authorization, X-Scope-OrgID.",
        ),
        click.option(
            "--no-logs",
            is_flag=True,
            help="Keep no logs of tasks: the CloudWatch Logs API is not served.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def settings(given: Mapping[str, Any]) -> LogSettings:
    """Return what the options say; raises ``CliError`` that names the one that is wrong."""
    from agent.controlplane.log_settings import LogSettings  # noqa: PLC0415 - not for --help

    return LogSettings(
        are_kept=not given["no_logs"],
        most_bytes=_max_size_bytes(given),
        retention_days=given["log_retention"] or None,
        forward=_targets(given),
    )


def arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the options again as arguments, for a child process; checks them as ``settings`` does."""
    _max_size_bytes(given)
    headers = given["log_forward_headers"]
    return [
        *("--log-max-size", given["log_max_size"]),
        *("--log-retention", str(given["log_retention"])),
        *(part for text in given["log_forward"] for part in ("--log-forward", text)),
        *(["--log-forward-headers", str(headers)] if headers else []),
        *(["--no-logs"] if given["no_logs"] else []),
    ]


def _targets(given: Mapping[str, Any]) -> tuple[Target, ...]:
    from agent.controlplane.log_forward import targets  # noqa: PLC0415 - as above

    headers = given["log_forward_headers"]
    try:
        found = [
            targets.parse(text, headers.absolute() if headers else None)
            for text in given["log_forward"]
        ]
    except ConfigError as error:
        raise CliError(f"--log-forward {error}", exit_code=ExitCode.USAGE) from None
    if headers and all(target.region for target in found):
        raise CliError(
            "--log-forward-headers: is for Loki, and no --log-forward names it; leave it out",
            exit_code=ExitCode.USAGE,
        )
    if found and given["no_logs"]:
        raise CliError(
            "--log-forward: nothing is kept with --no-logs that could be forwarded; leave one out",
            exit_code=ExitCode.USAGE,
        )
    if len({target.name for target in found}) < len(found):
        raise CliError("--log-forward: a target is given twice", exit_code=ExitCode.USAGE)
    return tuple(found)


def _max_size_bytes(given: Mapping[str, Any]) -> int:
    return size_bytes("--log-max-size", given["log_max_size"], least=_LEAST_SIZE, off="--no-logs")
