"""The options about the network between hosts: what they mean, and what is wrong with others."""

from __future__ import annotations

import pytest

from agent.cli import fleet_options
from agent.cli.client import CliError


def test_what_they_mean() -> None:
    assert fleet_options.plan({"fleet_range": "", "fleet_range_prefix": 24}) is None
    found = fleet_options.plan({"fleet_range": "10.208.0.0/16", "fleet_range_prefix": 26})
    assert found is not None
    assert (str(found.network), found.prefix_len) == ("10.208.0.0/16", 26)


@pytest.mark.parametrize(
    ("cidr", "prefix", "says"),
    [
        ("10.208.0.0/33", 24, "^--fleet-range 10.208.0.0/33: is not an IPv4 network"),
        ("10.208.0.0/25", 24, "^--fleet-range 10.208.0.0/25: cannot be cut"),
        ("", 26, "^--fleet-range-prefix has no effect without --fleet-range"),
    ],
)
def test_others_are_refused_by_name(cidr: str, prefix: int, says: str) -> None:
    with pytest.raises(CliError, match=says):
        fleet_options.plan({"fleet_range": cidr, "fleet_range_prefix": prefix})
