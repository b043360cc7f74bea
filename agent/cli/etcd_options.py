"""The option ``--store`` of ``control`` and of the commands for its store.

Tests: ``tests/unit/cli/test_command_line.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from agent.cli.client import CliError
from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from agent.controlplane.store.etcd_settings import EtcdSettings

VARIABLE: Final = "ECS_CONTROL_STORE"

store_option = click.option(
    "--store",
    default="",
    envvar=VARIABLE,
    show_envvar=True,
    metavar="ADDRESS",
    help="Where the fleet is kept: etcd://HOST:PORT[,HOST:PORT...]/PREFIX, or etcds:// for TLS. User, password "
    "and certificates are given by ECS_CONTROL_ETCD_... in the environment. [default: a file in --data-dir]",
)


def settings(address: str) -> EtcdSettings | None:
    """Return the etcd that an address names; None for a file.

    Raises:
        CliError: the address, or a variable for it, is wrong.
    """
    if not address:
        return None
    from agent.controlplane.store import etcd_settings  # noqa: PLC0415 - not for --help

    try:
        return etcd_settings.parse(address, os.environ)
    except ConfigError as error:
        raise CliError(f"--store: {error}", exit_code=ExitCode.USAGE) from None
