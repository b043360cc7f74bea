"""The options of ``control`` about the network between hosts.

Tests: ``tests/unit/cli/test_fleet_options.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent.cli.client import CliError
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.fleet_network.ranges import RangePlan

_DEFAULT_PREFIX = 24


def fleet_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which takes them as keyword arguments."""
    options = [
        click.option(
            "--fleet-range",
            default="",
            metavar="CIDR",
            help="IPv4 network of the tasks of all hosts, such as 10.208.0.0/16. Each host with "
            "ECS_FLEET_NETWORK gets a range of it, and tasks reach tasks on other hosts by their addresses. "
            "[default: none, and they do not]",
        ),
        click.option(
            "--fleet-range-prefix",
            type=click.IntRange(9, 28),
            default=_DEFAULT_PREFIX,
            show_default=True,
            metavar="LENGTH",
            help="Prefix length of each host's range: 24 for 253 tasks at most.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def plan(given: Mapping[str, Any]) -> RangePlan | None:
    """Return how the network is cut; None without one. Raises ``CliError`` that names the option."""
    cidr = given["fleet_range"]
    if not cidr:
        if given["fleet_range_prefix"] != _DEFAULT_PREFIX:
            text = "--fleet-range-prefix has no effect without --fleet-range; give both or neither"
            raise CliError(text, exit_code=ExitCode.USAGE)
        return None
    from agent.controlplane.fleet_network.ranges import RangePlan  # noqa: PLC0415 - not for --help

    try:
        return RangePlan.parse(cidr, given["fleet_range_prefix"])
    except ValueError as error:
        raise CliError(f"--fleet-range {cidr}: {error}", exit_code=ExitCode.USAGE) from None
