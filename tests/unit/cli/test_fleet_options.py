"""The options about the network between hosts: what they mean, and what is wrong with others."""

from __future__ import annotations

import pytest

from agent.cli import fleet_options
from agent.cli.client import CliError


def test_what_they_mean() -> None:
    assert fleet_options.plan(given("", 24)) is None
    found = fleet_options.plan(given("10.208.0.0/16", 26))
    assert found is not None
    assert found.ipv4 is not None
    assert (found.shown, found.ipv4.prefix_len) == ("10.208.0.0/16", 26)
    both = fleet_options.plan(given("10.208.0.0/16", 24, "fd00:208::/48"))
    assert both is not None
    assert both.shown == "10.208.0.0/16 and fd00:208::/48"
    alone = fleet_options.plan(given("", 24, "fd00:208::/48", 56))
    assert alone is not None
    assert (alone.shown, alone.size) == ("fd00:208::/48", 256)


def given(cidr: str, prefix: int, ipv6: str = "", ipv6_prefix: int = 64) -> dict[str, str | int]:
    return {
        "fleet_range": cidr, "fleet_range_prefix": prefix,
        "fleet_ipv6_range": ipv6, "fleet_ipv6_range_prefix": ipv6_prefix,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("10.208.0.0/33", 24), "^--fleet-range 10.208.0.0/33: is not an IPv4 network"),
        (("10.208.0.0/25", 24), "^--fleet-range 10.208.0.0/25: cannot be cut"),
        (("", 26), "^--fleet-range-prefix has no effect without --fleet-range"),
        (("", 24, "", 56), "^--fleet-ipv6-range-prefix has no effect without --fleet-ipv6-range"),
        (("", 24, "fd00::/65"), "^--fleet-ipv6-range fd00::/65: cannot be cut"),
        (
            ("10.208.0.0/16", 24, "10.209.0.0/16"),
            "^--fleet-ipv6-range 10.209.0.0/16: is not an IPv6",
        ),
    ],
)
def test_others_are_refused_by_name(asked: tuple[str, int], says: str) -> None:
    with pytest.raises(CliError, match=says):
        fleet_options.plan(given(*asked))
