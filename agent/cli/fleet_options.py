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
_DEFAULT_IPV6_PREFIX = 64


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
        click.option(
            "--fleet-ipv6-range",
            default="",
            metavar="CIDR",
            help="IPv6 network of the tasks of all hosts, such as fd12:3456:789a::/48, beside that of IPv4 or "
            "instead of it. Each host with ECS_FLEET_NETWORK gets a range of it. [default: none]",
        ),
        click.option(
            "--fleet-ipv6-range-prefix",
            type=click.IntRange(17, 96),
            default=_DEFAULT_IPV6_PREFIX,
            show_default=True,
            metavar="LENGTH",
            help="Prefix length of each host's IPv6 range.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def plan(given: Mapping[str, Any]) -> RangePlan | None:
    """Return how the networks are cut; None without one. Raises ``CliError`` that names the option."""
    cidr, ipv6_cidr = given["fleet_range"], given["fleet_ipv6_range"]
    length, ipv6_length = given["fleet_range_prefix"], given["fleet_ipv6_range_prefix"]
    for option, network, has_length in (
        ("--fleet-range", cidr, length != _DEFAULT_PREFIX),
        ("--fleet-ipv6-range", ipv6_cidr, ipv6_length != _DEFAULT_IPV6_PREFIX),
    ):
        if has_length and not network:
            text = f"{option}-prefix has no effect without {option}; give both or neither"
            raise CliError(text, exit_code=ExitCode.USAGE)
    if not cidr and not ipv6_cidr:
        return None
    from agent.controlplane.fleet_network.ranges import RangePlan  # noqa: PLC0415 - not for --help

    wrong = f"--fleet-range {cidr}"
    try:
        if cidr:
            RangePlan.parse(cidr, length)
        wrong = f"--fleet-ipv6-range {ipv6_cidr}"
        return RangePlan.parse(cidr, length, ipv6_cidr, ipv6_length)
    except ValueError as error:
        raise CliError(f"{wrong}: {error}", exit_code=ExitCode.USAGE) from None
