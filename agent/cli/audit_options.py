"""The options of ``control`` and ``standalone`` about the audit trail.

Tests: ``tests/unit/cli/test_audit.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.client import CliError
from agent.cli.sizes import size_bytes
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.audit.files import AuditSettings

FILE: Final = Path("audit", "audit.jsonl")
"""In the data directory."""
_LEAST_SIZE: Final = "256k"


def audit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which takes them as keyword arguments."""
    options = [
        click.option(
            "--audit-file",
            type=click.Path(path_type=Path),
            help="File of the audit trail: a line of JSON for each call of an operator that changes "
            f"something, as CloudTrail has it. [default: {FILE} in --data-dir]",
        ),
        click.option(
            "--audit-max-size",
            default="64m",
            show_default=True,
            metavar="SIZE",
            help="Size at which a new file of the audit trail is begun (512k, 64m, 1g).",
        ),
        click.option(
            "--audit-keep",
            type=click.IntRange(0, 10_000),
            default=8,
            show_default=True,
            help="How many full files of the audit trail are kept.",
        ),
        click.option("--no-audit", is_flag=True, help="Keep no audit trail."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def settings(given: Mapping[str, Any], data_dir: Path) -> AuditSettings | None:
    """Return what the options say, None for no trail; raises ``CliError`` that names a wrong one."""
    from agent.controlplane.audit.files import AuditSettings  # noqa: PLC0415 - not for --help

    most_bytes = size_bytes(
        "--audit-max-size", given["audit_max_size"], least=_LEAST_SIZE, off="--no-audit"
    )
    if given["no_audit"]:
        if given["audit_file"] is not None:
            raise CliError(
                "--no-audit and --audit-file contradict each other; give only one of them",
                exit_code=ExitCode.USAGE,
            )
        return None
    return AuditSettings(
        (given["audit_file"] or data_dir / FILE).absolute(), most_bytes, given["audit_keep"]
    )


def arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the options again as arguments, for a child process; checks them as ``settings`` does."""
    settings(given, Path())
    file = given["audit_file"]
    return [
        *(["--audit-file", str(file.absolute())] if file else []),
        *("--audit-max-size", given["audit_max_size"]),
        *("--audit-keep", str(given["audit_keep"])),
        *(["--no-audit"] if given["no_audit"] else []),
    ]
